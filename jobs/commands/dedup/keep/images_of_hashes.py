"""Converts results on hashes to results on images: pairs, removed images with the kept ones, near misses."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.compared import Compared
from jobs.commands.dedup.verify.search_recall import MeasuredRecall

MAX_PAIRS = 1000
"""Pairs that the images of one hash, or of two matching hashes, may make. Of more, only the best one's are written."""


def removed_images(compared: Compared, losers: DataFrame) -> DataFrame:
    """Returns every removed image with the kept one. An image that a person keeps is never removed.

    Args:
        compared: Nodes and images.
        losers: Removed hashes: removed, kept (ranks), distance, method, mirrored.

    Returns:
        removed_id, kept_id, distance, method, mirrored, passed (whether the removed image passed the filter).
    """
    keepers = compared.nodes.select(F.col("rank").alias("kept"), F.col("image_id").alias("keeper"))
    by_hash = losers.join(keepers, "kept").select(
        F.col("removed").alias("rank"), "keeper", F.col("distance").alias("apart"), F.col("method").alias("by"),
        F.col("mirrored").alias("turned"),
    )  # fmt: skip
    images = compared.images.join(by_hash, "rank", "left")
    repeats = (F.col("image_id") != F.col("best_id")) & ~F.col("decided")
    lost = images.where(F.col("keeper").isNotNull() | repeats)
    return lost.select(
        F.col("image_id").alias("removed_id"),
        F.coalesce("keeper", "best_id").alias("kept_id"),
        F.coalesce("apart", F.lit(0)).alias("distance"),
        F.coalesce("by", F.lit("exact")).alias("method"),
        F.coalesce("turned", F.lit(False)).alias("mirrored"),
        "passed",
    )


def image_pairs(compared: Compared, pairs: DataFrame, limit: int = MAX_PAIRS) -> DataFrame:
    """Returns the pairs of images: those with the same hash, and those of a pair of hashes.

    If the images of a hash, or of two hashes, would make more than `limit` pairs, only the pairs with the best image
    are returned. This keeps the number of rows proportional to the number of images.

    Args:
        compared: Nodes and images.
        pairs: a, b, distance, method, mirrored between ranks.
        limit: Pairs that the images of one hash, or of two matching hashes, may make.

    Returns:
        a_id, b_id (a_id < b_id), distance, method, mirrored.
    """
    return _same_hash(compared.images.where("members > 1"), limit).unionByName(_two_hashes(compared, pairs, limit))


def _same_hash(images: DataFrame, limit: int) -> DataFrame:
    best = F.col("image_id") == F.col("best_id")
    full = F.col("members") * (F.col("members") - 1) / 2 <= limit
    left = images.where(full | best).select("rank", F.col("image_id").alias("x"))
    both = left.join(
        images.select("rank", F.col("image_id").alias("y"), best.alias("y_best"), full.alias("full")), "rank"
    )
    once = F.when(F.col("full"), F.col("x") < F.col("y")).otherwise(~F.col("y_best"))
    exact = {"distance": F.lit(0), "method": F.lit("exact"), "mirrored": F.lit(False)}
    return _ordered_pairs(both.where(once).withColumns(exact))


def _two_hashes(compared: Compared, pairs: DataFrame, limit: int) -> DataFrame:
    best = pairs
    for end, name in (("a", "x"), ("b", "y")):
        columns = F.col("rank").alias(end), F.col("image_id").alias(name), F.col("members").alias(f"{name}_members")
        best = best.join(compared.nodes.select(*columns), end)
    count = F.col("x_members") * F.col("y_members")
    every = best.where((count > 1) & (count <= limit)).select("a", "b", "distance", "method", "mirrored")
    for end, name in (("a", "x"), ("b", "y")):
        every = every.join(compared.images.select(F.col("rank").alias(end), F.col("image_id").alias(name)), end)
    return _ordered_pairs(best.where((count == 1) | (count > limit))).unionByName(_ordered_pairs(every))


def _ordered_pairs(pairs: DataFrame) -> DataFrame:
    a, b = F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id")
    return pairs.select(a, b, "distance", "method", "mirrored")


def decided_pairs(pairs: DataFrame, images: DataFrame) -> DataFrame:
    """Returns the pairs of which people keep both images.

    Args:
        pairs: a_id, b_id, as `image_pairs` returns them.
        images: image_id, decided.
    """
    decided = images.where("decided").select("image_id")
    for end in ("a_id", "b_id"):
        pairs = pairs.join(decided.withColumnRenamed("image_id", end), end, "left_semi")
    return pairs


def near_misses(nodes: DataFrame, measured: MeasuredRecall) -> DataFrame:
    """Returns the rows of the table near_misses.

    Args:
        nodes: rank, image_id.
        measured: The measurement with a bounded number of near misses.
    """
    named = nodes.sparkSession.createDataFrame(list(measured.near_misses), "a long, b long, distance int")
    for end, name in (("a", "x"), ("b", "y")):
        images = nodes.select(F.col("rank").alias(end), F.col("image_id").alias(name))
        named = images.join(F.broadcast(named), end)
    return named.select(F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id"), "distance")


def told_apart_images(compared: Compared, pairs: DataFrame, losers: DataFrame) -> DataFrame:
    """Returns the pairs told apart of which both images are kept, by the best images of their hashes.

    Args:
        compared: Nodes and images.
        pairs: a, b (ranks, a < b), distance, mirrored, known.
        losers: removed: ranks that are removed.

    Returns:
        a_id, b_id (a_id < b_id), distance, mirrored, known.
    """
    named = pairs.where(F.col("b") < compared.passed)
    for end, name in (("a", "x"), ("b", "y")):
        named = named.join(losers.select(F.col("removed").alias(end)), end, "left_anti")
        named = named.join(compared.nodes.select(F.col("rank").alias(end), F.col("image_id").alias(name)), end)
    ends = F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id")
    return named.select(*ends, "distance", "mirrored", "known")
