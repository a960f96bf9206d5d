"""Who stays: the greedy maximal independent set of a graph whose edges point from better to worse.

Taking nodes best first and keeping each that matches none kept before gives the lexicographically first maximal
independent set. Rounds find the same set in parallel (Blelloch, Fineman, Shun, "Greedy sequential maximal independent
set and matching are parallel on average", SPAA 2012): a node without an undecided better neighbour stays, its
neighbours go. Each round settles a good part of the edges; once few are left, one task of bounded size takes them in
order, so that neither a small graph nor a long chain costs a round for each step.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

FEW_EDGES = 4_000_000
"""Edges that one task may hold: 16 bytes each, and some ten times that while it orders them."""

_REMOVED = StructType([StructField("removed", LongType())])


def removed(edges: DataFrame, few: int = FEW_EDGES) -> DataFrame:
    """The nodes that do not stay, each with the kept neighbour that stands for it.

    Args:
        edges: better, worse (ranks, the smaller is the better), distance: an edge for each pair. Further columns
            say more of an edge.
        few: Edges that one task may settle alone.

    Returns:
        removed, kept, distance and the further columns: the nearest kept neighbour that is better; the better one
        where two are as near.
        A node that is not removed stays.
    """
    undecided = edges.select("better", "worse")
    gone: list[DataFrame] = []
    while undecided.count() > few:
        winners = undecided.select("better").join(
            undecided.select(F.col("worse").alias("better")), "better", "left_anti"
        )
        losers = undecided.join(winners.distinct(), "better", "left_semi").select(F.col("worse").alias("removed"))
        gone.append(losers.distinct().localCheckpoint())
        undecided = _without(_without(undecided, gone[-1], "worse"), gone[-1], "better").localCheckpoint()
    lost = undecided.repartition(1).mapInArrow(_settle, _REMOVED)
    for losers in gone:
        lost = lost.unionAll(losers)
    return _with_keeper(edges, lost.localCheckpoint())


def greedily_removed(better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.int64]:
    """The nodes that the sequential greedy algorithm removes.

    Args:
        better: The better end of each edge, a rank, shape (n,).
        worse: The worse end.

    Returns:
        Removed nodes, each once, in order.

    Examples:
        >>> greedily_removed(np.array([1, 2]), np.array([2, 3]))
        array([2])
    """
    nodes, places = np.unique(np.concatenate([better, worse]), return_inverse=True)
    left, right = places[: len(better)], places[len(better) :]
    gone = bytearray(len(nodes))
    # In the order of the worse end: whatever could remove the better end has been seen before.
    order = np.argsort(right, kind="stable")
    for a, b in zip(left[order].tolist(), right[order].tolist(), strict=True):
        if not gone[a]:
            gone[b] = 1
    return np.asarray(nodes[np.frombuffer(gone, dtype=np.uint8) == 1])


def _settle(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([("better", pa.int64()), ("worse", pa.int64())])
    table = pa.Table.from_batches(list(batches), schema=schema)
    lost = greedily_removed(table.column("better").to_numpy(), table.column("worse").to_numpy())
    yield pa.record_batch([pa.array(lost, pa.int64())], names=["removed"])


def _without(edges: DataFrame, nodes: DataFrame, end: str) -> DataFrame:
    return edges.join(nodes.select(F.col("removed").alias(end)), end, "left_anti")


def _with_keeper(edges: DataFrame, gone: DataFrame) -> DataFrame:
    to_kept = _without(edges, gone, "better")
    about = [name for name in edges.columns if name not in ("better", "worse", "distance")]
    nearest = to_kept.groupBy("worse").agg(F.min(F.struct("distance", "better", *about)).alias("nearest"))
    return nearest.select(
        F.col("worse").alias("removed"),
        F.col("nearest.better").alias("kept"),
        "nearest.distance",
        *(f"nearest.{name}" for name in about),
    )
