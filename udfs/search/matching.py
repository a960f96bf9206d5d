"""Hashes that share a run compared with each other: the half that every search for duplicates has in common.

A *run* is a stretch of entries that may match: those under one band key, or those of one cluster. Short runs are taken
all at once, one step for each offset; long ones in dense tiles that stay in a core's cache. Either way a pair is first
judged by half of its bits, which settles nearly all pairs of unlike pictures.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import from_arrow_schema

from udfs.arrays.arrow import joined_bytes
from udfs.hashes.hamming import HASH_WORDS

_FOUND_ARROW = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("distance", pa.int32()),
        ("compared", pa.int64()),
        ("skipped", pa.int64()),
        ("clustering", pa.int32()),
    ]
)
FOUND = from_arrow_schema(_FOUND_ARROW)
"""A verified pair of ranks (a < b); or, where `a` is null, how many pairs a bucket compared and left out.

`clustering` is the number of the clustering that brought them together, from 0; null for bands."""

ENTRY_WORDS = HASH_WORDS + 1
"""Words of 64 bits in an entry: the hash, then twice the rank, plus one where the hash is known."""

ENTRY_COLUMNS = ("hash", "rank", "known")
"""What an entry is made of."""

_HALF = HASH_WORDS // 2
SHORT_RUN = 48
"""Entries of a run up to which it is compared offset by offset, together with all others of its kind."""

# Bits from which on so many unlike pairs pass by half of their bits that a pair is judged by all of them at once.
_DENSE = 50
_TILE_ROWS, _TILE_COLUMNS = 64, 2048

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Entries:
    """Hashes to be compared.

    Attributes:
        words: uint64 of shape (4, n): each word of all hashes side by side, as XOR and bit counts like it.
        ranks: int64 of shape (n,), each its own; the smaller is the better.
        known: bool of shape (n,): two known hashes have been compared before and are not again.
    """

    words: NDArray[np.uint64]
    ranks: NDArray[np.int64]
    known: NDArray[np.bool_]

    @classmethod
    def unpacked(cls, packed: NDArray[np.uint64]) -> "Entries":
        """From entries as they travel, uint64 of shape (n, 5)."""
        ranks = (packed[:, HASH_WORDS] >> np.uint64(1)).astype(np.int64)
        known = (packed[:, HASH_WORDS] & np.uint64(1)).astype(np.bool_)
        return cls(np.ascontiguousarray(packed[:, :HASH_WORDS].T), ranks, known)

    def __len__(self) -> int:
        return len(self.ranks)

    def hashes(self) -> NDArray[np.uint8]:
        """The hashes, uint8 of shape (n, 32)."""
        return np.ascontiguousarray(self.words.T).view(np.uint8)

    def take(self, places: Indices) -> "Entries":
        """Those at the given places, in that order."""
        return Entries(self.words[:, places], self.ranks[places], self.known[places])


def packed_entries(hashes: pa.Array, ranks: pa.Array, known: pa.Array) -> NDArray[np.uint64]:
    """Entries as they travel through a shuffle.

    Args:
        hashes: n binary cells of 32 bytes.
        ranks: n whole numbers below 2^62.
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
    """Rows of (hash, rank, known) and perhaps more as `packed_entries` makes them."""
    columns = (rows.column(name) for name in ENTRY_COLUMNS)
    return packed_entries(*(c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns))


@dataclass(frozen=True)
class FoundPairs:
    """Verified pairs, and what finding them took.

    Attributes:
        a: The better rank of each pair, int64 of shape (n,).
        b: The worse one, likewise.
        distance: Bits, int32 of shape (n,).
        compared: Pairs that were compared.
        skipped: Pairs of a run that were left out because it is too large.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    distance: NDArray[np.int32]
    compared: int = 0
    skipped: int = 0

    @classmethod
    def of(cls, entries: Entries, left: Indices, right: Indices, compared: int, skipped: int = 0) -> "FoundPairs":
        """Pairs of entries at the given places, with their distances."""
        apart = entry_distances(entries, left, right).astype(np.int32)
        a, b = entries.ranks[left], entries.ranks[right]
        return cls(np.minimum(a, b), np.maximum(a, b), apart, compared, skipped)

    @classmethod
    def nothing(cls, skipped: int = 0) -> "FoundPairs":
        """No pair."""
        return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32), 0, skipped)

    @classmethod
    def union(cls, parts: "list[FoundPairs]") -> "FoundPairs":
        """All pairs of all parts."""
        parts = [cls.nothing(), *parts]
        a, b = np.concatenate([part.a for part in parts]), np.concatenate([part.b for part in parts])
        distance = np.concatenate([part.distance for part in parts])
        return cls(a, b, distance, sum(part.compared for part in parts), sum(part.skipped for part in parts))

    def to_arrow(self, clustering: int | None = None) -> pa.Table:
        """Rows of `FOUND`: the pairs, each once, and one row of counts.

        Args:
            clustering: The clustering in which they were found; None for bands.
        """
        order = np.lexsort((self.b, self.a))
        a, b, distance = self.a[order], self.b[order], self.distance[order]
        first = np.ones(len(a), dtype=np.bool_)
        first[1:] = (a[1:] != a[:-1]) | (b[1:] != b[:-1])
        nulls = pa.nulls(int(first.sum()), pa.int64())
        number = pa.array(np.full(len(nulls), clustering or 0, np.int32), mask=np.full(len(nulls), clustering is None))
        pairs = pa.table([a[first], b[first], distance[first], nulls, nulls, number], schema=_FOUND_ARROW)
        counts = [{"compared": self.compared, "skipped": self.skipped, "clustering": clustering}]
        return pa.concat_tables([pairs, pa.Table.from_pylist(counts, schema=_FOUND_ARROW)])


def entry_distances(entries: Entries, left: Indices, right: Indices) -> NDArray[np.uint16]:
    """Bits in which entries at two lists of places differ (the lists broadcast)."""
    apart = np.zeros(np.broadcast(left, right).shape, dtype=np.uint16)
    for word in entries.words:
        apart += np.bitwise_count(word[left] ^ word[right])
    return apart


def run_starts(keys: NDArray[np.unsignedinteger]) -> Indices:
    """Where each run of equal keys begins, in sorted keys.

    Examples:
        >>> run_starts(np.array([3, 3, 5], dtype=np.uint32)).tolist()
        [0, 2]
    """
    if not len(keys):
        return np.zeros(0, dtype=np.intp)
    return np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))


def compare_runs(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> FoundPairs:
    """Pairs within a distance among entries of the same run.

    Args:
        entries: Within each run those not known come first.
        starts: Where each run begins, shape (runs,).
        ends: Where each run ends.
        max_distance: Bits within which a pair counts.
    """
    lengths = ends - starts
    short = (lengths > 1) & (lengths <= SHORT_RUN)
    parts = [_compare_short(entries, starts[short], ends[short], max_distance)]
    parts += [
        _compare_long(entries, starts[run], ends[run], max_distance) for run in np.flatnonzero(lengths > SHORT_RUN)
    ]
    return FoundPairs.union(parts)


def _compare_short(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> FoundPairs:
    """Each entry with the one after it in its run, then with the next: one step over all runs for each offset."""
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
    left, right = np.concatenate([np.zeros((2, 0), np.intp), *found], axis=1)
    return FoundPairs.of(entries, left, right, compared)


def _near(entries: Entries, left: Indices, right: Indices, max_distance: int) -> Indices:
    """Which of the pairs are within the distance: by half of the bits first, then by all of those that remain."""
    apart = np.zeros(len(left), dtype=np.uint8)
    for word in entries.words[:_HALF]:
        apart += np.bitwise_count(word[left] ^ word[right])
    likely = np.flatnonzero(apart <= max_distance)
    return likely[entry_distances(entries, left[likely], right[likely]) <= max_distance]


def _compare_long(entries: Entries, start: int, end: int, max_distance: int) -> FoundPairs:
    """All pairs of one run of which the first is not known, tile row by tile row."""
    fresh_end = start + int((~entries.known[start:end]).sum())
    found = []
    for begin in range(start, fresh_end, _TILE_ROWS):
        rows = entries.words[:, begin : min(begin + _TILE_ROWS, fresh_end)]
        left, right = near_between(rows, entries.words[:, begin:end], max_distance)
        found.append(np.stack([left, right])[:, left < right] + begin)
    fresh, known = fresh_end - start, end - fresh_end
    left, right = np.concatenate([np.zeros((2, 0), np.intp), *found], axis=1)
    return FoundPairs.of(entries, left, right, fresh * (fresh - 1) // 2 + fresh * known)


def near_between(
    left: NDArray[np.uint64], right: NDArray[np.uint64], max_distance: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs within a distance between two lists of hashes, all with all.

    Args:
        left: uint64 of shape (4, m).
        right: uint64 of shape (4, n).
        max_distance: Bits within which a pair counts.

    Returns:
        Their places on the left and on the right.

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
    # 256 bits wrap to 0 here, and are told apart below.
    for x, y in zip(rows[1:judged], columns[1:judged], strict=True):
        apart += np.bitwise_count(x[:, None] ^ y[None])
    i, j = np.divmod(np.flatnonzero(apart <= max_distance), columns.shape[1])
    whole = sum(np.bitwise_count(x[i] ^ y[j]).astype(np.uint16) for x, y in zip(rows, columns, strict=True))
    near = np.asarray(whole) <= max_distance
    return np.stack([i[near] + row, j[near] + column])
