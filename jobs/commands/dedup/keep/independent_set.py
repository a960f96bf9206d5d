"""Keeps the greedy maximal independent set of a graph whose edges point from better to worse.

A sequential algorithm takes the nodes best first and keeps each that matches no kept node. This gives the
lexicographically first maximal independent set. Rounds find the same set in parallel (Blelloch, Fineman, Shun, "Greedy
sequential maximal independent set and matching are parallel on average", SPAA 2012): a node without an undecided better
neighbour is kept, and its neighbours are removed. Each round decides many edges. Once few are left, one task of bounded
size takes them in order, so that a small graph or a long chain does not need a round for each step.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.runtime.scratch import Scratch

FEW_EDGES = 4_000_000
"""Edges that one task may hold: 16 bytes each, and about ten times that while it sorts them."""

_REMOVED = StructType([StructField("removed", LongType())])


def removed(edges: DataFrame, scratch: Scratch, few: int = FEW_EDGES) -> DataFrame:
    """Returns the removed nodes, each with its kept neighbour. All other nodes are kept.

    Args:
        edges: better, worse (ranks, smaller is better), distance, and any further columns: one row for each pair.
        scratch: Keeps the rounds, and the removed nodes.
        few: Edges that one task may process alone.

    Returns:
        removed, kept (the nearest better neighbour that is kept; ties go to the better one), distance and the further
        columns.
    """
    undecided = edges.select("better", "worse")
    rounds: list[DataFrame] = []
    while undecided.count() > few:
        winners = undecided.select("better").join(
            undecided.select(F.col("worse").alias("better")), "better", "left_anti"
        )
        losers = undecided.join(winners.distinct(), "better", "left_semi").select(F.col("worse").alias("removed"))
        rounds.append(scratch.checkpoint(losers.distinct()))
        undecided = scratch.checkpoint(_without(_without(undecided, rounds[-1], "worse"), rounds[-1], "better"))
    lost = undecided.repartition(1).mapInArrow(_finish, _REMOVED)
    for losers in rounds:
        lost = lost.unionAll(losers)
    return _with_keeper(edges, scratch.keep(lost))


def greedily_removed(better: NDArray[np.int64], worse: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the nodes that the sequential greedy algorithm removes.

    Args:
        better: The better end of each edge, a rank, shape (n,).
        worse: The worse end, shape (n,).

    Returns:
        Removed nodes, each once, in order.

    Examples:
        >>> greedily_removed(np.array([1, 2]), np.array([2, 3]))
        array([2])
    """
    nodes, places = np.unique(np.concatenate([better, worse]), return_inverse=True)
    left, right = places[: len(better)], places[len(better) :]
    is_removed = bytearray(len(nodes))
    # Sorted by the worse end, so that every edge that could remove the better end comes first.
    order = np.argsort(right, kind="stable")
    for a, b in zip(left[order].tolist(), right[order].tolist(), strict=True):
        if not is_removed[a]:
            is_removed[b] = 1
    return np.asarray(nodes[np.frombuffer(is_removed, dtype=np.uint8) == 1])


def _finish(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    schema = pa.schema([("better", pa.int64()), ("worse", pa.int64())])
    table = pa.Table.from_batches(list(batches), schema=schema)
    lost = greedily_removed(table.column("better").to_numpy(), table.column("worse").to_numpy())
    yield pa.record_batch([pa.array(lost, pa.int64())], names=["removed"])


def _without(edges: DataFrame, nodes: DataFrame, end: str) -> DataFrame:
    return edges.join(nodes.select(F.col("removed").alias(end)), end, "left_anti")


def _with_keeper(edges: DataFrame, lost: DataFrame) -> DataFrame:
    to_kept = _without(edges, lost, "better")
    further = [name for name in edges.columns if name not in ("better", "worse", "distance")]
    nearest = to_kept.groupBy("worse").agg(F.min(F.struct("distance", "better", *further)).alias("nearest"))
    return nearest.select(
        F.col("worse").alias("removed"),
        F.col("nearest.better").alias("kept"),
        "nearest.distance",
        *(f"nearest.{name}" for name in further),
    )
