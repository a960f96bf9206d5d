"""Finds exact nearest neighbours without an index: streams a pool and keeps the best k for each query.

Both distances are inner products: of unit embeddings, or of hashes as ±1, whose inner product is 256 minus twice the
Hamming distance. A matrix product computes 100 billion operations per second on one core, so comparing bits as floats
is faster than counting bits in numpy (3.9 against 5.7 ns for a pair of 256 bits on one core).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema
from threadpoolctl import ThreadpoolController

from udfs.arrays.arrow import matrix
from udfs.hashes.hamming import HASH_BITS, bit_vectors, hashes_of

_FOUND_ARROW = pa.schema([("query", pa.int32()), ("image_id", pa.string()), ("similarity", pa.float32())])
FOUND = from_arrow_schema(_FOUND_ARROW)
"""The number of a query, an image near it, and their inner product."""

_QUERY_BLOCK, _POOL_BLOCK = 512, 4096  # their products take 8 MB, which fit the cache
_FIRST_LOOK = 1024
_RESCORED = 16384
_ROWS_OF_A_BATCH = 100_000

Vectors = NDArray[np.float32]
Ids = NDArray[np.bytes_]


@dataclass(frozen=True)
class FoundNeighbours:
    """Images near queries, with one entry for each pair.

    Attributes:
        query: Number of the query, int32 of shape (n,).
        image_id: UTF-8, bytes of shape (n,).
        similarity: Inner product, float32 of shape (n,).
    """

    query: NDArray[np.int32]
    image_id: Ids
    similarity: NDArray[np.float32]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yields the pairs as Arrow batches of schema `FOUND`."""
        for begin in range(0, len(self.query), _ROWS_OF_A_BATCH):
            part = slice(begin, begin + _ROWS_OF_A_BATCH)
            ids = pa.array(self.image_id[part].tolist(), pa.binary()).cast(pa.string())
            columns = [pa.array(self.query[part]), ids, pa.array(self.similarity[part])]
            yield pa.RecordBatch.from_arrays(columns, schema=_FOUND_ARROW)


def distance_of(similarity: Vectors) -> NDArray[np.int32]:
    """Returns the Hamming distance, in bits, of vectors from `bit_vectors` with this inner product.

    Examples:
        >>> a, b = bit_vectors(np.zeros((1, 32), np.uint8)), bit_vectors(np.full((1, 32), 1, np.uint8))
        >>> distance_of(a @ b.T)
        array([[32]], dtype=int32)
    """
    return ((HASH_BITS - similarity) / 2).astype(np.int32)


def similarity_of(distance: int) -> float:
    """Returns the inner product of vectors from `bit_vectors` at this Hamming distance, in bits."""
    return float(HASH_BITS - 2 * distance)


def similarities(a: Vectors, b: Vectors) -> NDArray[np.float32]:
    """Returns inner products row by row, in double precision and a fixed order, so that block shapes have no effect.

    Args:
        a: float32 of shape (n, d).
        b: float32 of shape (n, d).

    Returns:
        float32 of shape (n,).

    Examples:
        >>> similarities(np.ones((2, 3), np.float32), np.full((2, 3), 0.5, np.float32))
        array([1.5, 1.5], dtype=float32)
    """
    result = np.empty(len(a), dtype=np.float32)
    for begin in range(0, len(a), _RESCORED):
        part = slice(begin, begin + _RESCORED)
        result[part] = np.multiply(a[part], b[part], dtype=np.float64).sum(axis=1)
    return result


class NearestK:
    """A search for the k pool vectors with the largest inner product for each query.

    Ties go to the smaller image_id, so that the order and partitions of the pool have no effect.

    Args:
        queries: float32 of shape (q, d), finite.
        k: Neighbours of each query, 1 or more.

    Examples:
        >>> search = NearestK(np.eye(2, dtype=np.float32), k=1)
        >>> search.add(np.array([b"b", b"a", b"c"]), np.array([[1, 0], [1, 0], [0, 2]], np.float32))
        >>> found = search.found()
        >>> found.query.tolist(), found.image_id.tolist(), found.similarity.tolist()
        ([0, 1], [b'a', b'c'], [1.0, 2.0])
    """

    def __init__(self, queries: Vectors, k: int) -> None:
        self._queries = np.ascontiguousarray(queries, dtype=np.float32)
        self._similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
        self._ids: Ids = np.zeros((len(queries), k), dtype="S1")
        self._longest = float(np.linalg.norm(self._queries, axis=1).max(initial=0.0))

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Adds vectors of the pool.

        Args:
            ids: image_id in UTF-8, bytes of shape (n,).
            vectors: float32 of shape (n, d); vectors with NaN or infinity are never neighbours.
        """
        ids, vectors = _finite(ids, vectors)
        # An assignment would truncate ids that are longer than the earlier ones.
        self._ids = self._ids.astype(np.promote_types(self._ids.dtype, ids.dtype), copy=False)
        margin = _rounding(vectors, self._longest)
        for begin in range(0, len(self._queries), _QUERY_BLOCK):
            block = slice(begin, begin + _QUERY_BLOCK)
            for start in range(0, len(vectors), _POOL_BLOCK):
                part = slice(start, start + _POOL_BLOCK)
                self._compare(block, ids[part], vectors[part], margin)

    def found(self) -> FoundNeighbours:
        """Returns the neighbours, by query, nearest first."""
        rows, places = np.nonzero(self._similarity > -np.inf)
        return FoundNeighbours(rows.astype(np.int32), self._ids[rows, places], self._similarity[rows, places])

    def _compare(self, block: slice, ids: Ids, vectors: Vectors, margin: float) -> None:
        """Compares one block of queries with one block of the pool."""
        queries = self._queries[block]
        rough = queries @ vectors.T
        bar = self._similarity[block, -1]
        if np.isneginf(bar).any():
            bar = np.maximum(bar, _first_bar(rough, self._similarity.shape[1]))
        rows, columns = _at_least(rough, bar - margin)
        if len(rows):
            similarity = similarities(queries[rows], vectors[columns])
            self._merge(block.start + rows, ids[columns], similarity)

    def _merge(self, rows: NDArray[np.intp], ids: Ids, similarity: NDArray[np.float32]) -> None:
        """Merges candidates into the current best of their queries."""
        k = self._similarity.shape[1]
        touched = np.unique(rows)
        rows = np.concatenate([np.repeat(touched, k), rows])
        similarity = np.concatenate([self._similarity[touched].ravel(), similarity])
        ids = np.concatenate([self._ids[touched].ravel(), ids])
        order = np.lexsort((ids, -similarity, rows))
        # Every touched query has at least k entries here, so the first k of its run are its new best.
        starts = np.searchsorted(rows[order], touched)
        best = order[starts[:, None] + np.arange(k)]
        self._similarity[touched], self._ids[touched] = similarity[best], ids[best]


def within(queries: Vectors, ids: Ids, vectors: Vectors, least: float) -> FoundNeighbours:
    """Returns every pair of a query and a pool vector whose inner product is at least `least`.

    Args:
        queries: float32 of shape (q, d), finite.
        ids: image_id in UTF-8, bytes of shape (n,).
        vectors: float32 of shape (n, d); vectors with NaN or infinity are never neighbours.
        least: Smallest inner product that counts.

    Examples:
        >>> pool = np.array([[1, 0], [0.6, 0.8]], np.float32)
        >>> found = within(np.eye(2, dtype=np.float32), np.array([b"a", b"b"]), pool, least=0.75)
        >>> found.query.tolist(), found.image_id.tolist()
        ([0, 1], [b'a', b'b'])
    """
    ids, vectors = _finite(ids, vectors)
    margin = _rounding(vectors, float(np.linalg.norm(queries, axis=1).max(initial=0.0)))
    parts = [FoundNeighbours(np.zeros(0, np.int32), ids[:0], np.zeros(0, np.float32))]
    for begin in range(0, len(queries), _QUERY_BLOCK):
        for start in range(0, len(vectors), _POOL_BLOCK):
            block, pool = queries[begin : begin + _QUERY_BLOCK], vectors[start : start + _POOL_BLOCK]
            rows, columns = _at_least(block @ pool.T, np.full(len(block), least - margin, np.float32))
            exact = similarities(block[rows], pool[columns])
            near = exact >= least
            query = (begin + rows[near]).astype(np.int32)
            parts.append(FoundNeighbours(query, ids[start + columns[near]], exact[near]))
    return FoundNeighbours(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _at_least(rough: Vectors, bar: Vectors) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Returns row and column of the values that reach the minimum of their row."""
    reaching = np.flatnonzero(rough.max(axis=1, initial=-np.inf) >= bar)
    # Flat indices, divided afterwards: numpy's nonzero over two axes takes four times as long.
    places = np.flatnonzero(rough[reaching] >= bar[reaching, None])
    some, columns = np.divmod(places, rough.shape[1])
    return reaching[some], columns


def _first_bar(rough: Vectors, k: int) -> Vectors:
    """Returns a lower bound of the k-th best value of each row, from its first columns."""
    seen = rough[:, :_FIRST_LOOK]
    if seen.shape[1] < k:
        return np.full(len(rough), -np.inf, dtype=np.float32)
    return np.partition(seen, -k, axis=1)[:, -k]


def _rounding(vectors: Vectors, longest: float) -> float:
    """Returns the largest difference of float32 sums of the same products in any order (Higham 2002, section 3.1)."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0.0))
    return float((vectors.shape[1] + 2) * np.finfo(np.float32).eps * longest * norms)


def _finite(ids: Ids, vectors: Vectors) -> tuple[Ids, Vectors]:
    whole = np.isfinite(vectors).all(axis=1)
    return (ids, vectors) if whole.all() else (ids[whole], vectors[whole])


# In Spark ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searching:
    """The search in one partition of the pool: the function for `DataFrame.mapInArrow`, which returns `FOUND`.

    Attributes:
        queries: Broadcast of float32 of shape (q, d), or of hashes, uint8 of shape (q, 32).
        k: Number of neighbours of each query; None for all with at least `least`.
        least: Smallest inner product that counts, if k is None.
        first: Number of the first query.
    """

    queries: Any
    k: int | None
    least: float = -np.inf
    first: int = 0

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Searches Arrow batches of (image_id, embedding or hash). Rows without a signal are never neighbours."""
        queries = self.queries.value
        bits = queries.dtype == np.uint8
        queries = bit_vectors(queries) if bits else queries
        search = NearestK(queries, self.k) if self.k is not None else None
        for batch in batches:
            ids, vectors = _hashes(batch) if bits else _embeddings(batch, queries.shape[1])
            # Spark runs one Python worker for each core, so more threads would only compete.
            with _blas().limit(limits=1, user_api="blas"):
                if search is not None:
                    search.add(ids, vectors)
                else:
                    yield from self._numbered(within(queries, ids, vectors, self.least))
        if search is not None:
            yield from self._numbered(search.found())

    def _numbered(self, found: FoundNeighbours) -> Iterator[pa.RecordBatch]:
        return replace(found, query=found.query + np.int32(self.first)).batches()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _embeddings(batch: pa.RecordBatch, dims: int) -> tuple[Ids, Vectors]:
    """Returns the ids and embeddings of a batch, without a Python object for each number.

    Raises:
        ValueError: An embedding has another length than the queries.
    """
    valid = batch.filter(batch.column("embedding").is_valid())
    cells = valid.column("embedding")
    if pc.any(pc.not_equal(pc.list_value_length(cells), dims)).as_py():
        raise ValueError(f"every embedding must have {dims} numbers, as the queries have")
    return _id_bytes(valid), matrix(cells) if len(cells) else np.zeros((0, dims), np.float32)


def _hashes(batch: pa.RecordBatch) -> tuple[Ids, Vectors]:
    valid = batch.filter(batch.column("hash").is_valid())
    return _id_bytes(valid), bit_vectors(hashes_of(valid.column("hash")))


def _id_bytes(batch: pa.RecordBatch) -> Ids:
    return np.array(batch.column("image_id").cast(pa.binary()).to_pylist(), dtype=np.bytes_)


def inner_product(a: Column, b: Column) -> Column:
    """Returns the inner product of two columns of embeddings of the same length, none null, exactly as a search does.

    Args:
        a: array<float>.
        b: array<float>.
    """

    def product(left: pa.Array, right: pa.Array) -> pa.Array:
        return pa.array(similarities(matrix(left), matrix(right)))

    return F.arrow_udf(product, "float")(a, b)
