"""Measures the recall of the search: compares a sample of hashes with all hashes, and counts the pairs it had found.

The same pass also counts pairs some bits above the threshold, to show what a higher threshold would find.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import scipy
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.commands.dedup.nodes.hash_nodes import sample_key
from jobs.runtime.scratch import Scratch
from udfs.arrays.splitmix64 import splitmix64
from udfs.search.matching import ENTRY_COLUMNS, Entries, entries_of_rows, entry_distances, near_between

BEYOND = 24
"""Bits above the threshold up to which pairs are counted: three standard deviations (8 bits each) of the distance of
two random hashes. This shows where copies end and random pairs begin."""

NEAR_MISSES = 200
"""Pairs above the threshold that are stored to be shown."""

MEASURED_PAIRS = 2_000_000
"""Approximate maximum of pairs within the threshold on which recall is measured. Only hundreds of thousands of
near-copies of one image make more; then a hash of the pair selects a part of them."""

_FEW = 64  # One in 64 hashes is enough to estimate the number of pairs.
_PAIR_HASH = np.uint64(0x9E3779B97F4A7C15)

SAMPLED_ARROW = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("sampled", pa.int64()),
        ("distance", pa.int32()),
        ("known", pa.bool_()),
        ("stay", pa.bool_()),
        ("pairs", pa.int64()),
    ]
)
SAMPLED = from_arrow_schema(SAMPLED_ARROW)
"""A pair of ranks (a < b) within the threshold, or a near miss (with `pairs` 0); or, if `a` is null, the number of
pairs of a batch at a distance above the threshold. `sampled` is the rank from the sample, `known` marks pairs of which
neither hash is new, `stay` those of which both images are kept."""


@dataclass(frozen=True)
class SearchRecall:
    """The recall of a search, measured by an exhaustive search of a sample.

    Attributes:
        sampled: Hashes that were compared with all others.
        exhaustive: Near-duplicate pairs that the exhaustive search found: within the threshold, and beyond the safe
            distance with thumbnails that agree.
        found: How many of them the search had found.
        recall: found / exhaustive; None if there are no pairs.
        low: Lower end of its interval.
        high: Upper end.
        both_kept: Missed pairs of which both images are kept. A missed pair does no harm if one of its images was
            removed because of a third one.
    """

    sampled: int
    exhaustive: int
    found: int
    recall: float | None
    low: float
    high: float
    both_kept: int = 0

    @classmethod
    def of(
        cls, sampled: int, pairs: NDArray[np.int64], found: NDArray[np.int64], confidence: float, both_kept: int = 0
    ) -> "SearchRecall":
        """Returns the recall with its interval.

        The sample draws hashes, not pairs, so the pairs of one hash are not independent. The interval is that of
        Clopper and Pearson for the effective number of independent pairs.

        Args:
            sampled: Hashes that were compared with all others.
            pairs: int64 of shape (n,): pairs of each sampled hash that has any.
            found: int64 of shape (n,): those that the search found.
            confidence: Confidence of the interval.
            both_kept: See the attribute.

        Source:
            Korn and Graubard, "Confidence intervals for proportions with small expected number of positive counts
            estimated from survey data", Survey Methodology 24 (1998).

        Examples:
            >>> one, many = np.ones(40, np.int64), np.full(4, 10)
            >>> SearchRecall.of(50, one, one, 0.95).low > 0.9 > SearchRecall.of(50, many, many, 0.95).low
            True
            >>> print(SearchRecall.of(10, one[:0], one[:0], 0.95).recall)
            None
        """
        total, hits = int(pairs.sum()), int(found.sum())
        if not total:
            return cls(sampled, 0, 0, None, 0.0, 1.0, both_kept)
        share, tail = hits / total, (1 - confidence) / 2
        effective = _effective_pairs(pairs, found)
        good, bad = share * effective, (1 - share) * effective
        low = float(scipy.stats.beta.ppf(tail, good, bad + 1)) if hits else 0.0
        high = float(scipy.stats.beta.isf(tail, good + 1, bad)) if hits < total else 1.0
        return cls(sampled, total, hits, share, low, high, both_kept)


def _effective_pairs(pairs: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Returns the number of independent pairs that would give the same precision as the pairs of sampled hashes."""
    total, share = pairs.sum(), found.sum() / pairs.sum()
    # The variance of a ratio of sums over hashes (Cochran, "Sampling Techniques", 1977, section 6.3).
    variance = ((found - share * pairs) ** 2).sum() / total**2
    if variance == 0:
        # All or none is found: assume that the pairs of a hash are found or missed together.
        return float(total**2 / (pairs**2).sum())
    return float(min(share * (1 - share) / variance, total))


@dataclass(frozen=True)
class Looks:
    """How the pairs of the sample are looked at, if distances alone do not decide.

    Attributes:
        verified: a, b: the pairs of the search that count as near-duplicates.
        unseen: Largest distance at which a pair counts without a look; -1 if every pair needs one.
        confirmed: Returns the pairs of a table of a, b (ranks), mirrored whose images look the same.
    """

    verified: DataFrame
    unseen: int
    confirmed: Callable[[DataFrame], DataFrame]


@dataclass(frozen=True)
class RecallSampleConfig:
    """The parameters of the recall sample.

    Attributes:
        count: Hashes to sample. They are chosen by a hash of the hash, so the sample is reproducible.
        hashes: Number of all hashes.
        max_distance: Largest distance of a pair, in bits.
        confidence: Confidence of the intervals.
        passed: Ranks below this belong to images that passed the filter.
        clusterings: Number of clusterings; 0 if clusters are not used.
    """

    count: int
    hashes: int
    max_distance: int
    confidence: float
    passed: int
    clusterings: int = 0


@dataclass(frozen=True)
class MeasuredRecall:
    """The measurements on a sample.

    Attributes:
        whole: Recall of the whole search.
        first_clusterings: For clusters, recall of the first, the first two, … clusterings, on pairs that this run
            compared.
        distances: distance, exhaustive pairs, pairs found: at most 257 rows. Within the threshold these are
            near-duplicates, above it all pairs.
        near_misses: a, b, distance of the nearest pairs above the threshold of which both images are kept, nearest
            first.
    """

    whole: SearchRecall
    first_clusterings: tuple[SearchRecall, ...]
    distances: tuple[tuple[int, int, int], ...]
    near_misses: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class HashSample:
    """The sampled hashes.

    Attributes:
        packed: uint64 of shape (n, 5), as `udfs.search.matching.packed_entries` makes them.
        stays: bool of shape (n,): whether its image is kept.
    """

    packed: NDArray[np.uint64]
    stays: NDArray[np.bool_]


@dataclass(frozen=True)
class Exhaustive:
    """The exhaustive comparison of all hashes with a bounded sample.

    Attributes:
        sample: The sample.
        max_distance: Largest distance of a pair, in bits.
        beyond: Bits above it up to which pairs are counted.
        most: Number of nearest near misses to return from a batch. The nearest of all batches are among them.
        one_in: One in this many pairs within the threshold is returned, selected by a hash of the pair.
    """

    sample: HashSample
    max_distance: int
    beyond: int = BEYOND
    most: int = NEAR_MISSES
    one_in: int = 1

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (hash, rank, known, stays) into `SAMPLED`: the function for `DataFrame.mapInArrow`."""
        sample = Entries.unpacked(self.sample.packed)
        for batch in batches:
            if batch.num_rows:
                others = Entries.unpacked(entries_of_rows(batch))
                stays = batch.column("stays").to_numpy(zero_copy_only=False)
                yield from self._rows(sample, others, stays).to_batches()

    def _rows(self, sample: Entries, others: Entries, stays: NDArray[np.bool_]) -> pa.Table:
        left, right = near_between(sample.words, others.words, self.max_distance + self.beyond)
        # A pair of two sampled hashes appears twice. It counts for the better one.
        twice = np.isin(others.ranks, sample.ranks)[right]
        once = np.where(twice, sample.ranks[left] < others.ranks[right], True)
        left, right = left[once], right[once]
        both = Entries(
            np.concatenate([sample.words, others.words], axis=1), np.empty(0, np.int64), np.empty(0, np.bool_)
        )
        distance = entry_distances(both, left, right + len(sample)).astype(np.int32)
        near = distance <= self.max_distance
        stay = self.sample.stays[left] & stays[right]
        ends = np.sort([sample.ranks[left], others.ranks[right]], axis=0)
        better, worse = ends.astype(np.uint64)
        selected = np.flatnonzero(near & (splitmix64(better * _PAIR_HASH + worse) % np.uint64(self.one_in) == 0))
        misses = np.flatnonzero(~near & stay)
        nearest = misses[np.lexsort((ends[1][misses], ends[0][misses], distance[misses]))[: self.most]]
        known = sample.known[left] & others.known[right]
        columns = (*ends, sample.ranks[left], distance, known, stay)
        return pa.concat_tables([_pairs(columns, selected, 1), _pairs(columns, nearest, 0), _counts(distance[~near])])


def _pairs(columns: Sequence[NDArray[Any]], places: NDArray[np.intp], count: int) -> pa.Table:
    counts = np.full(len(places), count, np.int64)
    return pa.table([*(column[places] for column in columns), counts], schema=SAMPLED_ARROW)


def _counts(distance: NDArray[np.int32]) -> pa.Table:
    values, counts = np.unique(distance, return_counts=True)
    nulls, null_flags = pa.nulls(len(values), pa.int64()), pa.nulls(len(values), pa.bool_())
    return pa.table([nulls, nulls, nulls, values, null_flags, null_flags, counts], schema=SAMPLED_ARROW)


def measure(
    hashes: DataFrame,
    pairs: DataFrame,
    losers: DataFrame,
    config: RecallSampleConfig,
    scratch: Scratch,
    looks: Looks | None = None,
) -> MeasuredRecall:
    """Estimates the recall of a search and collects the near misses.

    Args:
        hashes: hash, rank, known: every distinct hash that was searched.
        pairs: a, b, clustering: the pairs of ranks that the search found, each with the first clustering that found it.
        losers: removed: ranks that are removed.
        config: The parameters of the sample.
        scratch: Keeps the compared pairs.
        looks: Which pairs of the sample are near-duplicates; None if all within the distance are.
    """
    lost = losers.select(F.col("removed").alias("rank"), F.lit(True).alias("is_removed"))
    sample = _sample(hashes, lost, config)
    stays = (F.col("is_removed").isNull() & (F.col("rank") < config.passed)).alias("stays")
    marked = hashes.join(lost, "rank", "left").select(*ENTRY_COLUMNS, stays)
    exhaustive = Exhaustive(sample, config.max_distance, one_in=_one_in(marked, sample, config))
    compared = scratch.keep(marked.mapInArrow(exhaustive, SAMPLED))
    hit = pairs.select("a", "b", "clustering", F.lit(1).alias("hit"))
    within = compared.where("pairs = 1 and a is not null").join(hit, ["a", "b"], "left")
    if looks:
        within = scratch.keep(_near_duplicates(scratch.keep(within), looks))
    missed = F.col("stay") & F.col("hit").isNull()
    sums = F.count("*").alias("pairs"), F.count("hit").alias("found"), F.count_if(missed).alias("stay")
    # A few rows for each sampled hash, and a few hundred distances.
    by_hash = within.groupBy("sampled", "known", "clustering").agg(*sums).collect()
    above = compared.where("a is null").groupBy("distance").agg(F.sum("pairs").alias("pairs")).orderBy("distance")
    misses = compared.where("pairs = 0").orderBy("distance", "a", "b").limit(NEAR_MISSES).select("a", "b", "distance")
    sizes = len(sample.packed), exhaustive.one_in
    near = within.groupBy("distance").agg(*sums).orderBy("distance").select("distance", "pairs", "found").collect()
    return measured([SampledSums(*row) for row in by_hash], near, above.collect(), misses.collect(), sizes, config)


def _near_duplicates(within: DataFrame, looks: Looks) -> DataFrame:
    """Returns the pairs of the sample that count as near-duplicates. Thumbnails of missed ones are compared."""
    ends = ["a", "b"]
    found = within.where("hit is not null").join(looks.verified.select(*ends), ends, "left_semi")
    missed = within.where("hit is null")
    unseen, farther = (missed.where(f"distance {sign} {looks.unseen}") for sign in ("<=", ">"))
    own = farther.select(*ends, F.lit(False).alias("mirrored"))
    same = farther.join(looks.confirmed(own).select(*ends), ends, "left_semi")
    return found.unionByName(unseen).unionByName(same)


@dataclass(frozen=True)
class SampledSums:
    """The number of pairs of one sampled hash within the threshold.

    Attributes:
        sampled: Its rank.
        known: Whether neither hash of these pairs is new.
        clustering: The first clustering that found them; None if none did.
        pairs: Their number.
        found: How many of them the search found.
        stay: How many it missed although both images are kept.
    """

    sampled: int
    known: bool
    clustering: int | None
    pairs: int
    found: int
    stay: int


def measured(
    by_hash: Sequence[SampledSums],
    near: Sequence[tuple[int, int, int]],
    above: Sequence[tuple[int, int]],
    misses: Sequence[tuple[int, int, int]],
    sizes: tuple[int, int],
    config: RecallSampleConfig,
) -> MeasuredRecall:
    """Returns the measurements from the sums of the compared pairs.

    Args:
        by_hash: The sums for each sampled hash.
        near: distance, pairs, found pairs, for each distance within the threshold.
        above: distance, pairs, for each distance above it.
        misses: a, b, distance of the near misses, nearest first.
        sizes: Number of sampled hashes, and `Exhaustive.one_in`.
        config: The parameters of the sample.
    """
    sampled, one_in = sizes
    # Scaled up, since only one in `one_in` pairs was returned.
    within = ((distance, one_in * pairs, one_in * found) for distance, pairs, found in near)
    return MeasuredRecall(
        _recall(sampled, by_hash, config),
        tuple(_recall_of_first(count, sampled, by_hash, config) for count in range(1, config.clusterings + 1)),
        (*within, *((distance, pairs, 0) for distance, pairs in above)),
        tuple((a, b, distance) for a, b, distance in misses),
    )


def _one_in(marked: DataFrame, sample: HashSample, config: RecallSampleConfig) -> int:
    """Chooses `Exhaustive.one_in` from the number of pairs with a few of the hashes."""
    if not is_large(sample, config):
        return 1
    few = marked.where(few_of(F.col("hash")))
    return one_in(few.mapInArrow(Exhaustive(sample, config.max_distance, beyond=0), SAMPLED).where("pairs = 1").count())


def is_large(sample: HashSample, config: RecallSampleConfig) -> bool:
    """Returns whether a sample may have more pairs within the threshold than `MEASURED_PAIRS`."""
    return len(sample.packed) * config.hashes > MEASURED_PAIRS


def few_of(hash_: Column) -> Column:
    """Returns whether a hash is one of the few from which the number of pairs is estimated."""
    return F.pmod(F.xxhash64(hash_, F.lit(1)), F.lit(_FEW)) == 0


def one_in(found: int) -> int:
    """Returns `Exhaustive.one_in`, given the pairs within the threshold that a few of the hashes make."""
    return max(1, -(-_FEW * found // MEASURED_PAIRS))


def _sample(hashes: DataFrame, lost: DataFrame, config: RecallSampleConfig) -> HashSample:
    chosen = hashes.select(*ENTRY_COLUMNS).orderBy(sample_key(F.col("hash")), "rank").limit(config.count).toArrow()
    packed = entries_of_rows(chosen)
    ranks = chosen.column("rank").to_numpy()
    few = hashes.sparkSession.createDataFrame([(rank,) for rank in ranks.tolist()], "rank long")
    lost_ranks = [row.rank for row in lost.join(F.broadcast(few), "rank", "left_semi").collect()]
    return HashSample(packed, ~np.isin(ranks, lost_ranks) & (ranks < config.passed))


def _recall(sampled: int, by_hash: Sequence[SampledSums], config: RecallSampleConfig) -> SearchRecall:
    stay = sum(row.stay for row in by_hash)
    return _recall_from_sums(sampled, [(row.sampled, row.pairs, row.found) for row in by_hash], config, stay)


def _recall_of_first(
    count: int, sampled: int, by_hash: Sequence[SampledSums], config: RecallSampleConfig
) -> SearchRecall:
    """Returns the recall of the first `count` clusterings, on pairs that this run compared."""
    fresh = [row for row in by_hash if not row.known]
    sums = [
        (row.sampled, row.pairs, row.found if row.clustering is not None and row.clustering < count else 0)
        for row in fresh
    ]
    return _recall_from_sums(sampled, sums, config)


def _recall_from_sums(
    sampled: int, sums: Sequence[tuple[int, int, int]], config: RecallSampleConfig, both_kept: int = 0
) -> SearchRecall:
    """Sums the pairs and found pairs of each sampled hash, which may have several rows, and returns the recall."""
    ranks, pairs, found = np.array(sums, np.int64).reshape(-1, 3).T
    _, place = np.unique(ranks, return_inverse=True)
    by_hash = [np.bincount(place, values).astype(np.int64) for values in (pairs, found)]
    return SearchRecall.of(sampled, by_hash[0], by_hash[1], config.confidence, both_kept)
