"""Measures how good a copy of an image is: its detail without borders, its noise and its JPEG quality.

Copies of an image show the same things, so these values compare them. They say little about two different images.

An image that was enlarged or blurred has no detail above a frequency. There, its spectrum falls faster than that of any
photograph: by about 1 / frequency² in power (Field, "Relations between the statistics of natural images and the
response properties of cortical cells", JOSA A 1987). Noise and sharpening raise the highest frequencies everywhere, in
smooth parts of an image too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

QUALITY_SIDE = 512
"""Width and height in pixels that suffice for the measurement. A larger JPEG is decoded at a fraction of its size, so
an enlarged one is recognised only if its detail ends below this fraction."""

_LINES = 16  # pixels of a line that are averaged, so that noise and compression do not count
_FLAT, _LEVEL, _EDGE = 5.0, 8.0, 12.0  # grey levels, 0 to 255
_MOST_BORDER = 0.4  # share of a side
_BEHIND = 3  # lines on both sides of the inner edge of a border
_PLAIN = 0.2  # least share of a line of a border that has its colour
_FIRST = 16  # lines that show in most images that there is no border
_TILE, _TILES = 32, 6
_ORDERS = _TILE // 2 + 1
_CLIPPED = (3, 252)  # grey levels at which a sensor or an editor clips
_CLIFF = 7.5  # dB
_CUTS = np.arange(2.5, 14.01, 0.5)  # in periods of a tile
_TOP = 12  # lowest of the highest frequencies, in periods of a tile
_SQUARE = 8  # pixels of a thumbnail along a side
_SMOOTH = 0.2  # share of the tiles that count as smooth
_STANDARD = 57.625  # mean of the luminance table of the JPEG standard (ITU-T T.81, table K.1)

Grey = NDArray[np.uint8]
Floats = NDArray[np.float32]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """How good a copy of an image is.

    Attributes:
        unframed: Share of the pixels that are not in a border, above 0 and at most 1.
        sharpness: Share of the resolution, along each axis, up to which the image has detail: above 0 and at most 1.
        noise: Power of the highest frequencies in smooth parts, in dB above a hundredth of a squared grey level.
    """

    unframed: float
    sharpness: float
    noise: float


def quality(grey: Grey, whole: tuple[int, int] | None = None) -> Quality:
    """Returns the measurements for an image.

    Args:
        grey: Luma, uint8 of shape (height, width), at full size or, if large, reduced to `QUALITY_SIDE` or more.
        whole: Width and height of the image in pixels, in either order, if `grey` is reduced.

    Examples:
        >>> dots = np.random.default_rng(0).integers(60, 200, (128, 128), dtype=np.uint8)
        >>> framed = np.zeros((160, 160), np.uint8)
        >>> framed[16:144, 16:144] = dots
        >>> enlarged = dots.repeat(2, 0).repeat(2, 1).astype(np.float32)
        >>> enlarged = (enlarged[:-1, :-1] + enlarged[1:, :-1] + enlarged[:-1, 1:] + enlarged[1:, 1:]) / 4
        >>> quality(framed).unframed, quality(dots).sharpness, quality(enlarged.astype(np.uint8)).sharpness < 0.7
        (0.64, 1.0, True)
    """
    left, top, right, bottom = content_box(grey)
    inside = grey[top:bottom, left:right]
    spectra = _spectra(inside)
    share = inside.size / grey.size
    if spectra is None:
        return Quality(share, 1.0, 0.0)
    sharpness = _sharpness(spectra.mean(axis=0))
    if whole is not None and sharpness < 1:
        sharpness *= max(grey.shape) / max(whole)
    return Quality(share, sharpness, _noise(spectra))


def content_box(grey: Grey) -> tuple[int, int, int, int]:
    """Returns the box without borders of one colour, such as frames and letterboxes, also if text stands in them.

    A background of one colour is not a border: a border ends at once along its whole length.

    Args:
        grey: Luma, uint8 of shape (height, width).

    Returns:
        left, top, right, bottom, in pixels.
    """
    height, width = grey.shape
    top, bottom = _border(grey), _border(grey[::-1])
    inside = grey[top : height - bottom].T
    return _border(inside), top, width - _border(inside[::-1]), height - bottom


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """Returns the quality, 1 to 100, at which the IJG's encoder would use such quantization tables.

    Args:
        tables: The tables by number, as Pillow's `quantization`. Only that of luminance counts.

    Source:
        `jpeg_quality_scaling` of libjpeg.

    Examples:
        >>> jpeg_quality({0: [29] * 64}), jpeg_quality({0: [1] * 64})
        (75, 99)
    """
    scale = 100 * float(np.mean(tables[min(tables)])) / _STANDARD
    found = 100 - scale / 2 if scale <= 100 else 5000 / scale
    return int(np.clip(round(found), 1, 100))


def colourfulness(thumbnails: NDArray[np.uint8]) -> Floats:
    """Returns the mean difference between the largest and the smallest of the three colours, 0 for a grey image.

    Colours are means of squares of 8 × 8 pixels, so noise does not make a grey image colourful.

    Args:
        thumbnails: RGB, uint8 of shape (n, height, width, 3), height and width divisible by 8.

    Returns:
        float32 of shape (n,): 0 to 255.

    Examples:
        >>> pixels = np.full((1, 8, 16, 3), 200, np.uint8)
        >>> pixels[:, :, 8:] = 90, 50, 60
        >>> colourfulness(pixels).tolist()
        [20.0]
    """
    count, height, width, _ = thumbnails.shape
    squares = thumbnails.reshape(count, height // _SQUARE, _SQUARE, width // _SQUARE, _SQUARE, 3)
    # Whole numbers, so the means are exact.
    means = np.einsum("nhiwjc->nhwc", squares, dtype=np.uint16) / np.float32(_SQUARE**2)
    # Twelve times as fast as the largest and smallest along an axis of three.
    red, green, blue = (means[..., band] for band in range(3))
    spread = np.maximum(np.maximum(red, green), blue) - np.minimum(np.minimum(red, green), blue)
    return np.asarray(spread.mean(axis=(1, 2)), np.float32)


def _border(lines: Grey) -> int:
    """Returns how many of the first lines are a border."""
    most = int(len(lines) * _MOST_BORDER)
    few = _averaged(lines[: 2 * _BEHIND])
    level = _median(few[:_BEHIND])
    if most <= _BEHIND or (np.abs(few - level) > _EDGE).mean() > 0.5:
        return 0
    # Most images have no border, and their first lines show that.
    for count in (min(_FIRST, most), most):
        away = np.abs(_averaged(lines[: count + 2 * _BEHIND]) - level)
        near, far = _share(away <= _LEVEL), _share(away > _EDGE)
        # The rest of a line may be text.
        other = _first_other(lines, np.flatnonzero(near[: count + _BEHIND] < _PLAIN), level)
        if other is not None:
            return _edge(near, far, min(other, most))
    return _edge(near, far, most)


def _first_other(lines: Grey, places: NDArray[np.intp], level: float) -> int | None:
    """Returns the first of some lines that hardly has the colour of a border, also between letters.

    A line full of letters has no stretch of one colour.
    """
    for begin in range(0, len(places), _BEHIND):
        some = places[begin : begin + _BEHIND]
        is_other = _share(np.abs(lines[some] - np.float32(level)) <= _LEVEL) < _PLAIN
        if is_other.any():
            return int(some[np.argmax(is_other)])
    return None


def _edge(near: Shares, far: Shares, most: int) -> int:
    """Returns the number of lines, at most `most`, after which a border ends at once along its whole length.

    Args:
        near: Share of each line that has the colour of the border.
        far: Share of each line that clearly has another colour.
        most: Largest number of lines; both have `_BEHIND` more, and one for the edge itself.
    """
    if not most:
        return 0
    is_near = np.append([True] * (_BEHIND - 1), near[:most] >= 0.95)
    inside = np.lib.stride_tricks.sliding_window_view(is_near, _BEHIND).all(axis=1)
    beyond = np.lib.stride_tricks.sliding_window_view(far[2 : most + 1 + _BEHIND], _BEHIND).mean(axis=1) >= 0.5
    ends = np.flatnonzero(inside & beyond)
    return int(ends[-1]) + 1 if len(ends) else 0


def _median(values: Floats) -> float:
    """Returns `np.median`, for few values in a tenth of its time."""
    ordered = np.sort(values, axis=None)
    return float((ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2)


def _share(is_so: NDArray[np.bool_]) -> Shares:
    """Returns the share of each line for which something is so."""
    return np.count_nonzero(is_so, axis=1) / is_so.shape[1]


def _averaged(lines: Grey) -> Floats:
    """Returns the means of short stretches of lines, float32 of shape (lines, stretches)."""
    count, length = lines.shape
    size = min(_LINES, length)
    stretches = lines[:, : length // size * size].reshape(count, -1, size)
    # Whole numbers, so the means are those of np.mean, in half of its time.
    return np.asarray(np.einsum("ijk->ij", stretches, dtype=np.uint16) / np.float32(size), np.float32)


def _spectra(grey: Grey) -> Floats | None:
    """Returns the power of tiles by frequency, in periods of a tile: (tiles, 17). None if the image is too small."""
    height, width = grey.shape
    if min(height, width) < _TILE:
        return None
    starts = [np.linspace(0, side - _TILE, min(_TILES, side // _TILE)).astype(np.intp) for side in (height, width)]
    tiles = np.lib.stride_tricks.sliding_window_view(grey, (_TILE, _TILE))[np.ix_(*starts)]
    tiles = tiles.reshape(-1, _TILE, _TILE)
    clipped = ((tiles < _CLIPPED[0]) | (tiles > _CLIPPED[1])).mean(axis=(1, 2)) >= 0.5
    if not clipped.all():
        tiles = tiles[~clipped]
    levels = tiles.astype(np.float32)
    levels = (levels - levels.mean(axis=(1, 2), keepdims=True)) * _WINDOW
    power = np.abs(scipy.fft.rfft2(levels)) ** 2
    return np.asarray(power.reshape(len(levels), -1) @ _RINGS, np.float32)


def _sharpness(power: Floats) -> float:
    """Returns the share of the frequencies up to which there is detail, from the power by frequency."""
    white = _decibels(power) + 20 * np.log10(np.maximum(np.arange(_ORDERS), 1))
    fall = _BELOW @ white - _ABOVE @ white
    places = np.flatnonzero(fall > _CLIFF)
    return float(_CUTS[places[0]] * 2 / _TILE) if len(places) else 1.0


def _noise(spectra: Floats) -> float:
    return float(_decibels(np.quantile(spectra, _SMOOTH, axis=0)[_TOP:]).mean())


def _decibels(power: Floats) -> Floats:
    return np.asarray(10 * np.log10(power + 0.01), np.float32)


def _window() -> Floats:
    one = np.hanning(_TILE + 1)[:-1].astype(np.float32)
    both = np.outer(one, one)
    return np.asarray(both / np.sqrt((both**2).sum()), np.float32)


def _rings() -> Floats:
    """Returns the matrix that averages the power of frequencies in all directions: (32 · 17, 17)."""
    along, down = np.fft.rfftfreq(_TILE), np.fft.fftfreq(_TILE)[:, None]
    order = np.rint(np.hypot(along, down) * _TILE).astype(np.intp).ravel()
    matrix = (order[:, None] == np.arange(_ORDERS)).astype(np.float32)
    return np.asarray(matrix / matrix.sum(axis=0), np.float32)


def _means(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns the matrix that averages over ranges of frequencies: (ranges, 17)."""
    order = np.arange(_ORDERS)
    weights = np.clip(np.minimum(order + 0.5, high[:, None]) - np.maximum(order - 0.5, low[:, None]), 0, 1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


_WINDOW, _RINGS = _window(), _rings()
_BELOW = _means(np.maximum(0.45 * _CUTS, 1.0), 0.9 * _CUTS)
_ABOVE = _means(1.1 * _CUTS, np.minimum(1.7 * _CUTS, _ORDERS - 0.5))
