"""Removes semantic duplicates: different images whose embeddings say that they show the same (SemDeDup).

Near-duplicates come first. Of the images that they leave, the best of each set of similar ones stays. Then some
near-duplicates have lost the image that was kept in their place. If such an image is neither a near-duplicate of
another kept image nor similar to one, it is kept after all.

Source: Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023.
"""

from dataclasses import dataclass
from functools import reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.keep import independent_set
from jobs.commands.dedup.nodes.hash_nodes import numbered
from jobs.commands.dedup.semantic.parts import parts
from jobs.lake import tables
from jobs.runtime.scratch import Scratch
from udfs.hashes.hamming import hamming
from udfs.search.semantic import LOST, Removing

_NEAR = ("removed_id", "kept_id", "distance", "method", "mirrored")


@dataclass(frozen=True)
class NearDuplicateRows:
    """What the search for near-duplicates found.

    Attributes:
        removed: removed_id, kept_id, distance, method, mirrored, passed.
        pairs: a_id, b_id, distance, method, mirrored.
        ordered: image_id, passed, decided, order, as `hash_nodes.ordered` returns them: all compared images.
        hashes: image_id, hash.
    """

    removed: DataFrame
    pairs: DataFrame
    ordered: DataFrame
    hashes: DataFrame


def semantic_duplicates(
    near: NearDuplicateRows, features: DataFrame, least: float, seed: int, scratch: Scratch
) -> DataFrame:
    """Returns all removed images, each with the kept one.

    No two kept images of one part are similar (but those that a person keeps), and each removed image that passed the
    filter is near a kept image by its hash, or similar to it. Images without an embedding are not semantic duplicates.

    Args:
        near: What the search for near-duplicates found.
        features: image_id, embedding (unit length).
        least: Smallest cosine similarity of two semantic duplicates.
        seed: Seed of the clusters.
        scratch: Keeps intermediate results.

    Returns:
        removed_id, kept_id, distance (bits), method, mirrored, passed, similarity (null for near-duplicates).
    """
    search = _Search.prepared(near, features, least, seed, scratch)
    # Files, so that the plans do not grow with each round.
    ordered, removed, pairs = map(scratch.checkpoint, (near.ordered, near.removed, near.pairs))
    lost = removed.where("passed").select(*_NEAR)
    pool = scratch.checkpoint(_without(ordered.where("passed").select("image_id"), lost))
    settled = pool.limit(0)
    similar: list[DataFrame] = []
    number = 0
    while True:
        # 1. Of images of which no two are near-duplicates, keep the best of each set of similar ones.
        similar.append(search.removed(pool, settled, ordered))
        settled = scratch.checkpoint(settled.unionByName(_without(pool, similar[-1])))
        # 2. Find near-duplicates that lost the image that was kept in their place.
        kept = settled.select(F.col("image_id").alias("kept_id"))
        homeless = scratch.checkpoint(lost.join(kept, "kept_id", "left_anti").select("removed_id"))
        if homeless.isEmpty():
            break
        # 3. Some are near-duplicates of another kept image. Of the others, keep those that are not near each other.
        found = scratch.checkpoint(_nearest_kept(homeless, pairs, settled, ordered))
        rest = _without(homeless.select(F.col("removed_id").alias("image_id")), found)
        number += 1
        rest = scratch.checkpoint(rest)
        again = scratch.checkpoint(_near_each_other(rest, pairs, ordered, scratch, f"rest{number}"))
        lost = scratch.checkpoint(
            lost.join(kept, "kept_id", "left_semi").select(*_NEAR).unionByName(found).unionByName(again)
        )
        pool = scratch.checkpoint(_without(rest, again))
    # Filtered images come after all that passed, and only their own rows change.
    filtered = _without(ordered.where("not passed").select("image_id"), removed)
    of_filtered = search.removed(filtered, settled, ordered).withColumn("passed", F.lit(False))
    of_passed = reduce(DataFrame.unionByName, similar).withColumn("passed", F.lit(True))
    rows = lost.withColumn("passed", F.lit(True)).unionByName(removed.where("not passed").select(*_NEAR, "passed"))
    named = _with_distance(of_passed.unionByName(of_filtered), near.hashes)
    return rows.withColumn("similarity", F.lit(None).cast("float")).unionByName(named)


@dataclass(frozen=True)
class _Search:
    """The search for similar images within parts.

    Attributes:
        features: image_id, embedding, part.
        least: Smallest cosine similarity of two semantic duplicates.
        scratch: Keeps what was found.
    """

    features: DataFrame
    least: float
    scratch: Scratch

    @classmethod
    def prepared(
        cls, near: NearDuplicateRows, features: DataFrame, least: float, seed: int, scratch: Scratch
    ) -> "_Search":
        own = features.join(near.ordered.select("image_id"), "image_id", "left_semi")
        return cls(own.join(parts(own, own.count(), seed, scratch), "image_id"), least, scratch)

    def removed(self, pool: DataFrame, settled: DataFrame, ordered: DataFrame) -> DataFrame:
        """Returns the images of a pool that are similar to a better one or to a settled one: `LOST`.

        Args:
            pool: image_id: the images to judge.
            settled: image_id: images that stay.
            ordered: image_id, decided, order.
        """
        judged = pool.withColumn("stays", F.lit(False)).unionByName(settled.withColumn("stays", F.lit(True)))
        orders = ordered.select("image_id", "order", "decided")
        rows = judged.join(orders, "image_id").join(self.features, "image_id")
        stays = (F.col("stays") | F.col("decided")).alias("stays")
        removing = Removing(self.least)
        groups = rows.select("image_id", "order", stays, "embedding", "part").groupBy("part")
        # Spark inspects the signature, so this must be a plain function.
        return self.scratch.checkpoint(groups.applyInArrow(lambda part: removing(part), LOST))


def _without(images: DataFrame, removed: DataFrame) -> DataFrame:
    """Returns the images, image_id, that are not removed: removed_id."""
    return images.join(removed.select(F.col("removed_id").alias("image_id")), "image_id", "left_anti")


def _both_ways(pairs: DataFrame) -> DataFrame:
    """Returns each pair twice: x, y, distance, method, mirrored."""
    rest = "distance", "method", "mirrored"
    one = pairs.select(F.col("a_id").alias("x"), F.col("b_id").alias("y"), *rest)
    return one.unionByName(pairs.select(F.col("b_id").alias("x"), F.col("a_id").alias("y"), *rest))


def _nearest_kept(homeless: DataFrame, pairs: DataFrame, settled: DataFrame, ordered: DataFrame) -> DataFrame:
    """Returns the images, removed_id, that are near-duplicates of a settled image, with the nearest: `_NEAR`."""
    own = _both_ways(pairs).join(homeless.select(F.col("removed_id").alias("x")), "x", "left_semi")
    orders = ordered.select(F.col("image_id").alias("y"), "order")
    near = own.join(settled.select(F.col("image_id").alias("y")), "y", "left_semi").join(orders, "y")
    best = F.min(F.struct("distance", "order", "y", "method", "mirrored")).alias("best")
    each = near.groupBy(F.col("x").alias("removed_id")).agg(best)
    return each.select("removed_id", F.col("best.y").alias("kept_id"), "best.distance", "best.method", "best.mirrored")


def _near_each_other(images: DataFrame, pairs: DataFrame, ordered: DataFrame, scratch: Scratch, name: str) -> DataFrame:
    """Returns the images that are near-duplicates of a better one of them that stays: `_NEAR`."""
    ranks = numbered(images.join(ordered.select("image_id", "order"), "image_id"), scratch, name)
    edges = pairs
    for end, rank in (("a_id", "x"), ("b_id", "y")):
        edges = edges.join(ranks.select(F.col("image_id").alias(end), F.col("rank").alias(rank)), end)
    ends = F.least("x", "y").alias("better"), F.greatest("x", "y").alias("worse")
    edges = scratch.keep(edges.select(*ends, "distance", "method", "mirrored"))
    lost = independent_set.removed(edges, scratch)
    for end in ("removed", "kept"):
        lost = lost.join(ranks.select(F.col("rank").alias(end), F.col("image_id").alias(f"{end}_id")), end)
    return lost.select(*_NEAR)


def _with_distance(similar: DataFrame, hashes: DataFrame) -> DataFrame:
    """Returns semantic duplicates as rows of the table duplicates, with passed."""
    for end, name in (("removed_id", "x"), ("kept_id", "y")):
        similar = similar.join(hashes.select(F.col("image_id").alias(end), F.col("hash").alias(name)), end)
    distance = hamming(F.col("x"), F.col("y")).alias("distance")
    method, mirrored = F.lit(tables.SEMANTIC).alias("method"), F.lit(False).alias("mirrored")
    return similar.select("removed_id", "kept_id", distance, method, mirrored, "passed", "similarity")
