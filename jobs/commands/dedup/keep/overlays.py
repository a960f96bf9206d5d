"""Ranks the images of pairs again, so that those with an overlay lose: a text, a watermark, a logo or noise.

An overlay is a property of a pair: one of two copies has what the other lacks. It becomes one of an image by a vote of
its pairs. Only pairs that the criteria before `overlay` leave undecided are compared.
"""

from collections.abc import Sequence
from functools import reduce
from operator import or_

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.nodes import hash_nodes, ranking
from jobs.commands.dedup.nodes.compared import Compared
from jobs.commands.dedup.verify import thumbnail_verification
from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from udfs.images.appearance import appearance
from udfs.images.overlays import overlay_of


def ranked_again(
    pairs: DataFrame, compared: Compared, signals: DataFrame, rule: Rule, criteria: Sequence[str], scratch: Scratch
) -> DataFrame | None:
    """Returns a new rank for each node of a pair; None if no image has an overlay.

    Leaders keep their place: what matches a popular image was resolved against it before the search.

    Args:
        pairs: a, b (ranks), distance, method, mirrored.
        compared: The nodes, and the orders of their images.
        signals: Table signals.
        rule: The rule, which names the encoder.
        criteria: `dedup.rank`.
        scratch: Keeps intermediate results.

    Returns:
        rank, again (smaller is better).
    """
    place = ranking.place_of_overlay(criteria)
    if place is None or "thumbnail" not in signals.columns:
        return None
    ends = pairs.select(F.explode(F.array("a", "b")).alias("rank")).distinct()
    nodes = compared.nodes.join(ends, "rank").select("rank", "image_id")
    ordered = nodes.join(compared.orders, "image_id").select("rank", "order")
    undecided = scratch.keep(_undecided(pairs.where(F.col("method") != POPULAR), ordered, criteria, place))
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


def _undecided(pairs: DataFrame, ordered: DataFrame, criteria: Sequence[str], place: int) -> DataFrame:
    """Returns the pairs whose images are equally good by all criteria before `overlay`: a, b, mirrored, differ."""
    for end in ("a", "b"):
        pairs = pairs.join(ordered.select(F.col("rank").alias(end), F.col("order").alias(f"order_{end}")), end)

    def unequal(bytes_: slice) -> Column:
        left, right = (
            F.substring(order, bytes_.start + 1, bytes_.stop - bytes_.start) for order in ("order_a", "order_b")
        )
        return left != right

    differ = reduce(or_, map(unequal, ranking.places_of_properties(criteria)), F.lit(False))
    return pairs.where(~unequal(slice(0, place - 1))).select("a", "b", "mirrored", differ.alias("differ"))


def _overlaid(pairs: DataFrame, nodes: DataFrame, signals: DataFrame, rule: Rule) -> DataFrame:
    """Returns the nodes with an overlay, and in how many of their pairs they have one: rank, overlaid."""
    shown = signals.withColumn("thumbnail", appearance(signals))
    joined = thumbnail_verification.with_both(pairs, thumbnail_verification.thumbnails(shown, nodes, pairs, rule))
    found = joined.select("a", "b", overlay_of("left", "right", "differ").alias("has"))
    votes = F.array(
        F.struct(F.col("a").alias("rank"), (F.col("has") > 0).alias("overlaid")),
        F.struct(F.col("b").alias("rank"), (F.col("has") < 0).alias("overlaid")),
    )
    each = found.select(F.explode(votes).alias("one")).select("one.*").groupBy("rank")
    # A share, because two copies with different overlays vote against each other too.
    share = F.round(ranking.MOST_OVERLAID * F.count_if("overlaid") / F.count("*")).cast("int")
    return each.agg(share.alias("overlaid")).where("overlaid > 0")
