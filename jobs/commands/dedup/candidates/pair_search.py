"""The search for pairs that `dedup` makes: by MinHash bands, inside clusters, or both, into the same pairs."""

from dataclasses import dataclass
from functools import reduce
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates import bands, clusters, popular
from jobs.commands.dedup.candidates.bands import LshParameters
from jobs.commands.dedup.candidates.clusters import ClusterParameters
from jobs.commands.dedup.verify.search_recall import MeasuredRecall, SearchRecall
from jobs.lake import tables
from jobs.matching.rule import Rule
from jobs.runtime.config import DedupSettings
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from udfs.search.matching import FOUND

LSH, CLUSTERS, BOTH = "lsh", "clusters", "both"
_A_PAIR = 2


@dataclass(frozen=True)
class Search:
    """How pairs are searched.

    Attributes:
        method: `lsh`, `clusters` or `both`.
        max_distance: Bits of 256 within which a pair counts.
        lsh: Parameters of the bands; None where they are not used.
        clusters: Parameters of the clusterings; None where they are not used.
    """

    method: str
    max_distance: int
    lsh: LshParameters | None
    clusters: ClusterParameters | None

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, chosen: DedupSettings, seed: int) -> "Search":
        """The search that the settings ask for, sized for a number of distinct hashes."""
        lsh = LshParameters.for_data(hashes, max_distance, chosen.recall, chosen.max_bucket, seed)
        grouped = ClusterParameters.for_data(hashes, max_distance, chosen.clusterings, chosen.nearest, seed)
        return cls(
            chosen.method,
            max_distance,
            lsh if chosen.method in (LSH, BOTH) else None,
            grouped if chosen.method in (CLUSTERS, BOTH) else None,
        )

    @property
    def clusterings(self) -> int:
        """How many clusterings are searched."""
        return self.clusters.clusterings if self.clusters else 0

    @property
    def words(self) -> str:
        """What is searched, for the progress display."""
        parts = []
        if self.lsh:
            parts.append(f"{self.lsh.bands.bands} bands of {self.lsh.bands.rows} rows")
        if self.clusters:
            parts.append(f"{self.clusters.clusterings} clusterings of {self.clusters.clusters} clusters")
        return " and ".join(parts) + ", compared"


@dataclass(frozen=True)
class SearchCounts:
    """What a search took: pairs compared, and pairs left out among copies of popular pictures."""

    compared: int = 0
    skipped: int = 0

    def plus(self, other: "SearchCounts") -> "SearchCounts":
        """Both together."""
        return SearchCounts(self.compared + other.compared, self.skipped + other.skipped)


@dataclass(frozen=True)
class SearchCost:
    """What a search took: by the bands, and by each clustering.

    Attributes:
        bands: Of the bands.
        clusterings: Of each clustering.
        told_apart: Pairs that a second look told apart; None where there was none.
    """

    bands: SearchCounts
    clusterings: tuple[SearchCounts, ...]
    told_apart: int | None = None

    @property
    def whole(self) -> SearchCounts:
        """All of it."""
        return self.first(len(self.clusterings)).plus(self.bands)

    def first(self, count: int) -> SearchCounts:
        """Of the first `count` clusterings."""
        return reduce(SearchCounts.plus, self.clusterings[:count], SearchCounts())


@dataclass(frozen=True)
class SearchInputs:
    """What a search depends on besides the hashes.

    Attributes:
        signals: encoder, embedding_hash, embedding: clusters lie among the embeddings.
        rule: Which of them, and how near a pair is.
        settings: The section `[dedup]` of the settings.
    """

    signals: DataFrame
    rule: Rule
    settings: DedupSettings


@dataclass(frozen=True)
class Searched:
    """What was searched, and what was found.

    Attributes:
        found: `udfs.search.matching.FOUND`, with method.
        hashes: rank, hash, known: those that were searched, which are all but what popular pictures settled.
        count: How many they are.
    """

    found: DataFrame
    hashes: DataFrame
    count: int


def searched(
    hashes: DataFrame, count: int, search: Search, inputs: SearchInputs, scratch: Scratch, progress: Progress
) -> Searched:
    """Runs the search; popular images settle what matches them first, where a match alone decides who goes.

    Args:
        hashes: rank, hash, known.
        count: How many there are.
        search: How.
        inputs: What else it depends on.
        scratch: Keeps what popular images settle.
        progress: Told of popular images.
    """
    settings = inputs.settings
    parted = None
    if settings.keep == "independent" and not inputs.rule.strict:
        limits = inputs.rule.max_distance, settings.max_bucket
        parted = popular.split_popular(hashes, count, *limits, bool(search.clusterings), scratch)
    if parted is None:
        return Searched(_found_pairs(hashes, count, search, inputs), hashes, count)
    pictures = "a popular picture" if parted.popular == 1 else f"{parted.popular:,} popular pictures"
    progress.note(f"dedup: {parted.settled:,} hashes match {pictures} and are not searched further")
    left = count - parted.settled
    found = parted.found.unionByName(_found_pairs(parted.rest, left, search, inputs))
    return Searched(found, parted.rest, left)


def _found_pairs(hashes: DataFrame, count: int, search: Search, inputs: SearchInputs) -> DataFrame:
    if count < _A_PAIR:  # k-means fails there.
        return hashes.sparkSession.createDataFrame([], FOUND).withColumn("method", F.lit(search.method))
    parts = []
    if search.lsh:
        parts.append(bands.found_pairs(hashes, search.lsh).withColumn("method", F.lit(LSH)))
    if search.clusters:
        vectors = clusters.vectors(inputs.signals, hashes, inputs.rule)
        parts.append(clusters.found_pairs(vectors, search.clusters).withColumn("method", F.lit(CLUSTERS)))
    return parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])


def distinct_pairs(found: DataFrame) -> DataFrame:
    """a, b, distance, method, clustering (the first that found it): each pair of ranks once (a < b), whoever found it.

    Args:
        found: `udfs.search.matching.FOUND`, with method.
    """
    fresh = found.where(F.col("a").isNotNull()).select("a", "b", "distance", "method", "clustering")
    pairs = fresh.groupBy("a", "b", "distance").agg(
        F.min("method").alias("method"), F.min("clustering").alias("clustering")
    )
    return pairs.select("a", "b", "distance", "method", "clustering")


def with_old(pairs: DataFrame, old: DataFrame | None) -> DataFrame:
    """Pairs with those of an earlier run that this one did not find again.

    Args:
        pairs: As `distinct_pairs` returns them.
        old: a, b, distance, method, if there was an earlier run.
    """
    if old is None:
        return pairs
    other = old.join(pairs.select("a", "b"), ["a", "b"], "left_anti")
    return pairs.unionByName(other, allowMissingColumns=True)


def effort(found: DataFrame, search: Search) -> SearchCost:
    """Sums of what the search took."""
    counts = found.where(F.col("a").isNull()).groupBy("clustering")
    # A row for each clustering.
    rows = counts.agg(F.sum("compared").alias("compared"), F.sum("skipped").alias("skipped")).collect()
    by_number = {row.clustering: SearchCounts(row.compared, row.skipped) for row in rows}
    return SearchCost(
        by_number.get(None, SearchCounts()),
        tuple(by_number.get(number, SearchCounts()) for number in range(search.clusterings)),
    )


def quality_rows(
    spark: SparkSession, search: Search, taken: SearchCost, measured: MeasuredRecall, hashes: int
) -> DataFrame:
    """The table dedup_quality: a row for each number of clusterings united, and one for the search as a whole."""

    def row(
        method: str, recall: SearchRecall, counts: SearchCounts, clusterings: int | None, whole: bool
    ) -> tuple[Any, ...]:
        used = search.lsh.bands if search.lsh and whole else None
        return (
            method, search.max_distance, recall.sampled, recall.exhaustive, recall.found, recall.recall, recall.low,
            recall.high, hashes, used.bands if used else None, used.rows if used else None, counts.compared,
            counts.skipped, clusterings, search.clusters.clusters if search.clusters else None, whole,
            taken.told_apart if whole else None, recall.both_kept if whole else None,
        )  # fmt: skip

    united = [
        row(CLUSTERS, recall, taken.first(count), count, False) for count, recall in enumerate(measured.united, start=1)
    ]
    whole = row(search.method, measured.whole, taken.whole, search.clusterings or None, True)
    return spark.createDataFrame([*united, whole], tables.DEDUP_QUALITY.schema)
