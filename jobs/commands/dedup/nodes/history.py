"""What an earlier run compared, found and kept, so that a lake that grew is not compared anew."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.popular import POPULAR


@dataclass(frozen=True)
class History:
    """An earlier run, as far as it can be built on.

    Attributes:
        compared: image_id: images that had signals.
        pairs: Table pairs.
        kept: image_id: images that it kept; None where another order of rank decided.
    """

    compared: DataFrame
    pairs: DataFrame
    kept: DataFrame | None


def known_nodes(nodes: DataFrame, images: DataFrame, history: History | None) -> DataFrame:
    """Nodes with known: whether any of their images had been compared with all others.

    Of those that a popular picture had settled no other pair was told, and it may not be the best any more.

    Args:
        nodes: As `hash_nodes.numbered` returns them.
        images: As `jobs.commands.dedup.nodes.compared.image_ranks` returns them.
        history: The earlier run.
    """
    if history is None:
        return nodes.withColumn("known", F.lit(False))
    by_leader = history.pairs.where(F.col("method") == POPULAR)
    ends = by_leader.select(F.explode(F.array("a_id", "b_id")).alias("image_id")).distinct()
    # By rank: where repeats are many, the pair names one image of each hash, and settled are all of them.
    settled = images.join(ends, "image_id", "left_semi").select("rank").distinct()
    seen = images.join(history.compared, "image_id", "left_semi").select("rank").distinct()
    seen = seen.join(settled, "rank", "left_anti")
    marked = nodes.join(seen.withColumn("known", F.lit(True)), "rank", "left")
    return marked.withColumn("known", F.coalesce("known", F.lit(False)))


def known_pairs(images: DataFrame, history: History) -> DataFrame:
    """a, b, distance, method: the pairs of ranks (a < b) that the earlier run found, each once."""
    a = images.select(F.col("image_id").alias("a_id"), F.col("rank").alias("x"))
    b = images.select(F.col("image_id").alias("b_id"), F.col("rank").alias("y"))
    ranked = history.pairs.join(a, "a_id").join(b, "b_id").where("x != y")
    pairs = ranked.select(F.least("x", "y").alias("a"), F.greatest("x", "y").alias("b"), "distance", "method")
    return pairs.dropDuplicates(["a", "b"])
