"""Counts the near pairs of a sample of hashes with all others, and picks some of them to look at."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.pandas.types import from_arrow_schema

from udfs.arrays.splitmix64 import splitmix64
from udfs.search.matching import Entries, entries_of_rows, entry_distances, near_between

_NEAR_ARROW = pa.schema(
    [
        ("sampled", pa.int64()),
        ("distance", pa.int32()),
        ("pairs", pa.int64()),
        ("other", pa.int64()),
        ("order", pa.int64()),
        ("mirrored", pa.bool_()),
    ]
)
NEAR = from_arrow_schema(_NEAR_ARROW)
"""The number of pairs of a sampled hash at a distance; or, if `other` is not null, a pair to look at. Its `order` is a
pseudorandom number of the pair, and `mirrored` says whether the other hash is that of a mirror image."""

_ROWS = 1 << 11  # with a sample of 2,000, all pairs of these rows take some 100 MB
_SPARE = 8
_TOP = np.uint64(63)


@dataclass(frozen=True)
class NearPairs:
    """The comparison of all hashes with a bounded sample.

    Attributes:
        sample: uint64 of shape (s, 5), as `udfs.search.matching.packed_entries` makes them. A known one is the hash of
            a mirror image, with the rank of its image.
        farthest: Largest distance to count, in bits.
        looks: Pairs to look at for each distance: those with the smallest `order`, which are a random sample.
    """

    sample: NDArray[np.uint64]
    farthest: int
    looks: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (hash, rank, known) into `NEAR`: the function for `DataFrame.mapInArrow`.

        A known hash is that of a mirror image. It is not compared with other mirror images, nor with its own image.
        """
        sample = Entries.unpacked(self.sample)
        ranks, places = np.unique(sample.ranks, return_inverse=True)
        counts = np.zeros((len(ranks), self.farthest + 1), np.int64)
        looks = np.zeros((5, 0), np.int64)
        for batch in batches:
            entries = Entries.unpacked(entries_of_rows(batch))
            for begin in range(0, len(entries), _ROWS):
                block = entries.take(np.arange(begin, min(begin + _ROWS, len(entries))))
                left, distance, other, mirrored = _near(sample, block, self.farthest)
                cells = places[left] * (self.farthest + 1) + distance
                counts += np.bincount(cells, minlength=counts.size).reshape(counts.shape)
                some = self._likely(_ordered(sample.ranks[left], distance, other, mirrored))
                looks = self._chosen(np.concatenate([looks, some], axis=1))
        rows, distances = np.nonzero(counts)
        counted = _rows(ranks[rows], distances, pairs=counts[rows, distances])
        sampled, at, other, order, turned = looks
        looked_at = _rows(sampled, at, other=other, order=order, mirrored=turned.astype(np.bool_))
        yield from pa.concat_tables([counted, looked_at]).to_batches()

    def _likely(self, looks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the pairs that may be among the first of their distance: eight times as many as are chosen."""
        counts = np.bincount(looks[1], minlength=self.farthest + 1)
        share = np.minimum(_SPARE * self.looks / np.maximum(counts, 1), 1.0)
        return looks[:, looks[3] <= share[looks[1]] * np.iinfo(np.int64).max]

    def _chosen(self, looks: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the first pairs of each distance, by their order."""
        looks = looks[:, np.lexsort((looks[3], looks[1]))]
        starts = np.searchsorted(looks[1], np.arange(self.farthest + 1))
        return looks[:, np.arange(looks.shape[1]) - starts[looks[1]] < self.looks]


def _near(
    sample: Entries, others: Entries, farthest: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.int64], NDArray[np.bool_]]:
    """Returns the pairs within a distance: place in the sample, distance, the other's rank, whether it is mirrored."""
    left, right = near_between(sample.words, others.words, farthest)
    counted = (sample.ranks[left] != others.ranks[right]) & ~(sample.known[left] & others.known[right])
    left, right = left[counted], right[counted]
    both = Entries(np.concatenate([sample.words, others.words], axis=1), sample.ranks, sample.known)
    distance = entry_distances(both, left, right + len(sample)).astype(np.intp)
    return left, distance, others.ranks[right], sample.known[left] | others.known[right]


def _ordered(
    sampled: NDArray[np.int64], distance: NDArray[np.intp], other: NDArray[np.int64], mirrored: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Returns pairs with their order, int64 of shape (5, n): sampled, distance, other, order, mirrored."""
    mixed = splitmix64(
        splitmix64(sampled.astype(np.uint64)) ^ other.astype(np.uint64) ^ (mirrored.astype(np.uint64) << _TOP)
    )
    return np.stack([sampled, distance, other, (mixed >> np.uint64(1)).astype(np.int64), mirrored.astype(np.int64)])


def _rows(
    sampled: NDArray[np.int64],
    distance: NDArray[np.integer],
    pairs: NDArray[np.int64] | None = None,
    other: NDArray[np.int64] | None = None,
    order: NDArray[np.int64] | None = None,
    mirrored: NDArray[np.bool_] | None = None,
) -> pa.Table:
    empty, none = pa.nulls(len(sampled), pa.int64()), pa.nulls(len(sampled), pa.bool_())
    columns = [empty if values is None else pa.array(values) for values in (pairs, other, order)]
    columns.append(none if mirrored is None else pa.array(mirrored))
    return pa.table([sampled, distance.astype(np.int32), *columns], schema=_NEAR_ARROW)
