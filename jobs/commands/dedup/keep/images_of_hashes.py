"""From hashes back to their images: pairs, removed images with the ones that stand for them, near misses."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.nodes.compared import Compared
from jobs.commands.dedup.verify.search_recall import MeasuredRecall

# Pairs that the repeats of one hash, or of two that match, may make before the best one stands for all of them.
_SPELLED_OUT = 1000


def removed_images(compared: Compared, losers: DataFrame) -> DataFrame:
    """Every image that does not stay, with the one that stands for it.

    Args:
        compared: Nodes and images.
        losers: Hashes that lost: removed, kept (ranks), distance, method.

    Returns:
        removed_id, kept_id, distance, method, passed (whether the removed one had passed the filter).
    """
    keepers = compared.nodes.select(F.col("rank").alias("kept"), F.col("image_id").alias("keeper"))
    by_hash = losers.join(keepers, "kept").select(
        F.col("removed").alias("rank"), "keeper", F.col("distance").alias("apart"), F.col("method").alias("by")
    )
    judged = compared.images.join(by_hash, "rank", "left")
    lost = judged.where(F.col("keeper").isNotNull() | (F.col("image_id") != F.col("best_id")))
    return lost.select(
        F.col("image_id").alias("removed_id"),
        F.coalesce("keeper", "best_id").alias("kept_id"),
        F.coalesce("apart", F.lit(0)).alias("distance"),
        F.coalesce("by", F.lit("exact")).alias("method"),
        "passed",
    )


def image_pairs(compared: Compared, pairs: DataFrame, limit: int = _SPELLED_OUT) -> DataFrame:
    """Pairs of images: those of one hash, and those of a pair of hashes.

    Where repeats would make more than `limit` pairs, the best image stands for all of them, so that rows stay
    proportional to images.

    Args:
        compared: Nodes and images.
        pairs: a, b, distance, method between ranks.
        limit: Pairs that the repeats of one hash, or of two that match, may make.

    Returns:
        a_id, b_id (a_id < b_id), distance, method.
    """
    return _repeats(compared.images.where("members > 1"), limit).unionByName(_across(compared, pairs, limit))


def _repeats(images: DataFrame, limit: int) -> DataFrame:
    best = F.col("image_id") == F.col("best_id")
    full = F.col("members") * (F.col("members") - 1) / 2 <= limit
    left = images.where(full | best).select("rank", F.col("image_id").alias("x"))
    both = left.join(
        images.select("rank", F.col("image_id").alias("y"), best.alias("y_best"), full.alias("full")), "rank"
    )
    once = F.when(F.col("full"), F.col("x") < F.col("y")).otherwise(~F.col("y_best"))
    return _ordered_pairs(both.where(once).withColumns({"distance": F.lit(0), "method": F.lit("exact")}))


def _across(compared: Compared, pairs: DataFrame, limit: int) -> DataFrame:
    ended = pairs
    for end, name in (("a", "x"), ("b", "y")):
        columns = F.col("rank").alias(end), F.col("image_id").alias(name), F.col("members").alias(f"{name}_members")
        ended = ended.join(compared.nodes.select(*columns), end)
    makes = F.col("x_members") * F.col("y_members")
    spread = ended.where((makes > 1) & (makes <= limit)).select("a", "b", "distance", "method")
    for end, name in (("a", "x"), ("b", "y")):
        spread = spread.join(compared.images.select(F.col("rank").alias(end), F.col("image_id").alias(name)), end)
    return _ordered_pairs(ended.where((makes == 1) | (makes > limit))).unionByName(_ordered_pairs(spread))


def _ordered_pairs(pairs: DataFrame) -> DataFrame:
    a, b = F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id")
    return pairs.select(a, b, "distance", "method")


def near_misses(nodes: DataFrame, measured: MeasuredRecall) -> DataFrame:
    """Rows of the table near_misses.

    Args:
        nodes: rank, image_id.
        measured: Its near misses, a bounded number.
    """
    named = nodes.sparkSession.createDataFrame(list(measured.near_misses), "a long, b long, distance int")
    for end, name in (("a", "x"), ("b", "y")):
        images = nodes.select(F.col("rank").alias(end), F.col("image_id").alias(name))
        named = images.join(F.broadcast(named), end)
    return named.select(F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id"), "distance")
