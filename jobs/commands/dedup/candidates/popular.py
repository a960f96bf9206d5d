"""Resolves the copies of popular images before the search for pairs.

Hundreds of thousands of near-copies of one image share every band key and every cluster, so one task would compare all
of them. But a hash that no better hash matches is always kept, so all that match it are removed. A sample shows which
images are popular, and a few passes over all hashes find such a hash, the leader, near each of them.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.hash_nodes import sample_key
from jobs.runtime.scratch import Scratch
from udfs.hashes.hamming import HASH_WORDS
from udfs.search.matching import (
    ENTRY_COLUMNS,
    ENTRY_WORDS,
    FOUND,
    FOUND_ARROW,
    Entries,
    entries_of_rows,
    entry_distances,
)
from udfs.search.popular import BEST, RESOLVED, BestNear, Resolving, crowded

POPULAR = "popular"
"""The method of a pair of a leader and a hash that was resolved against it."""

_SAMPLE = 10_000
_FEWEST = 8  # Hashes of the sample that must match, so that it is not by chance.
_MOST = 256
_ROUNDS = 4
_STEPS = 8

Packed = NDArray[np.uint64]


@dataclass(frozen=True)
class PopularSplit:
    """Hashes split into those resolved against popular images and the rest.

    Attributes:
        popular: Number of popular images.
        resolved: Number of hashes that lose to one of them.
        found: `udfs.search.matching.FOUND` with method: each resolved hash with its leader, and the cost.
        rest: hash, rank, known: all others, including the leaders.
    """

    popular: int
    resolved: int
    found: DataFrame
    rest: DataFrame


@dataclass(frozen=True)
class PopularConfig:
    """The parameters of the split.

    Attributes:
        max_distance: Largest distance of a pair, in bits.
        crowd: An image is popular if at least this many hashes match it.
        clustered: Whether the pairs count as found by the first clustering.
        decided: Ranks below this are not resolved: people keep these images, so what else they match counts.
    """

    max_distance: int
    crowd: int
    clustered: bool
    decided: int = 0


def split_popular(hashes: DataFrame, count: int, config: PopularConfig, scratch: Scratch) -> PopularSplit | None:
    """Finds popular images and resolves their copies against them; returns None if there are none.

    This does not change which images are kept: a leader has no better match, so it is kept, and what matches it is
    removed. Of a resolved hash, only the pair with its leader is reported.

    Args:
        hashes: hash, rank, known: every distinct hash.
        count: Number of hashes.
        config: The parameters.
        scratch: Keeps the result.
    """
    found_leaders = leaders(_Frame(hashes), count, config)
    if not len(found_leaders):
        return None
    resolving = Resolving(found_leaders, config.max_distance, config.decided)
    resolved = scratch.keep(hashes.mapInArrow(resolving, RESOLVED))
    lost = resolved.where("leader is not null")
    # One row for each leader.
    followers = [row["count"] for row in lost.groupBy("leader").count().collect()]
    pairs = lost.select(F.col("leader").alias("a"), F.col("rank").alias("b"), "distance")
    among = sum(members * (members - 1) // 2 for members in followers)
    counts = hashes.sparkSession.createDataFrame([(count * len(found_leaders), among)], "compared long, skipped long")
    found = pairs.unionByName(counts, allowMissingColumns=True)
    clustering = F.lit(0 if config.clustered else None).cast("int")
    rest = resolved.where("leader is null").select("hash", "rank", "known")
    none = {name: F.lit(None).cast(FOUND[name].dataType) for name in ("bucket", "keys", "entries")}
    labelled = found.withColumns({"clustering": clustering, "method": F.lit(POPULAR), **none})
    return PopularSplit(len(found_leaders), sum(followers), labelled, rest)


class Pool(Protocol):
    """The hashes among which leaders are sought, as entries: uint64 of shape (n, 5), see `udfs.search.matching`."""

    def sample(self, count: int) -> Packed:
        """Returns some of the hashes, chosen by `sample_key`."""

    def best_near(self, centres: Packed, max_distance: int) -> Packed:
        """Returns the best hash near each of the centres, which are hashes of the pool too."""


@dataclass(frozen=True)
class _Frame:
    """A pool whose hashes are the rows of a DataFrame: hash, rank, known."""

    hashes: DataFrame

    def sample(self, count: int) -> Packed:
        rows = self.hashes.orderBy(sample_key(F.col("hash")), "rank").limit(count)
        return entries_of_rows(rows.select(*ENTRY_COLUMNS).toArrow())

    def best_near(self, centres: Packed, max_distance: int) -> Packed:
        near = self.hashes.mapInArrow(BestNear(centres, max_distance), BEST)
        best_of_each = near.groupBy("place").agg(F.min_by("entry", "rank").alias("entry")).orderBy("place")
        # One row for each centre, since a centre is near itself.
        rows = best_of_each.collect()
        return np.frombuffer(b"".join(bytes(row.entry) for row in rows), np.uint64).reshape(-1, ENTRY_WORDS)


def leaders(pool: Pool, count: int, config: PopularConfig) -> Packed:
    """Returns the leaders near popular images, uint64 of shape (m, 5).

    Args:
        pool: All hashes.
        count: Their number.
        config: The parameters.
    """
    chosen, max_distance = np.zeros((0, ENTRY_WORDS), dtype=np.uint64), config.max_distance
    if count < config.crowd:
        return chosen
    left = pool.sample(_SAMPLE)
    needed = max(_FEWEST, config.crowd * len(left) // count)
    for _ in range(_ROUNDS):
        centres = left[crowded(Entries.unpacked(left), max_distance, needed, _MOST - len(chosen))]
        found = _climb(pool, centres, max_distance) if len(centres) else centres
        if not len(found):
            break
        chosen = np.unique(np.concatenate([chosen, found]), axis=0)
        left = _without_matches(left, chosen, max_distance)
    return chosen


def note(popular: int, resolved: int) -> str:
    """Returns a line about popular images and the hashes that were resolved against them."""
    images = "a popular image" if popular == 1 else f"{popular:,} popular images"
    return f"dedup: {resolved:,} hashes match {images}; they need no further search"


def found_rows(lost: pa.Table, compared: int, followers: NDArray[np.int64], clustered: bool) -> pa.Table:
    """Returns resolved hashes as the search returns pairs: `udfs.search.matching.FOUND`.

    Args:
        lost: leader, rank, distance.
        compared: Number of compared pairs.
        followers: Number of resolved hashes of each leader.
        clustered: Whether the pairs count as found by the first clustering.
    """
    clustering = 0 if clustered else None
    numbers = pa.array([clustering] * lost.num_rows, pa.int32())
    columns = {"a": lost["leader"], "b": lost["rank"], "distance": lost["distance"], "clustering": numbers}
    none = {field.name: pa.nulls(lost.num_rows, field.type) for field in FOUND_ARROW if field.name not in columns}
    pairs = pa.table(columns | none, schema=FOUND_ARROW)
    among = int((followers * (followers - 1) // 2).sum())
    counts = [{"compared": compared, "skipped": among, "clustering": clustering}]
    return pa.concat_tables([pairs, pa.Table.from_pylist(counts, schema=FOUND_ARROW)])


def _climb(pool: Pool, centres: Packed, max_distance: int) -> Packed:
    """Moves from each centre to the best hash near it, again and again; returns those with no better hash near them."""
    found = centres[:0]
    for _ in range(_STEPS):
        best = pool.best_near(centres, max_distance)
        moved = best[:, HASH_WORDS] != centres[:, HASH_WORDS]
        found, centres = np.concatenate([found, best[~moved]]), np.unique(best[moved], axis=0)
        if not len(centres):
            break
    return np.unique(found, axis=0)


def _without_matches(hashes: Packed, leaders: Packed, max_distance: int) -> Packed:
    """Returns the hashes that match no leader."""
    both = Entries.unpacked(np.concatenate([leaders, hashes]))
    places = np.arange(len(leaders), len(both))
    near = entry_distances(both, np.arange(len(leaders))[:, None], places) <= max_distance
    return hashes[~near.any(axis=0)]
