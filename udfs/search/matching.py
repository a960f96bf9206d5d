"""Compares the hashes of a run with each other. All searches for duplicates use this.

A *run* is a range of entries that may match: those under one band key, or those of one cluster. Short runs are compared
together, one step for each offset; long ones in dense tiles that stay in a core's cache. Both first compare half of the
bits, which is enough to reject nearly all pairs of different images.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import from_arrow_schema

from udfs.arrays.arrow import joined_bytes
from udfs.hashes.hamming import HASH_WORDS

FOUND_ARROW = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("distance", pa.int32()),
        ("compared", pa.int64()),
        ("skipped", pa.int64()),
        ("clustering", pa.int32()),
        ("bucket", pa.int32()),
        ("keys", pa.binary()),
        ("entries", pa.binary()),
    ]
)
FOUND = from_arrow_schema(FOUND_ARROW)
"""A verified pair of ranks (a < b); or, if `a` is null, the number of pairs that a bucket compared and skipped.

`clustering` is the number, from 0, of the clustering in which the pair was found; null for bands. `bucket`, `keys` and
`entries` stand beside the numbers if the bucket has runs of which pairs may be missing: see `Unsettled`."""

ENTRY_WORDS = HASH_WORDS + 1
"""64-bit words in an entry: the hash, then twice the rank, plus one if the hash is known."""

ENTRY_COLUMNS = ("hash", "rank", "known")
"""The columns of an entry."""

_HALF = HASH_WORDS // 2
SHORT_RUN = 48
"""Largest number of entries in a short run. Short runs are compared together, offset by offset."""

# From this distance on, half of the bits reject too few pairs, so all bits are compared at once.
_DENSE = 50
_TILE_ROWS, _TILE_COLUMNS = 64, 2048

Indices = NDArray[np.intp]
Selection = Callable[[Indices, Indices], NDArray[np.bool_]]


@dataclass(frozen=True)
class Entries:
    """Hashes to compare.

    Attributes:
        words: uint64 of shape (4, n). This layout is fast for XOR and bit counts.
        ranks: int64 of shape (n,), distinct; smaller is better.
        known: bool of shape (n,). Two known hashes were compared by an earlier run and are not compared again.
    """

    words: NDArray[np.uint64]
    ranks: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def unpacked(cls, packed: NDArray[np.uint64]) -> "Entries":
        """Unpacks entries of a shuffle, uint64 of shape (n, 5)."""
        ranks = (packed[:, HASH_WORDS] >> np.uint64(1)).astype(np.int64)
        known = (packed[:, HASH_WORDS] & np.uint64(1)).astype(np.bool_)
        return cls(np.ascontiguousarray(packed[:, :HASH_WORDS].T), ranks, known)

    def packed(self) -> NDArray[np.uint64]:
        """Returns the entries as in a shuffle, uint64 of shape (n, 5)."""
        flags = (self.ranks.astype(np.uint64) << np.uint64(1)) | self.known.astype(np.uint64)
        return np.ascontiguousarray(np.concatenate([self.words, flags[None]]).T)

    def __len__(self) -> int:
        return len(self.ranks)

    def hashes(self) -> NDArray[np.uint8]:
        """Returns the hashes, uint8 of shape (n, 32)."""
        return np.ascontiguousarray(self.words.T).view(np.uint8)

    def take(self, places: Indices) -> "Entries":
        """Returns the entries at the given places, in that order."""
        return Entries(self.words[:, places], self.ranks[places], self.known[places])


def packed_entries(hashes: pa.Array, ranks: pa.Array, known: pa.Array) -> NDArray[np.uint64]:
    """Packs entries for a shuffle.

    Args:
        hashes: n binary cells of 32 bytes.
        ranks: n integers below 2^62.
        known: n booleans.

    Returns:
        uint64 of shape (n, 5).
    """
    packed = np.empty((len(ranks), ENTRY_WORDS), dtype=np.uint64)
    packed[:, :HASH_WORDS] = joined_bytes(hashes).view(np.uint64).reshape(-1, HASH_WORDS)
    flag = known.to_numpy(zero_copy_only=False).astype(np.uint64)
    packed[:, HASH_WORDS] = (ranks.to_numpy(zero_copy_only=False).astype(np.uint64) << np.uint64(1)) | flag
    return packed


def entries_of_rows(rows: pa.RecordBatch | pa.Table) -> NDArray[np.uint64]:
    """Packs rows with the columns hash, rank and known as `packed_entries` does."""
    columns = (rows.column(name) for name in ENTRY_COLUMNS)
    return packed_entries(*(c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns))


@dataclass(frozen=True)
class Unsettled:
    """The runs of a bucket that were not compared in full.

    Attributes:
        bucket: Number of the bucket.
        keys: uint32: the keys of these runs.
        entries: Their entries.
    """

    bucket: int
    keys: NDArray[np.uint32]
    entries: Entries


@dataclass(frozen=True)
class FoundPairs:
    """Verified pairs, and the number of compared and skipped pairs.

    Attributes:
        a: The better rank of each pair, int64 of shape (n,).
        b: The worse rank, int64 of shape (n,).
        distance: Distance in bits, int32 of shape (n,).
        compared: Number of compared pairs.
        skipped: Number of pairs skipped because their run is too large.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    distance: NDArray[np.int32]
    compared: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, entries: Entries, left: Indices, right: Indices, compared: int, skipped: int = 0) -> "FoundPairs":
        """Returns the pairs of entries at the given places, with their distances."""
        apart = entry_distances(entries, left, right).astype(np.int32)
        a, b = entries.ranks[left], entries.ranks[right]
        return cls(np.minimum(a, b), np.maximum(a, b), apart, compared, skipped)

    @classmethod
    def empty(cls, skipped: int = 0) -> "FoundPairs":
        """Returns no pairs, and a number of skipped pairs."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32), 0, skipped)

    @classmethod
    def union(cls, parts: "list[FoundPairs]") -> "FoundPairs":
        """Returns all pairs of all parts."""
        parts = [cls.empty(), *parts]
        a, b = np.concatenate([part.a for part in parts]), np.concatenate([part.b for part in parts])
        distance = np.concatenate([part.distance for part in parts])
        return cls(a, b, distance, sum(part.compared for part in parts), sum(part.skipped for part in parts))

    def to_arrow(self, clustering: int | None = None, unsettled: Unsettled | None = None) -> pa.Table:
        """Returns rows of `FOUND`: each pair once, and one row of counts.

        Args:
            clustering: Number of the clustering; None for bands.
            unsettled: Runs of which pairs may be missing; None if there are none.
        """
        order = np.lexsort((self.b, self.a))
        a, b, distance = self.a[order], self.b[order], self.distance[order]
        first = np.ones(len(a), dtype=np.bool_)
        first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
        nulls = pa.nulls(int(first.sum()), pa.int64())
        number = pa.array(np.full(len(nulls), clustering or 0, np.int32), mask=np.full(len(nulls), clustering is None))
        none = [pa.nulls(len(nulls), kind) for kind in FOUND_ARROW.types[-3:]]
        pairs = pa.table([a[first], b[first], distance[first], nulls, nulls, number, *none], schema=FOUND_ARROW)
        counts: dict[str, object] = {"compared": self.compared, "skipped": self.skipped, "clustering": clustering}
        if unsettled:
            runs = {"bucket": unsettled.bucket, "keys": unsettled.keys.tobytes()}
            counts |= runs | {"entries": unsettled.entries.packed().tobytes()}
        return pa.concat_tables([pairs, pa.Table.from_pylist([counts], schema=FOUND_ARROW)])


def entry_distances(entries: Entries, left: Indices, right: Indices) -> NDArray[np.uint16]:
    """Returns the distances, in bits, of entries at two lists of places (the lists broadcast)."""
    apart = np.zeros(np.broadcast(left, right).shape, dtype=np.uint16)
    for word in entries.words:
        apart += np.bitwise_count(word[left] ^ word[right])
    return apart


def run_starts(keys: NDArray[np.unsignedinteger]) -> Indices:
    """Returns the start of each run of equal keys, in sorted keys.

    Examples:
        >>> run_starts(np.array([3, 3, 5], dtype=np.uint32)).tolist()
        [0, 2]
    """
    if not len(keys):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))


def compare_runs(
    entries: Entries, starts: Indices, ends: Indices, max_distance: int, selected: Selection | None = None
) -> FoundPairs:
    """Returns the pairs within a distance among entries of the same run.

    Args:
        entries: Entries; within each run, those that are not known come first.
        starts: Start of each run, shape (runs,).
        ends: End of each run.
        max_distance: Largest distance of a pair, in bits.
        selected: Returns which of the pairs to return, for the places of both entries; None for all.
    """
    lengths = ends - starts
    short = (lengths > 1) & (lengths <= SHORT_RUN)
    parts = [_compare_short(entries, starts[short], ends[short], max_distance)]
    parts += [
        _compare_long(entries, starts[run], ends[run], max_distance) for run in np.flatnonzero(lengths > SHORT_RUN)
    ]
    left, right = np.concatenate([pairs for pairs, _ in parts], axis=1)
    if selected:
        chosen = selected(left, right)
        left, right = left[chosen], right[chosen]
    return FoundPairs.of(entries, left, right, sum(compared for _, compared in parts))


def _compare_short(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> tuple[Indices, int]:
    """Compares each entry with the next one in its run, then with the one after that: one step for each offset.

    Returns:
        The places of the near pairs, of shape (2, pairs), and the number of compared pairs.
    """
    lengths = ends - starts
    first = np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    active, end_of = first + np.arange(len(first)), np.repeat(ends, lengths)
    fresh = ~entries.known[active]
    active, end_of = active[fresh], end_of[fresh]
    found, compared, offset = [], 0, 1
    while True:
        ahead = active + offset < end_of
        active, end_of = active[ahead], end_of[ahead]
        if not len(active):
            break
        near = _near(entries, active, active + offset, max_distance)
        found.append(np.stack([active[near], active[near] + offset]))
        compared += len(active)
        offset += 1
    return np.concatenate([np.zeros((2, 0), np.intp), *found], axis=1), compared


def _near(entries: Entries, left: Indices, right: Indices, max_distance: int) -> Indices:
    """Returns which pairs are within the distance: compares half of the bits first, then all bits of the rest."""
    apart = np.zeros(len(left), dtype=np.uint8)
    for word in entries.words[:_HALF]:
        apart += np.bitwise_count(word[left] ^ word[right])
    likely = np.flatnonzero(apart <= max_distance)
    return likely[entry_distances(entries, left[likely], right[likely]) <= max_distance]


def _compare_long(entries: Entries, start: int, end: int, max_distance: int) -> tuple[Indices, int]:
    """Compares all pairs of one run whose first entry is not known, tile row by tile row: see `_compare_short`."""
    fresh_end = start + int((~entries.known[start:end]).sum())
    found = []
    for begin in range(start, fresh_end, _TILE_ROWS):
        rows = entries.words[:, begin : min(begin + _TILE_ROWS, fresh_end)]
        left, right = near_between(rows, entries.words[:, begin:end], max_distance)
        found.append(np.stack([left, right])[:, left < right] + begin)
    fresh, known = fresh_end - start, end - fresh_end
    pairs = np.concatenate([np.zeros((2, 0), np.intp), *found], axis=1)
    return pairs, fresh * (fresh - 1) // 2 + fresh * known


def near_between(
    left: NDArray[np.uint64], right: NDArray[np.uint64], max_distance: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns all pairs within a distance between two lists of hashes.

    Args:
        left: uint64 of shape (4, m).
        right: uint64 of shape (4, n).
        max_distance: Largest distance of a pair, in bits.

    Returns:
        Their places in `left` and in `right`.

    Examples:
        >>> zeros, ones = np.zeros((4, 1), np.uint64), ~np.zeros((4, 2), np.uint64)
        >>> near_between(zeros, ones, 255), near_between(ones, ones, 0)
        ((array([], dtype=int64), array([], dtype=int64)), (array([0, 0, 1, 1]), array([0, 1, 0, 1])))
    """
    tiles = [
        _near_in_tile(left, right, row, column, max_distance)
        for row in range(0, left.shape[1], _TILE_ROWS)
        for column in range(0, right.shape[1], _TILE_COLUMNS)
    ]
    i, j = np.concatenate([np.zeros((2, 0), np.intp), *tiles], axis=1)
    return i, j


def _near_in_tile(
    left: NDArray[np.uint64], right: NDArray[np.uint64], row: int, column: int, max_distance: int
) -> NDArray[np.intp]:
    rows, columns = left[:, row : row + _TILE_ROWS], right[:, column : column + _TILE_COLUMNS]
    judged = HASH_WORDS if max_distance >= _DENSE else _HALF
    apart = np.bitwise_count(rows[0][:, None] ^ columns[0][None])
    # A distance of 256 wraps to 0 here. The full distance below corrects it.
    for x, y in zip(rows[1:judged], columns[1:judged], strict=True):
        apart += np.bitwise_count(x[:, None] ^ y[None])
    i, j = np.divmod(np.flatnonzero(apart <= max_distance), columns.shape[1])
    whole = sum(np.bitwise_count(x[i] ^ y[j]).astype(np.uint16) for x, y in zip(rows, columns, strict=True))
    near = np.asarray(whole) <= max_distance
    return np.stack([i[near] + row, j[near] + column])
