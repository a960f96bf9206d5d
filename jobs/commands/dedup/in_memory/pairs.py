"""Pairs of ranks as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    distance: NDArray[np.int32]
    method: NDArray[np.str_]
    clustering: NDArray[np.int32]

    @classmethod
    def of(
        cls,
        a: NDArray[np.int64],
        b: NDArray[np.int64],
        distance: NDArray[np.int32],
        method: NDArray[np.str_],
        clustering: NDArray[np.int32] | None = None,
    ) -> "Pairs":
        """Returns pairs; without clusterings, none found them."""
        none = np.full(len(a), NO_CLUSTERING, np.int32)
        return cls(a, b, distance.astype(np.int32), method, none if clustering is None else clustering)

    def __len__(self) -> int:
        return len(self.a)

    @property
    def keys(self) -> NDArray[np.int64]:
        """A number for each pair, the same for the same ranks."""
        return keys_of(self.a, self.b)

    def take(self, selected: NDArray[np.bool_] | NDArray[np.intp]) -> "Pairs":
        """Returns some of the pairs."""
        method, clustering = self.method[selected], self.clustering[selected]
        return Pairs(self.a[selected], self.b[selected], self.distance[selected], method, clustering)

    @staticmethod
    def joined(parts: "Sequence[Pairs]") -> "Pairs":
        """Returns the pairs of all parts; none for no parts."""
        none = np.zeros(0, np.int64)
        parts = [Pairs.of(none, none, none.astype(np.int32), none.astype(np.str_)), *parts]
        return Pairs(
            np.concatenate([part.a for part in parts]),
            np.concatenate([part.b for part in parts]),
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.method for part in parts]),
            np.concatenate([part.clustering for part in parts]),
        )

    def distinct(self) -> "Pairs":
        """Returns each pair once, with the first of its methods by name and the first of its clusterings."""
        if not len(self):
            return self
        order = np.lexsort((self.method, self.keys))
        keys = self.keys[order]
        starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
        first = self.take(order[starts])
        return Pairs.of(first.a, first.b, first.distance, first.method, _least(self.clustering[order], starts))

    def united(self, other: "Pairs | None") -> "Pairs":
        """Adds the pairs of another list that are not in this one."""
        if other is None:
            return self
        return Pairs.joined([self, other.take(~np.isin(other.keys, self.keys))])

    def ends(self) -> NDArray[np.int64]:
        """Returns the ranks of all pairs, each once."""
        return np.unique(np.concatenate([self.a, self.b]))

    def rows(self) -> pa.Table:
        """Returns the pairs as rows: a, b."""
        return pa.table({"a": self.a, "b": self.b})


def keys_of(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns a number for each pair of ranks below 2^31.

    Examples:
        >>> keys_of(np.array([1]), np.array([2]))
        array([4294967298])
    """
    return (a << 32) | b


def _least(values: NDArray[np.int32], starts: NDArray[np.intp]) -> NDArray[np.int32]:
    return np.asarray(np.minimum.reduceat(values, starts), dtype=np.int32)
