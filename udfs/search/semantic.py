"""Finds semantic duplicates in groups of images: the map and reduce sides of SemDeDup.

Source: Abbas et al., "SemDeDup: Data-efficient learning at web-scale through semantic deduplication", 2023.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql.pandas.types import from_arrow_schema

from udfs.arrays.arrow import matrix
from udfs.search.cluster import nearest_centroids, nearest_of

_IN_PART_ARROW = pa.schema([("image_id", pa.string()), ("part", pa.int64())])
IN_PART = from_arrow_schema(_IN_PART_ARROW)
"""An image and its part: only images of one part are compared."""

_LOST_ARROW = pa.schema([("removed_id", pa.string()), ("kept_id", pa.string()), ("similarity", pa.float32())])
LOST = from_arrow_schema(_LOST_ARROW)
"""A removed image, the kept image that is most similar to it, and their cosine similarity."""

_BLOCK = 256
_DIGITS = 6  # more would depend on the order in which a processor adds


@dataclass(frozen=True)
class Clustered:
    """Assigns images to clusters: the function for `DataFrame.mapInArrow` with `IN_PART`.

    Attributes:
        centroids: float32 of shape (k, d).
    """

    centroids: NDArray[np.float32]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (image_id, embedding) into `IN_PART`; the number of a part is that of its cluster."""
        for batch in batches:
            if batch.num_rows:
                yield _in_part(batch.column("image_id"), nearest_of(batch.column("embedding"), self.centroids))


@dataclass(frozen=True)
class Split:
    """Splits clusters, each by some of its members: the function for `DataFrame.mapInArrow` with `IN_PART`.

    Attributes:
        clusters: int64 of shape (m,), sorted: the cluster of each chosen member.
        members: float32 of shape (m, d): the embeddings of the chosen members.
        first: Number of the first new part; the image that is nearest to member i gets the part `first` + i.
    """

    clusters: NDArray[np.int64]
    members: NDArray[np.float32]
    first: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (image_id, embedding, part) into `IN_PART`."""
        for batch in batches:
            if batch.num_rows:
                vectors = matrix(batch.column("embedding"))
                yield _in_part(batch.column("image_id"), self.parts(vectors, batch.column("part").to_numpy()))

    def parts(self, vectors: NDArray[np.float32], clusters: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the new part of each vector.

        Args:
            vectors: float32 of shape (n, d).
            clusters: int64 of shape (n,): the cluster of each; all have chosen members.

        Examples:
            >>> line = np.array([[0.0], [4.0], [0.0]], np.float32)
            >>> split = Split(np.array([3, 3, 8]), line, first=10)
            >>> split.parts(np.array([[1.0], [3.0], [3.0]], np.float32), np.array([3, 3, 8])).tolist()
            [10, 11, 12]
        """
        found = np.empty(len(vectors), np.int64)
        for cluster in np.unique(clusters):
            own = clusters == cluster
            begin, end = np.searchsorted(self.clusters, [cluster, cluster + 1])
            found[own] = self.first + begin + nearest_centroids(vectors[own], self.members[begin:end], 1)[:, 0]
        return found


@dataclass(frozen=True)
class Removing:
    """Removes semantic duplicates within one part: the function for `groupBy("part").applyInArrow` with `LOST`.

    Attributes:
        least: Smallest cosine similarity of two semantic duplicates.
    """

    least: float

    def __call__(self, part: pa.Table) -> pa.Table:
        """Turns the rows (image_id, order, stays, embedding) of a part into `LOST`."""
        order = pc.sort_indices(part, sort_keys=[("stays", "descending"), ("order", "ascending")])
        part = part.take(order)
        stays = part["stays"].to_numpy().astype(np.bool_)
        keepers, similarity = best_first(matrix(part["embedding"]), stays, self.least)
        lost = np.flatnonzero(keepers >= 0)
        ids = part["image_id"]
        removed, kept = ids.take(pa.array(lost)), ids.take(pa.array(keepers[lost]))
        return pa.table([removed, kept, pa.array(similarity[lost], pa.float32())], schema=_LOST_ARROW)


def best_first(
    vectors: NDArray[np.float32], stays: NDArray[np.bool_], least: float
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Keeps each image that is not similar to one kept before, from the best to the worst.

    Args:
        vectors: float32 of shape (n, d), unit length, the best image first.
        stays: bool of shape (n,): images that are kept in any case.
        least: Smallest cosine similarity of two semantic duplicates.

    Returns:
        The place of the kept image that is most similar to each removed one, -1 for kept images, intp of shape (n,);
        and their similarity, float64 of shape (n,).

    Examples:
        >>> angles = np.radians([0, 20, 40, 21])
        >>> circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
        >>> best_first(circle, np.zeros(4, np.bool_), least=0.93)[0].tolist()
        [-1, 0, -1, 2]
    """
    keepers, similarity = np.full(len(vectors), -1), np.ones(len(vectors))
    kept = np.empty((len(vectors), vectors.shape[1]))  # of the kept images, in their order
    places: list[int] = []
    for begin in range(0, len(vectors), _BLOCK):
        block = vectors[begin : begin + _BLOCK].astype(np.float64)
        before = len(places)
        alike = np.round(block @ kept[:before].T, _DIGITS)
        among = np.round(block @ block.T, _DIGITS)
        for row in range(len(block)):
            own = [place - begin for place in places[before:]]
            every = np.concatenate([alike[row], among[row, own]])
            nearest = int(every.argmax()) if len(every) else -1
            if stays[begin + row] or nearest < 0 or every[nearest] < least:
                kept[len(places)] = block[row]
                places.append(begin + row)
            else:
                keepers[begin + row], similarity[begin + row] = places[nearest], every[nearest]
    return keepers, similarity


def _in_part(ids: pa.Array, parts: NDArray[np.int64]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, pa.array(parts)], schema=_IN_PART_ARROW)
