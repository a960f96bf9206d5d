"""Tells which of two copies of an image has edges that the other one lacks, by their edge maps.

Blurring or compressing weakens all edges of an image, and a change of contrast scales them. A text, a watermark or a
logo adds edges in a few parts. Both are measured: how much stronger the strongest additions of one copy are than those
of the other one, with the edges of both as they are, and after those of one are scaled to those of the other.
"""

import numpy as np
from numpy.typing import NDArray

from models.images.edges import strengths

MORE, MUCH_MORE = 0.5, 3.0
"""How much larger the additions of one of two copies must be, as the natural logarithm of a ratio of powers. The first
holds where nothing else differs; the second one where one copy is smaller, softer, grey or more compressed, which
weakens its edges. Fitted on 160 photographs of flowers and garments with 25 kinds of changes;
`tests/bench/keepers.py` measures it on others."""

_STRONGEST = 8  # parts of an image that count: an overlay covers a small part
_FAINT = 1.0  # grey levels a pixel that count as nothing
_LEAST = 4.0  # power of additions that count as nothing

Maps = NDArray[np.uint8]
Floats = NDArray[np.float32]


def richer(a: Maps, b: Maps, differ: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Returns which of two copies has edges that the other one lacks.

    Args:
        a: Edge maps, uint8 of shape (n, side, side), as `models.images.edges` makes them.
        b: The maps of their copies, same shape.
        differ: Whether the copies differ in size, sharpness, colour or compression, bool of shape (n,).

    Returns:
        int8 of shape (n,): 1 if the first one has them, -1 if the second one has them, 0 if neither or both.

    Examples:
        >>> plain = np.full((1, 16, 16), 60, np.uint8)
        >>> signed = plain.copy()
        >>> signed[:, 13, 2:12] = 130
        >>> richer(np.concatenate([plain, signed]), np.concatenate([signed, plain]), np.array([True, False])).tolist()
        [-1, 1]
    """
    count, height, width = a.shape
    left, right = (np.hypot(strengths(maps).reshape(count, height * width), np.float32(_FAINT)) for maps in (a, b))
    gain = _gain(left, right)[:, None]
    scaled = _advantage(left - gain * right, gain * right - left)
    # Of copies with weaker edges, only those edges count that are stronger all the same.
    plain = _advantage(left - np.maximum(gain, 1) * right, right - np.maximum(1 / gain, 1) * left)
    alike = np.sign(plain) * (np.abs(plain) > MORE)
    unlike = np.sign(plain) * ((np.minimum(np.abs(plain), np.abs(scaled)) > MUCH_MORE) & (plain * scaled > 0))
    return np.where(differ, unlike, alike).astype(np.int8)


def _gain(left: Floats, right: Floats) -> Floats:
    """Returns the usual ratio of strengths: their median, in which parts with strong edges in both count more."""
    ratio = left / right
    order = np.argsort(ratio, axis=1)
    weight = np.cumsum(np.take_along_axis(np.minimum(left, right), order, axis=1), axis=1)
    middle = (weight >= weight[:, -1:] / 2).argmax(axis=1)[:, None]
    return np.asarray(np.take_along_axis(ratio, np.take_along_axis(order, middle, axis=1), axis=1)[:, 0])


def _advantage(first: Floats, second: Floats) -> Floats:
    """Returns the logarithm of the ratio of the powers of the strongest additions; each array is (n, parts)."""
    powers = [np.sort(one.clip(0), axis=1)[:, -_STRONGEST:] ** 2 for one in (first, second)]
    return np.asarray(np.log((powers[0].mean(axis=1) + _LEAST) / (powers[1].mean(axis=1) + _LEAST)), np.float32)
