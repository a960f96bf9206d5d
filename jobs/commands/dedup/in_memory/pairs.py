"""Pairs of ranks as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.commands.dedup.candidates.popular import POPULAR

NO_CLUSTERING = np.iinfo(np.int32).max
"""Stands for the clustering of a pair that none found."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of ranks: arrays of n values.

    Attributes:
        a: int64: the better rank, below 2^31.
        b: int64: the worse rank.
        distance: int32, in bits.
        method: How it was found.
        clustering: int32: the first clustering that found it, or `NO_CLUSTERING`.
        mirrored: Whether the one is near the mirror image of the other.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    distance: NDArray[np.int32]
    method: NDArray[np.str_]
    clustering: NDArray[np.int32]
    mirrored: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        distance: NDArray[np.int32],
        method: NDArray[np.str_],
        clustering: NDArray[np.int32] | None = None,
        mirrored: NDArray[np.bool_] | None = None,
    ) -> "Pairs":
        """Returns pairs; without clusterings, none found them, and without `mirrored`, none is mirrored."""
        clustering = np.full(len(a), NO_CLUSTERING, np.int32) if clustering is None else clustering
        mirrored = np.zeros(len(a), np.bool_) if mirrored is None else mirrored
        return cls(a, b, distance.astype(np.int32), method, clustering, mirrored)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def keys(self) -> NDArray[np.int64]:
        """A number for each pair, the same for the same ranks."""
        return keys_of(self.a, self.b)

    def take(self, selected: NDArray[np.bool_] | NDArray[np.intp]) -> "Pairs":
        """Returns some of the pairs."""
        return Pairs(*(getattr(self, one.name)[selected] for one in fields(self)))

    @staticmethod
    def joined(parts: "Sequence[Pairs]") -> "Pairs":
        """Returns the pairs of all parts; none for no parts."""
        none = np.zeros(0, np.int64)
        parts = [Pairs.of(none, none, none.astype(np.int32), none.astype(np.str_)), *parts]
        return Pairs(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Pairs)))

    def distinct(self) -> "Pairs":
        """Returns each pair at most once for each way: see `pair_search.distinct_pairs`."""
        return self._merged(self.mirrored)

    def each_once(self) -> "Pairs":
        """Returns each pair once: see `pair_search.each_once`."""
        return self._merged(np.zeros(len(self), np.bool_))

    def _merged(self, way: NDArray[np.bool_]) -> "Pairs":
        """Returns each pair once for each value of `way`, with the smallest distance and the first clustering."""
        if not len(self):
            return self
        order = np.lexsort((self.distance, self.mirrored, way, self.keys))
        keys, ways = self.keys[order], way[order]
        starts = np.flatnonzero(np.concatenate([[True], (keys[1:] != keys[:-1]) | (ways[1:] != ways[:-1])]))
        first = self.take(order[starts])
        by_method = np.lexsort((self.method, self.method != POPULAR, way, self.keys))
        method, clustering = self.method[by_method[starts]], _least(self.clustering[order], starts)
        return replace(first, method=method, clustering=clustering)

    def united(self, other: "Pairs | None") -> "Pairs":
        """Adds the pairs of another list that are not in this one."""
        if other is None:
            return self
        return Pairs.joined([self, other.take(~np.isin(other.keys, self.keys))])

    def ends(self) -> NDArray[np.int64]:
        """Returns the ranks of all pairs, each once."""
        return np.unique(np.concatenate([self.a, self.b]))

    def rows(self) -> pa.Table:
        """Returns the pairs as rows: a, b, mirrored."""
        return pa.table({"a": self.a, "b": self.b, "mirrored": self.mirrored})


def keys_of(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns a number for each pair of ranks below 2^31.

    Examples:
        >>> keys_of(np.array([1]), np.array([2]))
        array([4294967298])
    """
    return (a << 32) | b


def _least(values: NDArray[np.int32], starts: NDArray[np.intp]) -> NDArray[np.int32]:
    return np.asarray(np.minimum.reduceat(values, starts), dtype=np.int32)
