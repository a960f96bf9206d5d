"""Compares `dedup` with faiss's exhaustive search on the same planted hashes, Delta to Delta, on two cores.

python -m tests.bench.dedup [--rows 1000000] [--distance 31] [--skew] [--no-faiss] [--queries 50000] [--set dedup.method=clusters]
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import faiss
import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.commands.dedup import command as dedup
from jobs.facts import duplicates
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.builders.lake_rows import completed
from udfs.hashes.hamming import distances, words

CORES = 2
DUPLICATES = 0.25
HEADER = """\
| rows | distance | dedup, s | peak GB | bands | compared | measured recall | faiss, s | faiss / dedup | recall |
|---:|---:|---:|---:|---|---:|---:|---:|---:|---:|"""


def planted(rows: int, distance: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns random hashes, a quarter of them copies at 0 to `distance` bits, with a power law of group sizes.

    Returns:
        uint8 of shape (rows, 32).
    """
    generator = np.random.default_rng(seed)
    originals = rows - int(rows * DUPLICATES)
    base = generator.integers(0, 256, (originals, 32), dtype=np.uint8)
    popularity = np.arange(1, originals + 1, dtype=np.float64) ** -0.6
    owner = generator.choice(originals, rows - originals, p=popularity / popularity.sum())
    copies = np.unpackbits(base[owner], axis=1)
    flips = generator.integers(0, distance + 1, len(copies))
    places = generator.random(copies.shape, dtype=np.float32).argsort(axis=1)
    copies ^= (places < flips[:, None]).astype(np.uint8)
    every = np.concatenate([base, np.packbits(copies, axis=1)])
    return np.ascontiguousarray(every[generator.permutation(rows)])


def skewed(rows: int, distance: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns hashes of which 30 % are equal and 30 % are near-copies of a placeholder; the rest are as `planted`."""
    generator = np.random.default_rng(seed + 1)
    share = 3 * rows // 10
    popular, placeholder = generator.integers(0, 256, (2, 1, 32), dtype=np.uint8)
    copies = np.unpackbits(np.repeat(placeholder, share, axis=0), axis=1)
    places = generator.integers(0, 256, (share, 6))
    for column in places.T:
        copies[np.arange(share), column] ^= 1
    rest = planted(rows - 2 * share, distance, seed)
    every = np.concatenate([np.repeat(popular, share, axis=0), np.packbits(copies, axis=1), rest])
    return np.ascontiguousarray(every[generator.permutation(rows)])


def fill(lake: Lake, hashes: NDArray[np.uint8], encoder: str, folder: Path) -> None:
    """Writes the tables that `dedup` reads."""
    ids = pa.array([f"{place:016x}" * 2 for place in range(len(hashes))])
    cells = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(hashes), [None, pa.py_buffer(hashes)])
    pq.write_table(pa.table({"image_id": ids, "pdq": cells.cast(pa.binary())}), folder / "hashes.parquet")
    rows = lake.spark.read.parquet(str(folder / "hashes.parquet"))
    signals = rows.selectExpr(
        "image_id", "pdq", "100 as pdq_quality", f"'{encoder}' as encoder", "pdq as embedding_hash",
        "image_id as content",
    )  # fmt: skip
    images = rows.selectExpr(
        "image_id", "image_id as key", "'bench' as source", "'a picture' as caption", "100 as width", "100 as height",
        "'PNG' as format", "'{}' as meta", "0 as part",
    )  # fmt: skip
    for table, part in ((tables.SIGNALS, signals), (tables.IMAGES, images)):
        lake.append(table, completed(part, table), Recipe("bench"))


class PeakMemory(threading.Thread):
    """The peak memory of this process and its children together, in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self._done = 0.0, threading.Event()

    def run(self) -> None:
        me = psutil.Process()
        done = False
        while not done:
            done = self._done.wait(0.5)
            total = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, total / 2**30)

    def stop(self) -> float:
        self._done.set()
        self.join()
        return self.peak


def exhaustive(hashes: NDArray[np.uint8], distance: int, queries: int | None = None) -> tuple[float, NDArray[np.int64]]:
    """Returns the seconds of faiss's search, and the pairs it finds, each as one number: first · rows + second.

    With fewer queries than rows, only the first rows are compared with all, and the time is extrapolated.
    """
    queries = queries or len(hashes)
    faiss.omp_set_num_threads(CORES)
    index = faiss.IndexBinaryFlat(256)
    index.add(hashes)
    seconds, pairs = 0.0, []
    for begin in range(0, queries, 10_000):
        started = time.perf_counter()
        limits, _, found = index.range_search(hashes[begin : min(begin + 10_000, queries)], distance + 1)
        seconds += time.perf_counter() - started
        left = np.repeat(np.arange(begin, begin + len(limits) - 1), np.diff(limits.astype(np.int64)))
        ahead = left < found
        pairs.append(left[ahead] * len(hashes) + found[ahead])
    return seconds * len(hashes) / queries, np.concatenate(pairs)


def recall_of(rows: pd.DataFrame, hashes: NDArray[np.uint8], pairs: NDArray[np.int64], distance: int) -> float:
    """Checks the distances of the found pairs, and returns the share of the exhaustive pairs that are found."""
    a, b = (np.array([int(name[:16], 16) for name in rows[end]], dtype=np.int64) for end in ("a_id", "b_id"))
    apart = distances(words(hashes[a]), words(hashes[b]))
    assert (apart <= distance).all(), f"{(apart > distance).sum()} pairs are farther apart than {distance} bits"
    return float(np.isin(pairs, np.minimum(a, b) * len(hashes) + np.maximum(a, b)).mean())


def main() -> None:
    """Prints one row of the table in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--distance", type=int, default=31)
    parser.add_argument("--skew", action="store_true", help="one hash in 30 %% of the rows, near-copies in 30 %%")
    parser.add_argument("--no-faiss", action="store_true")
    parser.add_argument("--queries", type=int, help="rows that faiss compares with all; its time is extrapolated")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    hashes = (skewed if options.skew else planted)(options.rows, options.distance)
    overrides = [f'spark.master="local[{CORES}]"', "dedup.hash=pdq", f"dedup.max_distance={options.distance}"]
    settings = config.load(overrides=[*overrides, *options.overrides])
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        fill(job.lake, hashes, current_encoder(job).digest, Path(scratch))
        memory = PeakMemory()
        memory.start()
        started = time.perf_counter()
        summary = dedup.run(job)
        seconds, peak = time.perf_counter() - started, memory.stop()
        # Only for the comparison: hundreds of thousands of near-copies make more pairs than fit into memory.
        rows = None if options.no_faiss else job.lake.read(tables.PAIRS).select("a_id", "b_id").toPandas()
        quality = duplicates.whole_search(job.lake.read(tables.DEDUP_QUALITY)).collect()[0]
        job.lake.spark.stop()
    print(summary)
    print(HEADER)
    against = "| |"
    if rows is not None:
        flat, pairs = exhaustive(hashes, options.distance, options.queries)
        recall = recall_of(rows, hashes, pairs, options.distance)
        against = f"{flat:.0f} | {flat / seconds:.2f} | {recall:.4f} of {len(pairs):,}"
    how = f"{quality.bands} × {quality.band_rows}" if quality.bands else f"{quality.clusterings} × {quality.clusters}"
    mine = f"{options.rows:,} | {options.distance} | {seconds:.0f} | {peak:.1f} | {how}"
    print(f"| {mine} | {quality.compared:,} | {quality.recall:.4f} | {against} |", flush=True)


if __name__ == "__main__":
    main()
