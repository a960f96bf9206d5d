"""Compares common search methods on the same planted hashes: time, memory, recall, candidate pairs.

python -m tests.bench.dedup_peers [--rows 100000] [--distance 31] [--only datasketch]

Each method runs in its own process, to measure its memory. For `dedup`, run `python -m tests.bench.dedup`.

imagededup is not a dependency (it needs torchvision). If it is installed, its Cython search runs. This supports 64
bits, so it compares the first 64 of a hash, at a distance that misses few pairs, and its candidates are verified.
Without it, the same loop runs in Python on all 256 bits, which is faster.
"""

import argparse
import importlib
import multiprocessing
import sys
import time
from collections.abc import Callable

import faiss
import numpy as np
import psutil
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray
from pyspark.ml.feature import MinHashLSH as SparkMinHashLSH
from pyspark.ml.linalg import Vectors
from pyspark.sql import functions as F

from jobs.runtime import config
from jobs.runtime.session import get_session
from tests.bench.dedup import CORES, PeakMemory, exhaustive, planted
from udfs.hashes.hamming import distances, words
from udfs.hashes.lean_minhash import lean_minhashes
from udfs.hashes.minhash import choose_bands, jaccard

Pairs = tuple[NDArray[np.int64], int | None]
"""Pairs found, each as first · rows + second, and the number of compared candidates, if it is known."""


def faiss_flat(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    pairs = exhaustive(hashes, distance)[1]
    return pairs, len(hashes) * (len(hashes) - 1) // 2


def faiss_multihash(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    """Searches with sixteen tables of 16 bits: a pair within 31 bits differs in at most one bit in one of them."""
    faiss.omp_set_num_threads(CORES)
    index = faiss.IndexBinaryMultiHash(256, 16, 16)
    index.nflip = 1
    index.add(hashes)
    faiss.cvar.indexBinaryHash_stats.reset()
    limits, _, found = index.range_search(hashes, distance + 1)
    left = np.repeat(np.arange(len(hashes)), np.diff(limits.astype(np.int64)))
    ahead = left < found
    return left[ahead] * len(hashes) + found[ahead], faiss.cvar.indexBinaryHash_stats.ndis // 2


def datasketch(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    """Searches as in its documentation: 128 permutations, the threshold at the Jaccard similarity of the distance."""
    index = MinHashLSH(threshold=float(jaccard(np.array(distance))), num_perm=128)
    bits = np.unpackbits(hashes, axis=1)
    names = [[str(place).encode() for place in np.flatnonzero(row)] for row in bits]
    signed = MinHash.bulk(names, num_perm=128)
    candidates: set[tuple[int, int]] = set()
    for place, signature in enumerate(signed):
        candidates.update((other, place) for other in index.query(signature))
        index.insert(place, signature)
    return _verified(hashes, np.array(sorted(candidates)).reshape(-1, 2), distance)


def datasketch_signed(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    """Searches with datasketch's index, filled with Winnow's signatures, in Winnow's choice of bands."""
    bands = choose_bands(len(hashes), distance, 0.99)
    index = MinHashLSH(num_perm=bands.bands * bands.rows, params=(bands.bands, bands.rows))
    candidates: set[tuple[int, int]] = set()
    for place, signature in enumerate(lean_minhashes(hashes, bands.bands * bands.rows)):
        candidates.update((other, place) for other in index.query(signature))
        index.insert(place, signature)
    return _verified(hashes, np.array(sorted(candidates)).reshape(-1, 2), distance)


def spark_mllib(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    """Searches with MLlib's MinHashLSH, with eight tables of one hash each, since it has no bands."""
    spark = get_session(config.load(overrides=[f'spark.master="local[{CORES}]"']).spark)
    bits = np.unpackbits(hashes, axis=1)
    rows = [
        (i, Vectors.sparse(256, [(int(place), 1.0) for place in np.flatnonzero(row)])) for i, row in enumerate(bits)
    ]
    frame = spark.createDataFrame(rows, ["id", "features"])
    model = SparkMinHashLSH(inputCol="features", outputCol="hashes", numHashTables=8, seed=0).fit(frame)
    joined = model.approxSimilarityJoin(frame, frame, 1 - float(jaccard(np.array(distance))), distCol="apart")
    found = joined.where("datasetA.id < datasetB.id").select(F.col("datasetA.id"), F.col("datasetB.id")).toPandas()
    pairs, _ = _verified(hashes, found.to_numpy(), distance)
    return pairs, None


def imagededup(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    """Compares every hash with all hashes, as `imagededup.handlers.search.BruteForceCython` does."""
    try:
        query = importlib.import_module("brute_force_cython_ext").query
    except ImportError:
        return _imagededup_restated(hashes, distance)
    names = {str(place): row[:8].tobytes().hex() for place, row in enumerate(hashes)}
    # A quarter of the differing bits, plus 2.6 standard deviations.
    within = int(np.ceil(distance / 4 + 2.6 * np.sqrt(distance * 3 / 16)))
    candidates = []
    for name, own in names.items():
        # It creates both lists again for each query.
        files = [file.encode("utf-8") for file in names]
        values = [int(value, 16) for value in names.values()]
        matches = query(files, values, int(own, 16), within)
        candidates += [(int(name), int(file)) for file, _ in matches if int(name) < int(file)]
    return _verified(hashes, np.array(candidates, dtype=np.int64).reshape(-1, 2), distance)


def _imagededup_restated(hashes: NDArray[np.uint8], distance: int) -> Pairs:
    values = [int(row.tobytes().hex(), 16) for row in hashes]
    found = [
        i * len(values) + j
        for i, own in enumerate(values)
        for j, other in enumerate(values)
        if (own ^ other).bit_count() <= distance and i < j
    ]
    return np.array(found, dtype=np.int64), len(values) * (len(values) - 1)


def _verified(hashes: NDArray[np.uint8], pairs: NDArray[np.int64], distance: int) -> Pairs:
    near = distances(words(hashes[pairs[:, 0]]), words(hashes[pairs[:, 1]])) <= distance
    return pairs[near, 0] * len(hashes) + pairs[near, 1], len(pairs)


PEERS: dict[str, Callable[[NDArray[np.uint8], int], Pairs]] = {
    "faiss IndexBinaryFlat": faiss_flat,
    "faiss IndexBinaryMultiHash": faiss_multihash,
    "datasketch MinHashLSH": datasketch,
    "datasketch MinHashLSH with Winnow's signatures": datasketch_signed,
    "Spark MLlib MinHashLSH": spark_mllib,
    "imagededup brute force": imagededup,
}


def measured(name: str, rows: int, distance: int, answers: "multiprocessing.Queue[str]") -> None:
    """Runs one method and sends its row of the table."""
    hashes = planted(rows, distance)
    before, memory = psutil.Process().memory_info().rss / 2**30, PeakMemory()
    memory.start()
    started = time.perf_counter()
    found, candidates = PEERS[name](hashes, distance)
    seconds = time.perf_counter() - started
    more = memory.stop() - before
    shown = "–" if candidates is None else f"{candidates:,}"
    wanted = exhaustive(hashes, distance)[1]
    recall = np.isin(wanted, found).mean()
    answers.put(f"| {name} | {rows:,} | {seconds:.0f} | {more:.1f} | {recall:.4f} | {shown} |")


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--distance", type=int, default=31)
    parser.add_argument("--only", choices=PEERS, nargs="+", default=list(PEERS))
    parser.add_argument("--limit", type=float, default=600, help="time limit of a method, in seconds")
    options = parser.parse_args()
    print("| search | rows | s | GB more | recall | candidates |\n|---|---:|---:|---:|---:|---:|", flush=True)
    for name in options.only:
        answers: multiprocessing.Queue[str] = multiprocessing.Queue()
        worker = multiprocessing.Process(target=measured, args=(name, options.rows, options.distance, answers))
        worker.start()
        worker.join(options.limit)
        if worker.is_alive():
            worker.terminate()
            print(f"| {name} | {options.rows:,} | more than {options.limit:.0f} | | | |", flush=True)
        else:
            print(answers.get(timeout=5) if not worker.exitcode else f"| {name} | | failed | | | |", flush=True)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
