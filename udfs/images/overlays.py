"""Tells which of two copies of an image has something laid over it, such as a text, a watermark, a logo or noise.

Where two copies lie over each other, their edge maps tell: see `udfs.images.edge_gain`. If those leave it open, or an
image was scored before there were edge maps, the thumbnails are compared. Where two of them differ, the one with an
overlay has more structure: letters and edges. Windows in which both show the same structure do not count, whatever
their sharpness, nor do those in which one is clipped to black or white.
"""

from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import IntegerType

from udfs.arrays.late import late
from udfs.images.agreement import AGREE, Windows, structural_agreement
from udfs.images.appearance import Appearances, split
from udfs.images.edge_gain import richer
from udfs.images.registration import Images, Placement, registered

MORE = 0.4
"""How much more structure one of two copies must have where they differ, as the natural logarithm of a ratio. Fitted on
200 photographs with twelve kinds of changes; `tests/bench/keepers.py` measures it on others."""

_BLOCK = 64
_NOISE = 4.0  # variance of grey levels (0 to 255) due to compression
_PLACES = 60  # pixels that count: an overlay covers a small part of an image
_CLIPPED = (6, 248)  # grey levels
_AROUND = (1, 3, 3)


def overlays(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Returns which of two copies has an overlay that the other lacks.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: Thumbnails of their copies, same shape.

    Returns:
        int8 of shape (n,): 1 if the first has one, -1 if the second has one, 0 if neither or both.

    Examples:
        >>> ground = np.tile(np.linspace(90, 160, 64), (64, 1))
        >>> plain = (ground + 9 * np.sin(np.arange(64) / 2)[:, None]).astype(np.uint8)
        >>> signed = plain.copy()
        >>> signed[40:48, 10:50] = np.where(np.arange(40) % 5 < 2, 200, 60)
        >>> overlays(np.stack([plain, signed, plain]), np.stack([signed, plain, plain // 2 + 40])).tolist()
        [-1, 1, 0]
    """
    found = np.empty(len(a), np.int8)
    for begin in range(0, len(a), _BLOCK):
        left, right = (side[begin : begin + _BLOCK].astype(np.float32) for side in (a, b))
        more = _more_structure(left, right)
        found[begin : begin + _BLOCK] = (more > MORE).astype(np.int8) - (more < -MORE)
    return found


def _more_structure(a: Images, b: Images) -> Images:
    """Returns the logarithm of the ratio of what only the first images have to what only the second ones have."""
    still = Placement.identity(len(a))
    more = _more_as_placed(a, b, still)
    # Most copies need no registration, which costs most of the time.
    rest = np.flatnonzero(structural_agreement(a, b, still) < AGREE)
    if len(rest):
        a, b = a[rest], b[rest]
        # Moving a thumbnail blurs it, so each is moved over the other in turn.
        more[rest] = (_more_as_placed(a, b, registered(a, b)) - _more_as_placed(b, a, registered(b, a))) / 2
    return more


def _more_as_placed(a: Images, b: Images, placement: Placement) -> Images:
    found = Windows.of(a, b, placement)
    # The contrast is compared where both show the same: an overlay does not change most of an image.
    ratio = np.sqrt((found.left + 1) / (found.right + 1))
    gains = [np.median(one[own > 0]) if own.any() else 1.0 for one, own in zip(ratio, found.counted, strict=True)]
    found = found.with_contrast(np.array(gains, np.float32))
    alike = found.shared / np.sqrt((found.left + _NOISE) * (found.right + _NOISE))
    counted = found.counted * (1 - alike.clip(0, 1) ** 2) * _is_exposed(a) * _is_exposed(placement.warped(b))
    excess = (np.sqrt(found.left) - np.sqrt(found.right)) * counted
    return np.log((_largest(excess) + _NOISE) / (_largest(-excess) + _NOISE))


def _is_exposed(images: Images) -> Images:
    dark, light = (rank(images, _AROUND) for rank in (scipy.ndimage.minimum_filter, scipy.ndimage.maximum_filter))
    return np.asarray((dark > _CLIPPED[0]) & (light < _CLIPPED[1]), np.float32)


def _largest(excess: Images) -> Images:
    """Returns the mean square of the largest values of each image."""
    squares = (excess.clip(0) ** 2).reshape(len(excess), -1)
    return np.asarray(np.partition(squares, -_PLACES, axis=1)[:, -_PLACES:].mean(axis=1), np.float32)


def _of_appearances(a: Appearances, b: Appearances, differ: NDArray[np.bool_]) -> NDArray[np.int8]:
    by_edges = a.has_edges & b.has_edges
    by_edges[by_edges] = _lie_over_each_other(a.thumbnails[by_edges], b.thumbnails[by_edges])
    found = np.zeros(len(by_edges), np.int8)
    found[by_edges] = richer(a.edges[by_edges], b.edges[by_edges], differ[by_edges])
    rest = found == 0
    found[rest] = overlays(a.thumbnails[rest], b.thumbnails[rest])
    return found


def _lie_over_each_other(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found = np.zeros(len(a), np.bool_)
    for begin in range(0, len(a), _BLOCK):
        left, right = (side[begin : begin + _BLOCK].astype(np.float32) for side in (a, b))
        found[begin : begin + _BLOCK] = structural_agreement(left, right, Placement.identity(len(left))) >= AGREE
    return found


@late
def overlay_of() -> Any:
    """Returns `overlays` for two columns of appearances: see `udfs.images.appearance`; 0 if one of them is null.

    A third column says whether the two images differ in size, sharpness, colour or compression.
    """
    import pandas as pd

    @pandas_udf(IntegerType())
    def overlay_of(a: pd.Series, b: pd.Series, differ: pd.Series) -> pd.Series:
        both = a.notna() & b.notna()
        result = pd.Series(0, index=a.index, dtype=np.int32)
        if both.any():
            result[both] = _of_appearances(split(a[both]), split(b[both]), differ[both].to_numpy(np.bool_))
        return result

    return overlay_of
