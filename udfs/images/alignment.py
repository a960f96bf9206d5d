"""Measures how similar two images are after alignment, to distinguish copies from images with a similar layout.

A perceptual hash shows that two images have the same layout. Images of one kind (such as fireworks over a meadow) may
have the same layout without being copies. After alignment, a copy agrees with its original window by window, even if it
was cropped, framed or recoloured. A different image does not.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType, FloatType

from models.images import decoding, resizing
from models.images.resizing import View
from udfs.arrays.late import late

SIDE = 96
"""Side of the images that are compared, in pixels, whatever their aspect ratio."""

_SEARCHED, _COMPARED = 32, 48  # side in pixels: for the alignment, and for the comparison
_BEYOND = 0.25  # how far the frame may extend beyond the original, as for a copy with a border
_LEAST = 0.6  # share of each side, and of the frame, that both images must show
_SIZES = (0.0, 0.025, 0.05, 0.1, -0.025, -0.05, -0.1)
_SHIFT = 0.05
_TRIED = 2  # number of starts to improve
_FIRST_STEP, _LAST_STEP = 0.04, 0.004
_WINDOW = 8
_NOISE = 20.0  # variance of grey levels (0 to 255) due to compression
_MOVES = np.array([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 0), (0, 1, 0, 1)], np.float64)
_COLOURLESS = 6.0  # mean spread of the three colours below which an image is grey

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = NDArray[np.float64]  # left, top, right, bottom in pixels of the original; may extend beyond it


def thumbnail(image: bytes) -> Pixels:
    """Returns an image for the comparison: uint8 of shape (96, 96, 3).

    Raises:
        ImageFault: The image cannot be decoded.
    """
    return resizing.thumbnail(decoding.decode(image, SIDE), View((SIDE, SIDE)))


def likeness(original: Pixels, generated: Pixels) -> float:
    """Returns how similar two images are after alignment.

    The generated image is shifted and scaled over the original until their grey levels agree best. Then the contrast of
    each colour is equalised, and the structural similarity of windows of 8 × 8 pixels (of 48 × 48) is averaged. Windows
    with more contrast have more weight. If either image is grey, only grey levels are compared.

    Args:
        original: uint8 of shape (96, 96, 3).
        generated: uint8 of shape (96, 96, 3).

    Returns:
        1 for the same image, near 0 for unrelated images; it may be negative.

    Source:
        Wang et al., "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004, the
        contrast and structure terms of equation 12; weighted as in Wang and Li, "Information content weighting for
        perceptual image quality assessment", IEEE TIP 2011.

    Examples:
        >>> picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        >>> cropped = np.asarray(Image.fromarray(picture[5:91, 3:89]).resize((96, 96)))
        >>> likeness(picture, cropped) > 0.9, likeness(picture, np.ascontiguousarray(picture[::-1])) < 0.5
        (True, True)
    """
    padded = _Original(original)
    frame = Image.fromarray(generated)
    box = _best_box(padded, _pixels(frame.convert("L"), _SEARCHED))
    rows, columns = _overlap(box, _COMPARED)
    a, b = padded.crop(box, _COMPARED)[rows, columns], _pixels(frame, _COMPARED)[rows, columns]
    if min(np.ptp(a, axis=2).mean(), np.ptp(b, axis=2).mean()) < _COLOURLESS:
        a, b = a.mean(axis=2, keepdims=True), b.mean(axis=2, keepdims=True)
    return _structure(a, b)


@late
def thumbnails() -> Any:
    """Returns `thumbnail` of a column of encoded images, as bytes; null if an image cannot be decoded."""
    import pandas as pd

    @pandas_udf(BinaryType())
    def thumbnails(image: pd.Series) -> pd.Series:
        return image.map(_thumbnail_or_none)

    return thumbnails


@late
def likenesses() -> Any:
    """Returns `likeness` of two columns of `thumbnails`; null if either is null."""
    import pandas as pd

    @pandas_udf(FloatType())
    def likenesses(original: pd.Series, generated: pd.Series) -> pd.Series:
        pairs = zip(original, generated, strict=True)
        return pd.Series(
            [None if a is None or b is None else likeness(_shaped(a), _shaped(b)) for a, b in pairs], dtype=float
        )

    return likenesses


class _Original:
    """An original with a margin, from which any box can be cut."""

    def __init__(self, original: Pixels) -> None:
        room = int(_BEYOND * SIDE)
        padded = np.pad(original, ((room, room), (room, room), (0, 0)), mode="edge")
        self._room, self._side = room, SIDE + 2 * room
        self._colours = Image.fromarray(padded)
        self._grey = self._colours.convert("L")

    def crop(self, box: Box, side: int) -> Floats:
        """Returns the colours within a box, of shape (side, side, 3)."""
        return _pixels(self._colours, side, self._within(box))

    def agreement(self, box: Box, grey: Floats) -> float:
        """Returns the correlation of a box with grey levels; -1 if too little of it would be compared."""
        beyond = _BEYOND * SIDE
        if box.min() < -beyond or box.max() > SIDE + beyond or (box[2:] - box[:2]).min() < _LEAST * SIDE:
            return -1.0
        rows, columns = _overlap(box, _SEARCHED)
        if (rows.stop - rows.start) * (columns.stop - columns.start) < _LEAST * _SEARCHED**2:
            return -1.0
        a = _pixels(self._grey, _SEARCHED, self._within(box))[rows, columns]
        b = grey[rows, columns]
        a, b = a - a.mean(), b - b.mean()
        return float((a * b).sum() / np.sqrt(max(float((a * a).sum() * (b * b).sum()), 1e-3)))

    def _within(self, box: Box) -> tuple[float, float, float, float]:
        left, top, right, bottom = np.clip(box + self._room, 0, self._side)
        return float(left), float(top), float(right), float(bottom)


def _best_box(original: _Original, grey: Floats) -> Box:
    """Returns the box of the original that agrees best with grey levels: the best of a few improved starts."""
    starts = sorted(_starts(), key=lambda box: original.agreement(box, grey))[-_TRIED:]
    return max((_improve(original, grey, box) for box in starts), key=lambda result: result[0])[1]


def _improve(original: _Original, grey: Floats, box: Box) -> tuple[float, Box]:
    """Moves a box until no small move improves the agreement; returns the agreement and the box."""
    best = original.agreement(box, grey)
    step = _FIRST_STEP * SIDE
    while step >= _LAST_STEP * SIDE:
        moved = False
        for move in (sign * step * move for move in _MOVES for sign in (1, -1)):
            agreement = original.agreement(box + move, grey)
            if agreement > best + 1e-5:
                box, best, moved = box + move, agreement, True
        step = step if moved else step / 2
    return best, box


def _starts() -> Iterator[Box]:
    whole = np.array([0.0, 0.0, SIDE, SIDE])
    for cut in _SIZES:
        yield whole + np.array([cut, cut, -cut, -cut]) * SIDE
    for x in (-_SHIFT, _SHIFT):
        for y in (-_SHIFT, _SHIFT):
            yield whole + np.array([x, y, x, y]) * SIDE


def _overlap(box: Box, side: int) -> tuple[slice, slice]:
    """Returns the rows and columns, of `side` in a box, that are within the original."""
    middles = (np.arange(side) + 0.5) / side
    slices = []
    for low, high in ((box[1], box[3]), (box[0], box[2])):
        at = low + middles * (high - low)
        inside = np.flatnonzero((at >= 0) & (at <= SIDE))
        slices.append(slice(int(inside[0]), int(inside[-1]) + 1))
    return slices[0], slices[1]


def _pixels(image: Image.Image, side: int, box: tuple[float, float, float, float] | None = None) -> Floats:
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR, box), dtype=np.float32)


def _structure(a: Floats, b: Floats) -> float:
    """Returns the mean structural similarity of the windows of two images of shape (height, width, colours)."""
    gain = (a.std(axis=(0, 1)) + 1.0) / (b.std(axis=(0, 1)) + 1.0)
    x, y = _windows(a), _windows(b * gain)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    variance_x, variance_y, covariance = (x * x).mean(axis=1), (y * y).mean(axis=1), (x * y).mean(axis=1)
    similarity = (2.0 * covariance + _NOISE) / (variance_x + variance_y + _NOISE)
    return float(np.average(similarity, weights=np.sqrt(variance_x) + np.sqrt(variance_y) + 1e-3))


def _windows(image: Floats) -> Floats:
    """Returns windows of one colour each, of shape (n, 64); incomplete windows at the edge are dropped."""
    rows, columns = image.shape[0] // _WINDOW, image.shape[1] // _WINDOW
    whole = image[: rows * _WINDOW, : columns * _WINDOW]
    windows = whole.reshape(rows, _WINDOW, columns, _WINDOW, -1).transpose(0, 2, 4, 1, 3)
    return windows.reshape(-1, _WINDOW * _WINDOW)


def _thumbnail_or_none(image: bytes | None) -> bytes | None:
    try:
        return thumbnail(bytes(image or b"")).tobytes()
    except decoding.ImageFault:
        return None


def _shaped(pixels: bytes) -> Pixels:
    return np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3)
