"""A second look at two pictures: small grey thumbnails laid over each other, and the largest local difference left.

Two copies differ by a crop, a border, a shift or another aspect, by brightness and contrast, and by sharpness: all of
that is estimated and taken out. What a window of pixels still holds then is a difference in what is pictured, such as
the hand of a clock that has moved.

Sources: Lucas and Kanade, "An iterative image registration technique" (IJCAI 1981), for the four parameters of place
and scale; the correlation of local windows is the structure term of SSIM (Wang et al., IEEE TIP 2004).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BooleanType
from scipy import ndimage

from models.images.decoding import GREY_SIDE

Images = NDArray[np.float32]

ALIKE = 0.34
"""The largest local difference of two copies: at it 95 % of the sibling pairs of 10,000 generated pictures (clocks at
other times, signs with another digit) are told apart; docs/deduplication.md says what that costs in copies."""

_LEVELS = ((2, 2.0, 8), (2, 1.0, 6), (1, 0.8, 3))
"""By how much thumbnails are reduced, blur in pixels, and steps of the registration at it."""
# Blurs that a frame reaches into the picture by, and does not count within.
_RIM = 1.5
_MOST_SCALE, _MOST_SHIFT = 1.33, 0.17
_BLURS = ((0.0, 0.0), (0.6, 0.0), (1.1, 0.0), (0.0, 0.6), (0.0, 1.1))
# Pixels at each corner that do not count: where corners are rounded they are transparent, and a copy fills them anew.
_CORNER = 8
_WINDOW = 5
_BLOCK = 64
_JITTER = (-0.5, 0.0, 0.5)
_TINY = 1e-6
# Grey levels: of a picture fainter than this nothing but the traces of its coding would be compared.
_FAINT = 4.0


@dataclass(frozen=True)
class Placing:
    """Where each pixel of one thumbnail lies in another: x' = scale · x + shift, from the centre, likewise y.

    Attributes:
        numbers: float32 of shape (n, 4): scale and shift in x, scale and shift in y; shifts in pixels.
    """

    numbers: Images

    @classmethod
    def identity(cls, count: int) -> "Placing":
        """Nothing moved."""
        return cls(np.tile(np.array([1, 0, 1, 0], np.float32), (count, 1)))

    def moved(self, step: NDArray[np.floating], side: int) -> "Placing":
        """One step further, within what a copy may be cropped, framed or shifted by."""
        numbers = (self.numbers + step).astype(np.float32)
        numbers[:, ::2] = numbers[:, ::2].clip(1 / _MOST_SCALE, _MOST_SCALE)
        numbers[:, 1::2] = numbers[:, 1::2].clip(-_MOST_SHIFT * side, _MOST_SHIFT * side)
        return Placing(numbers)

    def scaled(self, factor: float) -> "Placing":
        """The same in thumbnails of another size."""
        return Placing(self.numbers * np.array([1, factor, 1, factor], np.float32))

    def taken(self, pictures: Images) -> Images:
        """The other thumbnails as they look from here, bilinearly, float32 of shape (n, side, side)."""
        side, row = pictures.shape[1], np.arange(len(pictures))[:, None]
        (x, along), (y, down) = (self._between(axis, side) for axis in (0, 2))
        lines = pictures[row, y] * (1 - down)[..., None] + pictures[row, y + 1] * down[..., None]
        columns = lines.transpose(0, 2, 1)
        across = columns[row, x] * (1 - along)[..., None] + columns[row, x + 1] * along[..., None]
        return np.ascontiguousarray(across.transpose(0, 2, 1))

    def covered(self, side: int, rim: float = 0.0) -> NDArray[np.bool_]:
        """Which pixels lie inside both thumbnails, a rim of so many pixels left out: bool of shape (n, side, side)."""
        own = np.abs(_grid(side)) <= (side - 1) / 2 - rim
        inside = [own & (np.abs(self._places(axis, side) - (side - 1) / 2) <= side / 2 - 0.25 - rim) for axis in (2, 0)]
        return inside[0][:, :, None] & inside[1][:, None, :]

    def _places(self, axis: int, side: int) -> Images:
        return self.numbers[:, axis : axis + 1] * _grid(side) + self.numbers[:, axis + 1 : axis + 2] + (side - 1) / 2

    def _between(self, axis: int, side: int) -> tuple[NDArray[np.intp], Images]:
        places = self._places(axis, side)
        first = np.clip(np.floor(places), 0, side - 2).astype(np.intp)
        return first, np.clip(places - first, 0, 1).astype(np.float32)


def alike(a: NDArray[np.uint8], b: NDArray[np.uint8], most: float = ALIKE) -> NDArray[np.bool_]:
    """Whether two thumbnails show the same picture, up to how a copy is placed, lit and sharpened.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: Those they are compared with, likewise.
        most: The largest local difference that still counts as the same; see `largest_difference`.

    Returns:
        bool of shape (n,).

    Examples:
        >>> dial = np.full((1, 64, 64), 200, np.uint8)
        >>> dial[:, 10:54, 10:54] = 90
        >>> one, two = dial.copy(), dial.copy()
        >>> one[:, 14:32, 31:33], two[:, 31:33, 32:50] = 0, 0
        >>> alike(one, (0.7 * one + 20).astype(np.uint8)), alike(one, two)
        (array([ True]), array([False]))
    """
    same = np.zeros(len(a), np.bool_)
    for begin in range(0, len(a), _BLOCK):
        left, right = (side[begin : begin + _BLOCK].astype(np.float32) for side in (a, b))
        # Most copies lie where their original lies, and need no registration.
        found = _difference(left, right, Placing.identity(len(left))) <= most
        rest = np.flatnonzero(~found)
        if len(rest):
            left, right = left[rest], right[rest]
            found[rest] = _difference(left, right, registered(left, right)) <= most
        same[begin : begin + _BLOCK] = found
    return same


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Images:
    """How much of the picture's contrast its most different spot holds, once b is laid over a.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: Those they are compared with, likewise.

    Returns:
        float32 of shape (n,): 0 for the same picture; 1 where a window differs by as much as the picture's standard
        deviation.

    Examples:
        >>> picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        >>> framed = np.full((1, 64, 64), 30, np.uint8)
        >>> framed[:, 4:60, 4:60] = ndimage.zoom(picture[0], 56 / 64, order=1)
        >>> bool(largest_difference(picture, framed)[0] < largest_difference(picture, picture[:, ::-1])[0] / 2)
        True
    """
    left, right = a.astype(np.float32), b.astype(np.float32)
    still = _difference(left, right, Placing.identity(len(left)))
    return np.minimum(still, _difference(left, right, registered(left, right)))


def _difference(a: Images, b: Images, placing: Placing) -> Images:
    side = a.shape[1]
    left, right = _equally_sharp(a, b, placing)
    inside = _inner(placing, side)
    seen = np.maximum(_boxed(inside), _TINY)
    reference = _standardised(left, inside)
    least = np.full(left.shape, np.inf, np.float32)
    # Half a pixel is what the registration leaves.
    for dx in _JITTER:
        for dy in _JITTER:
            nudged = placing.moved(np.array([0, dx, 0, dy]), side)
            other = _standardised(nudged.taken(right), inside)
            least = np.minimum(least, _unexplained(reference, other, seen))
    half_seen = np.where(seen > 0.5, least / seen, 0)
    return np.sqrt(half_seen.reshape(len(a), -1).max(axis=1, initial=0).clip(0)).astype(np.float32)


def registered(a: Images, b: Images) -> Placing:
    """Where a's pixels lie in b, by Gauss-Newton steps from coarse to fine; brightness and contrast do not count.

    Args:
        a: float32 of shape (n, side, side).
        b: Likewise.
    """
    placing = Placing.identity(len(a))
    for reduction, blur, steps in _LEVELS:
        fixed, moving = (_blurred(_reduced(pictures, reduction), blur) for pictures in (a, b))
        slopes = np.gradient(moving, axis=(2, 1))
        placing = placing.scaled(1 / reduction)
        for _ in range(steps):
            placing = placing.moved(_step(fixed, moving, (slopes[0], slopes[1]), placing, _RIM * blur), fixed.shape[1])
        placing = placing.scaled(reduction)
    return placing


def _step(
    fixed: Images, moving: Images, slopes: tuple[Images, Images], placing: Placing, rim: float
) -> NDArray[np.float64]:
    """The least-squares step, after what brightness and contrast explain is projected out of residual and slopes."""
    count, side, _ = fixed.shape
    inside = placing.covered(side, rim).astype(np.float32)
    seen = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    taken = placing.taken(moving)
    spread = _spread(taken, inside, seen)
    other = _standardised(taken, inside)
    residual = _standardised(fixed, inside) - other
    by_x, by_y = (placing.taken(slope) * inside / spread for slope in slopes)
    grid = _grid(side)
    slopes_of = np.stack([by_x * grid, by_x, by_y * grid[:, None], by_y], axis=1)
    slopes_of -= slopes_of.sum(axis=(2, 3), keepdims=True) / seen[:, None] * inside[:, None]
    gain = (slopes_of * other[:, None]).sum(axis=(2, 3), keepdims=True) / seen[:, None]
    flat = (slopes_of - gain * other[:, None]).reshape(count, 4, -1)
    square = (flat @ flat.transpose(0, 2, 1)).astype(np.float64)
    damping = 1e-3 * (np.trace(square, axis1=1, axis2=2) / 4 + 1)
    square += damping[:, None, None] * np.eye(4)
    target = (flat @ residual.reshape(count, -1, 1)).astype(np.float64)
    return np.asarray(np.linalg.solve(square, target)[..., 0])


def _equally_sharp(a: Images, b: Images, placing: Placing) -> tuple[Images, Images]:
    """Both, the sharper of the two blurred as far as makes them most alike."""
    inside = _inner(placing, a.shape[1])
    best, left, right = np.full(len(a), -np.inf), a.copy(), b.copy()
    for blur_a, blur_b in _BLURS:
        one, two = _blurred(a, blur_a), _blurred(b, blur_b)
        alike = (_standardised(one, inside) * _standardised(placing.taken(two), inside)).sum(axis=(1, 2))
        better = alike > best
        best[better], left[better], right[better] = alike[better], one[better], two[better]
    return left, right


def _unexplained(a: Images, b: Images, seen: Images) -> Images:
    """What the best local brightness and contrast leave of the larger variance, in the window around each pixel."""
    mean_a, mean_b = _boxed(a), _boxed(b)
    own_a = _boxed(a * a) - mean_a * mean_a / seen
    own_b = _boxed(b * b) - mean_b * mean_b / seen
    shared = _boxed(a * b) - mean_a * mean_b / seen
    explained = np.clip(shared * shared / np.maximum(own_a * own_b, 1e-8), 0, 1)
    return np.asarray(np.maximum(own_a, own_b) * (1 - explained))


def _inner(placing: Placing, side: int) -> Images:
    """Pixels that count: not the rim, which mixes the picture with its frame, and not the corners."""
    covered = placing.covered(side)
    edge = np.abs(_grid(side)) > side / 2 - _CORNER
    covered &= ~(edge[:, None] & edge)
    return ndimage.minimum_filter(covered, size=(1, 3, 3), mode="constant", cval=0).astype(np.float32)


def _standardised(pictures: Images, inside: Images) -> Images:
    seen = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    mean = (pictures * inside).sum(axis=(1, 2), keepdims=True) / seen
    return np.asarray((pictures - mean) * inside / _spread(pictures, inside, seen))


def _spread(pictures: Images, inside: Images, seen: Images) -> Images:
    mean = (pictures * inside).sum(axis=(1, 2), keepdims=True) / seen
    return np.asarray(np.sqrt(((pictures - mean) ** 2 * inside).sum(axis=(1, 2), keepdims=True) / seen).clip(_FAINT))


def _reduced(pictures: Images, factor: int) -> Images:
    count, side, _ = pictures.shape
    return pictures.reshape(count, side // factor, factor, side // factor, factor).mean(axis=(2, 4))


def _blurred(pictures: Images, pixels: float) -> Images:
    return (
        pictures if not pixels else np.asarray(ndimage.gaussian_filter(pictures, (0, pixels, pixels), mode="nearest"))
    )


def _boxed(pictures: Images) -> Images:
    return np.asarray(ndimage.uniform_filter(pictures, (1, _WINDOW, _WINDOW), mode="constant"))


def _grid(side: int) -> Images:
    return np.arange(side, dtype=np.float32) - (side - 1) / 2


@pandas_udf(BooleanType())
def looks_alike(a: pd.Series, b: pd.Series) -> pd.Series:
    """Whether two columns of thumbnails (GREY_SIDE² bytes each, none null) show the same picture, as `alike` says."""
    left, right = (np.frombuffer(b"".join(side), np.uint8).reshape(-1, GREY_SIDE, GREY_SIDE) for side in (a, b))
    return pd.Series(alike(left, right), index=a.index)
