"""Measures an encoder on pictures: which changed copies it finds where different pictures do not meet yet."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from models.inference.encoder import ASSUMED_DISTANCE, HASH_BITS, Encoder
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
_NEAREST_LEFT_OUT = 10  # Of each picture: as many unmarked copies of it as may be there.
_COMPARED_AT = 1e-3  # Share of pairs: what copies are left cannot fill it.
_BY_CHANCE = 2  # Bits: what sets without a layout show at most.
_NEAR, _FAR = 10, 100
_ROWS = 512


@dataclass(frozen=True)
class MeasuredEncoder:
    """What an encoder does on pictures that it was not trained on.

    Attributes:
        pictures: How many.
        free_distance: Bits of 256 within which at most one in a million pairs of different pictures lie.
        recall: Share of changed copies that lie within `free_distance` of their originals; 0 where there are
            too few pairs to know it.
        allowed_distance: Bits within which no more pairs of different pictures lie than may; 0 where there are too few
            pairs to know it.
        max_distance: Bits within which to call pictures copies.
        layout_bits: Bits by which pictures lie nearer to each other than to each other's mirror images: more than a few
            where many share a layout.
        copies: Distances of the copies from their originals, bits, of shape (pictures × `COPIES`,).
    """

    pictures: int
    free_distance: int
    recall: float
    allowed_distance: int
    max_distance: int
    layout_bits: int
    copies: NDArray[np.int64] = field(repr=False)

    def used_within(self, distance: int) -> int:
        """A distance, or `allowed_distance` if that is nearer: farther, copies are found at the cost of other pictures.

        Args:
            distance: Bits within which the encoder is to call pictures copies.
        """
        return min(distance, self.allowed_distance)

    def recall_within(self, distance: int) -> float:
        """Share of changed copies that lie within `used_within` of their originals; 0 where that is not known.

        Args:
            distance: As for `used_within`.
        """
        return float((self.copies <= self.used_within(distance)).mean()) if self.allowed_distance else 0.0


def measure(own: Encoder, thumbs: Thumbs, seed: int, others: Thumbs, collisions: float = COLLISIONS) -> MeasuredEncoder:
    """What an encoder finds of changed copies, at the distance where different pictures do not meet yet.

    Among a user's pictures there are copies that nobody marked, so two pictures may be one. A picture and the mirror
    image of another one are different even then, so those pairs are counted; pictures that look like their own mirror
    image are left out. They are as alike as two different pictures are, unless the pictures share a layout with a left
    and a right, such as pages of text: then they are counted as so much nearer as `layout_bits` says.

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
    found = np.concatenate([_copy_distances(own, augmenter, thumbs, originals[: len(thumbs)]) for _ in range(COPIES)])
    lopsided = distances(originals, mirrored) > _SAME_AS_ITS_MIRROR
    held_out = int(lopsided[: len(thumbs)].sum())
    nearer = layout_bits(originals[lopsided], mirrored[lopsided], held_out)
    different = _pairs(originals[lopsided], mirrored[lopsided], held_out) - nearer
    free, allowed = distance_at(different, COLLISIONS), distance_at(different, collisions)
    recall = float((found <= free).mean()) if len(different) >= _FAR else 0.0
    most = max(min(allowed, int(np.quantile(found, ENOUGH_COPIES))), LEAST_DISTANCE)
    return MeasuredEncoder(len(thumbs), free, recall, allowed, most, nearer, found)


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


def layout_bits(originals: Floats, mirrored: Floats, held_out: int) -> int:
    """Bits by which pictures lie nearer to each other than to each other's mirror images.

    Unmarked copies lie near as well, but in small groups, where a layout has many pictures near each other. So one is
    taken of those within `LEAST_DISTANCE`, each picture's ten nearest are left out, and what remains is compared at the
    distance within which a thousandth of it lies: with each other, and likewise with the mirror images.

    Args:
        originals: Hashes as −1 and 1, of shape (n, 256).
        mirrored: Those of the mirror images, likewise.
        held_out: How many of them, the first, are told from all others.

    Returns:
        Bits; 0 where they lie no nearer than by chance, or where there are too few pairs to say.
    """
    chosen = _one_of_each(originals)
    kept = int(chosen[:held_out].sum())
    if kept * (int(chosen.sum()) - 1 - _NEAREST_LEFT_OUT) < _FAR:
        # All look alike: that is no copying any more, so all are taken.
        chosen, kept = np.ones_like(chosen), held_out
    alike = _without_nearest(originals[chosen], originals[chosen], kept)
    opposite = _without_nearest(originals[chosen], mirrored[chosen], kept)
    if len(alike) < _FAR:
        return 0
    bits = int(np.quantile(opposite, _COMPARED_AT) - np.quantile(alike, _COMPARED_AT))
    return bits if bits > _BY_CHANCE else 0


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


def _pairs(originals: Floats, others: Floats, held_out: int) -> Floats:
    """Distances of the first few pictures from all others but themselves, of shape (held_out × (n − 1),)."""
    apart = (HASH_BITS - originals[:held_out] @ others.T) / 2
    return np.asarray(apart[~np.eye(held_out, len(others), dtype=np.bool_)])


def _without_nearest(originals: Floats, others: Floats, held_out: int) -> Floats:
    """The same without each picture's nearest."""
    apart = _pairs(originals, others, held_out).reshape(held_out, max(len(others) - 1, 0))
    return np.sort(apart, axis=1)[:, _NEAREST_LEFT_OUT:].ravel()


def _one_of_each(hashes: Floats) -> NDArray[np.bool_]:
    """Which pictures have no earlier one of these within `LEAST_DISTANCE`."""
    first = np.ones(len(hashes), np.bool_)
    for place in range(len(hashes)):
        if first[place]:
            first[place + 1 :] &= hashes[place + 1 :] @ hashes[place] < HASH_BITS - 2 * LEAST_DISTANCE
    return first


def _copy_distances(own: Encoder, augmenter: Augmenter, thumbs: Thumbs, originals: Floats) -> NDArray[np.int64]:
    parts = []
    for begin in range(0, len(thumbs), _ROWS):
        copies = _signs(own, augmenter.view(planar(thumbs[begin : begin + _ROWS])))
        parts.append(distances(originals[begin : begin + _ROWS], copies))
    return np.concatenate(parts)


def _signs(own: Encoder, pixels: Tensor) -> Floats:
    seen = reduced(pixels, own.size[0]).permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    return np.unpackbits(own.encode(seen)[1], axis=1).astype(np.float32) * 2 - 1
