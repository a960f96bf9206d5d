"""Measures `weigh` and `audit`: the correction of a planted bias on a held-out half, and the speed on many rows.

python -m tests.bench.weigh                  the planted bias, in numpy
python -m tests.bench.weigh --rows 500000    the commands on synthetic captions and embeddings, without images
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.commands.audit import command as audit
from jobs.commands.weigh import command as weigh
from jobs.facts import sentences
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.bench.dedup import PeakMemory
from tests.builders.planted_bias import DIMS, OTHERS, WHO, audited, held_out_weights, planted

HEADER = "| rows | command | seconds | of 5 min | peak GB |\n|---:|---|---:|---:|---:|"


def fill(lake: Lake, count: int, encoder: str, folder: Path) -> None:
    """Writes the tables that `weigh` and `audit` read: captions of about ten words, small embeddings, no images."""
    import pyarrow.parquet as pq

    for begin in range(0, count, 100_000):
        size = min(100_000, count - begin)
        data = planted(size, carried=True, seed=begin)
        names = np.array([*WHO, *OTHERS], dtype=object)
        captions = [f"A {' '.join(names[row])}, photo number {begin + i}" for i, row in enumerate(data.words)]
        embeddings = (data.embeddings / np.linalg.norm(data.embeddings, axis=1, keepdims=True)).astype(np.float32)
        offsets = pa.array(np.arange(size + 1, dtype=np.int32) * DIMS)
        table = {
            "image_id": [f"{begin + i:016x}" * 2 for i in range(size)], "caption": captions, "kept": data.kept,
            "embedding": pa.ListArray.from_arrays(offsets, embeddings.ravel()),
        }  # fmt: skip
        pq.write_table(pa.table(table), folder / f"{begin:09d}.parquet")
    rows = lake.spark.read.parquet(str(folder))
    known = {"image_id": "image_id", "caption": "caption", "kept": "kept", "embedding": "embedding",
             "encoder": f"'{encoder}'", "image": "cast('' as binary)", "part": "0"}  # fmt: skip
    for table in (tables.IMAGES, tables.SIGNALS, tables.VERDICTS):
        columns = [f"{known.get(f.name, 'null')} as {f.name}" for f in table.schema.fields]
        lake.append(table, rows.selectExpr(*columns), Recipe("bench"))
    for table in (tables.DUPLICATES, tables.FILTERED_DUPLICATES):
        lake.append(table, lake.spark.createDataFrame([], table.schema), Recipe("bench"))


def measured(count: int) -> None:
    """Prints the seconds and the memory of both commands."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = config.load(overrides=['spark.master="local[2]"'])
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        Path(scratch, "rows").mkdir()
        fill(job.lake, count, current_encoder(job).digest, Path(scratch, "rows"))
        print(HEADER)
        for name, run in (("weigh", weigh.run), ("audit", audit.run)):
            memory = PeakMemory()
            memory.start()
            started = time.perf_counter()
            summary = run(job)
            seconds = time.perf_counter() - started
            print(f"| {count:,} | {name} | {seconds:.0f} | {seconds / 300:.2f} | {memory.stop():.1f} |", flush=True)
            print(summary)
        job.lake.spark.stop()


def main() -> None:
    """Prints rows of the tables in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, help="number of rows for the speed measurement")
    options = parser.parse_args()
    if options.rows:
        measured(options.rows)
        return
    for carried in (True, False):
        data = planted(100_000, carried, seed=3)
        rows = audited(data, held_out_weights(data))
        before, after = (np.median([abs(getattr(r, s)) for r in rows[:20]]) for s in ("shift", "weighted_shift"))
        print(f"embedding {'shows' if carried else 'does not show'} who is pictured")
        print("\n".join(sentences.shift_sentence(row) for row in rows if row.keyword in WHO))
        print(
            f"median |shift| of the 20 most frequent words {before:.2%} -> {after:.2%}: {before / after:.1f} times less"
        )
        left = sentences.not_undone(rows, 0.01, 0.8)
        print((sentences.not_undone_sentence(left, 0.01) if left else "nothing is left off by more than 1 %") + "\n")


if __name__ == "__main__":
    main()
