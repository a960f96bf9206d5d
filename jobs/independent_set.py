"""Who stays: the greedy maximal independent set of a graph whose edges point from better to worse, by rounds in Spark.

Taking images best first and keeping each that matches none kept before gives the lexicographically first maximal
independent set. The rounds find the same set in parallel (Blelloch, Fineman, Shun, "Greedy sequential maximal
independent set and matching are parallel on average", SPAA 2012): a node without an undecided better neighbour stays,
its neighbours go. The number of rounds is the logarithm of the nodes for nearly all orders.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def removed(edges: DataFrame) -> DataFrame:
    """The nodes that do not stay, each with the kept neighbour that stands for it.

    Args:
        edges: better, worse, distance: an edge for each pair, pointing from the better node to the worse; any type
            of node that can be compared. No edge twice, no cycle.

    Returns:
        removed, kept, distance: the nearest kept neighbour that is better; the smaller node where two are as near.
        A node that is not removed stays.
    """
    undecided, gone = edges.select("better", "worse"), edges.select(F.col("worse").alias("removed")).limit(0)
    while not undecided.isEmpty():
        winners = undecided.select("better").join(
            undecided.select(F.col("worse").alias("better")), "better", "left_anti"
        )
        losers = undecided.join(winners.distinct(), "better", "left_semi").select(F.col("worse").alias("removed"))
        losers = losers.distinct().localCheckpoint()
        undecided = _without(_without(undecided, losers, "worse"), losers, "better").localCheckpoint()
        gone = gone.unionAll(losers)
    return _with_keeper(edges, gone.localCheckpoint())


def _without(edges: DataFrame, nodes: DataFrame, end: str) -> DataFrame:
    return edges.join(nodes.select(F.col("removed").alias(end)), end, "left_anti")


def _with_keeper(edges: DataFrame, gone: DataFrame) -> DataFrame:
    to_kept = _without(edges, gone, "better")
    lost = to_kept.join(gone.select(F.col("removed").alias("worse")), "worse", "left_semi")
    nearest = lost.groupBy("worse").agg(F.min(F.struct("distance", "better")).alias("nearest"))
    return nearest.select(
        F.col("worse").alias("removed"), F.col("nearest.better").alias("kept"), F.col("nearest.distance")
    )
