"""Finds popular images in a sample, and resolves their copies against them with one comparison each.

A *leader* is a hash that no better one matches. It is always kept, so all that match it are removed.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T

from udfs.arrays.arrow import cells
from udfs.hashes.hamming import HASH_WORDS
from udfs.search.matching import (
    ENTRY_COLUMNS,
    ENTRY_WORDS,
    Entries,
    Indices,
    entries_of_rows,
    entry_distances,
    near_between,
)

BEST = T.StructType(
    [
        T.StructField("place", T.IntegerType()),
        T.StructField("rank", T.LongType()),
        T.StructField("entry", T.BinaryType()),
    ]
)
"""The best hash near the centre at a place: its rank and its entry (40 bytes, `udfs.search.matching`)."""

RESOLVED = T.StructType(
    [
        T.StructField("hash", T.BinaryType()),
        T.StructField("rank", T.LongType()),
        T.StructField("known", T.BooleanType()),
        T.StructField("leader", T.LongType()),
        T.StructField("distance", T.IntegerType()),
    ]
)
"""A hash with the rank of the best leader that it loses to, and their distance; null without such a leader."""

_ROWS = 64


@dataclass(frozen=True)
class BestNear:
    """A search for the best hash within a distance of each of a few centres.

    Attributes:
        centres: uint64 of shape (m, 5), as `udfs.search.matching.packed_entries` makes them.
        max_distance: Largest distance, in bits.
    """

    centres: NDArray[np.uint64]
    max_distance: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (hash, rank, known) into `BEST`: the function for `DataFrame.mapInArrow`."""
        centres = Entries.unpacked(self.centres)
        best = np.zeros((0, ENTRY_WORDS), dtype=np.uint64)
        places = np.zeros(0, dtype=np.intp)
        for batch in batches:
            packed = entries_of_rows(batch)
            near, own = near_between(centres.words, Entries.unpacked(packed).words, self.max_distance)
            places, best = _best_of_each(np.concatenate([places, near]), np.concatenate([best, packed[own]]))
        columns = [
            pa.array(places.astype(np.int32)),
            pa.array(Entries.unpacked(best).ranks),
            cells(best.view(np.uint8)),
        ]
        yield pa.record_batch(columns, names=BEST.fieldNames())


def _best_of_each(places: Indices, entries: NDArray[np.uint64]) -> tuple[Indices, NDArray[np.uint64]]:
    order = np.lexsort((entries[:, HASH_WORDS], places))
    distinct, first = np.unique(places[order], return_index=True)
    return distinct, entries[order[first]]


@dataclass(frozen=True)
class Resolving:
    """A search for the leader that each hash loses to.

    Attributes:
        leaders: uint64 of shape (m, 5), as `udfs.search.matching.packed_entries` makes them.
        max_distance: Largest distance, in bits.
        decided: Ranks below this lose to no leader, because people keep these images.
    """

    leaders: NDArray[np.uint64]
    max_distance: int
    decided: int = 0

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turns Arrow batches of (hash, rank, known) into `RESOLVED`: the function for `DataFrame.mapInArrow`."""
        leaders = Entries.unpacked(self.leaders)
        leaders = leaders.take(np.argsort(leaders.ranks))
        for batch in batches:
            entries = Entries.unpacked(entries_of_rows(batch))
            left, right = near_between(leaders.words, entries.words, self.max_distance)
            loses = (leaders.ranks[left] < entries.ranks[right]) & (entries.ranks[right] >= self.decided)
            left, right = left[loses], right[loses]
            best = np.full(len(entries), len(leaders), dtype=np.intp)
            np.minimum.at(best, right, left)
            none = best == len(leaders)
            best[none] = 0
            both = Entries(np.concatenate([leaders.words, entries.words], axis=1), leaders.ranks, leaders.known)
            apart = entry_distances(both, best, np.arange(len(entries)) + len(leaders)).astype(np.int32)
            lost_to = [pa.array(leaders.ranks[best], mask=none), pa.array(apart, mask=none)]
            yield pa.record_batch(
                [*(batch.column(name) for name in ENTRY_COLUMNS), *lost_to], names=RESOLVED.fieldNames()
            )


def crowded(sample: Entries, max_distance: int, needed: int, most: int) -> Indices:
    """Returns the places in a sample with many near hashes, the most crowded first, no two of them near each other.

    Args:
        sample: A bounded number of hashes.
        max_distance: Largest distance, in bits.
        needed: Smallest number of near hashes in the sample, including itself, of a crowded place.
        most: Largest number of places to return.
    """
    counts = np.zeros(len(sample), dtype=np.intp)
    for begin in range(0, len(sample), _ROWS):
        near, _ = near_between(sample.words[:, begin : begin + _ROWS], sample.words, max_distance)
        rows = counts[begin : begin + _ROWS]
        rows += np.bincount(near, minlength=len(rows))
    chosen: list[int] = []
    for place in np.argsort(-counts, kind="stable"):
        if counts[place] < needed or len(chosen) == most:
            break
        if not (entry_distances(sample, np.array(chosen, dtype=np.intp), place) <= max_distance).any():
            chosen.append(int(place))
    return np.array(chosen, dtype=np.intp)
