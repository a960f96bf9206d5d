"""Draws training batches: some images at random, some because an encoder finds them similar."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.inference.encoder import HASH_BITS

GROUP = 4
"""Images in a group: a random one, and others near it."""

NEAREST = 12
"""The other images of a group are drawn from this many nearest ones."""


@dataclass(frozen=True)
class TrainingBatch:
    """The images of a batch.

    Attributes:
        chosen: int64 of shape (n,): indices of the images.
        groups: int64 of shape (n,), from 0 without gaps. Images of a group are mirrored and turned in the same way, so
            that they stay near each other.
        repeats: Bool of shape (n, n): which of them are the same image, or copies of each other.
    """

    chosen: Tensor
    groups: Tensor
    repeats: Tensor


@dataclass(frozen=True)
class Batches:
    """A source of batches.

    The pairs that an encoder gets wrong are about one in a million, so random images seldom make such a pair.
    Therefore part of a batch consists of groups of images that the start encoder finds near each other.

    Attributes:
        count: Number of images.
        size: Images in a batch.
        near: Share of a batch in such groups, 0 to 1.
        draws: Random numbers.
        codes: float32 of shape (count, 256): the hashes of the start encoder as −1 and 1, which define near images and
            copies. None without such an encoder; then all images are drawn at random.
        same_within: Largest distance of copies, in bits.

    Source:
        Robinson et al., "Contrastive Learning with Hard Negative Samples", ICLR 2021, on why such images teach more.
    """

    count: int
    size: int
    near: float
    draws: torch.Generator
    codes: NDArray[np.float32] | None = None
    same_within: int = 0

    def draw(self) -> TrainingBatch:
        """Draws the next batch."""
        if self.codes is None or self.count <= GROUP:
            chosen = self._random(self.size)
            return TrainingBatch(chosen, torch.arange(self.size), chosen[:, None] == chosen[None])
        grouped = int(self.size * self.near) // GROUP
        single = self._random(self.size - grouped * GROUP)
        chosen = torch.cat([single, self._groups(self._random(grouped), self.codes)])
        members = torch.arange(grouped).repeat_interleave(GROUP)
        codes = self.codes[chosen.numpy()]
        same = torch.from_numpy(_bits(codes, codes) <= self.same_within)
        return TrainingBatch(chosen, torch.cat([torch.arange(len(single)), members + len(single)]), same)

    def _random(self, count: int) -> Tensor:
        return torch.randint(self.count, (count,), generator=self.draws)

    def _groups(self, anchors: Tensor, codes: NDArray[np.float32]) -> Tensor:
        """Returns each anchor with some of its nearest images that are not copies of it, group after group."""
        bits = torch.from_numpy(_bits(codes[anchors.numpy()], codes))
        bits[bits <= self.same_within] = HASH_BITS
        nearest = bits.topk(min(NEAREST, self.count - 1), dim=1, largest=False).indices
        some = torch.rand(nearest.shape, generator=self.draws).topk(GROUP - 1, dim=1).indices
        return torch.cat([anchors[:, None], nearest.gather(1, some)], dim=1).flatten()


def _bits(some: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns the Hamming distances, in bits, of shape (n, m)."""
    return np.asarray((HASH_BITS - some @ others.T) / 2, dtype=np.float32)
