"""Measures one round of `label next --strategy recall` on a large lake: cross-validation, search and choice.

python -m tests.bench.recall_round [--rows 1000000]
"""

import argparse
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commands.label import next
from jobs.commands.label.next import PickRequest
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from models.inference.encoder import projection
from tests.bench.dedup import PeakMemory

DIMS, LABELS, QUERIES, COUNT, CORES = 64, 6_000, 1_000, 500, 2
SETTINGS = [
    f'spark.master="local[{CORES}]"',
    f"label_next.queries={QUERIES}",
    "label_next.folds=10",
    "label_next.repeats=20",
    'categories.boats={definition="simulated"}',
]
HEADER = """\
| images | labels | models | queries | picked | seconds | peak GB |
|---:|---:|---:|---:|---:|---:|---:|"""


def fill(lake: Lake, rows: int, folder: Path) -> None:
    """Writes random embeddings with labels that no plane separates, so that over a thousand positives are missed."""
    rng = np.random.default_rng(0)
    ids = [f"{row:032x}" for row in range(rows)]
    with pq.ParquetWriter(folder / "signals.parquet", _schema()) as writer:
        for begin in range(0, rows, 100_000):
            x = rng.normal(size=(min(100_000, rows - begin), DIMS)).astype(np.float32)
            x /= np.linalg.norm(x, axis=1, keepdims=True)
            bits = np.packbits(x @ projection(DIMS) > 0, axis=1)
            cells = pa.ListArray.from_arrays(pa.array(np.arange(0, x.size + 1, DIMS, np.int32)), pa.array(x.ravel()))
            hashes = pa.array([row.tobytes() for row in bits], pa.binary())
            writer.write_table(pa.table([ids[begin : begin + len(x)], cells, hashes], schema=_schema()))
    signals = lake.spark.read.parquet(str(folder / "signals.parquet"))
    blank = [name for name in tables.SIGNALS.schema.names if name not in (*signals.columns, "encoder")]
    columns = ["*", "'bench' as encoder", *[f"null as {name}" for name in blank]]
    lake.append(tables.SIGNALS, signals.selectExpr(*columns), Recipe("bench"))
    lake.append(tables.FEATURES, signals.selectExpr("*", "'bench' as encoder", "0 as part"), Recipe("bench"))
    now = datetime.now(UTC)
    given = [(ids[row], "boats", bool(rng.random() < 0.5), "seed", "truth", now) for row in range(LABELS)]
    lake.append(tables.LABELS, lake.spark.createDataFrame(given, tables.LABELS.schema), Recipe("bench"))


def _schema() -> pa.Schema:
    cells = ("embedding", pa.list_(pa.float32()))
    return pa.schema([("image_id", pa.string()), cells, ("embedding_hash", pa.binary())])


def main() -> None:
    """Prints one row of the table in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    encoder = SimpleNamespace(digest="bench", dims=DIMS, presumed_distance=54)
    next.current_encoder = next.semantic_encoder = lambda job: encoder
    settings = config.load(overrides=SETTINGS)
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        fill(job.lake, rows, Path(scratch))
        memory = PeakMemory()
        memory.start()
        started = time.perf_counter()
        picked = next.run(job, PickRequest("boats", "recall", COUNT))
        seconds, peak = time.perf_counter() - started, memory.stop()
        job.lake.spark.stop()
    models = settings.label_next.folds * settings.label_next.repeats
    print(HEADER)
    print(f"| {rows:,} | {LABELS:,} | {models} | {QUERIES:,} | {len(picked.picks)} | {seconds:.0f} | {peak:.1f} |")


if __name__ == "__main__":
    main()
