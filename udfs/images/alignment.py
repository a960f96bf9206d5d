"""How alike two pictures are once one is laid over the other: what tells a copy from what only looks like it.

A perceptual hash says that two pictures have the same layout. Pictures of one kind (fireworks over a meadow, say) have
it without being copies. Laid over each other, a copy agrees with its original window by window, however it was cropped,
framed or recoloured; another picture does not.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType, FloatType

from models.images import decoding

SIDE = 96
"""Pixels a side of the pictures that are compared, squeezed whatever their aspect."""

_SEARCHED, _COMPARED = 32, 48  # pixels a side: to find how one lies over the other, and to compare them
_BEYOND = 0.25  # how far the frame may reach beyond the original, as a copy with a border does
_LEAST = 0.6  # of each side, and of the frame, that both must show
_SIZES = (0.0, 0.025, 0.05, 0.1, -0.025, -0.05, -0.1)
_SHIFT = 0.05
_TRIED = 2  # starts that are improved
_FIRST_STEP, _LAST_STEP = 0.04, 0.004
_WINDOW = 8
_NOISE = 20.0  # variance of grey levels (0 to 255) that encoding leaves
_MOVES = np.array([(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1), (1, 0, 1, 0), (0, 1, 0, 1)], np.float64)
_COLOURLESS = 6.0  # mean spread of the three colours below which a picture is grey

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Box = NDArray[np.float64]  # left, top, right, bottom in pixels of the original; beyond it where the frame is


def thumbnail(image: bytes) -> Pixels:
    """A picture as it is compared: uint8 of shape (96, 96, 3).

    Raises:
        ImageFault: It cannot be decoded.
    """
    return decoding.thumbnail(decoding.decode(image, SIDE), (SIDE, SIDE))


def likeness(original: Pixels, generated: Pixels) -> float:
    """How alike two pictures are once laid over each other.

    The frame of the one is moved and stretched over the other until their grey levels agree best. Then each colour is
    given the same contrast in both, and the structural similarity of windows of 8 × 8 pixels (of 48 × 48) is averaged,
    the lively ones counting more. Where either is grey, only grey levels are compared.

    Args:
        original: uint8 of shape (96, 96, 3).
        generated: Likewise.

    Returns:
        1 for the same picture, near 0 for pictures that have nothing in common; may be negative.

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
    laid = _Laid(original)
    frame = Image.fromarray(generated)
    box = _best(laid, _pixels(frame.convert("L"), _SEARCHED))
    rows, columns = _overlap(box, _COMPARED)
    a, b = laid.seen(box, _COMPARED)[rows, columns], _pixels(frame, _COMPARED)[rows, columns]
    if min(np.ptp(a, axis=2).mean(), np.ptp(b, axis=2).mean()) < _COLOURLESS:
        a, b = a.mean(axis=2, keepdims=True), b.mean(axis=2, keepdims=True)
    return _structure(a, b)


@pandas_udf(BinaryType())
def thumbnails(image: pd.Series) -> pd.Series:
    """`thumbnail` of a column of encoded images, as bytes; null where one cannot be decoded."""
    return image.map(_thumbnail_or_none)


@pandas_udf(FloatType())
def likenesses(original: pd.Series, generated: pd.Series) -> pd.Series:
    """`likeness` of two columns of `thumbnails`; null where either is."""
    pairs = zip(original, generated, strict=True)
    return pd.Series(
        [None if a is None or b is None else likeness(_shaped(a), _shaped(b)) for a, b in pairs], dtype=float
    )


class _Laid:
    """An original with room around it, of which any box can be seen."""

    def __init__(self, original: Pixels) -> None:
        room = int(_BEYOND * SIDE)
        padded = np.pad(original, ((room, room), (room, room), (0, 0)), mode="edge")
        self._room, self._side = room, SIDE + 2 * room
        self._colours = Image.fromarray(padded)
        self._grey = self._colours.convert("L")

    def seen(self, box: Box, side: int) -> Floats:
        """The colours within a box, of shape (side, side, 3)."""
        return _pixels(self._colours, side, self._within(box))

    def agreement(self, box: Box, grey: Floats) -> float:
        """Correlation with grey levels laid over a box; -1 where too little of it would be compared."""
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


def _best(laid: _Laid, grey: Floats) -> Box:
    """The box of the original over which grey levels agree best: the best of a few starts, improved step by step."""
    starts = sorted(_starts(), key=lambda box: laid.agreement(box, grey))[-_TRIED:]
    return max((_improved(laid, grey, box) for box in starts), key=lambda found: found[0])[1]


def _improved(laid: _Laid, grey: Floats, box: Box) -> tuple[float, Box]:
    """How well grey levels agree once no small move of the box helps, and that box."""
    agreed = laid.agreement(box, grey)
    step = _FIRST_STEP * SIDE
    while step >= _LAST_STEP * SIDE:
        moved = False
        for move in (sign * step * move for move in _MOVES for sign in (1, -1)):
            found = laid.agreement(box + move, grey)
            if found > agreed + 1e-5:
                box, agreed, moved = box + move, found, True
        step = step if moved else step / 2
    return agreed, box


def _starts() -> Iterator[Box]:
    whole = np.array([0.0, 0.0, SIDE, SIDE])
    for cut in _SIZES:
        yield whole + np.array([cut, cut, -cut, -cut]) * SIDE
    for x in (-_SHIFT, _SHIFT):
        for y in (-_SHIFT, _SHIFT):
            yield whole + np.array([x, y, x, y]) * SIDE


def _overlap(box: Box, side: int) -> tuple[slice, slice]:
    """Rows and columns, of `side` across a box, that lie within the original."""
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
    """Mean structural similarity of windows of two pictures of shape (height, width, colours)."""
    gain = (a.std(axis=(0, 1)) + 1.0) / (b.std(axis=(0, 1)) + 1.0)
    x, y = _windows(a), _windows(b * gain)
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    of_x, of_y, both = (x * x).mean(axis=1), (y * y).mean(axis=1), (x * y).mean(axis=1)
    similarity = (2.0 * both + _NOISE) / (of_x + of_y + _NOISE)
    return float(np.average(similarity, weights=np.sqrt(of_x) + np.sqrt(of_y) + 1e-3))


def _windows(picture: Floats) -> Floats:
    """Windows of one colour each, of shape (n, 64); what is left over at the edge is left out."""
    rows, columns = picture.shape[0] // _WINDOW, picture.shape[1] // _WINDOW
    whole = picture[: rows * _WINDOW, : columns * _WINDOW]
    parted = whole.reshape(rows, _WINDOW, columns, _WINDOW, -1).transpose(0, 2, 4, 1, 3)
    return parted.reshape(-1, _WINDOW * _WINDOW)


def _thumbnail_or_none(image: bytes | None) -> bytes | None:
    try:
        return thumbnail(bytes(image or b"")).tobytes()
    except decoding.ImageFault:
        return None


def _shaped(pixels: bytes) -> Pixels:
    return np.frombuffer(pixels, np.uint8).reshape(SIDE, SIDE, 3)
