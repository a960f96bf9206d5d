"""The results of an earlier run, so that `dedup` compares only new images with all others."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.verify.told_apart import ToldApart


@dataclass(frozen=True)
class History:
    """The reusable results of an earlier run.

    Attributes:
        compared: image_id: images that it compared.
        pairs: Table pairs.
        kept: image_id: images that it kept; None if they need not stay or `dedup.rank` changed.
        unseen: Largest distance of its pairs that counted unseen; None if all did.
        told_apart: The sample of its pairs whose thumbnails show different images; None if it compared none.
    """

    compared: DataFrame
    pairs: DataFrame
    kept: DataFrame | None
    unseen: int | None = None
    told_apart: ToldApart | None = None


def known_nodes(nodes: DataFrame, images: DataFrame, history: History | None) -> DataFrame:
    """Adds known to the nodes: whether the earlier run compared one of their images with all others.

    Nodes that were resolved against a popular image are not known: their other pairs were not searched, and the popular
    image may no longer be the best. Neither is the popular image itself.

    Args:
        nodes: As `hash_nodes.numbered` returns them.
        images: As `jobs.commands.dedup.nodes.compared.image_ranks` returns them.
        history: The earlier run; None without one.
    """
    if history is None:
        return nodes.withColumn("known", F.lit(False))
    by_leader = history.pairs.where(F.col("method") == POPULAR)
    ends = by_leader.select(F.explode(F.array("a_id", "b_id")).alias("image_id")).distinct()
    # By rank: a pair may name only one of many images of a hash, but all of them were resolved.
    resolved = images.join(ends, "image_id", "left_semi").select("rank").distinct()
    known = images.join(history.compared, "image_id", "left_semi").select("rank").distinct()
    known = known.join(resolved, "rank", "left_anti")
    marked = nodes.join(known.withColumn("known", F.lit(True)), "rank", "left")
    return marked.withColumn("known", F.coalesce("known", F.lit(False)))


def known_pairs(images: DataFrame, pairs: DataFrame, max_distance: int) -> DataFrame:
    """Returns the pairs of ranks (a < b) of an earlier run within a distance.

    Args:
        images: As `jobs.commands.dedup.nodes.compared.image_ranks` returns them.
        pairs: Table pairs, or `told_apart` of the earlier run.
        max_distance: Largest distance of a pair, in bits.

    Returns:
        a, b, distance, mirrored and, of the table pairs, method.
    """
    a = images.select(F.col("image_id").alias("a_id"), F.col("rank").alias("x"))
    b = images.select(F.col("image_id").alias("b_id"), F.col("rank").alias("y"))
    near = pairs.where(F.col("distance") <= max_distance)
    ranked = near.join(a, "a_id").join(b, "b_id").where("x != y")
    ends = F.least("x", "y").alias("a"), F.greatest("x", "y").alias("b")
    method = ["method"] if "method" in pairs.columns else []
    mirrored = F.coalesce("mirrored", F.lit(False)).alias("mirrored")
    return ranked.select(*ends, "distance", *method, mirrored).dropDuplicates(["a", "b"])
