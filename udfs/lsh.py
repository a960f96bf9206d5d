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

from udfs.arrow import joined_bytes
from udfs.hamming import HASH_WORDS
from udfs.matching import (
    ENTRY_WORDS,
    SHORT_RUN,
    Entries,
    Found,
    Indices,
    compare_runs,
    entries_of_rows,
    entry_distances,
    run_starts,
)
from udfs.minhash import Bands, band_keys

PACKED = T.StructType(
    [
        T.StructField("bucket", T.IntegerType()),
        T.StructField("keys", T.BinaryType()),
        T.StructField("entries", T.BinaryType()),
    ]
)
"""A batch's share of a shuffle bucket: n band keys of 4 bytes, and n entries of 40 bytes (`udfs.matching`)."""

_LEADERS = 16
# Share of a long run that its best must match for the run to count as crowded.
_CROWD = 1 / 8
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
        entries: uint64 of shape (n, 5), as `udfs.matching.packed_entries` makes them.

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
        crowd_pairs: Pairs that crowded runs of a bucket may make; see `_settled`.
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

    def match(self, keys: NDArray[np.uint32], entries: Entries, depth: int = 0) -> Found:
        """Verified pairs among entries that share a key.

        Args:
            keys: uint32 of shape (n,).
            entries: The n entries they belong to.
            depth: How often the bucket has been split.
        """
        # By key, and within a key those not known first.
        order = np.argsort((keys.astype(np.uint64) << np.uint64(1)) | entries.known.astype(np.uint64))
        keys, entries = keys[order], entries.take(order)
        starts = run_starts(keys)
        ends = np.append(starts[1:], len(keys))
        sizes = ends - starts
        large, crowded = sizes > self.max_bucket, np.zeros(len(sizes), np.bool_)
        long = np.flatnonzero((sizes > SHORT_RUN) & ~large)
        dense = long[crowds(entries, starts[long], ends[long], self.max_distance)]
        crowded[dense[~affordable(sizes[dense], self.crowd_pairs)]] = True
        plain = ~large & ~crowded
        parts = [compare_runs(entries, starts[plain], ends[plain], self.max_distance)]
        for start, end in zip(starts[~plain], ends[~plain], strict=True):
            run = entries.take(np.arange(start, end))
            parts.append(self._large(run, depth) if len(run) > self.max_bucket else self._settled(run, depth))
        return Found.union(parts)

    def _settled(self, run: Entries, depth: int) -> Found:
        """A crowded run, whose pairs are more than the task has room for.

        Near-copies of one picture fall under very many keys, and each pair of them would be found again and again. So
        those that match the best are settled by it, and the rest is matched by itself.
        """
        settled = settle(run.take(np.argsort(run.ranks)), self.max_distance)
        rest = settled.rest
        return Found.union([settled.found, self.match(np.zeros(len(rest), np.uint32), rest, depth)])

    def _large(self, entries: Entries, depth: int) -> Found:
        """A bucket too large for all pairs: a popular picture's near-copies, or pictures that are all alike.

        The best image is compared with all others, and those within the threshold are settled by that pair: they lose
        to it whatever else they match. This repeats with the best of the rest; what then remains is split by further
        MinHash rows. Both are linear in the bucket. What stays too large after all splits is left out and counted.
        """
        rest, parts = entries.take(np.argsort(entries.ranks)), []
        for _ in range(_LEADERS):
            if len(rest) <= self.max_bucket:
                break
            settled = settle(rest, self.max_distance)
            parts.append(settled.found)
            rest = settled.rest
        if len(rest) > self.max_bucket and depth >= _MAX_SPLITS:
            return Found.union([*parts, Found.nothing(skipped=len(rest) * (len(rest) - 1) // 2)])
        keys = np.zeros(len(rest), dtype=np.uint32)
        if len(rest) > self.max_bucket:
            split = Bands(1, _SPLIT_ROWS, seed=self.seed + 1 + depth)
            keys = band_keys(rest.hashes(), split)[:, 0].astype(np.uint32)
        return Found.union([*parts, self.match(keys, rest, depth + 1)])


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


def crowds(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> NDArray[np.bool_]:
    """Which runs are full of near-copies: those whose best matches a good part of the others.

    Args:
        entries: Of all runs.
        starts: Where each run begins, shape (runs,); none is empty.
        ends: Where each run ends.
        max_distance: Bits within which a pair counts.
    """
    if not len(starts):
        return np.zeros(0, dtype=np.bool_)
    sizes = ends - starts
    begins = np.cumsum(sizes) - sizes
    places = np.repeat(starts - begins, sizes) + np.arange(sizes.sum())
    ranks = entries.ranks[places]
    best = places[ranks == np.repeat(np.minimum.reduceat(ranks, begins), sizes)]
    near = entry_distances(entries, np.repeat(best, sizes), places) <= max_distance
    return np.asarray(np.add.reduceat(near.astype(np.intp), begins) - 1 >= _CROWD * sizes)


def affordable(sizes: NDArray[np.intp], most: int) -> NDArray[np.bool_]:
    """Which runs may be compared all with all: the shortest, as long as their pairs add up to no more than `most`.

    Examples:
        >>> affordable(np.array([100, 60, 5000]), 10_000)
        array([ True,  True, False])
    """
    pairs = sizes * (sizes - 1) // 2
    order = np.argsort(pairs, kind="stable")
    fits = np.empty(len(sizes), dtype=np.bool_)
    fits[order] = np.cumsum(pairs[order]) <= most
    return fits


@dataclass(frozen=True)
class Settled:
    """What comparing the best of a bucket with all others leaves.

    Attributes:
        found: Pairs with the best one; those among the settled and between them and the rest count as skipped.
        rest: Entries that do not match it, best first.
    """

    found: Found
    rest: Entries


def settle(entries: Entries, max_distance: int) -> Settled:
    """Compares the first of entries, the best, with all others."""
    others = np.arange(1, len(entries))
    near = entry_distances(entries, np.zeros(1, np.intp), others) <= max_distance
    settled, far = others[near], others[~near]
    skipped = len(settled) * (len(settled) - 1) // 2 + len(settled) * len(far)
    found = Found.of(entries, np.zeros(len(settled), np.intp), settled, len(others), skipped)
    return Settled(found, entries.take(far))
