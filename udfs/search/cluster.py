"""Hashes assigned to the centroids of several clusterings, packed for the shuffle that brings a cluster together."""

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
from udfs.search.lsh import packed_rows
from udfs.search.matching import entries_of_rows

# Distances between vectors and centroids that are held at once, 8 bytes each.
_BLOCK = 1 << 22


@pandas_udf(ArrayType(FloatType()))
def hash_bits(hashes: pd.Series) -> pd.Series:
    """The bits of 32-byte hashes as 256 numbers, -1 or 1."""
    return pd.Series(list(bit_vectors(unpack(hashes))), index=hashes.index)


def nearest_centroids(vectors: NDArray[np.float32], centroids: NDArray[np.float32], count: int) -> NDArray[np.intp]:
    """The nearest centroids of each vector, in no particular order.

    Args:
        vectors: float32 of shape (n, d).
        centroids: float32 of shape (k, d).
        count: How many, at most k.

    Returns:
        Places of centroids, of shape (n, count).

    Examples:
        >>> line = np.arange(3, dtype=np.float32)[:, None]
        >>> nearest_centroids(np.array([[1.9]], np.float32), line, 1)
        array([[2]])
    """
    # |v - c|² but for |v|², which is the same for all centroids. In double precision: a product of single precision
    # rounds otherwise at other places of a batch, and a vector half way between two centroids would change sides. Bits
    # as ±1 times float32 add up in it without any rounding.
    centroids = centroids.astype(np.float64)
    apart = (centroids**2).sum(axis=1) - 2 * (vectors.astype(np.float64) @ centroids.T)
    if count == 1:
        return apart.argmin(axis=1)[:, None]
    return np.argpartition(apart, count - 1, axis=1)[:, :count]


@dataclass(frozen=True)
class Assigning:
    """The map half: hashes to packed shuffle rows, an entry for each centroid that they are near.

    Attributes:
        centroids: float32 of shape (clusterings, k, d).
        nearest: Centroids of each clustering that a hash goes to.
        buckets: Number of shuffle buckets; the entries of one cluster share one.
    """

    centroids: NDArray[np.float32]
    nearest: int
    buckets: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Packs batches of (hash, rank, known, vector), for `DataFrame.mapInArrow` with `udfs.search.lsh.PACKED`."""
        for batch in batches:
            if batch.num_rows:
                entries = entries_of_rows(batch)
                keys = self.keys(matrix(batch.column("vector")))
                yield packed_rows(keys, keys % np.uint32(self.buckets), entries)

    def keys(self, vectors: NDArray[np.float32]) -> NDArray[np.uint32]:
        """A number for each cluster that a vector belongs to.

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
