"""Measures an encoder: which changed copies it finds at the distance where different images do not collide yet."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor
from torch.nn import functional

from models.inference.encoder import ASSUMED_DISTANCE, HASH_BITS, Encoder
from models.stats.strangers import FARTHEST, SampledPairs, upper_shares
from models.training.augment import Augmenter

Thumbs = NDArray[np.uint8]
Floats = NDArray[np.float32]

COLLISIONS = 1e-6
"""Share of colliding pairs of different images at which encoders are compared."""

LEAST_DISTANCE = ASSUMED_DISTANCE
"""Smallest `max_distance`, in bits. Images with almost no content collide at smaller distances; they must not set the
distance for all others."""

ENOUGH_COPIES = 0.999
"""Share of the copies at which a larger distance would find few more."""

COPIES = 4
"""Changed copies made of each image."""

_SAME_AS_ITS_MIRROR = 96
_NEAREST_LEFT_OUT = 10  # Nearest images to ignore for each image, since they may be unmarked copies.
_COMPARED_AT = 1e-3  # Share of pairs; large enough that the remaining copies do not matter.
_BY_CHANCE = 2  # Bits; sets without a common layout show at most this.
_NEAR, _FAR = 10, 100
_ROWS = 512
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class MeasuredEncoder:
    """The measurements of an encoder on images that it was not trained on.

    Attributes:
        pictures: Number of images.
        free_distance: Distance, in bits of 256, within which at most one in a million pairs of different images are.
        recall: Share of changed copies within `free_distance` of their originals; 0 if there are too few pairs to
            measure it.
        allowed_distance: Largest distance, in bits, with an allowed share of colliding pairs; 0 if there are too few
            pairs to measure it.
        max_distance: Largest distance of copies, in bits.
        layout_bits: How much nearer images are to each other than to each other's mirror images, in bits. It is large
            if many images share a layout.
        copies: Distances of the copies from their originals, in bits, of shape (pictures × `COPIES`,).
        strangers: Share of the pairs of different images within each distance up to `FARTHEST`, upper ends of 95 %
            intervals; None if there are too few near pairs to estimate it.
    """

    pictures: int
    free_distance: int
    recall: float
    allowed_distance: int
    max_distance: int
    layout_bits: int
    copies: NDArray[np.int64] = field(repr=False)
    strangers: NDArray[np.float64] | None = field(default=None, repr=False)

    def used_within(self, distance: int) -> int:
        """Returns the smaller of a distance and `allowed_distance`. A larger one would also match different images.

        Args:
            distance: Largest distance of copies, in bits.
        """
        return min(distance, self.allowed_distance)

    def recall_within(self, distance: int) -> float:
        """Returns the share of changed copies within `used_within` of their originals; 0 if it is not known.

        Args:
            distance: As for `used_within`.
        """
        return float((self.copies <= self.used_within(distance)).mean()) if self.allowed_distance else 0.0


def measure(own: Encoder, thumbs: Thumbs, seed: int, others: Thumbs, collisions: float = COLLISIONS) -> MeasuredEncoder:
    """Measures how many changed copies an encoder finds at the distance where different images do not collide yet.

    A user's images contain unmarked copies, so two images are not always different. An image and the mirror image of
    another one always are, so these pairs are measured. Images that look like their own mirror image are ignored. Such
    a pair is as far apart as two different images, unless the images share a layout with a left and a right, such as
    pages of text. `layout_bits` corrects for that.

    Args:
        own: The encoder.
        thumbs: uint8 of shape (n, s, s, 3), RGB, larger than the encoder's input, so that crops have detail.
        seed: Seed of the changes.
        others: uint8 of shape (m, s, s, 3): further images to compare `thumbs` with, since few images make too few
            pairs.
        collisions: Share of the pairs of different images that may be within `max_distance`. `LEAST_DISTANCE` applies
            even if more are within it.
    """
    augmenter = Augmenter(own.size[0], seed, torch.device("cpu"))
    every = np.concatenate([thumbs, others])
    originals, mirrored = signs(own, every), signs(own, np.ascontiguousarray(every[:, :, ::-1]))
    copies = np.concatenate([_copy_distances(own, augmenter, thumbs, originals[: len(thumbs)]) for _ in range(COPIES)])
    asymmetric = distances(originals, mirrored) > _SAME_AS_ITS_MIRROR
    held_out = int(asymmetric[: len(thumbs)].sum())
    nearer = layout_bits(originals[asymmetric], mirrored[asymmetric], held_out)
    different = _pairs(originals[asymmetric], mirrored[asymmetric], held_out) - nearer
    free, allowed = distance_at(different, COLLISIONS), distance_at(different, collisions)
    recall = float((copies <= free).mean()) if len(different) >= _FAR else 0.0
    most = max(min(allowed, int(np.quantile(copies, ENOUGH_COPIES))), LEAST_DISTANCE)
    share = _stranger_shares(different.reshape(held_out, -1), seed) if held_out else None
    return MeasuredEncoder(len(thumbs), free, recall, allowed, most, nearer, copies, share)


def distance_at(different: NDArray[np.floating[Any]], share: float) -> int:
    """Returns the largest distance within which at most a share of the pairs of different images are.

    If the share is less than ten pairs, it is extrapolated: a line through the distances of the tenth and the hundredth
    nearest pair, over the logarithm of the rank. The nearest pair of a small sample would be too far. The result never
    exceeds the distance for hashes of independent bits, which no encoder can surpass.

    Args:
        different: Distances of pairs, in bits, of any shape.
        share: Share of the pairs, between 0 and 1.

    Returns:
        Bits; 0 if there are too few pairs.

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
        limit = float(ordered[int(count * share)])
    else:
        near, far = float(ordered[_NEAR - 1]), float(ordered[_FAR - 1])
        limit = near - (far - near) * np.log10(_NEAR / (count * share)) / np.log10(_FAR / _NEAR)
    independent = binom.ppf(share, HASH_BITS, 0.5)
    return int(np.clip(np.ceil(limit) - 1, 0, independent))


def layout_bits(originals: Floats, mirrored: Floats, held_out: int) -> int:
    """Returns how much nearer images are to each other than to each other's mirror images, in bits.

    Unmarked copies are near each other too, but in small groups, whereas a common layout brings many images together.
    So one image of those within `LEAST_DISTANCE` is used, and the ten nearest of each image are ignored. For the other
    pairs, the distances within which a thousandth of them are, with the images and with the mirror images, are
    compared.

    Args:
        originals: Hashes as −1 and 1, of shape (n, 256).
        mirrored: Hashes of the mirror images, same shape.
        held_out: The first `held_out` images are compared with all others.

    Returns:
        Bits; 0 if the images are no nearer than by chance, or if there are too few pairs.
    """
    chosen = _one_of_each(originals)
    kept = int(chosen[:held_out].sum())
    if kept * (int(chosen.sum()) - 1 - _NEAREST_LEFT_OUT) < _FAR:
        # Nearly all images are similar. These are not copies, so all are used.
        chosen, kept = np.ones_like(chosen), held_out
    alike = _without_nearest(originals[chosen], originals[chosen], kept)
    opposite = _without_nearest(originals[chosen], mirrored[chosen], kept)
    if len(alike) < _FAR:
        return 0
    bits = int(np.quantile(opposite, _COMPARED_AT) - np.quantile(alike, _COMPARED_AT))
    return bits if bits > _BY_CHANCE else 0


def signs(own: Encoder, thumbs: Thumbs) -> Floats:
    """Returns the hashes of images as −1 and 1.

    Args:
        own: The encoder.
        thumbs: uint8 of shape (n, s, s, 3), RGB.

    Returns:
        float32 of shape (n, 256). The inner product of two of them is 256 minus twice their Hamming distance.
    """
    parts = [_signs(own, planar(thumbs[begin : begin + _ROWS])) for begin in range(0, len(thumbs), _ROWS)]
    return np.concatenate(parts)


def distances(a: Floats, b: Floats) -> NDArray[np.int64]:
    """Returns the Hamming distances, in bits, row by row.

    Examples:
        >>> distances(np.array([[1, -1, 1]], np.float32), np.array([[-1, -1, 1]], np.float32))
        array([1])
    """
    return np.asarray((a != b).sum(axis=1), dtype=np.int64)


def planar(thumbs: Thumbs) -> Tensor:
    """Converts images to torch's layout: float32 of shape (n, 3, s, s), 0 to 255."""
    return torch.from_numpy(thumbs).permute(0, 3, 1, 2).contiguous().float()


def reduced(pixels: Tensor, side: int) -> Tensor:
    """Resizes images to an encoder's input, with antialiasing, in whole numbers."""
    smaller = functional.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    return smaller.clamp(0, 255).round()


def _pairs(originals: Floats, others: Floats, held_out: int) -> Floats:
    """Returns the distances of the first `held_out` images to all others, of shape (held_out × (n − 1),)."""
    apart = (HASH_BITS - originals[:held_out] @ others.T) / 2
    return np.asarray(apart[~np.eye(held_out, len(others), dtype=np.bool_)])


def _without_nearest(originals: Floats, others: Floats, held_out: int) -> Floats:
    """Returns the same distances without the nearest ones of each image."""
    apart = _pairs(originals, others, held_out).reshape(held_out, max(len(others) - 1, 0))
    return np.sort(apart, axis=1)[:, _NEAREST_LEFT_OUT:].ravel()


def _one_of_each(hashes: Floats) -> NDArray[np.bool_]:
    """Returns which images to use so that no two of them are within `LEAST_DISTANCE`."""
    first = np.ones(len(hashes), np.bool_)
    for place in range(len(hashes)):
        if first[place]:
            first[place + 1 :] &= hashes[place + 1 :] @ hashes[place] < HASH_BITS - 2 * LEAST_DISTANCE
    return first


def _stranger_shares(different: Floats, seed: int) -> NDArray[np.float64] | None:
    """Returns the share of pairs within each distance from the distances of different images, of shape (n, m)."""
    if not different.size:
        return None
    size = FARTHEST + 1
    whole = np.clip(np.floor(different), 0, size).astype(np.intp) + np.arange(len(different))[:, None] * (size + 1)
    near = np.bincount(whole.ravel(), minlength=len(different) * (size + 1)).reshape(len(different), size + 1)[:, :size]
    # All pairs are known to be different, so one look for each distance is enough.
    looked, every = np.zeros(size, np.intp), np.ones(size, np.bool_)
    return upper_shares(SampledPairs(near, different.shape[1], looked, np.arange(size), every), seed, _CONFIDENCE)


def _copy_distances(own: Encoder, augmenter: Augmenter, thumbs: Thumbs, originals: Floats) -> NDArray[np.int64]:
    parts = []
    for begin in range(0, len(thumbs), _ROWS):
        copies = _signs(own, augmenter.view(planar(thumbs[begin : begin + _ROWS])))
        parts.append(distances(originals[begin : begin + _ROWS], copies))
    return np.concatenate(parts)


def _signs(own: Encoder, pixels: Tensor) -> Floats:
    thumbs = reduced(pixels, own.size[0]).permute(0, 2, 3, 1).to(torch.uint8).contiguous().numpy()
    return np.unpackbits(own.encode(thumbs)[1], axis=1).astype(np.float32) * 2 - 1
