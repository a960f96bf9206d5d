"""Measures an encoder on pictures: which changed copies it finds where different pictures do not meet yet."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from models.encoder import ASSUMED_DISTANCE, HASH_BITS, Encoder
from models.training.augment import Augmenter

Thumbs = NDArray[np.uint8]
Floats = NDArray[np.float32]

COLLISIONS = 1e-6
"""Share of the pairs of different pictures at which encoders are compared."""

LEAST_DISTANCE = ASSUMED_DISTANCE
"""Bits that are always called copies, as of an encoder that says nothing: pictures of almost nothing, which collide
nearer, should not set the distance of all others."""

ENOUGH_COPIES = 0.999
"""Share of the copies beyond which a larger distance finds little more."""

COPIES = 4
"""Changed copies made of each picture."""

_SAME_AS_ITS_MIRROR = 96
_NEAR, _FAR = 10, 100
_ROWS = 512


@dataclass(frozen=True)
class Measured:
    """What an encoder does on pictures that it was not trained on.

    Attributes:
        pictures: How many.
        free_distance: Bits of 256 within which at most one in a million pairs of different pictures lie.
        recall: Share of changed copies that lie within `free_distance` of their originals; 0 where there are
            too few pairs to know it.
        max_distance: Bits within which to call pictures copies.
        copies: Distances of the copies from their originals, bits, of shape (pictures × `COPIES`,).
    """

    pictures: int
    free_distance: int
    recall: float
    max_distance: int
    copies: NDArray[np.int64] = field(repr=False)


def measure(own: Encoder, thumbs: Thumbs, seed: int, others: Thumbs, collisions: float = COLLISIONS) -> Measured:
    """What an encoder finds of changed copies, at the distance where different pictures do not meet yet.

    Among a user's pictures there are copies that nobody marked, so two pictures may be one. A picture and the mirror
    image of another one are different even then, and are as alike as two different pictures are, so those pairs are
    counted; pictures that look like their own mirror image are left out.

    Args:
        own: The encoder.
        thumbs: uint8 of shape (n, s, s, 3), RGB, larger than the encoder's own size, so that crops have detail.
        seed: Of the changes.
        others: uint8 of shape (m, s, s, 3): what `thumbs` are told from as well, for few pictures make too few pairs.
        collisions: Share of the pairs of different pictures that may lie within `max_distance`, unless even the nearest
            `LEAST_DISTANCE` bits hold more.
    """
    augmenter = Augmenter(own.size[0], seed, torch.device("cpu"))
    everyone = np.concatenate([thumbs, others])
    originals, mirrored = signs(own, everyone), signs(own, np.ascontiguousarray(everyone[:, :, ::-1]))
    copies = [_copy_distances(own, augmenter, thumbs, originals[: len(thumbs)]) for _ in range(COPIES)]
    lopsided = distances(originals, mirrored) > _SAME_AS_ITS_MIRROR
    pairs = (HASH_BITS - originals[: len(thumbs)] @ mirrored.T) / 2
    counted = lopsided[: len(thumbs), None] & lopsided & ~np.eye(len(thumbs), len(everyone), dtype=np.bool_)
    different, found = pairs[counted], np.concatenate(copies)
    free = distance_at(different, COLLISIONS)
    nearest = min(distance_at(different, collisions), int(np.quantile(found, ENOUGH_COPIES)))
    recall = float((found <= free).mean()) if len(different) >= _FAR else 0.0
    return Measured(len(thumbs), free, recall, max(nearest, LEAST_DISTANCE), found)


def distance_at(different: NDArray[np.floating[Any]], share: float) -> int:
    """The largest distance within which no more than a share of the pairs of different pictures lie.

    With fewer than ten pairs in that share it is read from a line through the distances of the tenth and the hundredth
    nearest pair, over the logarithm of their rank: the nearest pair of a small sample is farther than those to come.
    It is never farther than for hashes of independent bits, which no encoder surpasses.

    Args:
        different: Distances of pairs, bits, of any shape.
        share: Between 0 and 1.

    Returns:
        Bits; 0 where there are too few pairs to say.

    Examples:
        >>> distance_at(np.arange(1, 100_001, dtype=np.float32), 0.001)
        100
        >>> spread = 60 + 10 * np.log10(np.arange(1, 1001, dtype=np.float32))
        >>> distance_at(spread, 0.01), distance_at(spread, 0.0001), distance_at(spread[:50], 0.01)
        (70, 49, 0)
        >>> distance_at(np.full(1000, 128.0), 1e-6)
        90
    """
    ordered = np.sort(different, axis=None)
    count = len(ordered)
    if count < _FAR:
        return 0
    if count * share >= _NEAR:
        found = float(ordered[int(count * share)])
    else:
        near, far = float(ordered[_NEAR - 1]), float(ordered[_FAR - 1])
        found = near - (far - near) * np.log10(_NEAR / (count * share)) / np.log10(_FAR / _NEAR)
    independent = binom.ppf(share, HASH_BITS, 0.5)
    return int(np.clip(np.ceil(found) - 1, 0, independent))


def signs(own: Encoder, thumbs: Thumbs) -> Floats:
    """The hashes of pictures as −1 and 1.

    Args:
        own: The encoder.
        thumbs: uint8 of shape (n, s, s, 3), RGB.

    Returns:
        float32 of shape (n, 256): a product of two of them is 256 less twice their Hamming distance.
    """
    parts = [_signs(own, planar(thumbs[begin : begin + _ROWS])) for begin in range(0, len(thumbs), _ROWS)]
    return np.concatenate(parts)


def distances(a: Floats, b: Floats) -> NDArray[np.int64]:
    """Bits in which hashes differ, row by row.

    Examples:
        >>> distances(np.array([[1, -1, 1]], np.float32), np.array([[-1, -1, 1]], np.float32))
        array([1])
    """
    return np.asarray((a != b).sum(axis=1), dtype=np.int64)


def planar(thumbs: Thumbs) -> Tensor:
    """Pictures as torch wants them: float32 of shape (n, 3, s, s), 0 to 255."""
    return torch.from_numpy(thumbs).permute(0, 3, 1, 2).contiguous().float()


def reduced(pixels: Tensor, side: int) -> Tensor:
    """Pictures as an encoder gets them: squeezed with antialiasing, in whole numbers."""
    smaller = functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return smaller.clamp(0, 255).round()


def _copy_distances(own: Encoder, augmenter: Augmenter, thumbs: Thumbs, originals: Floats) -> NDArray[np.int64]:
    parts = []
    for begin in range(0, len(thumbs), _ROWS):
        copies = _signs(own, augmenter.view(planar(thumbs[begin : begin + _ROWS])))
        parts.append(distances(originals[begin : begin + _ROWS], copies))
    return np.concatenate(parts)


def _signs(own: Encoder, pixels: Tensor) -> Floats:
    seen = reduced(pixels, own.size[0]).permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    return np.unpackbits(own.encode(seen)[1], axis=1).astype(np.float32) * 2 - 1
