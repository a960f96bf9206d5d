"""Computes MinHash signatures of 256-bit hashes, and chooses the number of bands and rows.

A hash is treated as the set of its set bits. Under a random permutation of the 256 positions, the probability that two
sets have the same first set bit is their Jaccard similarity (Broder 1997). A *band* combines `rows` such values. Two
hashes are a candidate pair if at least one of `bands` bands is equal (Leskovec, Rajaraman, Ullman, "Mining of Massive
Datasets", chapter 3).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, LongType

from udfs.hashes.hamming import HASH_BITS, unpack

MAX_BANDS = 1000
MAX_ROWS = 24
AFFORDABLE = 512.0
"""Largest cost of a hash for which the distance of near-duplicates is chosen, in microseconds of one core."""

# Hashes in one block. The bit planes of all permutations of a block fit a core's cache.
_BLOCK = 4096

# Pairs below which computing all their keys is faster than one step for each bit.
_FEW = 512

# Relative costs, measured: one band of one hash (its share of signature, shuffle and sort), a row of that band, and one
# verified candidate pair.
BAND_COST, ROW_COST, PAIR_COST = 1.0, 0.012, 0.012


@dataclass(frozen=True)
class Bands:
    """The number of bands and of rows in a band.

    Attributes:
        bands: Bands; more bands find more pairs.
        rows: MinHash values in a band; more rows make fewer false candidates.
        seed: Seed of the permutations.
    """

    bands: int
    rows: int
    seed: int = 0

    def recall(self, max_distance: int) -> float:
        """Returns the expected share of pairs found, if pairs are more frequent at larger distances.

        The distances are from 0 to `max_distance` bits. The copies of one image are such pairs: each is near the
        original, and two of them are farther from each other. If the distances were uniform, the recall would be
        higher.

        Source: 1 - (1 - J^rows)^bands, the S-curve of banding.

        Examples:
            >>> round(Bands(bands=40, rows=14).recall(31), 2)
            0.93
        """
        distance = np.arange(max_distance + 1)
        return float(np.average(self.found(distance), weights=distance + 1.0))

    def found(self, distance: NDArray[np.int64]) -> NDArray[np.float64]:
        """Returns the probability that a pair at a distance (in bits) becomes a candidate."""
        return 1.0 - (1.0 - jaccard(distance) ** self.rows) ** self.bands


def jaccard(distance: NDArray[np.int64]) -> NDArray[np.float64]:
    """Returns the Jaccard similarity of two hashes that differ in `distance` bits, if half of their bits are set.

    Both sets have 128 elements, of which 128 - d/2 are shared.

    Examples:
        >>> round(float(jaccard(np.array(31))), 2)
        0.78
    """
    half = HASH_BITS / 2
    return np.asarray((half - distance / 2) / (half + distance / 2), dtype=np.float64)


def choose_bands(hashes: int, max_distance: int, recall: float, seed: int = 0) -> Bands:
    """Returns the cheapest bands that reach a recall.

    datasketch's optimiser weighs only false positives against false negatives. Here the costs are the shuffle of one
    row for each band, and the verification of random collisions, which grow with the square of the data. So this finds,
    for each number of rows, the fewest bands that reach the recall, and returns the cheapest of these.

    Args:
        hashes: Number of distinct hashes.
        max_distance: Largest distance of a pair, in bits of 256.
        recall: Target share of such pairs, between 0 and 1; see `Bands.recall`.
        seed: Seed of the permutations.

    Returns:
        The cheapest bands. If none within `MAX_BANDS` reaches the recall, those with the highest recall.

    Examples:
        >>> choose_bands(5_000, 31, 0.99).recall(31) >= 0.99
        True
    """
    options = [_fewest_bands(rows, max_distance, recall, seed) for rows in range(1, MAX_ROWS + 1)]
    reached = [option for option in options if option.recall(max_distance) >= recall]
    if not reached:
        return max(options, key=lambda option: option.recall(max_distance))
    return min(reached, key=lambda option: _cost(option, hashes))


@lru_cache(maxsize=8)
def affordable_distance(hashes: int, recall: float, most: float = AFFORDABLE) -> int:
    """Returns the largest distance, in bits, at which bands find near-duplicates at an affordable cost.

    Args:
        hashes: Number of distinct hashes.
        recall: Target share of the pairs, between 0 and 1; see `Bands.recall`.
        most: Largest cost of a hash, in microseconds of one core, by the model of `choose_bands`.

    Examples:
        >>> affordable_distance(1 << 14, 0.99), affordable_distance(1 << 20, 0.99), affordable_distance(1 << 30, 0.99)
        (128, 66, 34)
    """
    low, high = 0, HASH_BITS // 2
    while low < high:
        middle = (low + high + 1) // 2
        bands = choose_bands(hashes, middle, recall)
        if bands.recall(middle) >= recall and _cost(bands, hashes) <= most:
            low = middle
        else:
            high = middle - 1
    return low


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
    """Returns the cost of each hash: its bands, and half of the other hashes that collide with it by chance."""
    # Different images are about 128 bits apart. The spread (8 bits for independent bits, more for real images) makes
    # random collisions of long bands more likely than the mean distance suggests.
    spread = np.arange(64, 193)
    weights = np.exp(-0.5 * ((spread - 128) / 14.0) ** 2)
    by_chance = float(np.average(jaccard(spread) ** option.rows, weights=weights))
    return option.bands * (BAND_COST + ROW_COST * option.rows + PAIR_COST * by_chance * hashes / 2)


@lru_cache(maxsize=8)
def _permutations(count: int, seed: int) -> NDArray[np.intp]:
    generator = np.random.Generator(np.random.PCG64([seed, HASH_BITS]))
    return np.stack([generator.permutation(HASH_BITS) for _ in range(count)])


def signatures(hashes: NDArray[np.uint8], count: int, seed: int = 0) -> NDArray[np.uint8]:
    """Returns MinHash signatures: for each permutation, the position of the first set bit.

    Args:
        hashes: uint8 of shape (n, 32).
        count: Number of permutations.
        seed: Seed of the permutations.

    Returns:
        uint8 of shape (n, count); 0 everywhere for a hash without set bits.

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
    """Transposes hashes to shape (256, words), so that one operation on a word processes 64 hashes."""
    bits = np.zeros((HASH_BITS, -(-len(hashes) // 64) * 64), dtype=np.uint8)
    bits[:, : len(hashes)] = np.unpackbits(hashes, axis=1).T
    return np.packbits(bits, axis=1, bitorder="little").view(np.uint64)


def _first_set_bits(planes: NDArray[np.uint64], permutations: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Returns the first position in each permuted order at which each hash has a set bit: (permutations, hashes).

    All hashes are processed position by position. A hash at its first set bit stores the position, in eight bit planes,
    and is done. Half of the bits are set, so after about twenty positions all hashes are done.
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


def band_keys(hashes: NDArray[np.uint8], bands: Bands, first: int = 0, last: int | None = None) -> NDArray[np.uint64]:
    """Returns a 64-bit key for each band. Two hashes with an equal key are a candidate pair.

    The values of a band are hashed by tables of random words, one for each permutation (Zobrist 1970; tabulation
    hashing).

    Args:
        hashes: uint8 of shape (n, 32).
        bands: Bands and rows.
        first: The first band.
        last: The band before which the keys end; None for all.

    Returns:
        uint64 of shape (n, last - first). Keys of different bands differ.
    """
    own = slice(first * bands.rows, (bands.bands if last is None else last) * bands.rows)
    count = bands.bands * bands.rows
    permutations, tables = _permutations(count, bands.seed)[own], _key_tables(count, bands.seed)[own]
    keys = np.zeros((len(tables) // bands.rows, len(hashes)), dtype=np.uint64)
    for begin in range(0, len(hashes), _BLOCK):
        block = keys[:, begin : begin + _BLOCK]
        values = _first_set_bits(_bit_planes(hashes[begin : begin + _BLOCK]), permutations)[:, : block.shape[1]]
        for number, (table, value) in enumerate(zip(tables, values, strict=True)):
            block[number // bands.rows] ^= table[value]
    return keys.T


def share_early_band(
    left: NDArray[np.uint64], right: NDArray[np.uint64], bands: Bands, first: int
) -> NDArray[np.bool_]:
    """Returns which pairs of hashes have an equal key in a band before a given one.

    Two hashes have the same first set bit if the first bit that is set in any of them is set in both. So this needs no
    keys, and it stops at the first band in which a pair agrees.

    Args:
        left: uint64 of shape (4, n): the words of the first hash of each pair. Each hash has a set bit.
        right: The words of the other hash of each pair, same shape.
        bands: Bands and rows.
        first: The band before which bands count.

    Examples:
        >>> same, other = np.full((4, 1), 255, np.uint64), np.full((4, 1), 15, np.uint64)
        >>> share_early_band(same, same, Bands(9, 2), 1), share_early_band(same, other, Bands(9, 2), 0)
        (array([ True]), array([False]))
    """
    either, both = left | right, left & right
    permutations = _permutations(bands.bands * bands.rows, bands.seed)
    shared, apart = np.zeros(left.shape[1], dtype=np.bool_), np.arange(left.shape[1])
    for band in range(first):
        if len(apart) <= _FEW:
            hashes = (np.ascontiguousarray(words[:, apart].T).view(np.uint8) for words in (left, right))
            keys = (band_keys(each, bands, band, first) for each in hashes)
            shared[apart] = np.equal(*keys).any(axis=1)
            break
        agree = apart
        for permutation in permutations[band * bands.rows : (band + 1) * bands.rows]:
            agree = _with_same_first_bit(either, both, agree, permutation)
        shared[agree] = True
        apart = apart[~shared[apart]]
    return shared


def _with_same_first_bit(
    either: NDArray[np.uint64], both: NDArray[np.uint64], places: NDArray[np.intp], permutation: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Returns those places of pairs whose hashes have the same first set bit in a permuted order."""
    same = []
    for bit in permutation.tolist():
        if not len(places):
            break
        # Bits are numbered from the highest one of each byte, and bytes from the lowest one of each word.
        word, mask = bit // 64, np.uint64(1 << (bit % 64 // 8 * 8 + 7 - bit % 8))
        is_set = (either[word][places] & mask) != 0
        first_of = places[is_set]
        same.append(first_of[(both[word][first_of] & mask) != 0])
        places = places[~is_set]
    return np.concatenate([places[:0], *same])


def minhash_bands(column: Column, bands: int, rows: int, seed: int = 0) -> Column:
    """Returns the band keys of a column of 32-byte hashes, as array<bigint>; null if the hash is null.

    To find candidate pairs, explode the column and group by it.

    Args:
        column: Binary column.
        bands: Number of bands.
        rows: MinHash values in each band.
        seed: Seed of the permutations.
    """
    parameters = Bands(bands, rows, seed)

    import pandas as pd

    @pandas_udf(ArrayType(LongType()))
    def keys_of(hashes: pd.Series) -> pd.Series:
        present = hashes.notna()
        result = pd.Series([None] * len(hashes), index=hashes.index, dtype=object)
        keys = band_keys(unpack(hashes[present]), parameters).view(np.int64)
        result[present] = pd.Series(list(keys), index=hashes.index[present], dtype=object)
        return result

    return keys_of(column)
