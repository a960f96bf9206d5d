"""Pairs of distinct hashes within a Hamming distance, by MinHash bands: hashes in, verified pairs out."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from udfs.lsh import FOUND, PACKED, Matching, Packing
from udfs.minhash import Bands, choose_bands

_ENTRIES_PER_BUCKET = 1_000_000


@dataclass(frozen=True)
class LshParameters:
    """Everything that decides which pairs are found.

    Attributes:
        bands: MinHash bands and rows.
        max_distance: Bits of 256 within which a pair counts.
        max_bucket: Hashes under one band key beyond which a bucket is split.
        buckets: Shuffle buckets, so that no task holds more than about a million entries of 64 bytes.
    """

    bands: Bands
    max_distance: int
    max_bucket: int
    buckets: int

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, recall: float, max_bucket: int, seed: int) -> "LshParameters":
        """Parameters for a number of distinct hashes and a wanted recall.

        Examples:
            >>> LshParameters.for_data(1_000, 31, 0.9, 1000, seed=0).buckets
            8
        """
        bands = choose_bands(hashes, max_distance, recall, seed)
        return cls(bands, max_distance, max_bucket, max(8, -(-hashes * bands.bands // _ENTRIES_PER_BUCKET)))


def found_pairs(hashes: DataFrame, parameters: LshParameters) -> DataFrame:
    """Runs the bands over hashes and verifies every candidate.

    Args:
        hashes: hash (32 bytes, each once), order (24 bytes, smaller is better).
        parameters: Bands and bounds.

    Returns:
        `udfs.lsh.FOUND`: pairs, the same one perhaps several times, and a row of counts for each shuffle bucket.
    """
    packed = hashes.select("hash", "order").mapInArrow(Packing(parameters.bands, parameters.buckets), PACKED)
    matching = Matching(parameters.max_distance, parameters.max_bucket, parameters.bands.seed)
    # A plain function: Spark asks for its signature.
    return packed.groupBy("bucket").applyInArrow(lambda bucket: matching(bucket), FOUND)


def pairs_of(found: DataFrame) -> DataFrame:
    """a, b, distance: each pair of hashes once, a < b."""
    return found.where(F.col("a").isNotNull()).select("a", "b", "distance").distinct()


def counts_of(found: DataFrame) -> DataFrame:
    """compared, skipped: one row of sums."""
    counts = found.where(F.col("a").isNull())
    return counts.agg(F.sum("compared").alias("compared"), F.sum("skipped").alias("skipped"))
