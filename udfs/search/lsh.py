"""Candidate pairs by MinHash bands, verified: the two vectorised halves around one shuffle.

The map half turns a batch of hashes into one packed row for each shuffle bucket, so that the shuffle moves a few large
rows rather than one small row for each band of each hash. The reduce half sorts a bucket's entries by band key and
compares those that share one. Both are numpy throughout.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T

from udfs.arrays.arrow import joined_bytes
from udfs.hashes.hamming import HASH_WORDS
from udfs.hashes.minhash import Bands, band_keys
from udfs.search.matching import (
    ENTRY_WORDS,
    SHORT_RUN,
    Entries,
    FoundPairs,
    Indices,
    compare_runs,
    entries_of_rows,
    entry_distances,
    run_starts,
)

PACKED = T.StructType(
    [
        T.StructField("bucket", T.IntegerType()),
        T.StructField("keys", T.BinaryType()),
        T.StructField("entries", T.BinaryType()),
    ]
)
"""A batch's share of a shuffle bucket: n band keys of 4 bytes, and n entries of 40 bytes (`udfs.search.matching`)."""

_LEADERS = 16
# The finalizer of MurmurHash3, on as many bits as a sort key has left.
_SCRAMBLED_BITS = 31
_SCRAMBLING = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))
# Pairs that all crowded runs may make: in a small lake every one, beyond that some for each hash.
_CROWD_PAIRS, _CROWD_PAIRS_OF_A_HASH = 4_000_000, 4
_FEWEST_BUCKETS, _ENTRIES_PER_BUCKET = 8, 1_000_000
_SPLIT_ROWS = 4
_MAX_SPLITS = 8


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
        """Packs Arrow batches of (hash, rank, known): the function for `DataFrame.mapInArrow` with schema `PACKED`."""
        for batch in batches:
            if batch.num_rows:
                yield self._pack(entries_of_rows(batch))

    def _pack(self, entries: NDArray[np.uint64]) -> pa.RecordBatch:
        keys = band_keys(np.ascontiguousarray(entries[:, :HASH_WORDS]).view(np.uint8), self.bands)
        # The upper half of a key says the bucket, the lower half tells the keys of a bucket apart.
        bucket = (keys >> np.uint64(32)) % np.uint64(self.buckets)
        return packed_rows(keys.astype(np.uint32), bucket.astype(np.uint32), entries)


def packed_rows(keys: NDArray[np.uint32], buckets: NDArray[np.uint32], entries: NDArray[np.uint64]) -> pa.RecordBatch:
    """A batch's entries, one packed row for each shuffle bucket.

    Args:
        keys: uint32 of shape (n, m): each entry goes to m keys.
        buckets: The bucket of each key, likewise.
        entries: uint64 of shape (n, 5), as `udfs.search.matching.packed_entries` makes them.

    Returns:
        Rows of `PACKED`.
    """
    by_bucket = np.argsort(buckets.ravel(), kind="stable")
    owner, sorted_keys = by_bucket // keys.shape[1], keys.ravel()[by_bucket]
    present, starts = np.unique(buckets.ravel()[by_bucket], return_index=True)
    spans = list(zip(starts, [*starts[1:], len(by_bucket)], strict=True))
    return pa.RecordBatch.from_arrays(
        [
            pa.array(present.astype(np.int32)),
            pa.array([sorted_keys[begin:end].tobytes() for begin, end in spans], pa.binary()),
            pa.array([entries[owner[begin:end]].tobytes() for begin, end in spans], pa.binary()),
        ],
        names=["bucket", "keys", "entries"],
    )


@dataclass(frozen=True)
class Matching:
    """The reduce half: one shuffle bucket to verified pairs.

    Attributes:
        max_distance: Bits within which a pair counts.
        max_bucket: Hashes under one band key that are all compared with each other; see `_large`.
        crowd_pairs: Pairs that crowded runs of a bucket may make: those with more of them for each entry than a short
            run can have; see `_settled`.
        seed: Of the permutations that split larger ones.
        clusters: Where keys are clusters, how many each clustering has: those of clustering i begin at i · clusters.
    """

    max_distance: int
    max_bucket: int
    crowd_pairs: int = 1_000_000
    seed: int = 0
    clusters: int | None = None

    def __call__(self, bucket: pa.Table) -> pa.Table:
        """Pairs of a bucket (`PACKED`), as `FOUND`: the function for `DataFrame.groupBy("bucket").applyInArrow`."""
        keys = joined_bytes(bucket.column("keys")).view(np.uint32)
        packed = joined_bytes(bucket.column("entries")).view(np.uint64).reshape(-1, ENTRY_WORDS)
        if self.clusters is None:
            return self.match(keys, Entries.unpacked(packed)).to_arrow()
        clustering = keys // np.uint32(self.clusters)
        parts = []
        for number in np.unique(clustering).tolist():
            own = clustering == number
            parts.append(self.match(keys[own], Entries.unpacked(packed[own])).to_arrow(number))
        return pa.concat_tables(parts)

    def match(self, keys: NDArray[np.uint32], entries: Entries, depth: int = 0) -> FoundPairs:
        """Verified pairs among entries that share a key.

        Args:
            keys: uint32 of shape (n,).
            entries: The n entries they belong to.
            depth: How often the bucket has been split.
        """
        # By key, within a key those not known first, and then as if by chance: neighbours are a sample of all pairs.
        known = entries.known.astype(np.uint64) << np.uint64(_SCRAMBLED_BITS)
        order = np.argsort((keys.astype(np.uint64) << np.uint64(32)) | known | murmur_finalizer(entries.ranks))
        keys, entries = keys[order], entries.take(order)
        starts = run_starts(keys)
        ends = np.append(starts[1:], len(keys))
        sizes = ends - starts
        large, crowded = sizes > self.max_bucket, np.zeros(len(sizes), np.bool_)
        long = np.flatnonzero((sizes > SHORT_RUN) & ~large)
        pairs = guessed_pairs(entries, starts[long], ends[long], self.max_distance)
        dense = pairs > sizes[long] * SHORT_RUN // 2
        crowded[long[dense][~affordable(pairs[dense], self.crowd_pairs)]] = True
        plain = ~large & ~crowded
        parts = [compare_runs(entries, starts[plain], ends[plain], self.max_distance)]
        for start, end in zip(starts[~plain], ends[~plain], strict=True):
            run = entries.take(np.arange(start, end))
            parts.append(self._large(run, depth) if len(run) > self.max_bucket else self._settled(run, depth))
        return FoundPairs.union(parts)

    def _settled(self, run: Entries, depth: int) -> FoundPairs:
        """A crowded run, whose pairs are more than the task has room for.

        Near-copies of one picture fall under very many keys, and each pair of them would be found again and again. So
        those that match the best of a crowd are settled by it, crowd by crowd, and the rest is matched by itself.
        """
        rest, parts = run, []
        while len(members := near_next(rest, np.arange(len(rest) - 1), self.max_distance)) > SHORT_RUN:
            settled = settle(rest, int(members[0]), self.max_distance)
            parts.append(settled.found)
            rest = settled.rest
        return FoundPairs.union([*parts, self.match(np.zeros(len(rest), np.uint32), rest, depth)])

    def _large(self, run: Entries, depth: int) -> FoundPairs:
        """A bucket too large for all pairs: a popular picture's near-copies, or pictures that are all alike.

        The best of a crowd (of all, where neighbours show none) is compared with all others, and those within the
        threshold are settled by that pair: they lose to it whatever else they match. This repeats with the rest; what
        then remains is split by further MinHash rows. Both are linear in the bucket. What stays too large after all
        splits is left out and counted.
        """
        rest, parts = run, []
        for _ in range(_LEADERS):
            if len(rest) <= self.max_bucket:
                break
            members = near_next(rest, np.arange(len(rest) - 1), self.max_distance)
            leader = members[0] if len(members) else rest.ranks.argmin()
            settled = settle(rest, int(leader), self.max_distance)
            parts.append(settled.found)
            rest = settled.rest
        if len(rest) <= self.max_bucket:
            return FoundPairs.union([*parts, self.match(np.zeros(len(rest), np.uint32), rest, depth)])
        return FoundPairs.union([*parts, self._split(rest, depth)])

    def _split(self, run: Entries, depth: int) -> FoundPairs:
        """Pairs that agree in further MinHash rows; all others are counted."""
        if depth >= _MAX_SPLITS:
            return FoundPairs.nothing(skipped=len(run) * (len(run) - 1) // 2)
        rows = Bands(1, _SPLIT_ROWS, seed=self.seed + 1 + depth)
        keys = band_keys(run.hashes(), rows)[:, 0].astype(np.uint32)
        _, sizes = np.unique(keys, return_counts=True)
        apart = (len(run) ** 2 - int((sizes**2).sum())) // 2
        return FoundPairs.union([FoundPairs.nothing(skipped=apart), self.match(keys, run, depth + 1)])


def buckets_for(entries: int) -> int:
    """Shuffle buckets among which entries are spread, so that no task holds many more than a million of 44 bytes.

    Examples:
        >>> buckets_for(1000), buckets_for(10_000_001)
        (8, 11)
    """
    return max(_FEWEST_BUCKETS, -(-entries // _ENTRIES_PER_BUCKET))


def room_for_crowds(hashes: int, buckets: int) -> int:
    """Pairs that crowded runs of one bucket may make, so that all pairs stay proportional to the hashes.

    A run that is split, or that its best have settled, is matched again in parts, each of which has this room anew.

    Args:
        hashes: Distinct hashes that are compared.
        buckets: Shuffle buckets among which their entries are spread.

    Examples:
        >>> room_for_crowds(10_000, 8), room_for_crowds(10_000_000, 1000)
        (500000, 40000)
    """
    return max(_CROWD_PAIRS, _CROWD_PAIRS_OF_A_HASH * hashes) // buckets


def murmur_finalizer(ranks: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Numbers of 31 bits, in whose order ranks lie as if by chance; each its own for ranks below 2^31.

    Examples:
        >>> np.argsort(murmur_finalizer(np.arange(100, 108)))
        array([1, 7, 4, 3, 2, 5, 6, 0])
    """
    mask = np.uint64((1 << _SCRAMBLED_BITS) - 1)
    mixed = ranks.astype(np.uint64) & mask
    for shift, factor in _SCRAMBLING:
        mixed ^= mixed >> np.uint64(shift)
        mixed = mixed * np.uint64(factor) & mask
    return mixed


def near_next(entries: Entries, places: Indices, max_distance: int) -> Indices:
    """Those of the places whose entry is near the one after it.

    Where order is chance these are members of crowds: of each, as many as the square of its size says.
    """
    return places[entry_distances(entries, places, places + 1) <= max_distance]


def guessed_pairs(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> NDArray[np.intp]:
    """How many pairs each run makes, of known ones too: the pairs of neighbours among n are two in n of all.

    Args:
        entries: In each run as if by chance. That known ones lie apart from others makes the guess no smaller.
        starts: Where each run begins, in order, shape (runs,); none is empty.
        ends: Where each run ends.
        max_distance: Bits within which a pair counts.
    """
    followed = ends - starts - 1
    places = np.repeat(starts - np.cumsum(followed) + followed, followed) + np.arange(followed.sum())
    near = near_next(entries, places, max_distance)
    matches = np.bincount(np.searchsorted(starts, near, side="right") - 1, minlength=len(starts))
    return np.asarray(matches * (ends - starts) // 2)


def affordable(pairs: NDArray[np.intp], most: int) -> NDArray[np.bool_]:
    """Which runs may be compared all with all: those of the fewest pairs, as long as these add up to at most `most`.

    Examples:
        >>> affordable(np.array([5_000, 2_000, 12_000_000]), 10_000)
        array([ True,  True, False])
    """
    order = np.argsort(pairs, kind="stable")
    fits = np.empty(len(pairs), dtype=np.bool_)
    fits[order] = np.cumsum(pairs[order]) <= most
    return fits


@dataclass(frozen=True)
class Settled:
    """What comparing the best of a crowd with all others leaves.

    Attributes:
        found: Pairs with the best one; those among the settled and between them and the rest count as skipped.
        rest: Entries that do not match it, in the order they had.
    """

    found: FoundPairs
    rest: Entries


def settle(entries: Entries, member: int, max_distance: int) -> Settled:
    """Compares the best of a crowd with all others: one that no better entry matches, so that it stays.

    Args:
        entries: A crowd and others.
        member: The place of one of the crowd. The best near it is looked for, then the best near that one, and so on.
        max_distance: Bits within which a pair counts.
    """
    places, best, better = np.arange(len(entries)), -1, member
    while better != best:
        best = better
        matches = entry_distances(entries, np.array([best]), places) <= max_distance
        near = np.flatnonzero(matches)
        better = int(near[entries.ranks[near].argmin()])
    settled, far = near[near != best], np.flatnonzero(~matches)
    skipped = len(settled) * (len(settled) - 1) // 2 + len(settled) * len(far)
    found = FoundPairs.of(entries, np.array([best]), settled, len(entries) - 1, skipped)
    return Settled(found, entries.take(far))
