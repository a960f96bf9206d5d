"""Estimates what a search for near-duplicates costs, before it starts.

Different images have hashes about 128 bits apart. The number of candidates depends on how wide the distances spread
around that: 8 bits if all bits were independent, about 10 bits for photographs (`python -m tests.bench.cost_model`
measures both). The estimate leaves out copies: they make candidates in proportion to their number, not to its square.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from udfs.hashes.hamming import HASH_BITS
from udfs.hashes.minhash import BAND_COST, MAX_BANDS, PAIR_COST, ROW_COST, Bands, jaccard
from udfs.search.packing import ENTRY_BYTES

REAL_SPREAD = 10.0
"""Standard deviation of the distance of two photographs, in bits."""

_MOST_ROWS = 64
_MICROSECONDS = 1e-6 / 3600  # in hours
# Multiplications and additions of one core, for the distances between vectors and centroids, in a microsecond.
_PRODUCTS = 8000.0
_MEMBERS_FITTED, _ITERATIONS = 20, 5
# Spark's driver: bytes for each task of a shuffle, whose partitions are searched in groups.
_TASK_BYTES, _SPLIT_BYTES = 20_000, 64 << 20
_ENTRIES_IN_A_TASK = 1_000_000

Chance = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""The probability that a pair at a distance (in bits) agrees in one band."""


@dataclass(frozen=True)
class Cost:
    """What a search costs.

    Attributes:
        method: Name and size of the method.
        recall: Expected share of the pairs that are found; None if only a run can tell.
        entries: Number of entries that are shuffled.
        shuffled: Their bytes.
        candidates: Number of pairs of hashes that are compared, without copies.
        core_hours: Hours of one core.
        driver: Bytes on the driver.
    """

    method: str
    recall: float | None
    entries: float
    shuffled: float
    candidates: float
    core_hours: float
    driver: float

    def per_hash(self, hashes: int) -> float:
        """Returns the cost of each hash, in microseconds of one core; 0 if there is no hash."""
        return self.core_hours / _MICROSECONDS / max(hashes, 1)


def minhash_cost(bands: Bands, hashes: int, max_distance: int, spread: float = REAL_SPREAD) -> Cost:
    """Estimates the search by MinHash bands.

    Args:
        bands: Bands and rows.
        hashes: Number of distinct hashes.
        max_distance: Largest distance of a pair, in bits.
        spread: Standard deviation of the distance of two different images, in bits.

    Examples:
        >>> round(minhash_cost(Bands(33, 10), 1_000_000, 31).candidates / 1e9, 2)
        0.46
    """
    method = _Banding("MinHash", partial(_minhash, bands.rows), bands.rows, 1, ROW_COST)
    return method.cost(bands.bands, hashes, max_distance, spread)


def cheapest(name: str, hashes: int, max_distance: int, recall: float, spread: float = REAL_SPREAD) -> Cost | None:
    """Returns the cheapest search of a method that reaches a recall; None if it cannot.

    Args:
        name: `minhash`, `bits` (each band is a sample of bits) or `probes` (as `bits`, and each hash also looks at the
            keys that differ in one bit).
        hashes: Number of distinct hashes.
        max_distance: Largest distance of a pair, in bits.
        recall: Target share of the pairs; see `Bands.recall`.
        spread: Standard deviation of the distance of two different images, in bits.
    """
    options = [method.reaching(hashes, max_distance, recall, spread) for method in _methods(name)]
    return min((cost for cost in options if cost), key=lambda cost: cost.core_hours, default=None)


def cluster_cost(hashes: int, dimensions: int, clusterings: int, nearest: int, levels: Sequence[int]) -> Cost:
    """Estimates the search by clusters.

    Args:
        hashes: Number of distinct hashes.
        dimensions: Numbers in the vector of a hash.
        clusterings: Number of clusterings.
        nearest: Clusters of each clustering to which a hash is assigned.
        levels: Number of centroids that are compared with a hash at each level: one or two levels.
    """
    clusters = float(np.prod(levels, dtype=np.float64))
    entries = float(hashes) * clusterings * nearest
    candidates = entries * nearest * hashes / clusters / 2
    fitted = _MEMBERS_FITTED * clusters * _ITERATIONS * sum(levels)
    products = (float(hashes) * sum(levels) + fitted) * dimensions * clusterings
    hours = (products / _PRODUCTS + entries * BAND_COST + candidates * PAIR_COST) * _MICROSECONDS
    text = f"{clusterings} clusterings of {' × '.join(map(str, levels))} clusters"
    # The centroids, as float32 on the driver and as float64 in the JVM.
    centroids = clusters * dimensions * clusterings * 12
    return Cost(text, None, entries, entries * ENTRY_BYTES, candidates, hours, centroids + _driver(hashes, entries))


def one_level(hashes: int) -> tuple[int, ...]:
    """Returns the number of centroids if there is one level: half the square root of the hashes."""
    return (max(2, round(sqrt(hashes) / 2)),)


def two_levels(hashes: int, size: int) -> tuple[int, ...]:
    """Returns the number of centroids of each of two levels, so that the mean cluster has a size.

    Examples:
        >>> two_levels(1_000_000_000, 25_000)
        (200, 200)
    """
    each = max(2, round(sqrt(hashes / size)))
    return each, each


def _driver(hashes: float, entries: float) -> float:
    return _TASK_BYTES * (hashes * ENTRY_BYTES / _SPLIT_BYTES + min(entries / _ENTRIES_IN_A_TASK, 100_000))


@dataclass(frozen=True)
class _Banding:
    """A method that finds pairs which agree in a band.

    Attributes:
        name: Its name.
        chance: The probability that a pair agrees in one band.
        rows: Values in a band.
        keys: Entries of a hash for each band.
        row_cost: Microseconds to compute a value.
    """

    name: str
    chance: Chance
    rows: int
    keys: int
    row_cost: float

    def recall(self, bands: int, max_distance: int) -> float:
        """Returns the expected share of pairs found: see `Bands.recall`."""
        distance = np.arange(max_distance + 1)
        return float(np.average(1 - (1 - self.chance(distance)) ** bands, weights=distance + 1.0))

    def reaching(self, hashes: int, max_distance: int, recall: float, spread: float) -> Cost | None:
        """Returns the cost with the fewest bands that reach a recall; None if there are not enough."""
        low, high = 1, MAX_BANDS
        if self.recall(high, max_distance) < recall:
            return None
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if self.recall(middle, max_distance) >= recall else (middle + 1, high)
        return self.cost(low, hashes, max_distance, spread)

    def cost(self, bands: int, hashes: int, max_distance: int, spread: float) -> Cost:
        """Returns the cost of a number of bands."""
        entries = float(hashes) * bands * self.keys
        candidates = bands * by_chance(self.chance, spread) * float(hashes) * max(hashes - 1, 0) / 2
        work = entries * BAND_COST + float(hashes) * bands * self.rows * self.row_cost + candidates * PAIR_COST
        return Cost(
            f"{self.name}, {bands} × {self.rows}", self.recall(bands, max_distance), entries, entries * ENTRY_BYTES,
            candidates, work * _MICROSECONDS, _driver(hashes, entries),
        )  # fmt: skip


def by_chance(chance: Chance, spread: float) -> float:
    """Returns the probability that two different images agree in a band.

    Args:
        chance: The probability that a pair at a distance agrees.
        spread: Standard deviation of their distance, in bits; the mean is 128.
    """
    distance = np.arange(HASH_BITS + 1)
    weights = np.exp(-0.5 * ((distance - HASH_BITS / 2) / spread) ** 2)
    return float(np.average(chance(distance), weights=weights))


def _minhash(rows: int, distance: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.asarray(jaccard(distance) ** rows)


def _bits(rows: int, distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """A sample of bits, without repeats, is equal."""
    taken = np.arange(rows)
    equal = np.clip(HASH_BITS - distance[:, None] - taken, 0, None) / (HASH_BITS - taken)
    return np.asarray(equal.prod(axis=1))


def _probes(rows: int, distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """At most one bit of the sample differs."""
    fewer = _bits(rows - 1, distance) * distance / (HASH_BITS - rows + 1)
    return np.asarray(np.minimum(_bits(rows, distance) + rows * fewer, 1.0))


@lru_cache(maxsize=4)
def _methods(name: str) -> tuple[_Banding, ...]:
    rows = range(1, _MOST_ROWS + 1)
    if name == "minhash":
        return tuple(_Banding("MinHash", partial(_minhash, r), r, 1, ROW_COST) for r in rows)
    if name == "bits":
        return tuple(_Banding("bit sampling", partial(_bits, r), r, 1, 0.0) for r in rows)
    # Each hash has one entry under its own key, and looks at this key and at those that differ in one bit.
    return tuple(_Banding("multi-probe", partial(_probes, r), r, r + 2, 0.0) for r in rows)
