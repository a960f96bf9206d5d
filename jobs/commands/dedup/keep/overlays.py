"""Ranks the images of pairs again, so that those with an overlay lose: a text, a watermark or a logo.

An overlay is a property of a pair: one of two copies has what the other lacks. It becomes one of an image by a vote of
its pairs. Only pairs that the criteria before `overlay` leave undecided are compared.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.nodes import hash_nodes, ranking
from jobs.commands.dedup.nodes.compared import Compared
from jobs.commands.dedup.verify import thumbnail_verification
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from udfs.images.overlays import overlay_of


def ranked_again(
    pairs: DataFrame, compared: Compared, signals: DataFrame, rule: Rule, place: int, scratch: Scratch
) -> DataFrame | None:
    """Returns a new rank for each node of a pair; None if no image has an overlay.

    Leaders keep their place: what matches a popular image was resolved against it before the search.

    Args:
        pairs: a, b (ranks), distance, method, mirrored.
        compared: The nodes, and the orders of their images.
        signals: Table signals.
        rule: The rule, which names the encoder.
        place: As `ranking.place_of_overlay` returns it.
        scratch: Keeps intermediate results.

    Returns:
        rank, again (smaller is better).
    """
    if "thumbnail" not in signals.columns:
        return None
    ends = pairs.select(F.explode(F.array("a", "b")).alias("rank")).distinct()
    nodes = compared.nodes.join(ends, "rank").select("rank", "image_id")
    ordered = nodes.join(compared.orders, "image_id").select("rank", "order")
    undecided = scratch.keep(_undecided(pairs.where(F.col("method") != POPULAR), ordered, place))
    if undecided.isEmpty():
        return None
    overlaid = scratch.keep(_overlaid(undecided, compared.nodes, signals, rule))
    leaders = pairs.where(F.col("method") == POPULAR).select(F.col("a").alias("rank")).distinct()
    worse = overlaid.join(leaders, "rank", "left_anti")
    if worse.isEmpty():
        return None
    lowered = ranking.with_overlay(F.col("order"), place, F.coalesce("overlaid", F.lit(0)))
    again = ordered.join(worse, "rank", "left").select("rank", lowered.alias("order"))
    return hash_nodes.numbered(again, scratch, "overlays", "again")


def _undecided(pairs: DataFrame, ordered: DataFrame, place: int) -> DataFrame:
    """Returns the pairs whose images are equally good by all criteria before `overlay`: a, b, mirrored."""
    for end in ("a", "b"):
        before = F.substring("order", 1, place - 1).alias(f"before_{end}")
        pairs = pairs.join(ordered.select(F.col("rank").alias(end), before), end)
    return pairs.where("before_a = before_b").select("a", "b", "mirrored")


def _overlaid(pairs: DataFrame, nodes: DataFrame, signals: DataFrame, rule: Rule) -> DataFrame:
    """Returns the nodes with an overlay, and in how many of their pairs they have one: rank, overlaid."""
    thumbnails = thumbnail_verification.thumbnails(signals, nodes, pairs, rule)
    joined = thumbnail_verification.with_both(pairs, thumbnails)
    found = joined.select("a", "b", overlay_of("left", "right").alias("has"))
    votes = F.array(
        F.struct(F.col("a").alias("rank"), (F.col("has") > 0).alias("overlaid")),
        F.struct(F.col("b").alias("rank"), (F.col("has") < 0).alias("overlaid")),
    )
    each = found.select(F.explode(votes).alias("one")).select("one.*").groupBy("rank")
    # A share, because two copies with different overlays vote against each other too.
    share = F.round(ranking.MOST_OVERLAID * F.count_if("overlaid") / F.count("*")).cast("int")
    return each.agg(share.alias("overlaid")).where("overlaid > 0")
