"""Measures how strong the edges are in each part of an image, in less than a byte for thousands of its pixels.

Two copies of one image can be compared by it: a text, a watermark or a logo adds edges to a few parts, noise to smooth
ones, and sharpening makes all of them stronger. A thumbnail does not show small letters; the edges of letters are
among the strongest of an image, whatever its size.
"""

import numpy as np
from numpy.typing import NDArray

EDGE_SIDE = 16
"""Parts of an image along each side."""

_STEPS = 24  # for each doubling
_LINES = 64  # pairs of rows that suffice
_LEAST = 2 * EDGE_SIDE


def edge_map(grey: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Returns the strength of the edges in each part of an image.

    Args:
        grey: Luma, uint8 of shape (height, width).

    Returns:
        uint8 of shape (EDGE_SIDE, EDGE_SIDE): 24 · log2(1 + s), where s is the root of the mean square of the gradient
        in grey levels a pixel, at most 361. None if a side is shorter than 32 pixels.

    Examples:
        >>> page = np.full((64, 64), 200, np.uint8)
        >>> page[1, ::2] = 60
        >>> found = edge_map(page)
        >>> int(found[0].min()) > 100, int(found[1:].max())
        (True, 0)
    """
    if min(grey.shape) < _LEAST:
        return None
    pairs = grey.shape[0] // 2
    step = 2 * max(pairs // _LINES, 1)
    upper, lower = (grey[first : 2 * pairs : step].astype(np.float32) for first in (0, 1))
    across, down = upper[:, 1:] - upper[:, :-1], (lower - upper)[:, :-1]
    power = across * across
    power += down * down
    starts = [np.linspace(0, side, EDGE_SIDE + 1).astype(np.intp) for side in power.shape]
    total = np.add.reduceat(np.add.reduceat(power, starts[0][:-1], axis=0), starts[1][:-1], axis=1)
    mean = total / np.outer(*map(np.diff, starts))
    return np.asarray(np.rint(_STEPS * np.log2(1 + np.sqrt(mean))), np.uint8)


def strengths(maps: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns the gradients that maps stand for, in grey levels a pixel: float32 of the same shape."""
    return np.asarray(np.exp2(maps.astype(np.float32) / _STEPS) - 1, np.float32)
