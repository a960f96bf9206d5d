"""Checks the cost model of the search for duplicates against counted candidates, and prints its estimates.

OMP_NUM_THREADS=1 python -m tests.bench.cost_model [--images FOLDER_OR_TAR...] [--rows 1000000] [--distance 31 54]

With images, it also counts on resampled hashes: random hashes whose bits have the means and correlations of the bits of
these images' hashes (of the shipped encoder). Recall is counted on 20,000 pairs whose distances are distributed as
`Bands.recall` assumes.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.images.resizing import View, thumbnail
from models.inference import encoder
from models.inference.encoder import Encoder
from tests.bench.copies import load
from udfs.hashes.minhash import Bands, band_keys, choose_bands
from udfs.search.cost_model import (
    REAL_SPREAD,
    Cost,
    cheapest,
    cluster_cost,
    minhash_cost,
    one_level,
    two_levels,
)  # fmt: skip

SIZES = (10_000_000, 650_000_000, 5_000_000_000)
RECALL, PAIRS, CLUSTER = 0.99, 20_000, 25_000
DIMENSIONS = 512  # of the shipped encoder's embedding
Keys = Callable[[NDArray[np.uint8]], NDArray[np.uint64]]


def resampled(signs: NDArray[np.float64], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns random hashes whose bits have the means and correlations of given ones.

    Args:
        signs: Bits as −1 and 1, of shape (n, 256).
        count: Number of hashes.
        seed: Seed.
    """
    threshold = special.ndtri((1 - signs.mean(axis=0)) / 2)
    # The correlation of the signs of two normal variables of correlation c is 2/π · arcsin(c).
    values, vectors = np.linalg.eigh(np.sin(np.pi / 2 * np.corrcoef(signs.T)))
    root = (vectors * np.sqrt(np.clip(values, 0, None))).T
    root /= np.linalg.norm(root, axis=0)
    generator, parts = np.random.default_rng(seed), []
    for begin in range(0, count, 50_000):
        normal = generator.standard_normal((min(50_000, count - begin), 256), dtype=np.float32)
        parts.append(np.packbits(normal @ root.astype(np.float32) > threshold, axis=1))
    return np.concatenate(parts)


def spread(hashes: NDArray[np.uint8], seed: int = 0) -> tuple[float, float]:
    """Returns mean and standard deviation of the distance of two hashes."""
    a, b = np.random.default_rng(seed).integers(0, len(hashes), (2, 200_000))
    apart = np.bitwise_count(hashes[a] ^ hashes[b]).sum(axis=1, dtype=np.int64)[a != b]
    return float(apart.mean()), float(apart.std())


def copies(hashes: NDArray[np.uint8], max_distance: int, seed: int = 1) -> NDArray[np.uint8]:
    """Returns a copy of each hash, at distances of which larger ones are more frequent."""
    generator = np.random.default_rng(seed)
    weights = np.arange(max_distance + 1) + 1.0
    flips = generator.choice(max_distance + 1, len(hashes), p=weights / weights.sum())
    order = generator.random((len(hashes), 256), dtype=np.float32).argsort(axis=1).argsort(axis=1)
    return np.packbits(np.unpackbits(hashes, axis=1) ^ (order < flips[:, None]), axis=1)


def minhash_keys(bands: int, rows: int) -> Keys:
    """Returns the function that `dedup` uses."""
    return lambda hashes: band_keys(hashes, Bands(bands, rows))


def bit_keys(bands: int, rows: int) -> Keys:
    """Returns a function that takes a sample of bits for each band."""
    generator = np.random.default_rng(0)
    places = [generator.choice(256, rows, replace=False) for _ in range(bands)]

    def keys(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
        bits, columns = np.unpackbits(hashes, axis=1), []
        for chosen in places:
            cells = np.zeros((len(hashes), 8), np.uint8)
            packed = np.packbits(bits[:, chosen], axis=1)
            cells[:, : packed.shape[1]] = packed
            columns.append(cells.view(np.uint64)[:, 0])
        return np.stack(columns, axis=1)

    return keys


def counted(hashes: NDArray[np.uint8], keys_of: Keys) -> tuple[int, float]:
    """Returns the number of candidates, and the seconds of the keys and their order."""
    started, candidates = time.process_time(), 0
    blocks = [keys_of(hashes[begin : begin + 50_000]) for begin in range(0, len(hashes), 50_000)]
    for band in range(blocks[0].shape[1]):
        keys = np.sort(np.concatenate([block[:, band] for block in blocks]))
        ends = np.flatnonzero(np.append(keys[1:] != keys[:-1], True))
        sizes = np.diff(ends, prepend=-1)
        candidates += int((sizes * (sizes - 1) // 2).sum())
    return candidates, time.process_time() - started


def compared(name: str, hashes: NDArray[np.uint8], max_distance: int, width: float) -> None:
    """Prints counted and estimated candidates, and counted recall."""
    bands = choose_bands(len(hashes), max_distance, RECALL)
    bits = cheapest("bits", len(hashes), max_distance, RECALL, width)
    assert bits
    sizes = [int(part) for part in bits.method.split(", ")[1].split(" × ")]
    methods: list[tuple[Cost, Keys]] = [
        (minhash_cost(bands, len(hashes), max_distance, width), minhash_keys(bands.bands, bands.rows)),
        (bits, bit_keys(*sizes)),
    ]
    some = hashes[:PAIRS]
    near = copies(some, max_distance)
    for cost, keys_of in methods:
        candidates, seconds = counted(hashes, keys_of)
        recall = (keys_of(some) == keys_of(near)).any(axis=1).mean()
        print(
            f"| {name} | {len(hashes):,} | {max_distance} | {cost.method} | {candidates:.3g} | {cost.candidates:.3g} "
            f"| {candidates / cost.candidates:.2f} | {recall:.4f} | {cost.recall:.4f} | {seconds:.1f} |",
            flush=True,
        )


def estimates(hashes: int, max_distance: int) -> list[Cost]:
    """Returns the estimate of each method."""
    banded = [minhash_cost(choose_bands(hashes, max_distance, RECALL), hashes, max_distance)]
    banded += [cost for name in ("bits", "probes") if (cost := cheapest(name, hashes, max_distance, RECALL))]
    levels = one_level(hashes), two_levels(hashes, CLUSTER)
    return [*banded, *(cluster_cost(hashes, DIMENSIONS, 5, 1, each) for each in levels)]


def main() -> None:
    """Prints the tables in docs/scaling.md and docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="*", type=Path, default=[])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--distance", type=int, nargs="*", default=[31, 54])
    options = parser.parse_args()
    kinds: dict[str, Callable[[int], NDArray[np.uint8]]] = {
        "independent": lambda count: np.random.default_rng(0).integers(0, 256, (count, 32), dtype=np.uint8)
    }
    if options.images:
        model = Encoder.load(encoder.shipped())
        pictures = load(options.images, options.limit)
        parts = (pictures[begin : begin + 256] for begin in range(0, len(pictures), 256))
        blocks = (np.stack([thumbnail(one, View(model.size)) for one in part]) for part in parts)
        real = np.concatenate([model.encode(block)[1] for block in blocks])
        print(f"{len(real):,} images: distance of two hashes {spread(real)}")
        signs = np.unpackbits(real, axis=1) * 2.0 - 1
        kinds["resampled"] = lambda count: resampled(signs, count)
    print("| hashes | rows | distance | method | candidates | estimated | ratio | recall | expected | s |")
    print("|---|---:|---:|---|---:|---:|---:|---:|---:|---:|")
    for (name, make), count in itertools.product(kinds.items(), options.rows):
        hashes = make(count)
        width = spread(hashes)[1]
        for max_distance in options.distance:
            compared(f"{name}, spread {width:.1f}", hashes, max_distance, width)
    print(f"\nspread {REAL_SPREAD} bits, recall {RECALL}:\n")
    print("| hashes | distance | method | entries | shuffle, TB | candidates | core-hours | driver, GB |")
    print("|---:|---:|---|---:|---:|---:|---:|---:|")
    for count, max_distance in itertools.product(SIZES, options.distance):
        for cost in estimates(count, max_distance):
            print(
                f"| {count:.2g} | {max_distance} | {cost.method} | {cost.entries:.2g} | {cost.shuffled / 1e12:.2g} "
                f"| {cost.candidates:.2g} | {cost.core_hours:.2g} | {cost.driver / 1e9:.2g} |"
            )


if __name__ == "__main__":
    main()
