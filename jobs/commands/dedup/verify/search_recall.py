"""The recall of the duplicate search, measured: a sample of hashes compared with every hash, against what was found.

The same pass looks some bits beyond the threshold, so that a user sees what a looser one would call the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from scipy import stats

from jobs.runtime.scratch import Scratch
from udfs.arrays.splitmix64 import splitmix64
from udfs.search.matching import ENTRY_COLUMNS, Entries, entries_of_rows, entry_distances, near_between

BEYOND = 24
"""Bits above the threshold that are looked at: three standard deviations of the distance of two random hashes (8 bits
each), enough to see copies end and chance begin."""

NEAR_MISSES = 200
"""Pairs above the threshold that are kept to be shown."""

LOOKED_AT = 2_000_000
"""Pairs within the threshold that recall is measured on, about: of more, which only near-copies of one picture in the
hundred thousands make, a part is taken by a hash of the pair."""

_FEW = 64  # One in so many hashes tells how many pairs there are.
_PAIR_HASH = np.uint64(0x9E3779B97F4A7C15)

_SAMPLED_ARROW = pa.schema(
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
SAMPLED = from_arrow_schema(_SAMPLED_ARROW)
"""A pair of ranks (a < b) within the threshold, or a near miss, which counts for no pair; or, where `a` is null, how
many pairs of a batch lie at a distance above the threshold. `sampled` is the end that is of the sample, `known` are
pairs of which no end is new, `stay` those of which both images are kept."""


@dataclass(frozen=True)
class SearchRecall:
    """What the exhaustive search of a sample says.

    Attributes:
        sampled: Hashes that were compared with all others.
        exhaustive: Pairs within the threshold that this found.
        found: How many of them the search under test had found.
        recall: found / exhaustive; None where there was nothing to find.
        low: Lower end of its interval.
        high: Upper end.
        both_kept: Pairs of which both images are kept: what the misses cost. A pair that was not found costs nothing
            where one of the two lost to a third.
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
        """The share found, with its interval.

        Hashes are sampled and not pairs, and the pairs of one hash of a large group come together. So the interval is
        Clopper and Pearson's for as many pairs as would have told as much, had they been drawn one by one.

        Args:
            sampled: Hashes that were compared with all others.
            pairs: int64 of shape (n,): pairs of each sampled hash that has any.
            found: int64 of shape (n,): those that the search found.
            confidence: Of the interval.
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
        drawn = _drawn_alone(pairs, found)
        good, bad = share * drawn, (1 - share) * drawn
        low = float(stats.beta.ppf(tail, good, bad + 1)) if hits else 0.0
        high = float(stats.beta.isf(tail, good + 1, bad)) if hits < total else 1.0
        return cls(sampled, total, hits, share, low, high, both_kept)


def _drawn_alone(pairs: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    """Pairs that, drawn one by one, would tell as much as those of sampled hashes."""
    total, share = pairs.sum(), found.sum() / pairs.sum()
    # The variance of a ratio of sums over hashes (Cochran, "Sampling Techniques", 1977, section 6.3).
    variance = ((found - share * pairs) ** 2).sum() / total**2
    if variance == 0:
        # All or none is found: as if the pairs of a hash stood and fell together.
        return float(total**2 / (pairs**2).sum())
    return float(min(share * (1 - share) / variance, total))


@dataclass(frozen=True)
class RecallSampleConfig:
    """How far a sample looks.

    Attributes:
        count: Hashes to sample; chosen by a hash of the hash, so that the sample is the same each time.
        hashes: How many there are.
        max_distance: Bits within which a pair counts.
        confidence: Of the intervals.
        passed: Ranks below this are of images that passed the filter.
        clusterings: How many were searched; 0 where clusters are not used.
        strict: Whether found pairs were looked at again: then those that an earlier run found cannot tell its recall.
    """

    count: int
    hashes: int
    max_distance: int
    confidence: float
    passed: int
    clusterings: int = 0
    strict: bool = False


@dataclass(frozen=True)
class MeasuredRecall:
    """What a sample saw.

    Attributes:
        whole: Recall of all that was searched.
        united: For clusters, recall of the first, of the first two, … clusterings, over pairs that this run compared.
        distances: distance, exhaustive pairs and those found: at most 257.
        near_misses: a, b, distance of the nearest pairs above the threshold whose both ends stay, best first.
    """

    whole: SearchRecall
    united: tuple[SearchRecall, ...]
    distances: tuple[tuple[int, int, int], ...]
    near_misses: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class HashSample:
    """Hashes that are compared with all.

    Attributes:
        packed: uint64 of shape (n, 5), as `udfs.search.matching.packed_entries` makes them.
        stays: bool of shape (n,): whether the image is kept.
    """

    packed: NDArray[np.uint64]
    stays: NDArray[np.bool_]


@dataclass(frozen=True)
class Exhaustive:
    """Compares hashes with a bounded sample, all with all.

    Attributes:
        sample: The sample.
        max_distance: Bits within which a pair counts.
        beyond: Bits above it that are looked at as well.
        most: Near misses of a batch that are kept, the nearest: the nearest of all are among them.
        one_in: Of so many pairs within the threshold one is told, by a hash of the pair.
    """

    sample: HashSample
    max_distance: int
    beyond: int = BEYOND
    most: int = NEAR_MISSES
    one_in: int = 1

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Arrow batches of (hash, rank, known, stays) to `SAMPLED`: the function for `DataFrame.mapInArrow`."""
        sample = Entries.unpacked(self.sample.packed)
        for batch in batches:
            if batch.num_rows:
                others = Entries.unpacked(entries_of_rows(batch))
                stays = batch.column("stays").to_numpy(zero_copy_only=False)
                yield from self._rows(sample, others, stays).to_batches()

    def _rows(self, sample: Entries, others: Entries, stays: NDArray[np.bool_]) -> pa.Table:
        left, right = near_between(sample.words, others.words, self.max_distance + self.beyond)
        # A pair of two sampled hashes is met from both ends, and counts from the better one.
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
        told = np.flatnonzero(near & (splitmix64(better * _PAIR_HASH + worse) % np.uint64(self.one_in) == 0))
        misses = np.flatnonzero(~near & stay)
        nearest = misses[np.lexsort((ends[1][misses], ends[0][misses], distance[misses]))[: self.most]]
        known = sample.known[left] & others.known[right]
        columns = (*ends, sample.ranks[left], distance, known, stay)
        return pa.concat_tables([_pairs(columns, told, 1), _pairs(columns, nearest, 0), _counted(distance[~near])])


def _pairs(columns: Sequence[NDArray[Any]], places: NDArray[np.intp], count: int) -> pa.Table:
    counts = np.full(len(places), count, np.int64)
    return pa.table([*(column[places] for column in columns), counts], schema=_SAMPLED_ARROW)


def _counted(distance: NDArray[np.int32]) -> pa.Table:
    values, counts = np.unique(distance, return_counts=True)
    nulls, unsaid = pa.nulls(len(values), pa.int64()), pa.nulls(len(values), pa.bool_())
    return pa.table([nulls, nulls, nulls, values, unsaid, unsaid, counts], schema=_SAMPLED_ARROW)


def measure(
    hashes: DataFrame, pairs: DataFrame, losers: DataFrame, config: RecallSampleConfig, scratch: Scratch
) -> MeasuredRecall:
    """Estimates the share of pairs that a search found, and looks at what it left apart.

    Args:
        hashes: hash, rank, known: every distinct hash that took part.
        pairs: a, b, clustering: the pairs of ranks that the search found, each with the first clustering that found it.
        losers: removed: ranks that do not stay.
        config: How large a sample, and how far it looks.
        scratch: Keeps what the sample met.
    """
    gone = losers.select(F.col("removed").alias("rank"), F.lit(True).alias("gone"))
    sample = _sample(hashes, gone, config)
    stays = (F.col("gone").isNull() & (F.col("rank") < config.passed)).alias("stays")
    marked = hashes.join(gone, "rank", "left").select(*ENTRY_COLUMNS, stays)
    exhaustive = Exhaustive(sample, config.max_distance, one_in=_one_in(marked, sample, config))
    seen = scratch.keep(marked.mapInArrow(exhaustive, SAMPLED))
    hit = pairs.select("a", "b", "clustering", F.lit(1).alias("hit"))
    within = seen.where("pairs = 1 and a is not null").join(hit, ["a", "b"], "left")
    if config.strict:
        within = within.where("not known")
    # A pair that a second look told apart was found, and both are kept.
    missed = F.col("stay") & F.col("hit").isNull()
    sums = F.count("*").alias("pairs"), F.count("hit").alias("found"), F.count_if(missed).alias("stay")
    # Some rows for each sampled hash, some hundred distances.
    by_hash = within.groupBy("sampled", "known", "clustering").agg(*sums).collect()
    near = within.groupBy("distance").agg(*sums).orderBy("distance").collect()
    above = seen.where("a is null").groupBy("distance").agg(F.sum("pairs").alias("pairs")).orderBy("distance")
    misses = seen.where("pairs = 0").orderBy("distance", "a", "b").limit(NEAR_MISSES)
    sampled, one_in = len(sample.packed), exhaustive.one_in
    return MeasuredRecall(
        _recall(sampled, by_hash, config),
        tuple(_recall_of_first(count, sampled, by_hash, config) for count in range(1, config.clusterings + 1)),
        # Reckoned up where one pair in so many was told.
        (
            *((row.distance, one_in * row.pairs, one_in * row.found) for row in near),
            *((row.distance, row.pairs, 0) for row in above.collect()),
        ),
        tuple((row.a, row.b, row.distance) for row in misses.collect()),
    )


def _one_in(marked: DataFrame, sample: HashSample, config: RecallSampleConfig) -> int:
    """Of how many pairs one is enough, by the pairs with a few of the hashes."""
    if len(sample.packed) * config.hashes <= LOOKED_AT:
        return 1
    few = marked.where(F.pmod(F.xxhash64("hash", F.lit(1)), F.lit(_FEW)) == 0)
    found = few.mapInArrow(Exhaustive(sample, config.max_distance, beyond=0), SAMPLED).where("pairs = 1").count()
    return max(1, -(-_FEW * found // LOOKED_AT))


def _sample(hashes: DataFrame, gone: DataFrame, config: RecallSampleConfig) -> HashSample:
    chosen = hashes.select(*ENTRY_COLUMNS).orderBy(F.xxhash64("hash"), "hash", "rank").limit(config.count).toArrow()
    packed = entries_of_rows(chosen)
    ranks = chosen.column("rank").to_numpy()
    few = hashes.sparkSession.createDataFrame([(rank,) for rank in ranks.tolist()], "rank long")
    lost = [row.rank for row in gone.join(F.broadcast(few), "rank", "left_semi").collect()]
    return HashSample(packed, ~np.isin(ranks, lost) & (ranks < config.passed))


def _recall(sampled: int, by_hash: Sequence[Row], config: RecallSampleConfig) -> SearchRecall:
    stay = sum(row.stay for row in by_hash)
    return _of_hashes(sampled, [(row.sampled, row.pairs, row.found) for row in by_hash], config, stay)


def _recall_of_first(count: int, sampled: int, by_hash: Sequence[Row], config: RecallSampleConfig) -> SearchRecall:
    """Of the first `count` clusterings, over pairs that this run compared."""
    fresh = [row for row in by_hash if not row.known]
    sums = [
        (row.sampled, row.pairs, row.found if row.clustering is not None and row.clustering < count else 0)
        for row in fresh
    ]
    return _of_hashes(sampled, sums, config)


def _of_hashes(
    sampled: int, sums: Sequence[tuple[int, int, int]], config: RecallSampleConfig, both_kept: int = 0
) -> SearchRecall:
    """From pairs and found ones of sampled hashes, each hash perhaps in several rows."""
    ranks, pairs, found = np.array(sums, np.int64).reshape(-1, 3).T
    _, place = np.unique(ranks, return_inverse=True)
    of_hash = [np.bincount(place, values).astype(np.int64) for values in (pairs, found)]
    return SearchRecall.of(sampled, of_hash[0], of_hash[1], config.confidence, both_kept)
