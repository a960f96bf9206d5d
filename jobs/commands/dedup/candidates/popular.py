"""Pictures that very many others resemble, settled before the search for pairs.

Near-copies of one picture in the hundred thousands share every band key and every cluster: they would meet in one task,
however many tasks there are. But a hash that no better one matches is kept, whatever else is found, so all that match
it go. A sample tells which pictures are popular; a few passes over all hashes find such a leader beside each.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.scratch import Scratch
from udfs.hashes.hamming import HASH_WORDS
from udfs.search.matching import ENTRY_COLUMNS, ENTRY_WORDS, Entries, entries_of_rows, entry_distances
from udfs.search.popular import BEST, SETTLED, BestNear, Settling, crowded

POPULAR = "popular"
"""The method of a pair by which a hash was settled."""

_SAMPLE = 10_000
_FEWEST = 8  # Hashes of the sample that must be alike before it is not chance.
_MOST = 256
_ROUNDS = 4
_STEPS = 8

Packed = NDArray[np.uint64]


@dataclass(frozen=True)
class PopularSplit:
    """Hashes parted into those that popular pictures settle and the rest.

    Attributes:
        popular: How many popular pictures there are.
        settled: How many hashes lose to one of them.
        found: `udfs.search.matching.FOUND` with method: each settled hash with its leader, and what that took.
        rest: hash, rank, known: all others, leaders included.
    """

    popular: int
    settled: int
    found: DataFrame
    rest: DataFrame


def split_popular(
    hashes: DataFrame, count: int, max_distance: int, crowd: int, clustered: bool, scratch: Scratch
) -> PopularSplit | None:
    """Looks for popular pictures and settles what resembles them; None where there is none.

    Who stays is what it would be without: a leader has no better match, so it is kept, and those that match it go. Only
    pairs of the settled with others than their leader are not told.

    Args:
        hashes: hash, rank, known: every distinct hash.
        count: How many there are.
        max_distance: Bits within which a pair counts.
        crowd: Hashes within the distance of one from which it counts as popular.
        clustered: Whether the pairs count as found by the first clustering.
        scratch: Keeps what was settled.
    """
    leaders = _leaders(hashes, count, max_distance, crowd)
    if not len(leaders):
        return None
    judged = scratch.keep(hashes.mapInArrow(Settling(leaders, max_distance), SETTLED))
    lost = judged.where("leader is not null")
    # A row for each leader.
    followers = [row["count"] for row in lost.groupBy("leader").count().collect()]
    pairs = lost.select(F.col("leader").alias("a"), F.col("rank").alias("b"), "distance")
    among = sum(members * (members - 1) // 2 for members in followers)
    counts = hashes.sparkSession.createDataFrame([(count * len(leaders), among)], "compared long, skipped long")
    found = pairs.unionByName(counts, allowMissingColumns=True)
    clustering = F.lit(0 if clustered else None).cast("int")
    rest = judged.where("leader is null").select("hash", "rank", "known")
    labelled = found.withColumns({"clustering": clustering, "method": F.lit(POPULAR)})
    return PopularSplit(len(leaders), sum(followers), labelled, rest)


def _leaders(hashes: DataFrame, count: int, max_distance: int, crowd: int) -> Packed:
    """Leaders beside popular pictures, uint64 of shape (m, 5)."""
    leaders = np.zeros((0, ENTRY_WORDS), dtype=np.uint64)
    if count < crowd:
        return leaders
    left = _packed(hashes.orderBy(F.xxhash64("hash"), "rank").limit(_SAMPLE))
    needed = max(_FEWEST, crowd * len(left) // count)
    for _ in range(_ROUNDS):
        centres = left[crowded(Entries.unpacked(left), max_distance, needed, _MOST - len(leaders))]
        found = _climbed(hashes, centres, max_distance) if len(centres) else centres
        if not len(found):
            break
        leaders = np.unique(np.concatenate([leaders, found]), axis=0)
        left = _unlike(left, leaders, max_distance)
    return leaders


def _climbed(hashes: DataFrame, centres: Packed, max_distance: int) -> Packed:
    """The best hash near each centre, the best near that one, and so on: those that have no better one near them."""
    found = centres[:0]
    for _ in range(_STEPS):
        near = hashes.mapInArrow(BestNear(centres, max_distance), BEST)
        best_of_each = near.groupBy("place").agg(F.min_by("entry", "rank").alias("entry")).orderBy("place")
        # A row for each centre, which is near itself.
        rows = best_of_each.collect()
        best = np.frombuffer(b"".join(bytes(row.entry) for row in rows), np.uint64).reshape(-1, ENTRY_WORDS)
        moved = best[:, HASH_WORDS] != centres[:, HASH_WORDS]
        found, centres = np.concatenate([found, best[~moved]]), np.unique(best[moved], axis=0)
        if not len(centres):
            break
    return np.unique(found, axis=0)


def _packed(hashes: DataFrame) -> Packed:
    return entries_of_rows(hashes.select(*ENTRY_COLUMNS).toArrow())


def _unlike(hashes: Packed, leaders: Packed, max_distance: int) -> Packed:
    """Hashes that match no leader."""
    both = Entries.unpacked(np.concatenate([leaders, hashes]))
    places = np.arange(len(leaders), len(both))
    near = entry_distances(both, np.arange(len(leaders))[:, None], places) <= max_distance
    return hashes[~near.any(axis=0)]
