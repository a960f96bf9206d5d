"""Candidate pairs by MinHash bands, verified: the two vectorised halves around one shuffle.

The map half turns a batch of hashes into one packed row for each shuffle bucket, so that the shuffle moves a few large
rows rather than one small row for each band of each hash. The reduce half sorts a bucket's entries by band key and
compares those that share one. Both are numpy throughout.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T

from udfs.hamming import HASH_BYTES, distances
from udfs.minhash import Bands, band_keys

ORDER_BYTES = 24
"""Bytes of an image's rank, smaller is better: what `jobs.dedup` puts first (8) and its id (16)."""

PACKED = T.StructType(
    [
        T.StructField("bucket", T.IntegerType()),
        T.StructField("keys", T.BinaryType()),
        T.StructField("entries", T.BinaryType()),
    ]
)
"""A batch's share of a shuffle bucket: n band keys of 8 bytes, and n entries of hash and order."""

FOUND = T.StructType(
    [
        T.StructField("a", T.BinaryType()),
        T.StructField("b", T.BinaryType()),
        T.StructField("distance", T.IntegerType()),
        T.StructField("compared", T.LongType()),
        T.StructField("skipped", T.LongType()),
    ]
)
"""A verified pair of hashes (a < b); or, where `a` is null, how many pairs a bucket compared and left out."""

_FOUND_ARROW = pa.schema(
    [
        ("a", pa.binary()),
        ("b", pa.binary()),
        ("distance", pa.int32()),
        ("compared", pa.int64()),
        ("skipped", pa.int64()),
    ]
)
_ENTRY_BYTES = HASH_BYTES + ORDER_BYTES
_LEADERS = 16
_SPLIT_ROWS = 4
_MAX_SPLITS = 8

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Packing:
    """The map half: hashes to packed shuffle rows.

    Attributes:
        bands: Bands and rows.
        buckets: Number of shuffle buckets.
    """

    bands: Bands
    buckets: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Packs Arrow batches of (hash, order): the function for `DataFrame.mapInArrow` with schema `PACKED`."""
        for batch in batches:
            if batch.num_rows:
                yield self._pack(_fixed(batch.column("hash"), HASH_BYTES), _fixed(batch.column("order"), ORDER_BYTES))

    def _pack(self, hashes: NDArray[np.uint8], orders: NDArray[np.uint8]) -> pa.RecordBatch:
        keys = band_keys(hashes, self.bands)
        bucket = (keys % np.uint64(self.buckets)).astype(np.int32).ravel()
        by_bucket = np.argsort(bucket, kind="stable")
        owner = by_bucket // self.bands.bands
        entries = np.concatenate([hashes, orders], axis=1)[owner]
        sorted_keys = keys.ravel()[by_bucket]
        present, starts = np.unique(bucket[by_bucket], return_index=True)
        ends = [*starts[1:], len(by_bucket)]
        spans = list(zip(starts, ends, strict=True))
        return pa.RecordBatch.from_arrays(
            [
                pa.array(present, pa.int32()),
                pa.array([sorted_keys[begin:end].tobytes() for begin, end in spans], pa.binary()),
                pa.array([entries[begin:end].tobytes() for begin, end in spans], pa.binary()),
            ],
            names=["bucket", "keys", "entries"],
        )


@dataclass(frozen=True)
class Matching:
    """The reduce half: one shuffle bucket to verified pairs.

    Attributes:
        max_distance: Bits within which a pair counts.
        max_bucket: Hashes under one band key that are all compared with each other; see `_large`.
        seed: Of the permutations that split larger ones.
    """

    max_distance: int
    max_bucket: int
    seed: int = 0

    def __call__(self, bucket: pa.Table) -> pa.Table:
        """Compares one bucket's entries: the function for `groupBy("bucket").applyInArrow` with schema `FOUND`."""
        keys = np.frombuffer(b"".join(bucket.column("keys").to_pylist()), dtype=np.uint64)
        packed = np.frombuffer(b"".join(bucket.column("entries").to_pylist()), dtype=np.uint8)
        found = self.match(keys, packed.reshape(-1, _ENTRY_BYTES))
        nulls = pa.nulls(len(found.a), pa.int64())
        columns = [_cells(found.a), _cells(found.b), pa.array(found.distance), nulls, nulls]
        counts = [{"compared": found.compared, "skipped": found.skipped}]
        return pa.concat_tables(
            [pa.table(columns, schema=_FOUND_ARROW), pa.Table.from_pylist(counts, schema=_FOUND_ARROW)]
        )

    def match(self, keys: NDArray[np.uint64], entries: NDArray[np.uint8]) -> "Found":
        """Verified pairs among entries that share a key.

        Args:
            keys: uint64 of shape (n,).
            entries: uint8 of shape (n, 56): hash and order.

        Returns:
            The pairs within `max_distance`, and how many were compared and left out.
        """
        pile = _Pile(np.ascontiguousarray(entries[:, :HASH_BYTES]), np.ascontiguousarray(entries[:, HASH_BYTES:]))
        self._runs(pile, keys, np.arange(len(keys)), depth=0)
        return pile.found()

    def _runs(self, pile: "_Pile", keys: NDArray[np.uint64], members: Indices, depth: int) -> None:
        """Compares members that share a key; keys belong to members."""
        by_key = np.argsort(keys, kind="stable")
        keys, members = keys[by_key], members[by_key]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]])) if len(keys) else np.zeros(0, np.intp)
        lengths = np.diff([*starts, len(keys)])
        end_of = np.repeat(starts + lengths, lengths)
        small = np.repeat(lengths <= self.max_bucket, lengths)
        self._all_pairs(pile, members, end_of, np.flatnonzero(small & (end_of - np.arange(len(keys)) > 1)))
        for run in np.flatnonzero(lengths > self.max_bucket):
            self._large(pile, members[starts[run] : starts[run] + lengths[run]], depth)

    def _all_pairs(self, pile: "_Pile", members: Indices, end_of: Indices, active: Indices) -> None:
        """Compares each entry with those after it in its run: one step for each offset, over all runs at once."""
        offset = 1
        while len(active):
            pile.compare(members[active], members[active + offset], self.max_distance)
            offset += 1
            active = active[active + offset < end_of[active]]

    def _large(self, pile: "_Pile", members: Indices, depth: int) -> None:
        """A bucket too large for all pairs: a popular picture's near-copies, or pictures that are all alike.

        The best image is compared with all others, and those within the threshold are settled by that pair: they lose
        to it whatever else they match. This repeats with the best of the rest; what then remains is split by further
        MinHash rows. Both are linear in the bucket. What stays too large after all splits is left out and counted.
        """
        members = members[np.lexsort(pile.orders[members].T[::-1])]
        for _ in range(_LEADERS):
            if len(members) <= self.max_bucket:
                break
            leader, rest = members[0], members[1:]
            near = pile.compare(np.full(len(rest), leader), rest, self.max_distance)
            settled = int(near.sum())
            pile.skipped += settled * (settled - 1) // 2 + settled * (len(rest) - settled)
            members = rest[~near]
        if depth >= _MAX_SPLITS and len(members) > self.max_bucket:
            pile.skipped += len(members) * (len(members) - 1) // 2
            return
        split = Bands(1, _SPLIT_ROWS, seed=self.seed + 1 + depth)
        keys = band_keys(pile.hashes[members], split)[:, 0]
        if len(members) <= self.max_bucket:
            keys = np.zeros(len(members), dtype=np.uint64)
        self._runs(pile, keys, members, depth + 1)


@dataclass(frozen=True)
class Found:
    """Verified pairs; one that shares several bands may stand several times.

    Attributes:
        a: Smaller hash of each pair, uint8 of shape (n, 32).
        b: Larger hash, likewise.
        distance: Bits, int32 of shape (n,).
        compared: Pairs that were compared.
        skipped: Pairs that share a band but were left out because their bucket is too large.
    """

    a: NDArray[np.uint8]
    b: NDArray[np.uint8]
    distance: NDArray[np.int32]
    compared: int
    skipped: int


@dataclass
class _Pile:
    """The entries of a bucket, and the pairs found among them so far."""

    hashes: NDArray[np.uint8]
    orders: NDArray[np.uint8]
    compared: int = 0
    skipped: int = 0
    pairs: list[tuple[Indices, Indices, NDArray[np.uint16]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.words = self.hashes.view(np.uint64)

    def compare(self, left: Indices, right: Indices, max_distance: int) -> NDArray[np.bool_]:
        """Verifies pairs of entries and keeps those within the threshold; says which."""
        distance = distances(self.words[left], self.words[right])
        near = distance <= max_distance
        self.compared += len(left)
        self.pairs.append((left[near], right[near], distance[near]))
        return near

    def found(self) -> Found:
        left, right = (np.concatenate([np.zeros(0, np.intp), *(p[i] for p in self.pairs)]) for i in (0, 1))
        distance = np.concatenate([np.zeros(0, np.uint16), *(p[2] for p in self.pairs)]).astype(np.int32)
        swap = _greater(self.hashes[left], self.hashes[right])
        a, b = np.where(swap, right, left), np.where(swap, left, right)
        return Found(self.hashes[a], self.hashes[b], distance, self.compared, self.skipped)


def _greater(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each row of bytes comes after the other's, as Spark orders binary."""
    first = (a != b).argmax(axis=1)[:, None]
    return np.asarray(np.take_along_axis(a, first, 1) > np.take_along_axis(b, first, 1))[:, 0]


def _cells(rows: NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes as an Arrow binary column, without a Python object for each."""
    fixed = pa.binary(rows.shape[1])
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    return pa.FixedSizeBinaryArray.from_buffers(fixed, len(rows), [None, buffer]).cast(pa.binary())


def _fixed(column: pa.Array, width: int) -> NDArray[np.uint8]:
    """A binary column whose cells all have one width, as an array of shape (n, width)."""
    return np.frombuffer(b"".join(column.to_pylist()), dtype=np.uint8).reshape(-1, width)
