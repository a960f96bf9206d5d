"""Finds and verifies candidate pairs by MinHash bands or clusters: the reduce side of the shuffle.

It sorts the entries of a bucket by band key and compares those with the same key. `udfs.search.packing` is the map
side. Both use only numpy.

A pair agrees in many bands, but only the first of them returns it. A run that is not compared in full may omit pairs,
which their other bands have to return: so the bucket reports the entries of such a run, and `Completing` compares these
entries once more, in all other runs.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.arrays.arrow import joined_bytes
from udfs.hashes.minhash import Bands, band_keys, share_early_band
from udfs.search.matching import (
    ENTRY_WORDS,
    SHORT_RUN,
    Entries,
    FoundPairs,
    Indices,
    Selection,
    Unsettled,
    compare_runs,
    entry_distances,
    run_starts,
)
from udfs.search.packing import BandLayout

_LEADERS = 16
# The finalizer of MurmurHash3, on the bits that remain in a sort key.
_SCRAMBLED_BITS = 31
_SCRAMBLING = ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1))
# Pairs that all crowded runs may make: a fixed number in a small lake, else a number for each hash.
_CROWD_PAIRS, _CROWD_PAIRS_OF_A_HASH = 4_000_000, 4
_SPLIT_ROWS = 4
_KEY_BYTES = 4
_MAX_SPLITS = 8


@dataclass(frozen=True)
class Matching:
    """The reduce side: one shuffle bucket to verified pairs.

    Attributes:
        max_distance: Largest distance of a pair, in bits.
        max_bucket: Largest number of hashes under one band key that are all compared with each other; see `_large`.
        crowd_pairs: Pairs that crowded runs of a bucket may make. A run is crowded if it makes more pairs for each
            entry than a short run can; see `_crowded`.
        seed: Seed of the permutations that split larger runs.
        clusters: If keys are clusters: clusters in each clustering. The keys of clustering i begin at i · clusters.
        decided: Ranks below this are never resolved: people keep these images, so what else they match counts.
        unseen: Largest distance, in bits, at which a pair counts unseen. Near-copies within it are resolved first,
            those beyond it only if they are still too many. None if all pairs count unseen.
        layout: If keys are band keys: the bands of each bucket. Pairs that agree in a band of an earlier bucket are
            then left to that bucket.
    """

    max_distance: int
    max_bucket: int
    crowd_pairs: int = 1_000_000
    seed: int = 0
    clusters: int | None = None
    decided: int = 0
    unseen: int | None = None
    layout: BandLayout | None = None

    def __call__(self, bucket: pa.Table) -> pa.Table:
        """Returns the pairs of a bucket (`PACKED`) as `FOUND`: the function for `groupBy("bucket").applyInArrow`."""
        keys = joined_bytes(bucket.column("keys")).view(np.uint32)
        packed = joined_bytes(bucket.column("entries")).view(np.uint64).reshape(-1, ENTRY_WORDS)
        if self.clusters is None:
            number = bucket.column("bucket")[0].as_py()
            found = self._matched(keys, Entries.unpacked(packed), 0, number)
            return found.whole.to_arrow(unsettled=found.unsettled(number) if self.layout else None)
        clustering = keys // np.uint32(self.clusters)
        parts = []
        for number in np.unique(clustering).tolist():
            own = clustering == number
            parts.append(self.match(keys[own], Entries.unpacked(packed[own])).to_arrow(number))
        return pa.concat_tables(parts)

    def match(self, keys: NDArray[np.uint32], entries: Entries, depth: int = 0) -> FoundPairs:
        """Returns the verified pairs among entries with the same key.

        Args:
            keys: uint32 of shape (n,).
            entries: The n entries of the keys.
            depth: Number of splits so far.
        """
        return self._matched(keys, entries, depth).whole

    def _matched(self, keys: NDArray[np.uint32], entries: Entries, depth: int, bucket: int | None = None) -> "Matched":
        """Matches; with the number of a bucket, pairs that agree in a band of an earlier one are left to that one."""
        # Sort by key, then new hashes before known ones, then in pseudorandom order: neighbours are a sample of pairs.
        known = entries.known.astype(np.uint64) << np.uint64(_SCRAMBLED_BITS)
        order = np.argsort((keys.astype(np.uint64) << np.uint64(32)) | known | murmur_finalizer(entries.ranks))
        keys, entries = keys[order], entries.take(order)
        starts = run_starts(keys)
        ends = np.append(starts[1:], len(keys))
        sizes = ends - starts
        large, crowded = sizes > self.max_bucket, np.zeros(len(sizes), np.bool_)
        long = np.flatnonzero((sizes > SHORT_RUN) & ~large)
        pairs = estimated_pairs(entries, starts[long], ends[long], self.max_distance)
        dense = pairs > sizes[long] * SHORT_RUN // 2
        crowded[long[dense][~affordable(pairs[dense], self.crowd_pairs)]] = True
        plain = ~large & ~crowded
        selected = None if bucket is None or self.layout is None else self._new_in(bucket, entries)
        settled = compare_runs(entries, starts[plain], ends[plain], self.max_distance, selected)
        parts = []
        for start, end in zip(starts[~plain], ends[~plain], strict=True):
            run = entries.take(np.arange(start, end))
            parts.append(self._large(run, depth) if len(run) > self.max_bucket else self._crowded(run, depth))
        return Matched(settled, FoundPairs.union(parts), entries, keys[starts[~plain]], np.repeat(~plain, sizes))

    def _new_in(self, bucket: int, entries: Entries) -> Selection:
        """Returns the function that selects the pairs which agree in no band of an earlier bucket."""
        assert self.layout
        bands, first = self.layout.bands, self.layout.first_band(bucket)

        def are_new(left: Indices, right: Indices) -> NDArray[np.bool_]:
            return ~share_early_band(entries.words[:, left], entries.words[:, right], bands, first)

        return are_new

    def _crowded(self, run: Entries, depth: int) -> FoundPairs:
        """Matches a crowded run, which would make more pairs than the task may hold.

        Near-copies of one image have very many keys in common, so each pair of them would be found again and again.
        Therefore hashes that match the representative of a set of near-copies are resolved against it, set by set. Then
        the rest is matched.
        """
        rest: Entries = run
        parts: list[FoundPairs] = []
        for within in self._resolved_within:
            while len(members := near_next(rest, np.arange(len(rest) - 1), within)) > SHORT_RUN:
                resolved = resolve(rest, int(members[0]), within, self.decided)
                parts.append(resolved.found)
                rest = resolved.rest
            if parts:
                break
        return FoundPairs.union([*parts, self.match(np.zeros(len(rest), np.uint32), rest, depth)])

    @property
    def _resolved_within(self) -> tuple[int, ...]:
        """The distances within which near-copies are resolved, in the order in which they are tried."""
        return (self.max_distance,) if self.unseen is None else (self.unseen, self.max_distance)

    def _large(self, run: Entries, depth: int) -> FoundPairs:
        """Matches a run too large for all pairs: near-copies of a popular image, or many similar images.

        The representative of a set of near-copies (the best of all, if neighbours show no set) is compared with all
        others. Those within the threshold are resolved against it: they lose to it, whatever else they match. This
        repeats with the rest. What then remains is split by further MinHash rows. Both are linear in the size of the
        run. Pairs of runs that are still too large after all splits are skipped and counted.
        """
        rest, parts = run, []
        for _ in range(_LEADERS):
            if len(rest) <= self.max_bucket:
                break
            neighbours = ((d, near_next(rest, np.arange(len(rest) - 1), d)) for d in self._resolved_within)
            best = self._resolved_within[0], rest.ranks.argmin()
            within, leader = next(((d, members[0]) for d, members in neighbours if len(members)), best)
            resolved = resolve(rest, int(leader), within, self.decided)
            parts.append(resolved.found)
            rest = resolved.rest
        if len(rest) <= self.max_bucket:
            return FoundPairs.union([*parts, self.match(np.zeros(len(rest), np.uint32), rest, depth)])
        return FoundPairs.union([*parts, self._split(rest, depth)])

    def _split(self, run: Entries, depth: int) -> FoundPairs:
        """Matches pairs that agree in further MinHash rows; the others are counted as skipped."""
        if depth >= _MAX_SPLITS:
            return FoundPairs.empty(skipped=len(run) * (len(run) - 1) // 2)
        rows = Bands(1, _SPLIT_ROWS, seed=self.seed + 1 + depth)
        keys = band_keys(run.hashes(), rows)[:, 0].astype(np.uint32)
        _, sizes = np.unique(keys, return_counts=True)
        apart = (len(run) ** 2 - int((sizes**2).sum())) // 2
        return FoundPairs.union([FoundPairs.empty(skipped=apart), self.match(keys, run, depth + 1)])


@dataclass(frozen=True)
class Matched:
    """The pairs of a bucket.

    Attributes:
        settled: Pairs of the runs that were compared in full.
        others: Pairs of the large and crowded runs.
        entries: All entries, sorted by key.
        keys: The keys of the large and crowded runs.
        are_others: bool of shape (entries,): whether an entry is in such a run.
    """

    settled: FoundPairs
    others: FoundPairs
    entries: Entries
    keys: NDArray[np.uint32]
    are_others: NDArray[np.bool_]

    @property
    def whole(self) -> FoundPairs:
        """All pairs."""
        return FoundPairs.union([self.settled, self.others])

    def unsettled(self, bucket: int) -> Unsettled | None:
        """Returns the runs of which pairs may be missing; None if none are."""
        if not self.others.skipped:
            return None
        return Unsettled(bucket, self.keys, self.entries.take(np.flatnonzero(self.are_others)))


@dataclass(frozen=True)
class Completing:
    """Finds the pairs that a run omitted because it was not compared in full, but that agree in another band.

    Attributes:
        max_distance: Largest distance of a pair, in bits.
    """

    max_distance: int

    def __call__(self, bucket: pa.Table) -> pa.Table:
        """Returns the pairs of a bucket of `Repacking` (`PACKED`) as `FOUND`, without those of the omitting runs."""
        keys = joined_bytes(bucket.column("keys")).view(np.uint32)
        sizes = [len(cell) // _KEY_BYTES for cell in bucket.column("keys").to_pylist()]
        without_entries = np.repeat([not len(cell) for cell in bucket.column("entries").to_pylist()], sizes)
        entries = Entries.unpacked(joined_bytes(bucket.column("entries")).view(np.uint64).reshape(-1, ENTRY_WORDS))
        others, keys = keys[without_entries], keys[~without_entries]
        left = np.flatnonzero(~np.isin(keys, others))
        # An entry appears once for each run of the first search that it was in.
        order = left[np.lexsort((entries.ranks[left], entries.known[left], keys[left]))]
        again = (keys[order][1:] == keys[order][:-1]) & (entries.ranks[order][1:] == entries.ranks[order][:-1])
        order = order[np.append(True, ~again)] if len(order) else order
        keys, entries = keys[order], entries.take(order)
        starts = run_starts(keys)
        found = compare_runs(entries, starts, np.append(starts[1:], len(keys))[: len(starts)], self.max_distance)
        # The first search has counted these comparisons.
        return replace(found, compared=0).to_arrow()


def room_for_crowds(hashes: int, buckets: int) -> int:
    """Returns the pairs that crowded runs of one bucket may make, so that all pairs stay proportional to the hashes.

    After a run is split or partly resolved, its parts are matched again, and each part may make this number of pairs.

    Args:
        hashes: Number of distinct hashes.
        buckets: Number of shuffle buckets.

    Examples:
        >>> room_for_crowds(10_000, 8), room_for_crowds(10_000_000, 1000)
        (500000, 40000)
    """
    return max(_CROWD_PAIRS, _CROWD_PAIRS_OF_A_HASH * hashes) // buckets


def murmur_finalizer(ranks: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Returns pseudorandom 31-bit numbers for ranks, to sort them in random order; distinct for ranks below 2^31.

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
    """Returns those places whose entry is near the next entry.

    In random order, these are members of sets of near-copies. Their number grows with the square of a set's size.
    """
    return places[entry_distances(entries, places, places + 1) <= max_distance]


def estimated_pairs(entries: Entries, starts: Indices, ends: Indices, max_distance: int) -> NDArray[np.intp]:
    """Estimates how many pairs each run makes, including known ones, from its neighbours: 2 in n of all pairs.

    Args:
        entries: Entries, in random order within each run. Known ones come last, which cannot lower the estimate.
        starts: Start of each run, in order, shape (runs,); no run is empty.
        ends: End of each run.
        max_distance: Largest distance of a pair, in bits.
    """
    neighbours = ends - starts - 1
    places = np.repeat(starts - np.cumsum(neighbours) + neighbours, neighbours) + np.arange(neighbours.sum())
    near = near_next(entries, places, max_distance)
    matches = np.bincount(np.searchsorted(starts, near, side="right") - 1, minlength=len(starts))
    return np.asarray(matches * (ends - starts) // 2)


def affordable(pairs: NDArray[np.intp], most: int) -> NDArray[np.bool_]:
    """Returns which runs may compare all pairs: those with the fewest pairs, as long as their sum is at most `most`.

    Examples:
        >>> affordable(np.array([5_000, 2_000, 12_000_000]), 10_000)
        array([ True,  True, False])
    """
    order = np.argsort(pairs, kind="stable")
    fits = np.empty(len(pairs), dtype=np.bool_)
    fits[order] = np.cumsum(pairs[order]) <= most
    return fits


@dataclass(frozen=True)
class Resolved:
    """The result of comparing a representative with all other entries.

    Attributes:
        found: Pairs with the representative. Pairs among the resolved entries, and between them and the rest, are
            skipped.
        rest: Entries that do not match it or that people keep, in the same order.
    """

    found: FoundPairs
    rest: Entries


def resolve(entries: Entries, member: int, max_distance: int, decided: int = 0) -> Resolved:
    """Compares the representative of a set of near-copies with all others. No better entry matches it, so it is kept.

    Args:
        entries: A set of near-copies, and others.
        member: The place of a member of the set. The search goes from it to the best entry near it, and so on.
        max_distance: Largest distance of a pair, in bits.
        decided: Ranks below this stay in the rest, even if they match the representative.
    """
    places, best, better = np.arange(len(entries)), -1, member
    while better != best:
        best = better
        matches = entry_distances(entries, np.array([best]), places) <= max_distance
        near = np.flatnonzero(matches)
        better = int(near[entries.ranks[near].argmin()])
    matched = near[near != best]
    rest = np.flatnonzero((~matches | (entries.ranks < decided)) & (places != best))
    resolved = len(entries) - 1 - len(rest)
    skipped = resolved * (resolved - 1) // 2 + resolved * len(rest)
    found = FoundPairs.of(entries, np.array([best]), matched, len(entries) - 1, skipped)
    return Resolved(found, entries.take(rest))
