"""Assigns hashes to the centroids of several clusterings, and packs them for the shuffle by cluster."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

from udfs.arrays.arrow import matrix
from udfs.arrays.late import late
from udfs.hashes.hamming import bit_vectors, unpack
from udfs.search.matching import entries_of_rows
from udfs.search.packing import packed_rows

# Number of distances between vectors and centroids in memory at the same time, 8 bytes each.
_BLOCK = 1 << 22


@late
def hash_bits() -> Any:
    """Returns the bits of 32-byte hashes as 256 numbers, -1 or 1."""
    import pandas as pd

    @pandas_udf(ArrayType(FloatType()))
    def hash_bits(hashes: pd.Series) -> pd.Series:
        return pd.Series(list(bit_vectors(unpack(hashes))), index=hashes.index)

    return hash_bits


def nearest_centroids(vectors: NDArray[np.float32], centroids: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """Returns the nearest centroids of each vector, in no particular order.

    Args:
        vectors: float32 of shape (n, d).
        centroids: float32 of shape (k, d).
        count: Number of centroids for each vector, at most k.

    Returns:
        Indices of centroids, of shape (n, count).

    Examples:
        >>> line = np.arange(3, dtype=np.float32)[:, None]
        >>> nearest_centroids(np.array([[1.9]], np.float32), line, 1)
        array([[2]])
    """
    # |v - c|² without |v|², which is the same for all centroids. In single precision, rounding depends on the position
    # in the batch, and a vector half way between two centroids could change its cluster. In double precision, sums of
    # ±1 times float32 are exact.
    centroids = centroids.astype(np.float64)
    apart = (centroids**2).sum(axis=1) - 2 * (vectors.astype(np.float64) @ centroids.T)
    if count == 1:
        return apart.argmin(axis=1)[:, None]
    return np.argpartition(apart, count - 1, axis=1)[:, :count]


@dataclass(frozen=True)
class Assigning:
    """The map side of the search by clusters: hashes to packed shuffle rows, with an entry for each near centroid.

    Attributes:
        centroids: float32 of shape (clusterings, k, d).
        nearest: Number of centroids of each clustering to which a hash is assigned.
        buckets: Number of shuffle buckets; the entries of one cluster are in one bucket.
        coarse: With two levels, the m centroids of the first one, float32 of shape (clusterings, m, d): centroid i of
            the first level has the centroids i · k / m and following ones of the second. None with one level.
        first: Number of the first clustering.
    """

    centroids: NDArray[np.float32]
    nearest: int
    buckets: int
    coarse: NDArray[np.float32] | None = None
    first: int = 0

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Packs batches of (hash, rank, known, vector), for `DataFrame.mapInArrow`: `udfs.search.packing.PACKED`."""
        for batch in batches:
            if batch.num_rows:
                entries = entries_of_rows(batch)
                keys = self.keys(matrix(batch.column("vector")))
                yield packed_rows(keys, keys % np.uint32(self.buckets), entries)

    def keys(self, vectors: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Returns the number of each cluster of a vector.

        Args:
            vectors: float32 of shape (n, d).

        Returns:
            uint32 of shape (n, clusterings · nearest).
        """
        clusterings, k, _ = self.centroids.shape
        blocks, size = [], max(_BLOCK // k, 1)
        for begin in range(0, len(vectors), size):
            block = vectors[begin : begin + size]
            near = [self._near(block, i) + (self.first + i) * k for i in range(clusterings)]
            blocks.append(np.concatenate(near, axis=1))
        return np.concatenate(blocks).astype(np.uint32)

    def _near(self, vectors: NDArray[np.float32], clustering: int) -> NDArray[np.intp]:
        centroids = self.centroids[clustering]
        if self.coarse is None:
            return nearest_centroids(vectors, centroids, self.nearest)
        near = nearest_centroids(vectors, self.coarse[clustering], self.nearest)
        fine = centroids.reshape(len(self.coarse[clustering]), -1, centroids.shape[1])
        for column in near.T:
            for group in np.unique(column):
                own = np.flatnonzero(column == group)
                # The values of this column become numbers of fine centroids, in no group that is still to come.
                column[own] = -1 - (group * fine.shape[1] + nearest_centroids(vectors[own], fine[group], 1)[:, 0])
        return -1 - near


def nearest_of(vectors: pa.Array, centroids: NDArray[np.float32]) -> NDArray[np.int64]:
    """Returns the number of the centroid nearest to each vector, shape (n,); compares some vectors at a time.

    Args:
        vectors: n lists of d numbers.
        centroids: float32 of shape (k, d).
    """
    return Assigning(centroids[None], nearest=1, buckets=1).keys(matrix(vectors))[:, 0].astype(np.int64)


FITTED = T.StructType(
    [
        T.StructField("coarse", T.LongType()),
        T.StructField("fine", T.IntegerType()),
        T.StructField("centroid", T.ArrayType(T.FloatType())),
    ]
)
"""A centroid of the second level: the number of its centroid of the first level, and its own number in it."""


@dataclass(frozen=True)
class NearestCoarse:
    """Assigns points to the centroids of the first level.

    Attributes:
        centroids: float32 of shape (m, d).
    """

    centroids: NDArray[np.float32]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Adds the number of the nearest centroid to batches of (hash, vector): the function for `mapInArrow`."""
        for batch in batches:
            if batch.num_rows:
                near = pa.array(nearest_of(batch.column("vector"), self.centroids))
                yield pa.record_batch([*batch.columns, near], names=["hash", "vector", "coarse"])


@dataclass(frozen=True)
class FittingFine:
    """Fits the centroids of the second level within a centroid of the first one.

    Attributes:
        clusters: Number of centroids to fit.
        iterations: Steps of k-means.
    """

    clusters: int
    iterations: int

    def __call__(self, points: pa.Table) -> pa.Table:
        """Turns the points of one centroid (hash, vector, coarse) into `FITTED`: the function for `applyInArrow`."""
        points = points.sort_by("hash")
        centroids = k_means(matrix(points["vector"]), self.clusters, self.iterations)
        numbers = pa.array(np.full(self.clusters, points["coarse"][0].as_py(), np.int64))
        cells = pa.array(list(centroids), pa.list_(pa.float32()))
        return pa.table([numbers, pa.array(np.arange(self.clusters, dtype=np.int32)), cells], names=FITTED.names)


def k_means(points: NDArray[np.float32], clusters: int, iterations: int) -> NDArray[np.float32]:
    """Returns centroids by Lloyd's algorithm, which starts with the first points.

    Args:
        points: float32 of shape (n, d), in random order, n > 0.
        clusters: Number of centroids. If there are fewer points, the first point repeats: no point is nearer to it.
        iterations: Number of steps.

    Returns:
        float32 of shape (clusters, d).

    Examples:
        >>> k_means(np.array([[0.0], [9.0], [1.0], [8.0]], np.float32), 2, 3).tolist()
        [[0.5], [8.5]]
    """
    centroids = points[:clusters].copy()
    for _ in range(iterations):
        near = nearest_centroids(points, centroids, 1)[:, 0]
        for number in np.unique(near):
            centroids[number] = points[near == number].mean(axis=0, dtype=np.float64)
    return np.concatenate([centroids, np.repeat(centroids[:1], clusters - len(centroids), axis=0)])
