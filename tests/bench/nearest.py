"""Compares exact search, Parquet to Parquet, with faiss's exhaustive search and a bare matrix product, on two cores.

python -m tests.bench.nearest [--rows 1000000] [--queries 1000] [--dims 64] [--hash] [--no-peers]
"""

import argparse
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from jobs.matching import nearest
from jobs.runtime import config
from jobs.runtime.session import get_session
from tests.bench.dedup import PeakMemory
from udfs.hashes.hamming import bit_vectors

CORES, K = 2, 5
FILE_ROWS = 125_000
HEADER = """\
| kind | queries | pool | search, s | of it reading, s | bare product, s | faiss, s | search / faiss | peak GB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|"""


def signals(count: int, dims: int, seed: int) -> NDArray[np.float32]:
    """Returns random unit vectors."""
    vectors = np.random.default_rng(seed).standard_normal((count, dims), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def hashes(count: int, seed: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def write_pool(pool: NDArray, folder: Path) -> None:
    """Writes the pool as Parquet files with image_id and embedding or hash."""
    for begin in range(0, len(pool), FILE_ROWS):
        rows = pool[begin : begin + FILE_ROWS]
        ids = pa.array([f"{number:032x}" for number in range(begin, begin + len(rows))])
        if rows.dtype == np.uint8:
            cells = pa.FixedSizeBinaryArray.from_buffers(pa.binary(32), len(rows), [None, pa.py_buffer(rows)])
            table = pa.table({"image_id": ids, "hash": cells.cast(pa.binary())})
        else:
            offsets = pa.array(np.arange(len(rows) + 1, dtype=np.int32) * rows.shape[1])
            table = pa.table({"image_id": ids, "embedding": pa.ListArray.from_arrays(offsets, rows.ravel())})
        pq.write_table(table, folder / f"part-{begin:09d}.parquet")


def flat(pool: NDArray, queries: NDArray) -> tuple[float, NDArray]:
    """Returns the seconds of faiss, and the neighbours it finds."""
    faiss.omp_set_num_threads(CORES)
    index = faiss.IndexBinaryFlat(256) if pool.dtype == np.uint8 else faiss.IndexFlatIP(pool.shape[1])
    index.add(pool)
    started = time.perf_counter()
    _, found = index.search(queries, K)
    return time.perf_counter() - started, found


def product(pool: NDArray, queries: NDArray) -> float:
    """Returns the seconds of the bare matrix product, block by block, without selection; hashes as ±1."""
    pool, queries = (bit_vectors(x) if x.dtype == np.uint8 else x for x in (pool, queries))
    out = np.empty((512, 8192), dtype=np.float32)
    with threadpool_limits(CORES):
        started = time.perf_counter()
        for begin in range(0, len(queries), 512):
            block = queries[begin : begin + 512]
            for start in range(0, len(pool), 8192):
                part = pool[start : start + 8192]
                np.matmul(block, part.T, out=out[: len(block), : len(part)])
        return time.perf_counter() - started


def searched(folder: str, queries: NDArray) -> tuple[float, float, float, NDArray]:
    """Returns the seconds of the search and of reading alone, peak GB, and the neighbours of each query."""
    spark = get_session(config.load(overrides=[f'spark.master="local[{CORES}]"']).spark)
    search = nearest.nearest_by_hash if queries.dtype == np.uint8 else nearest.nearest_by_embedding
    spark.range(10).mapInArrow(lambda batches: batches, "id long").count()
    pool, column = spark.read.parquet(f"{folder}/pool"), "hash" if queries.dtype == np.uint8 else "embedding"
    started = time.perf_counter()
    pool.select("image_id", column).mapInArrow(lambda batches: (b[:0] for b in batches), pool.schema).count()
    reading = time.perf_counter() - started
    memory = PeakMemory()
    memory.start()
    started = time.perf_counter()
    search(pool, queries, K).write.parquet(f"{folder}/found")
    seconds, peak = time.perf_counter() - started, memory.stop()
    spark.stop()
    table = pq.read_table(f"{folder}/found").to_pandas().sort_values(["query", "rank"])
    places = np.array([int(image_id, 16) for image_id in table.image_id]).reshape(-1, K)
    return seconds, reading, peak, places


def main() -> None:
    """Prints one row of the table in docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--dims", type=int, default=64)
    parser.add_argument("--hash", action="store_true")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    made = hashes if options.hash else (lambda count, seed: signals(count, options.dims, seed))
    queries = made(options.queries, 1)
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "pool").mkdir()
        write_pool(made(options.rows, 0), Path(scratch, "pool"))
        seconds, reading, peak, places = searched(scratch, queries)
    against = "| | |"
    if not options.no_peers:
        pool = made(options.rows, 0)
        bare = product(pool, queries)
        there, found = flat(pool, queries)
        same = (places == found).mean() if not options.hash else None
        against = f"{bare:.1f} | {there:.1f} | {seconds / there:.2f}"
        print(f"neighbours that are faiss's own, in order: {same}")
    kind = "256 bits" if options.hash else f"{options.dims} dims"
    print(HEADER)
    print(
        f"| {kind} | {options.queries:,} | {options.rows:,} | {seconds:.1f} | {reading:.1f} | {against} | {peak:.1f} |"
    )


if __name__ == "__main__":
    main()
