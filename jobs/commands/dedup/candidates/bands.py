"""Finds and verifies pairs of distinct hashes within a Hamming distance by MinHash bands."""

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame

from jobs.runtime.scratch import Scratch
from udfs.hashes.minhash import Bands, choose_bands
from udfs.search.lsh import Completing, Matching, room_for_crowds
from udfs.search.matching import FOUND
from udfs.search.packing import PACKED, BandLayout, EachBucket, Packing, Repacking

MOST_BUCKETS = 8192
"""Shuffle buckets that are searched together. More are searched in groups of bands, one after the other: Spark's driver
keeps a number for each bucket of each task, and each packed row would hold few entries."""


@dataclass(frozen=True)
class LshParameters:
    """The parameters that decide which pairs are found.

    Attributes:
        layout: MinHash bands and rows, and the shuffle buckets of their keys.
        max_distance: Largest distance of a pair, in bits of 256.
        max_bucket: Hashes under one band key above which they are split.
        crowd_pairs: Pairs that crowded runs of a bucket may make.
    """

    layout: BandLayout
    max_distance: int
    max_bucket: int
    crowd_pairs: int

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, recall: float, max_bucket: int, seed: int) -> "LshParameters":
        """Returns the parameters for a number of distinct hashes and a target recall.

        The bands are chosen for the next power of two, so that a lake that grows a little keeps its bands.

        Examples:
            >>> LshParameters.for_data(1_000, 31, 0.9, 1000, seed=0).layout.buckets
            2
        """
        bands = choose_bands(1 << max(hashes - 1, 1).bit_length(), max_distance, recall, seed)
        layout = BandLayout.for_data(hashes, bands)
        return cls(layout, max_distance, max_bucket, room_for_crowds(hashes, layout.buckets))

    @property
    def bands(self) -> Bands:
        """MinHash bands and rows."""
        return self.layout.bands

    @property
    def packing(self) -> Packing:
        """The map side of the search."""
        return Packing(self.layout)

    @property
    def completing(self) -> Completing:
        """The reduce side of the second search, for entries of runs that were not compared in full."""
        return Completing(self.max_distance)

    @property
    def commits(self) -> list[str]:
        """The names of the results of the groups of bands."""
        return [group.name for group in self.groups(MOST_BUCKETS)]

    def groups(self, most: int) -> list[Packing]:
        """Returns the map side for each group of bands, with at most about `most` buckets in a group."""
        count, step = self.bands.bands, max(most // self.layout.apart, 1) * self.layout.together
        return [Packing(self.layout, first, min(first + step, count)) for first in range(0, count, step)]

    def matching(self, decided: int = 0, unseen: int | None = None) -> Matching:
        """Returns the reduce side of the search.

        Args:
            decided: Ranks below this are compared with everything.
            unseen: Largest distance at which a pair counts unseen, in bits; None if all pairs do.
        """
        limits = self.max_distance, self.max_bucket, self.crowd_pairs
        return Matching(*limits, self.bands.seed, decided=decided, unseen=unseen, layout=self.layout)


def find_pairs(
    hashes: DataFrame,
    parameters: LshParameters,
    scratch: Scratch,
    decided: int = 0,
    unseen: int | None = None,
    most: int | None = None,
) -> DataFrame:
    """Finds candidate pairs by bands and verifies each by its distance.

    A pair agrees in many bands. It is returned by the first of them only, unless one of its hashes is in a run that is
    too large to compare.

    Args:
        hashes: hash (32 bytes, each once), rank (each once, smaller is better), known (whether an earlier run compared
            it with all other known hashes).
        parameters: The parameters.
        scratch: Keeps the pairs of each group of bands.
        decided: Ranks below this are compared with everything, as in `Matching`.
        unseen: Largest distance at which a pair counts unseen, as in `Matching`.
        most: Shuffle buckets that are searched together; None for `MOST_BUCKETS`.

    Returns:
        `udfs.search.matching.FOUND`: pairs of ranks, which may repeat, and rows of counts.
    """
    entries, matching = hashes.select("hash", "rank", "known"), EachBucket(parameters.matching(decided, unseen))
    # 1. Compare the hashes that agree in a band, group after group of bands. A killed search continues after the last.
    groups, parts = parameters.groups(most or MOST_BUCKETS), []
    for packing in groups:
        found = _by_bucket(entries.mapInArrow(packing, PACKED), packing.buckets).mapInArrow(matching, FOUND)
        parts.append(scratch.keep(found) if len(groups) == 1 else scratch.commit(packing.name, found))
    every = reduce(DataFrame.unionByName, parts)
    # 2. Runs that are too large omit pairs. Look for these in all other runs.
    omitting = every.where("bucket is not null").select("bucket", "keys", "entries")
    if omitting.isEmpty():
        return every
    again = _by_bucket(omitting.mapInArrow(Repacking(parameters.layout), PACKED), parameters.layout.buckets)
    return every.unionByName(again.mapInArrow(EachBucket(parameters.completing), FOUND))


def _by_bucket(packed: DataFrame, buckets: int) -> DataFrame:
    """Moves the rows of each bucket into a partition of their own."""
    return packed.repartitionById(min(buckets, MOST_BUCKETS), "bucket")
