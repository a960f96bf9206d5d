"""Exact nearest neighbours of a bounded number of queries among all images: nothing is indexed, nothing is missed.

The queries travel to every task as a broadcast; each partition of the pool streams past them and gives its own best k;
the best of these are the result. So the pool is read once for each `_QUERIES_OF_A_PASS` queries, and the shuffle moves
partitions × queries × k short rows.
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from udfs.hashes.hamming import HASH_BYTES
from udfs.search.nearest import FOUND, Searching, similarity_of

_QUERIES_OF_A_PASS = 65_536  # of 256 dimensions 64 MB in each worker
_ROWS_OF_A_SHUFFLE = 20_000_000

_BITS = f"cast(({8 * HASH_BYTES} - similarity) / 2 as int) as distance"


def nearest_by_embedding(pool: DataFrame, queries: NDArray[np.float32], k: int) -> DataFrame:
    """The k images of largest inner product with each query; of equal ones the smaller image_id is nearer.

    Args:
        pool: image_id (each once), embedding (of unit length; one that is null is near nothing).
        queries: float32 of shape (q, d), unit length.
        k: Neighbours of each query, 1 or more; fewer where the pool has fewer.

    Returns:
        query (0 to q - 1), image_id, similarity, rank (1 to k).
    """
    return _ranked(_searched(pool.select("image_id", "embedding"), np.asarray(queries, np.float32), k), k)


def nearest_by_hash(pool: DataFrame, queries: NDArray[np.uint8], k: int) -> DataFrame:
    """The k images of smallest Hamming distance to each query; of equal ones the smaller image_id is nearer.

    Args:
        pool: image_id (each once), hash (32 bytes; one that is null is near nothing).
        queries: uint8 of shape (q, 32).
        k: Neighbours of each query, 1 or more; fewer where the pool has fewer.

    Returns:
        query (0 to q - 1), image_id, distance (bits of 256), rank (1 to k).
    """
    found = _ranked(_searched(pool.select("image_id", "hash"), np.asarray(queries, np.uint8), k), k)
    return found.selectExpr("query", "image_id", _BITS, "rank")


def within_similarity(pool: DataFrame, queries: NDArray[np.float32], least: float) -> DataFrame:
    """Every image whose inner product with a query is large enough: query, image_id, similarity.

    Args:
        pool: As for `nearest_by_embedding`.
        queries: Likewise.
        least: Smallest inner product that counts.
    """
    return _searched(pool.select("image_id", "embedding"), np.asarray(queries, np.float32), None, least)


def within_distance(pool: DataFrame, queries: NDArray[np.uint8], most: int) -> DataFrame:
    """Every image within a Hamming distance of a query: query, image_id, distance.

    Args:
        pool: As for `nearest_by_hash`.
        queries: Likewise.
        most: Largest distance that counts, bits of 256.
    """
    found = _searched(pool.select("image_id", "hash"), np.asarray(queries, np.uint8), None, similarity_of(most))
    return found.selectExpr("query", "image_id", _BITS)


def _searched(pool: DataFrame, queries: NDArray[Any], k: int | None, least: float = -np.inf) -> DataFrame:
    """query, image_id, similarity: what each partition of the pool has near each query."""
    if not len(queries):
        return pool.sparkSession.createDataFrame([], FOUND)
    context = pool.sparkSession.sparkContext
    passes = []
    for first in range(0, len(queries), _QUERIES_OF_A_PASS):
        some = np.ascontiguousarray(queries[first : first + _QUERIES_OF_A_PASS])
        few = pool.coalesce(_partitions(context.defaultParallelism, len(some) * (k or 1)))
        passes.append(few.mapInArrow(Searching(context.broadcast(some), k, least, first), FOUND))
    return reduce(DataFrame.unionByName, passes)


def _partitions(cores: int, rows: int) -> int:
    """Partitions that keep all cores busy to the end, yet give few rows to shuffle.

    Args:
        cores: Tasks that run at once.
        rows: Rows that one partition gives.

    Examples:
        >>> _partitions(2, 250_000), _partitions(1000, 250_000)
        (8, 80)
    """
    return max(1, min(4 * cores, _ROWS_OF_A_SHUFFLE // rows))


def _ranked(found: DataFrame, k: int) -> DataFrame:
    """query, image_id, similarity, rank: the k best of each query among those of all partitions."""
    best = Window.partitionBy("query").orderBy(F.desc("similarity"), "image_id")
    return found.select("*", F.row_number().over(best).alias("rank")).where(F.col("rank") <= k)
