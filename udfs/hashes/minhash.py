"""MinHash over the set bits of 256-bit hashes, and the arithmetic of its bands.

A hash is taken as the set of its set bits. Under a random permutation of the 256 positions, two sets have the same
first set bit with the probability of their Jaccard similarity (Broder 1997). A *band* is `rows` such values taken
together; two hashes are a candidate pair if any of `bands` bands agrees (Leskovec, Rajaraman, Ullman, "Mining of
Massive Datasets", chapter 3).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, LongType

from udfs.hashes.hamming import HASH_BITS, unpack

MAX_BANDS = 1000
MAX_ROWS = 24

# Hashes that are signed together: the bit planes of all permutations then fit a core's cache.
_BLOCK = 4096

# Relative costs, measured: one band of one hash (its share of signature, shuffle and sort), a row of that band, and one
# verified candidate pair.
_BAND_COST, _ROW_COST, _PAIR_COST = 1.0, 0.012, 0.012


@dataclass(frozen=True)
class Bands:
    """How many bands of how many rows.

    Attributes:
        bands: Bands; more find more.
        rows: MinHash values in a band; more make fewer false candidates.
        seed: Of the permutations.
    """

    bands: int
    rows: int
    seed: int = 0

    def recall(self, max_distance: int) -> float:
        """Share of pairs found, when pairs grow more frequent with their distance, from 0 to `max_distance` bits.

        So it is among the copies of one picture: each lies a little from the original, and two of them farther from
        each other. Were the distances spread evenly, the recall would be higher than this.

        Source: 1 - (1 - J^rows)^bands, the S-curve of banding.

        Examples:
            >>> round(Bands(bands=40, rows=14).recall(31), 2)
            0.93
        """
        distance = np.arange(max_distance + 1)
        return float(np.average(self.found(distance), weights=distance + 1.0))

    def found(self, distance: NDArray[np.int64]) -> NDArray[np.float64]:
        """Probability that a pair at a distance (bits) becomes a candidate."""
        return 1.0 - (1.0 - jaccard(distance) ** self.rows) ** self.bands


def jaccard(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Jaccard similarity of the set bits of two hashes that differ in `distance` bits, when half of the bits are set.

    Both sets have 128 elements, of which 128 - d/2 are shared.

    Examples:
        >>> round(float(jaccard(np.array(31))), 2)
        0.78
    """
    half = HASH_BITS / 2
    return np.asarray((half - distance / 2) / (half + distance / 2), dtype=np.float64)


def choose_bands(hashes: int, max_distance: int, recall: float, seed: int = 0) -> Bands:
    """The cheapest bands that reach a recall.

    datasketch's optimiser weighs false positives against false negatives alone; what costs here is the shuffle of one
    row for each band and the verification of chance collisions, which grow with the square of the data. So for each
    number of rows the fewest bands that reach the recall are found, and the cheapest of these is taken.

    Args:
        hashes: Distinct hashes to be compared.
        max_distance: Bits of 256 within which a pair counts.
        recall: Wanted share of such pairs, between 0 and 1; see `Bands.recall`.
        seed: Of the permutations.

    Returns:
        The cheapest; where none within `MAX_BANDS` reaches the recall, the one that comes nearest.

    Examples:
        >>> choose_bands(5_000, 31, 0.99).recall(31) >= 0.99
        True
    """
    options = [_fewest_bands(rows, max_distance, recall, seed) for rows in range(1, MAX_ROWS + 1)]
    reached = [option for option in options if option.recall(max_distance) >= recall]
    if not reached:
        return max(options, key=lambda option: option.recall(max_distance))
    return min(reached, key=lambda option: _cost(option, hashes))


def _fewest_bands(rows: int, max_distance: int, recall: float, seed: int) -> Bands:
    low, high = 1, MAX_BANDS
    while low < high:
        middle = (low + high) // 2
        if Bands(middle, rows).recall(max_distance) >= recall:
            high = middle
        else:
            low = middle + 1
    return Bands(low, rows, seed)


def _cost(option: Bands, hashes: int) -> float:
    """Cost for each hash: its bands, and half of the other hashes that collide with it by chance."""
    # Unlike pairs lie around 128 bits apart; the spread (8 bits for independent bits, more for real pictures) makes
    # chance collisions of long bands likelier than the mean distance says.
    spread = np.arange(64, 193)
    weights = np.exp(-0.5 * ((spread - 128) / 14.0) ** 2)
    by_chance = float(np.average(jaccard(spread) ** option.rows, weights=weights))
    return option.bands * (_BAND_COST + _ROW_COST * option.rows + _PAIR_COST * by_chance * hashes / 2)


@lru_cache(maxsize=8)
def _permutations(count: int, seed: int) -> NDArray[np.intp]:
    generator = np.random.Generator(np.random.PCG64([seed, HASH_BITS]))
    return np.stack([generator.permutation(HASH_BITS) for _ in range(count)])


def signatures(hashes: NDArray[np.uint8], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """MinHash signatures: for each permutation, the place of the first set bit.

    Args:
        hashes: uint8 of shape (n, 32).
        count: Permutations.
        seed: Of the permutations.

    Returns:
        uint8 of shape (n, count); a hash without a set bit has 0 everywhere.

    Examples:
        >>> signatures(np.full((1, 32), 255, np.uint8), 3)
        array([[0, 0, 0]], dtype=uint8)
    """
    result = np.empty((len(hashes), count), dtype=np.uint8)
    for begin in range(0, len(hashes), _BLOCK):
        block = hashes[begin : begin + _BLOCK]
        result[begin : begin + _BLOCK] = _first_set_bits(_bit_planes(block), _permutations(count, seed)).T[: len(block)]
    return result


def _bit_planes(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Bit by bit instead of hash by hash: shape (256, words), so that one operation on a word treats 64 hashes."""
    bits = np.zeros((HASH_BITS, -(-len(hashes) // 64) * 64), dtype=np.uint8)
    bits[:, : len(hashes)] = np.unpackbits(hashes, axis=1).T
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def _first_set_bits(planes: NDArray[np.uint64], permutations: NDArray[np.intp]) -> NDArray[np.uint8]:
    """The first place in each permuted order at which each hash has a set bit, shape (permutations, hashes).

    All hashes walk the places together: those that meet their first set bit take the place's number, written into
    eight bit planes, and drop out. Half of the bits are set, so after some twenty places nobody is left.
    """
    waiting = np.full((len(permutations), planes.shape[1]), ~np.uint64(0))
    numbers = [np.zeros_like(waiting) for _ in range(8)]
    for place in range(HASH_BITS):
        met = waiting & planes[permutations[:, place]]
        waiting ^= met
        for bit, number in enumerate(numbers):
            if place >> bit & 1:
                number |= met
        if not waiting.any():
            break
    places = np.zeros((len(permutations), planes.shape[1] * 64), dtype=np.uint8)
    for bit, number in enumerate(numbers):
        if number.any():
            places |= np.unpackbits(number.view(np.uint8), axis=1, bitorder="little") << np.uint8(bit)
    return places


@lru_cache(maxsize=8)
def _key_tables(count: int, seed: int) -> NDArray[np.uint64]:
    generator = np.random.Generator(np.random.PCG64([seed, HASH_BITS, 1]))
    return generator.integers(0, 1 << 64, (count, HASH_BITS), dtype=np.uint64)


def band_keys(hashes: NDArray[np.uint8], bands: Bands) -> NDArray[np.uint64]:
    """One 64-bit key for each band: equal keys make a candidate pair.

    A band's values are hashed by tables of random words, one for each permutation (Zobrist 1970; tabulation hashing).

    Args:
        hashes: uint8 of shape (n, 32).
        bands: Bands and rows.

    Returns:
        uint64 of shape (n, bands); keys of different bands differ.
    """
    count = bands.bands * bands.rows
    permutations, tables = _permutations(count, bands.seed), _key_tables(count, bands.seed)
    keys = np.zeros((bands.bands, len(hashes)), dtype=np.uint64)
    for begin in range(0, len(hashes), _BLOCK):
        block = keys[:, begin : begin + _BLOCK]
        values = _first_set_bits(_bit_planes(hashes[begin : begin + _BLOCK]), permutations)[:, : block.shape[1]]
        for number, (table, value) in enumerate(zip(tables, values, strict=True)):
            block[number // bands.rows] ^= table[value]
    return keys.T


def minhash_bands(column: Column, bands: int, rows: int, seed: int = 0) -> Column:
    """The band keys of a column of 32-byte hashes, as array<bigint>; null where the hash is null.

    Explode it and group by it to find candidate pairs.

    Args:
        column: Binary column.
        bands: Bands.
        rows: MinHash values in each band.
        seed: Of the permutations.
    """
    parameters = Bands(bands, rows, seed)

    @pandas_udf(ArrayType(LongType()))
    def keys_of(hashes: pd.Series) -> pd.Series:
        present = hashes.notna()
        result = pd.Series([None] * len(hashes), index=hashes.index, dtype=object)
        keys = band_keys(unpack(hashes[present]), parameters).view(np.int64)
        result[present] = pd.Series(list(keys), index=hashes.index[present], dtype=object)
        return result

    return keys_of(column)
