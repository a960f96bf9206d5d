"""Which pictures are trained on together: some by chance, some because the encoder confuses them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference.encoder import HASH_BITS

GROUP = 4
"""Pictures of a group: one by chance, and others that are near it."""

NEAREST = 12
"""How many of its nearest pictures the others of a group are chosen from."""


@dataclass(frozen=True)
class TrainingBatch:
    """Pictures to train on together.

    Attributes:
        chosen: int64 of shape (n,), which pictures.
        groups: int64 of shape (n,), from 0 up without gaps; pictures of a group are to be mirrored and turned alike, so
            that they stay near each other.
        repeats: Bool of shape (n, n): which of them are one picture, or copies of one.
    """

    chosen: Tensor
    groups: Tensor
    repeats: Tensor


@dataclass(frozen=True)
class Batches:
    """Draws batches.

    Two pictures of a large set are seldom as near as the pairs that an encoder gets wrong, of which there is one in a
    million. So part of a batch is groups of pictures that the encoder to start from finds near each other.

    Attributes:
        count: How many pictures there are.
        size: Pictures in a batch.
        near: Share of them that are in such groups, 0 to 1.
        draws: Random numbers.
        codes: float32 of shape (count, 256): the hashes of the encoder to start from as −1 and 1, by which the near
            pictures and copies are known. None where there is no such encoder: all are drawn by chance.
        same_within: Bits within which two hashes are those of copies.

    Source:
        Robinson et al., "Contrastive Learning with Hard Negative Samples", ICLR 2021, say why such pictures teach more.
    """

    count: int
    size: int
    near: float
    draws: torch.Generator
    codes: NDArray[np.float32] | None = None
    same_within: int = 0

    def draw(self) -> TrainingBatch:
        """The next batch."""
        if self.codes is None or self.count <= GROUP:
            chosen = self._any(self.size)
            return TrainingBatch(chosen, torch.arange(self.size), chosen[:, None] == chosen[None])
        grouped = int(self.size * self.near) // GROUP
        alone = self._any(self.size - grouped * GROUP)
        chosen = torch.cat([alone, self._groups(self._any(grouped), self.codes)])
        members = torch.arange(grouped).repeat_interleave(GROUP)
        codes = self.codes[chosen.numpy()]
        same = torch.from_numpy(_bits(codes, codes) <= self.same_within)
        return TrainingBatch(chosen, torch.cat([torch.arange(len(alone)), members + len(alone)]), same)

    def _any(self, count: int) -> Tensor:
        return torch.randint(self.count, (count,), generator=self.draws)

    def _groups(self, anchors: Tensor, codes: NDArray[np.float32]) -> Tensor:
        """Each anchor and some of the pictures nearest to it that are no copies of it, group after group."""
        bits = torch.from_numpy(_bits(codes[anchors.numpy()], codes))
        bits[bits <= self.same_within] = HASH_BITS
        nearest = bits.topk(min(NEAREST, self.count - 1), dim=1, largest=False).indices
        some = torch.rand(nearest.shape, generator=self.draws).topk(GROUP - 1, dim=1).indices
        return torch.cat([anchors[:, None], nearest.gather(1, some)], dim=1).flatten()


def _bits(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """In how many bits hashes differ, of shape (n, m)."""
    return np.asarray((HASH_BITS - some @ others.T) / 2, dtype=np.float32)
