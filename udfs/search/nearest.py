"""Exact nearest neighbours without an index: a pool streams past the queries, each of which keeps its best k.

Both distances are one inner product: unit embeddings as they are, and hashes as ±1, whose inner product is 256 minus
twice the Hamming distance. A matrix product does 100 billion operations a second on one core, so bits as floats are
compared faster than by counting bits in numpy (3.9 against 5.7 ns for a pair of 256 bits on one core).
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
"""A query's number, an image near it and their inner product."""

_QUERY_BLOCK, _POOL_BLOCK = 512, 4096  # their products take 8 MB, which stays in the cache
_FIRST_LOOK = 1024
_RESCORED = 16384
_ROWS_OF_A_BATCH = 100_000

Vectors = NDArray[np.float32]
Ids = NDArray[np.bytes_]


@dataclass(frozen=True)
class FoundNeighbours:
    """Images near queries, one entry for each pair.

    Attributes:
        query: Number of the query, int32 of shape (n,).
        image_id: UTF-8, bytes of shape (n,).
        similarity: Inner product, float32 of shape (n,).
    """

    query: NDArray[np.int32]
    image_id: Ids
    similarity: NDArray[np.float32]

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The same as Arrow batches of schema `FOUND`."""
        for begin in range(0, len(self.query), _ROWS_OF_A_BATCH):
            part = slice(begin, begin + _ROWS_OF_A_BATCH)
            ids = pa.array(self.image_id[part].tolist(), pa.binary()).cast(pa.string())
            columns = [pa.array(self.query[part]), ids, pa.array(self.similarity[part])]
            yield pa.RecordBatch.from_arrays(columns, schema=_FOUND_ARROW)


def distance_of(similarity: Vectors) -> NDArray[np.int32]:
    """The Hamming distance, in bits, of vectors from `bit_vectors` with this inner product.

    Examples:
        >>> a, b = bit_vectors(np.zeros((1, 32), np.uint8)), bit_vectors(np.full((1, 32), 1, np.uint8))
        >>> distance_of(a @ b.T)
        array([[32]], dtype=int32)
    """
    return ((HASH_BITS - similarity) / 2).astype(np.int32)


def similarity_of(distance: int) -> float:
    """The inner product of vectors from `bit_vectors` that differ in so many bits."""
    return float(HASH_BITS - 2 * distance)


def similarities(a: Vectors, b: Vectors) -> NDArray[np.float32]:
    """Inner products row by row, in double and always summed in one order, so that no block's shape shows in them.

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
    """The k pool vectors of largest inner product with each query, among those seen so far.

    Of equal ones the smaller image_id is nearer, so that neither order nor division of the pool shows in the result.

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
        """Looks at some more of the pool.

        Args:
            ids: image_id in UTF-8, bytes of shape (n,).
            vectors: float32 of shape (n, d); one that holds NaN or infinity is near nothing.
        """
        ids, vectors = _finite(ids, vectors)
        # An assignment would cut longer ids to the length of those that came before.
        self._ids = self._ids.astype(np.promote_types(self._ids.dtype, ids.dtype), copy=False)
        margin = _rounding(vectors, self._longest)
        for begin in range(0, len(self._queries), _QUERY_BLOCK):
            block = slice(begin, begin + _QUERY_BLOCK)
            for start in range(0, len(vectors), _POOL_BLOCK):
                part = slice(start, start + _POOL_BLOCK)
                self._look(block, ids[part], vectors[part], margin)

    def found(self) -> FoundNeighbours:
        """What was found, by query, nearest first."""
        rows, places = np.nonzero(self._similarity > -np.inf)
        return FoundNeighbours(rows.astype(np.int32), self._ids[rows, places], self._similarity[rows, places])

    def _look(self, block: slice, ids: Ids, vectors: Vectors, margin: float) -> None:
        """One block of queries against one block of the pool."""
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
        """Sorts candidates in among the best so far of the queries that they are for."""
        k = self._similarity.shape[1]
        touched = np.unique(rows)
        rows = np.concatenate([np.repeat(touched, k), rows])
        similarity = np.concatenate([self._similarity[touched].ravel(), similarity])
        ids = np.concatenate([self._ids[touched].ravel(), ids])
        order = np.lexsort((ids, -similarity, rows))
        # Every touched query has k entries or more here, so the first k of its run are its new best.
        starts = np.searchsorted(rows[order], touched)
        best = order[starts[:, None] + np.arange(k)]
        self._similarity[touched], self._ids[touched] = similarity[best], ids[best]


def within(queries: Vectors, ids: Ids, vectors: Vectors, least: float) -> FoundNeighbours:
    """Every pair of a query and a pool vector whose inner product is large enough.

    Args:
        queries: float32 of shape (q, d), finite.
        ids: image_id in UTF-8, bytes of shape (n,).
        vectors: float32 of shape (n, d); one that holds NaN or infinity is near nothing.
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
    """Row and column of what reaches its row's bar; rows whose largest does not are not looked at again."""
    hopeful = np.flatnonzero(rough.max(axis=1, initial=-np.inf) >= bar)
    # Flat and then divided: numpy's nonzero over two axes takes four times as long.
    places = np.flatnonzero(rough[hopeful] >= bar[hopeful, None])
    some, columns = np.divmod(places, rough.shape[1])
    return hopeful[some], columns


def _first_bar(rough: Vectors, k: int) -> Vectors:
    """What each row's k best reach at least, from a look at its first columns."""
    seen = rough[:, :_FIRST_LOOK]
    if seen.shape[1] < k:
        return np.full(len(rough), -np.inf, dtype=np.float32)
    return np.partition(seen, -k, axis=1)[:, -k]


def _rounding(vectors: Vectors, longest: float) -> float:
    """How far two float32 sums of the same products can lie apart, whatever their orders (Higham 2002, section 3.1)."""
    norms = np.sqrt(np.einsum("nd,nd->n", vectors, vectors).max(initial=0.0))
    return float((vectors.shape[1] + 2) * np.finfo(np.float32).eps * longest * norms)


def _finite(ids: Ids, vectors: Vectors) -> tuple[Ids, Vectors]:
    whole = np.isfinite(vectors).all(axis=1)
    return (ids, vectors) if whole.all() else (ids[whole], vectors[whole])


# In Spark ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Searching:
    """The search of a pool's partition, as `DataFrame.mapInArrow` wants it; gives `FOUND`.

    Attributes:
        queries: Broadcast of float32 of shape (q, d), or of hashes, uint8 of shape (q, 32).
        k: Nearest of each query; None for all that are near enough.
        least: Smallest inner product that counts, where k is None.
        first: Number of the first query.
    """

    queries: Any
    k: int | None
    least: float = -np.inf
    first: int = 0

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Searches Arrow batches of (image_id, embedding or hash); rows without a signal are near nothing."""
        queries = self.queries.value
        bits = queries.dtype == np.uint8
        queries = bit_vectors(queries) if bits else queries
        search = NearestK(queries, self.k) if self.k is not None else None
        for batch in batches:
            ids, vectors = _hashes(batch) if bits else _embeddings(batch, queries.shape[1])
            # Spark runs one Python worker for each core: more threads would only take each other's.
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
    """The ids and embeddings of a batch, without a Python object for each number.

    Raises:
        ValueError: An embedding has not as many numbers as the queries.
    """
    there = batch.filter(batch.column("embedding").is_valid())
    cells = there.column("embedding")
    if pc.any(pc.not_equal(pc.list_value_length(cells), dims)).as_py():
        raise ValueError(f"every embedding must have {dims} numbers, as the queries have")
    return _id_bytes(there), matrix(cells) if len(cells) else np.zeros((0, dims), np.float32)


def _hashes(batch: pa.RecordBatch) -> tuple[Ids, Vectors]:
    there = batch.filter(batch.column("hash").is_valid())
    return _id_bytes(there), bit_vectors(hashes_of(there.column("hash")))


def _id_bytes(batch: pa.RecordBatch) -> Ids:
    return np.array(batch.column("image_id").cast(pa.binary()).to_pylist(), dtype=np.bytes_)


def inner_product(a: Column, b: Column) -> Column:
    """The inner product of two columns of embeddings of one length, none null: what a search gives, to the bit.

    Args:
        a: array<float>.
        b: array<float>.
    """

    def product(left: pa.Array, right: pa.Array) -> pa.Array:
        return pa.array(similarities(matrix(left), matrix(right)))

    return F.arrow_udf(product, "float")(a, b)
