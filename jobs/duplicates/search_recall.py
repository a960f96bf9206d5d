"""The recall of the duplicate search, measured: a sample of hashes compared with every hash, against what was found.

The same pass looks some bits beyond the threshold, so that a user sees what a looser one would call the same.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql import types as T
from scipy import stats

from udfs.matching import ENTRY_COLUMNS, Entries, entries_of_rows, entry_distances, near_between
from udfs.mixing import mixed

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

SAMPLED = T.StructType(
    [
        T.StructField("a", T.LongType()),
        T.StructField("b", T.LongType()),
        T.StructField("distance", T.IntegerType()),
        T.StructField("known", T.BooleanType()),
        T.StructField("stay", T.BooleanType()),
        T.StructField("pairs", T.LongType()),
    ]
)
"""A pair of ranks (a < b) within the threshold, or a near miss, which counts for no pair; or, where `a` is null, how
many pairs of a batch lie at a distance above the threshold. `known` are pairs of which no end is new, `stay` those of
which both images are kept."""

_SAMPLED_ARROW = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.int64()),
        ("distance", pa.int32()),
        ("known", pa.bool_()),
        ("stay", pa.bool_()),
        ("pairs", pa.int64()),
    ]
)


@dataclass(frozen=True)
class SearchRecall:
    """What the exhaustive search of a sample says.

    Attributes:
        sampled: Hashes that were compared with all others.
        exhaustive: Pairs within the threshold that this found.
        found: How many of them the search under test had found.
        recall: found / exhaustive; 1 where there was nothing to find.
        low: Lower end of its interval.
        high: Upper end.
        both_kept: Pairs of which both images are kept: what the misses cost. A pair that was not found costs nothing
            where one of the two lost to a third.
    """

    sampled: int
    exhaustive: int
    found: int
    recall: float
    low: float
    high: float
    both_kept: int = 0

    @classmethod
    def of(cls, sampled: int, exhaustive: int, found: int, confidence: float) -> "SearchRecall":
        """The share found, with its interval (Clopper-Pearson, on pairs).

        Examples:
            >>> SearchRecall.of(10, 40, 40, 0.95).low > 0.9, SearchRecall.of(10, 0, 0, 0.95).recall
            (True, 1.0)
        """
        interval = stats.binomtest(found, exhaustive).proportion_ci(confidence) if exhaustive else None
        low, high = (interval.low, interval.high) if interval else (0.0, 1.0)
        return cls(sampled, exhaustive, found, found / exhaustive if exhaustive else 1.0, float(low), float(high))


@dataclass(frozen=True)
class Look:
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
class Measured:
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
class Sample:
    """Hashes that are compared with all.

    Attributes:
        packed: uint64 of shape (n, 5), as `udfs.matching.packed_entries` makes them.
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

    sample: Sample
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
        miss = ~near & stay
        ends = np.sort([sample.ranks[left], others.ranks[right]], axis=0)
        known = sample.known[left] & others.known[right]
        better, worse = ends.astype(np.uint64)
        told = near & (mixed(better * _PAIR_HASH + worse) % np.uint64(self.one_in) == 0)
        nearest = np.lexsort((ends[1][miss], ends[0][miss], distance[miss]))[: self.most]
        return pa.concat_tables(
            [
                _pairs(ends[:, told], distance[told], (known[told], stay[told]), 1),
                _pairs(
                    ends[:, miss][:, nearest], distance[miss][nearest], (known[miss][nearest], stay[miss][nearest]), 0
                ),
                _counted(distance[~near]),
            ]
        )


def _pairs(
    ends: NDArray[np.int64], distance: NDArray[np.int32], flags: tuple[NDArray[np.bool_], NDArray[np.bool_]], count: int
) -> pa.Table:
    counts = np.full(len(distance), count, np.int64)
    return pa.table([pa.array(ends[0]), pa.array(ends[1]), distance, *flags, counts], schema=_SAMPLED_ARROW)


def _counted(distance: NDArray[np.int32]) -> pa.Table:
    values, counts = np.unique(distance, return_counts=True)
    nulls, unsaid = pa.nulls(len(values), pa.int64()), pa.nulls(len(values), pa.bool_())
    return pa.table([nulls, nulls, values, unsaid, unsaid, counts], schema=_SAMPLED_ARROW)


def measure(hashes: DataFrame, pairs: DataFrame, losers: DataFrame, look: Look) -> Measured:
    """Estimates the share of pairs that a search found, and looks at what it left apart.

    Args:
        hashes: hash, rank, known: every distinct hash that took part.
        pairs: a, b, clustering: the pairs of ranks that the search found, each with the first clustering that found it.
        losers: removed: ranks that do not stay.
        look: How large a sample, and how far it looks.
    """
    gone = losers.select(F.col("removed").alias("rank"), F.lit(True).alias("gone"))
    sample = _sample(hashes, gone, look)
    stays = (F.col("gone").isNull() & (F.col("rank") < look.passed)).alias("stays")
    marked = hashes.join(gone, "rank", "left").select(*ENTRY_COLUMNS, stays)
    exhaustive = Exhaustive(sample, look.max_distance, one_in=_one_in(marked, sample, look))
    seen = marked.mapInArrow(exhaustive, SAMPLED).persist()
    try:
        hit = pairs.select("a", "b", "clustering", F.lit(1).alias("hit"))
        within = seen.where("pairs = 1 and a is not null").join(hit, ["a", "b"], "left")
        # One row for each distance, clustering and kind at most.
        counted = within.groupBy("distance", "known", "clustering").agg(
            F.count("*").alias("pairs"), F.count("hit").alias("found"), F.count_if("stay").alias("stay")
        )
        above = seen.where("a is null").groupBy("distance").agg(F.sum("pairs").alias("pairs")).orderBy("distance")
        misses = seen.where("pairs = 0").orderBy("distance", "a", "b").limit(NEAR_MISSES)
        if look.strict:
            counted = counted.where("not known")
        near, distances = counted.collect(), [(row.distance, row.pairs, 0) for row in above.collect()]
        return Measured(
            _recall(len(sample.packed), near, look),
            tuple(_recall_of_first(count, len(sample.packed), near, look) for count in range(1, look.clusterings + 1)),
            (*_by_distance(near, exhaustive.one_in), *distances),
            tuple((row.a, row.b, row.distance) for row in misses.collect()),
        )
    finally:
        seen.unpersist()


def _one_in(marked: DataFrame, sample: Sample, look: Look) -> int:
    """Of how many pairs one is enough, by the pairs with a few of the hashes."""
    if len(sample.packed) * look.hashes <= LOOKED_AT:
        return 1
    few = marked.where(F.pmod(F.xxhash64("hash", F.lit(1)), F.lit(_FEW)) == 0)
    found = few.mapInArrow(Exhaustive(sample, look.max_distance, beyond=0), SAMPLED).where("pairs = 1").count()
    return max(1, -(-_FEW * found // LOOKED_AT))


def _sample(hashes: DataFrame, gone: DataFrame, look: Look) -> Sample:
    chosen = hashes.select(*ENTRY_COLUMNS).orderBy(F.xxhash64("hash"), "hash", "rank").limit(look.count).toArrow()
    packed = entries_of_rows(chosen)
    ranks = chosen.column("rank").to_numpy()
    few = hashes.sparkSession.createDataFrame([(rank,) for rank in ranks.tolist()], "rank long")
    lost = [row.rank for row in gone.join(F.broadcast(few), "rank", "left_semi").collect()]
    return Sample(packed, ~np.isin(ranks, lost) & (ranks < look.passed))


def _recall(sampled: int, counted: Sequence[Row], look: Look) -> SearchRecall:
    pairs, found, stay = (sum(row[name] for row in counted) for name in ("pairs", "found", "stay"))
    return replace(SearchRecall.of(sampled, pairs, found, look.confidence), both_kept=stay)


def _recall_of_first(count: int, sampled: int, counted: Sequence[Row], look: Look) -> SearchRecall:
    """Of the first `count` clusterings, over pairs that this run compared."""
    fresh = [row for row in counted if not row.known]
    found = sum(row.found for row in fresh if row.clustering is not None and row.clustering < count)
    return SearchRecall.of(sampled, sum(row.pairs for row in fresh), found, look.confidence)


def _by_distance(counted: Sequence[Row], one_in: int) -> Iterator[tuple[int, int, int]]:
    """Each distance with its pairs and those found, reckoned up where one in so many was told."""
    for bits in sorted({row.distance for row in counted}):
        rows = [row for row in counted if row.distance == bits]
        yield bits, one_in * sum(row.pairs for row in rows), one_in * sum(row.found for row in rows)
