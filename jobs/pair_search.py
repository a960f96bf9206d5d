"""The search for pairs that `dedup` makes: by MinHash bands, inside clusters, or both, into the same pairs."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import candidates, clusters, tables
from jobs.candidates import LshParameters
from jobs.clusters import ClusterParameters
from jobs.config import Settings
from jobs.hash_nodes import Rule
from jobs.job import Job
from jobs.search_recall import SearchRecall

LSH, CLUSTERS, BOTH = "lsh", "clusters", "both"


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
    def for_data(cls, hashes: int, max_distance: int, settings: Settings) -> "Search":
        """The search that the settings ask for, sized for a number of distinct hashes."""
        chosen, seed = settings.dedup, settings.seed
        bands = LshParameters.for_data(hashes, max_distance, chosen.recall, chosen.max_bucket, seed)
        grouped = ClusterParameters.for_data(hashes, max_distance, chosen.clusterings, chosen.nearest, seed)
        return cls(
            chosen.method,
            max_distance,
            bands if chosen.method in (LSH, BOTH) else None,
            grouped if chosen.method in (CLUSTERS, BOTH) else None,
        )

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
class Counts:
    """What a search took: pairs compared, and pairs left out in overfull buckets."""

    compared: int
    skipped: int


def found_pairs(job: Job, hashes: DataFrame, search: Search, rule: Rule) -> DataFrame:
    """Runs the search.

    Args:
        job: For the embeddings, where clusters need them.
        hashes: rank, hash, known.
        search: How.
        rule: Which embeddings.

    Returns:
        `udfs.matching.FOUND`, with method.
    """
    parts = []
    if search.lsh:
        parts.append(candidates.found_pairs(hashes, search.lsh).withColumn("method", F.lit(LSH)))
    if search.clusters:
        vectors = clusters.vectors(job, hashes, rule)
        parts.append(clusters.found_pairs(vectors, search.clusters).withColumn("method", F.lit(CLUSTERS)))
    return parts[0] if len(parts) == 1 else parts[0].unionByName(parts[1])


def united(found: DataFrame, old: DataFrame | None) -> DataFrame:
    """a, b, distance, method: each pair of ranks once (a < b), whoever found it.

    Args:
        found: As `found_pairs` returns it.
        old: a, b, distance, method: pairs of an earlier run, if there was one.
    """
    fresh = found.where(F.col("a").isNotNull()).select("a", "b", "distance", "method")
    every = fresh if old is None else fresh.unionByName(old)
    pairs = every.groupBy("a", "b", "distance").agg(F.min("method").alias("method"))
    return pairs.select("a", "b", "distance", "method")


def counts_of(found: DataFrame) -> Counts:
    """Sums of what the search took."""
    counts = found.where(F.col("a").isNull())
    row = counts.agg(F.sum("compared").alias("compared"), F.sum("skipped").alias("skipped")).collect()[0]
    return Counts(row.compared or 0, row.skipped or 0)


def quality_rows(spark: SparkSession, search: Search, counts: Counts, recall: SearchRecall, hashes: int) -> DataFrame:
    """The table dedup_quality: one row for the search as a whole."""
    bands = search.lsh.bands if search.lsh else None
    row = (
        search.method, search.max_distance, recall.sampled, recall.exhaustive, recall.found, recall.recall, recall.low,
        recall.high, hashes, bands.bands if bands else None, bands.rows if bands else None, counts.compared,
        counts.skipped, search.clusters.clusterings if search.clusters else None,
        search.clusters.clusters if search.clusters else None,
    )  # fmt: skip
    return spark.createDataFrame([row], tables.DEDUP_QUALITY.schema)
