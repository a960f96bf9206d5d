"""Finds and verifies pairs of distinct hashes within a Hamming distance by MinHash bands."""

from dataclasses import dataclass

from pyspark.sql import DataFrame

from udfs.hashes.minhash import Bands, choose_bands
from udfs.search.lsh import PACKED, Matching, Packing, buckets_for, room_for_crowds
from udfs.search.matching import FOUND


@dataclass(frozen=True)
class LshParameters:
    """The parameters that decide which pairs are found.

    Attributes:
        bands: MinHash bands and rows.
        max_distance: Largest distance of a pair, in bits of 256.
        max_bucket: Hashes under one band key above which they are split.
        buckets: Number of shuffle buckets.
        crowd_pairs: Pairs that crowded runs of a bucket may make.
    """

    bands: Bands
    max_distance: int
    max_bucket: int
    buckets: int
    crowd_pairs: int

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, recall: float, max_bucket: int, seed: int) -> "LshParameters":
        """Returns the parameters for a number of distinct hashes and a target recall.

        The bands are chosen for the next power of two, so that a lake that grows a little keeps its bands.

        Examples:
            >>> LshParameters.for_data(1_000, 31, 0.9, 1000, seed=0).buckets
            8
        """
        bands = choose_bands(1 << max(hashes - 1, 1).bit_length(), max_distance, recall, seed)
        buckets = buckets_for(hashes * bands.bands)
        return cls(bands, max_distance, max_bucket, buckets, room_for_crowds(hashes, buckets))

    @property
    def packing(self) -> Packing:
        """The map side of the search."""
        return Packing(self.bands, self.buckets)

    def matching(self, decided: int = 0, unseen: int | None = None) -> Matching:
        """Returns the reduce side of the search.

        Args:
            decided: Ranks below this are compared with everything.
            unseen: Largest distance at which a pair counts unseen, in bits; None if all pairs do.
        """
        limits = self.max_distance, self.max_bucket, self.crowd_pairs
        return Matching(*limits, self.bands.seed, decided=decided, unseen=unseen)


def find_pairs(hashes: DataFrame, parameters: LshParameters, decided: int = 0, unseen: int | None = None) -> DataFrame:
    """Finds candidate pairs by bands and verifies each by its distance.

    Args:
        hashes: hash (32 bytes, each once), rank (each once, smaller is better), known (whether an earlier run compared
            it with all other known hashes).
        parameters: The parameters.
        decided: Ranks below this are compared with everything, as in `Matching`.
        unseen: Largest distance at which a pair counts unseen, as in `Matching`.

    Returns:
        `udfs.search.matching.FOUND`: pairs of ranks, which may repeat, and rows of counts.
    """
    packed = hashes.select("hash", "rank", "known").mapInArrow(parameters.packing, PACKED)
    matching = parameters.matching(decided, unseen)
    # Spark inspects the signature, so this must be a plain function.
    buckets = packed.repartition(parameters.buckets, "bucket").groupBy("bucket")
    return buckets.applyInArrow(lambda bucket: matching(bucket), FOUND)
