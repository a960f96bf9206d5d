"""Keeps one image of each connected component of the pairs (`dedup.keep = "component"`).

Large-star and small-star operations, in turns, attach every node to the best of its component (Kiveris et al.,
"Connected components in MapReduce and beyond", SoCC 2014). Once few edges are left, one task of bounded size finishes
the work. This is not GraphFrames' implementation: its results reportedly change when a checkpoint is lost.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import scipy
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import LongType, StructField, StructType

from jobs.commands.dedup.keep.independent_set import FEW_EDGES
from jobs.commands.dedup.nodes.hash_nodes import hash_of
from jobs.runtime.scratch import Scratch
from udfs.hashes.hamming import hamming

_ROOTED = StructType([StructField("node", LongType()), StructField("root", LongType())])


def removed(pairs: DataFrame, nodes: DataFrame, scratch: Scratch, few: int = FEW_EDGES) -> DataFrame:
    """Returns all nodes of each component except its best.

    Args:
        pairs: a, b (ranks, smaller is better).
        nodes: rank, node: the hash of each rank; and mirror, that of its mirror image, if these are compared.
        scratch: Keeps the rounds.
        few: Edges that one task may process alone.

    Returns:
        removed, kept, distance (in bits; it may exceed the distance of every pair), method, mirrored (whether the one
        is nearer to the mirror image of the other).
    """
    lost = roots(pairs, scratch, few).where("node != root")
    mirror = F.coalesce("mirror", hash_of("node")) if "mirror" in nodes.columns else hash_of("node")
    for end, name in (("node", "x"), ("root", "y")):
        hashes = hash_of("node").alias(name), mirror.alias(f"{name}_mirror")
        lost = lost.join(nodes.select(F.col("rank").alias(f"{end}_rank"), *hashes), F.col(end) == F.col(f"{end}_rank"))
    own = hamming(F.col("x"), F.col("y"))
    turned = F.least(hamming(F.col("x"), F.col("y_mirror")), hamming(F.col("x_mirror"), F.col("y")))
    apart = lost.select(
        F.col("node").alias("removed"), F.col("root").alias("kept"), own.alias("own"), turned.alias("turned")
    )
    distance, mirrored = F.least("own", "turned").alias("distance"), (F.col("turned") < F.col("own")).alias("mirrored")
    return apart.select("removed", "kept", distance, F.lit("component").alias("method"), mirrored)


def roots(pairs: DataFrame, scratch: Scratch, few: int = FEW_EDGES) -> DataFrame:
    """Returns every node of a pair with the best of its component: node, root.

    Args:
        pairs: a, b.
        scratch: Keeps the rounds.
        few: Edges that one task may process alone.
    """
    edges = scratch.keep(pairs.select("a", "b").distinct())
    while edges.count() > few and not _are_stars(edges):
        edges = scratch.checkpoint(small_star(large_star(edges)))
    if edges.count() > few:
        stars = edges.select(F.col("b").alias("node"), F.col("a").alias("root"))
        return stars.unionByName(stars.select(F.col("root").alias("node"), "root").distinct())
    return scratch.keep(edges.repartition(1).mapInArrow(_finish, _ROOTED))


def large_star(edges: DataFrame) -> DataFrame:
    """Attaches each node's worse neighbours to the best of the node and its neighbours: a, b (a < b)."""
    both = edges.unionByName(edges.select(F.col("b").alias("a"), F.col("a").alias("b")))
    best = both.groupBy("a").agg(F.least("a", F.min("b")).alias("best"))
    attached = both.join(best, "a").where("b > a").select(F.col("best").alias("a"), "b")
    return attached.where("a != b").distinct()


def small_star(edges: DataFrame) -> DataFrame:
    """Attaches each node and its better neighbours to the best of these: a, b (a < b)."""
    best = edges.groupBy("b").agg(F.min("a").alias("best"))
    attached = edges.join(best, "b").select(F.col("best"), F.col("a").alias("b"))
    own = best.select("best", "b")
    every = attached.unionByName(own).select(F.least("best", "b").alias("a"), F.greatest("best", "b").alias("b"))
    return every.where("a != b").distinct()


def _are_stars(edges: DataFrame) -> bool:
    """Returns whether each node is attached to one root, and no root is attached to another node."""
    leaves = edges.select("b")
    twice = leaves.groupBy("b").count().where("count > 1")
    chained = edges.select(F.col("a").alias("b")).join(leaves, "b", "left_semi")
    return twice.isEmpty() and chained.isEmpty()


def best_of_component(a: NDArray[np.int64], b: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns every node of a graph with the smallest node of its component.

    Args:
        a: One end of each edge, shape (n,).
        b: The other end, shape (n,).

    Examples:
        >>> best_of_component(np.array([1, 2, 7]), np.array([2, 3, 9]))
        (array([1, 2, 3, 7, 9]), array([1, 1, 1, 7, 7]))
    """
    nodes, places = np.unique(np.concatenate([a, b]), return_inverse=True)
    left, right = places[: len(a)], places[len(a) :]
    graph = scipy.sparse.coo_array((np.ones(len(a), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    count, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    best = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(best, component, nodes)
    return nodes, best[component]


def _finish(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found = list(batches)
    if any(batch.num_rows for batch in found):
        table = pa.Table.from_batches(found)
        nodes, best = best_of_component(table.column("a").to_numpy(), table.column("b").to_numpy())
        yield pa.record_batch([pa.array(nodes), pa.array(best)], names=["node", "root"])
