"""Assigns hashes to the centroids of several clusterings, and packs them for the shuffle by cluster."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import ArrayType, FloatType

from udfs.arrays.arrow import matrix
from udfs.hashes.hamming import bit_vectors, unpack
from udfs.search.matching import entries_of_rows
from udfs.search.packing import packed_rows

# Number of distances between vectors and centroids in memory at the same time, 8 bytes each.
_BLOCK = 1 << 22


@pandas_udf(ArrayType(FloatType()))
def hash_bits(hashes: pd.Series) -> pd.Series:
    """Returns the bits of 32-byte hashes as 256 numbers, -1 or 1."""
    return pd.Series(list(bit_vectors(unpack(hashes))), index=hashes.index)


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
    """

    centroids: NDArray[np.float32]
    nearest: int
    buckets: int

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
            near = [nearest_centroids(block, self.centroids[i], self.nearest) + i * k for i in range(clusterings)]
            blocks.append(np.concatenate(near, axis=1))
        return np.concatenate(blocks).astype(np.uint32)
