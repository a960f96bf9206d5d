"""Searches for pairs of hashes by MinHash bands, within clusters, or both."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates import bands, clusters, popular
from jobs.commands.dedup.candidates.bands import LshParameters
from jobs.commands.dedup.candidates.clusters import ClusterParameters
from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.nodes import mirrors
from jobs.commands.dedup.verify.search_recall import MeasuredRecall, SearchRecall
from jobs.lake import tables
from jobs.matching.rule import Rule
from jobs.runtime.config import DedupSettings
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from udfs.search.matching import FOUND

LSH, CLUSTERS, BOTH = "lsh", "clusters", "both"
A_PAIR = 2
"""k-means fails on fewer hashes."""


@dataclass(frozen=True)
class Search:
    """The methods of a search and their parameters.

    Attributes:
        method: `lsh`, `clusters` or `both`.
        max_distance: Largest distance of a pair, in bits of 256.
        safe_distance: Largest distance at which a pair counts unseen; None if all do, or none does (`dedup.strict`).
        lsh: Parameters of the bands; None if they are not used.
        clusters: Parameters of the clusterings; None if they are not used.
    """

    method: str
    max_distance: int
    safe_distance: int | None
    lsh: LshParameters | None
    clusters: ClusterParameters | None

    @classmethod
    def for_data(cls, hashes: int, rule: Rule, chosen: DedupSettings, seed: int) -> "Search":
        """Returns the search of the settings, sized for a number of distinct hashes."""
        lsh = LshParameters.for_data(hashes, rule.max_distance, chosen.recall, chosen.max_bucket, seed)
        grouped = ClusterParameters.for_data(hashes, rule.max_distance, chosen.clusterings, chosen.nearest, seed)
        return cls(
            chosen.method,
            rule.max_distance,
            rule.safe_distance,
            lsh if chosen.method in (LSH, BOTH) else None,
            grouped if chosen.method in (CLUSTERS, BOTH) else None,
        )

    @property
    def clusterings(self) -> int:
        """Number of clusterings; 0 if clusters are not used."""
        return self.clusters.clusterings if self.clusters else 0

    @property
    def words(self) -> str:
        """The text for the progress display."""
        parts = []
        if self.lsh:
            parts.append(f"{self.lsh.bands.bands} bands of {self.lsh.bands.rows} rows")
        if self.clusters:
            parts.append(f"{self.clusters.clusterings} clusterings of {self.clusters.clusters} clusters")
        return "compare hashes by " + " and ".join(parts)


@dataclass(frozen=True)
class SearchCounts:
    """The number of pairs that a search compared, and of pairs that it skipped, see `dedup_quality.skipped`."""

    compared: int = 0
    skipped: int = 0

    def plus(self, other: "SearchCounts") -> "SearchCounts":
        """Returns the sum of both."""
        return SearchCounts(self.compared + other.compared, self.skipped + other.skipped)


@dataclass(frozen=True)
class Looks:
    """The number of pairs whose thumbnails were compared.

    Attributes:
        compared: Their number.
        told_apart: Number of those that show different images.
        both_kept: Number of pairs told apart, by earlier runs too, of which both images are kept; None if not counted.
    """

    compared: int
    told_apart: int
    both_kept: int | None = None


@dataclass(frozen=True)
class SearchCost:
    """The cost of a search: of the bands, and of each clustering.

    Attributes:
        bands: Cost of the bands.
        clusterings: Cost of each clustering.
        looks: Number of pairs whose thumbnails were compared; None if all pairs count unseen.
    """

    bands: SearchCounts
    clusterings: tuple[SearchCounts, ...]
    looks: Looks | None = None

    @property
    def whole(self) -> SearchCounts:
        """The total cost."""
        return self.first(len(self.clusterings)).plus(self.bands)

    def first(self, count: int) -> SearchCounts:
        """Returns the cost of the first `count` clusterings."""
        return reduce(SearchCounts.plus, self.clusterings[:count], SearchCounts())


@dataclass(frozen=True)
class SearchInputs:
    """The inputs of a search besides the hashes.

    Attributes:
        signals: encoder, embedding_hash, embedding, for the clusters.
        rule: The rule for near-duplicates.
        settings: The section `[dedup]` of the settings.
        decided: Ranks below this belong to images that people keep, so they are never resolved against another hash.
    """

    signals: DataFrame
    rule: Rule
    settings: DedupSettings
    decided: int = 0


@dataclass(frozen=True)
class PairSearchResult:
    """The searched hashes and the pairs found.

    Attributes:
        found: `udfs.search.matching.FOUND`, with method.
        hashes: rank, hash, known: the searched hashes (those of mirror images too), which are all but those resolved
            against popular images.
        count: Number of the searched hashes.
    """

    found: DataFrame
    hashes: DataFrame
    count: int


def find_all_pairs(
    hashes: DataFrame, count: int, search: Search, inputs: SearchInputs, scratch: Scratch, progress: Progress
) -> PairSearchResult:
    """Runs the search. If a match alone decides what is removed, it first resolves hashes against popular images.

    Args:
        hashes: rank, hash, known.
        count: Number of hashes.
        search: The methods and their parameters.
        inputs: The other inputs.
        scratch: Keeps the hashes that were resolved against popular images.
        progress: Receives a note about popular images.
    """
    config = popular_config(search, inputs)
    split = popular.split_popular(hashes, count, config, scratch) if config else None
    if split is None:
        return PairSearchResult(_find_pairs(hashes, count, search, inputs, scratch), hashes, count)
    progress.note(popular.note(split.popular, split.resolved))
    left = count - split.resolved
    found = split.found.unionByName(_find_pairs(split.rest, left, search, inputs, scratch))
    return PairSearchResult(found, split.rest, left)


def popular_config(search: Search, inputs: SearchInputs) -> popular.PopularConfig | None:
    """Returns how hashes are resolved against popular images; None if a match alone does not decide what is removed."""
    if inputs.settings.keep != "independent" or inputs.rule.strict:
        return None
    # A leader stays only if no better image matches it. Beyond the safe distance, a look may show such an image.
    limits = inputs.rule.unseen_distance, inputs.settings.max_bucket
    return popular.PopularConfig(*limits, bool(search.clusterings), inputs.decided)


def unseen(inputs: SearchInputs) -> int | None:
    """Returns the largest distance at which a pair counts unseen, in bits; None if all pairs do."""
    return inputs.rule.unseen_distance if inputs.rule.has_looks else None


def _find_pairs(hashes: DataFrame, count: int, search: Search, inputs: SearchInputs, scratch: Scratch) -> DataFrame:
    if count < A_PAIR:
        return hashes.sparkSession.createDataFrame([], FOUND).withColumn("method", F.lit(search.method))
    parts = []
    limits = inputs.decided, unseen(inputs)
    if search.lsh:
        parts.append(bands.find_pairs(hashes, search.lsh, scratch, *limits).withColumn("method", F.lit(LSH)))
    if search.clusters:
        vectors = clusters.vectors(inputs.signals, hashes, inputs.rule)
        found = clusters.find_pairs(vectors, search.clusters, *limits)
        parts.append(found.withColumn("method", F.lit(CLUSTERS)))
    return parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])


def distinct_pairs(found: DataFrame, mirrored: bool) -> DataFrame:
    """Returns each pair of ranks (a < b) once; with mirror images, at most once for each way: mirrored or not.

    Args:
        found: `udfs.search.matching.FOUND`, with method.
        mirrored: Whether its ranks are those of entries, as in `nodes.mirrors`, and not those of nodes.

    Returns:
        a, b, distance (the smallest), method, mirrored, clustering (the first that found it).
    """
    fresh = found.where(F.col("a").isNotNull())
    ends = F.col("a"), F.col("b"), F.lit(False).alias("mirrored")
    if mirrored:
        fresh = fresh.where(mirrors.is_pair("a", "b"))
        nodes = (mirrors.node_of(end).alias(end) for end in ("a", "b"))
        ends = (*nodes, mirrors.is_mirrored("a", "b").alias("mirrored"))
    each = fresh.select(*ends, "distance", "method", "clustering").groupBy("a", "b", "mirrored")
    pairs = each.agg(F.min("distance").alias("distance"), _method(), F.min("clustering").alias("clustering"))
    return pairs.select("a", "b", "distance", "method", "mirrored", "clustering")


def each_once(pairs: DataFrame, mirrored: bool) -> DataFrame:
    """Returns each pair of ranks once. One that matches both ways is not mirrored.

    A pair is looked at both ways before: the thumbnails may agree only one way.

    Args:
        pairs: a, b, distance, method, mirrored, clustering.
        mirrored: Whether mirror images are compared. If not, each pair appears once already.
    """
    if not mirrored:
        return pairs
    nearest = F.min(F.struct("mirrored", "distance")).alias("nearest")
    once = pairs.groupBy("a", "b").agg(nearest, _method(), F.min("clustering").alias("clustering"))
    return once.select("a", "b", "nearest.distance", "method", "nearest.mirrored", "clustering")


def _method() -> Column:
    """Returns the first method of a pair by name; one with a leader is always named so."""
    by_leader = F.max(F.col("method") == POPULAR)
    return F.when(by_leader, F.lit(POPULAR)).otherwise(F.min("method")).alias("method")


def add_earlier_pairs(pairs: DataFrame, earlier: DataFrame | None) -> DataFrame:
    """Adds the pairs of an earlier run that this run did not find again.

    Args:
        pairs: As `distinct_pairs` returns them.
        earlier: a, b, distance, method, mirrored of an earlier run; None without one.
    """
    if earlier is None:
        return pairs
    other = earlier.join(pairs.select("a", "b"), ["a", "b"], "left_anti")
    return pairs.unionByName(other, allowMissingColumns=True)


def search_cost(found: DataFrame, search: Search) -> SearchCost:
    """Sums the pairs that the search compared and skipped."""
    counts = found.where(F.col("a").isNull()).groupBy("clustering")
    # A row for each clustering.
    rows = counts.agg(F.sum("compared").alias("compared"), F.sum("skipped").alias("skipped")).collect()
    return cost_of({row.clustering: SearchCounts(row.compared, row.skipped) for row in rows}, search)


def cost_of(by_number: Mapping[int | None, SearchCounts], search: Search) -> SearchCost:
    """Returns the cost of a search.

    Args:
        by_number: The cost of each clustering; None stands for the bands.
        search: The methods and their parameters.
    """
    return SearchCost(
        by_number.get(None, SearchCounts()),
        tuple(by_number.get(number, SearchCounts()) for number in range(search.clusterings)),
    )


def quality_rows(
    spark: SparkSession, search: Search, cost: SearchCost, measured: MeasuredRecall, hashes: int, decided: int
) -> DataFrame:
    """Returns the table dedup_quality: a row for the first n clusterings, for each n, and one for the whole search."""

    def row(
        method: str, recall: SearchRecall, counts: SearchCounts, clusterings: int | None, whole: bool
    ) -> tuple[Any, ...]:
        used, looks = (search.lsh.bands if search.lsh else None, cost.looks) if whole else (None, None)
        return (
            method, search.max_distance, recall.sampled, recall.exhaustive, recall.found, recall.recall, recall.low,
            recall.high, hashes, used.bands if used else None, used.rows if used else None, counts.compared,
            counts.skipped, clusterings, search.clusters.clusters if search.clusters else None, whole,
            looks.told_apart if looks else None, recall.both_kept if whole else None, decided if whole else None,
            search.safe_distance if whole else None, looks.compared if looks else None,
            looks.both_kept if looks else None,
        )  # fmt: skip

    by_count = [
        row(CLUSTERS, recall, cost.first(count), count, False)
        for count, recall in enumerate(measured.first_clusterings, start=1)
    ]
    whole = row(search.method, measured.whole, cost.whole, search.clusterings or None, True)
    return spark.createDataFrame([*by_count, whole], tables.DEDUP_QUALITY.schema)
