"""Finds the exact nearest neighbours of a bounded number of queries among all images, without an index.

Spark broadcasts the queries. Each partition of the pool returns its own best k for each query, and the best of these
are the result. The pool is read once for every `_QUERIES_OF_A_PASS` queries, and the shuffle moves partitions × queries
× k short rows.
"""

from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from udfs.hashes.hamming import HASH_BYTES
from udfs.search.nearest import FOUND, Searching, similarity_of

_QUERIES_OF_A_PASS = 65_536  # 64 MB in each worker, at 256 dimensions
_ROWS_OF_A_SHUFFLE = 20_000_000

_BITS = f"cast(({8 * HASH_BYTES} - similarity) / 2 as int) as distance"


def nearest_by_embedding(pool: DataFrame, queries: NDArray[np.float32], k: int) -> DataFrame:
    """Returns the k images with the largest inner product for each query; ties go to the smaller image_id.

    Args:
        pool: image_id (each once), embedding (of unit length; images whose embedding is null are never neighbours).
        queries: float32 of shape (q, d), unit length.
        k: Neighbours of each query, 1 or more; fewer if the pool has fewer.

    Returns:
        query (0 to q - 1), image_id, similarity, rank (1 to k).
    """
    return _ranked(_search(pool.select("image_id", "embedding"), np.asarray(queries, np.float32), k), k)


def nearest_by_hash(pool: DataFrame, queries: NDArray[np.uint8], k: int) -> DataFrame:
    """Returns the k images with the smallest Hamming distance for each query; ties go to the smaller image_id.

    Args:
        pool: image_id (each once), hash (32 bytes; images whose hash is null are never neighbours).
        queries: uint8 of shape (q, 32).
        k: Neighbours of each query, 1 or more; fewer if the pool has fewer.

    Returns:
        query (0 to q - 1), image_id, distance (bits of 256), rank (1 to k).
    """
    found = _ranked(_search(pool.select("image_id", "hash"), np.asarray(queries, np.uint8), k), k)
    return found.selectExpr("query", "image_id", _BITS, "rank")


def within_similarity(pool: DataFrame, queries: NDArray[np.float32], least: float) -> DataFrame:
    """Returns every image whose inner product with a query is at least `least`: query, image_id, similarity.

    Args:
        pool: As for `nearest_by_embedding`.
        queries: As for `nearest_by_embedding`.
        least: Smallest inner product that counts.
    """
    return _search(pool.select("image_id", "embedding"), np.asarray(queries, np.float32), None, least)


def within_distance(pool: DataFrame, queries: NDArray[np.uint8], most: int) -> DataFrame:
    """Returns every image within a Hamming distance of a query: query, image_id, distance.

    Args:
        pool: As for `nearest_by_hash`.
        queries: As for `nearest_by_hash`.
        most: Largest distance that counts, bits of 256.
    """
    found = _search(pool.select("image_id", "hash"), np.asarray(queries, np.uint8), None, similarity_of(most))
    return found.selectExpr("query", "image_id", _BITS)


def _search(pool: DataFrame, queries: NDArray[Any], k: int | None, least: float = -np.inf) -> DataFrame:
    """Returns query, image_id, similarity: the neighbours that each partition of the pool has for each query."""
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
    """Returns a number of partitions that keeps all cores busy but limits the rows to shuffle.

    Args:
        cores: Tasks that run at the same time.
        rows: Rows that one partition returns.

    Examples:
        >>> _partitions(2, 250_000), _partitions(1000, 250_000)
        (8, 80)
    """
    return max(1, min(4 * cores, _ROWS_OF_A_SHUFFLE // rows))


def _ranked(found: DataFrame, k: int) -> DataFrame:
    """Returns query, image_id, similarity, rank: the k best neighbours of each query over all partitions."""
    best = Window.partitionBy("query").orderBy(F.desc("similarity"), "image_id")
    return found.select("*", F.row_number().over(best).alias("rank")).where(F.col("rank") <= k)
