"""Aligns small grey thumbnails of two images and measures the largest local difference.

Two copies differ by a crop, a border, a shift or another aspect ratio, by brightness and contrast, and by sharpness.
These differences are estimated and removed. The remaining difference in a window of pixels is one of content, such as
the moved hand of a clock.

Sources: Lucas and Kanade, "An iterative image registration technique" (IJCAI 1981), for the four parameters of shift
and scale; the correlation of local windows is the structure term of SSIM (Wang et al., IEEE TIP 2004).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BooleanType

from models.images.decoding import GREY_SIDE
from udfs.arrays.late import late

if TYPE_CHECKING:
    import pandas as pd

Images = NDArray[np.float32]

ALIKE = 0.34
"""The largest local difference of two copies. It separates 95 % of the sibling pairs of 10,000 generated images
(clocks at other times, signs with another digit); docs/deduplication.md says how many copies this misses."""

_LEVELS = ((2, 2.0, 8), (2, 1.0, 6), (1, 0.8, 3))
"""For each level: reduction of the thumbnails, blur in pixels, and number of registration steps."""
# Width of the ignored rim, in blurs: a blurred frame affects the image up to there.
_RIM = 1.5
_MOST_SCALE, _MOST_SHIFT = 1.33, 0.17
_BLURS = ((0.0, 0.0), (0.6, 0.0), (1.1, 0.0), (0.0, 0.6), (0.0, 1.1))
# Pixels to ignore at each corner: rounded corners are transparent, and a copy may fill them with another colour.
_CORNER = 8
_WINDOW = 5
_BLOCK = 64
_JITTER = (-0.5, 0.0, 0.5)
_TINY = 1e-6
# Grey levels: in an image with less contrast, only compression artefacts would be compared.
_FAINT = 4.0


@dataclass(frozen=True)
class Placement:
    """The position of each pixel of one thumbnail in another: x' = scale · x + shift, from the centre; same for y.

    Attributes:
        numbers: float32 of shape (n, 4): scale and shift in x, scale and shift in y; shifts in pixels.
    """

    numbers: Images

    @classmethod
    def identity(cls, count: int) -> "Placement":
        """Returns the placement that moves nothing."""
        return cls(np.tile(np.array([1, 0, 1, 0], np.float32), (count, 1)))

    def moved(self, step: NDArray[np.floating], side: int) -> "Placement":
        """Returns the placement after a step, within the limits for crops, frames and shifts of copies."""
        numbers = (self.numbers + step).astype(np.float32)
        numbers[:, ::2] = numbers[:, ::2].clip(1 / _MOST_SCALE, _MOST_SCALE)
        numbers[:, 1::2] = numbers[:, 1::2].clip(-_MOST_SHIFT * side, _MOST_SHIFT * side)
        return Placement(numbers)

    def scaled(self, factor: float) -> "Placement":
        """Returns the same placement for thumbnails of another size."""
        return Placement(self.numbers * np.array([1, factor, 1, factor], np.float32))

    def warped(self, images: Images) -> Images:
        """Returns the other thumbnails at these positions, interpolated, float32 of shape (n, side, side)."""
        side, row = images.shape[1], np.arange(len(images))[:, None]
        (x, along), (y, down) = (self._between(axis, side) for axis in (0, 2))
        lines = images[row, y] * (1 - down)[..., None] + images[row, y + 1] * down[..., None]
        columns = lines.transpose(0, 2, 1)
        across = columns[row, x] * (1 - along)[..., None] + columns[row, x + 1] * along[..., None]
        return np.ascontiguousarray(across.transpose(0, 2, 1))

    def covered(self, side: int, rim: float = 0.0) -> NDArray[np.bool_]:
        """Returns which pixels are inside both thumbnails, without a rim in pixels: bool of shape (n, side, side)."""
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
    """Returns whether two thumbnails show the same image, apart from position, brightness, contrast and sharpness.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: The thumbnails to compare with, same shape.
        most: The largest local difference of the same image; see `largest_difference`.

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
        # Most copies are aligned with their original and need no registration.
        matches = _difference(left, right, Placement.identity(len(left))) <= most
        rest = np.flatnonzero(~matches)
        if len(rest):
            left, right = left[rest], right[rest]
            matches[rest] = _difference(left, right, registered(left, right)) <= most
        same[begin : begin + _BLOCK] = matches
    return same


def largest_difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> Images:
    """Returns the largest local difference after alignment, relative to the contrast of the image.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: The thumbnails to compare with, same shape.

    Returns:
        float32 of shape (n,): 0 for the same image; 1 if a window differs by the image's standard deviation.

    Examples:
        >>> picture = np.random.default_rng(0).integers(0, 256, (1, 8, 8), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        >>> framed = np.full((1, 64, 64), 30, np.uint8)
        >>> framed[:, 4:60, 4:60] = scipy.ndimage.zoom(picture[0], 56 / 64, order=1)
        >>> bool(largest_difference(picture, framed)[0] < largest_difference(picture, picture[:, ::-1])[0] / 2)
        True
    """
    left, right = a.astype(np.float32), b.astype(np.float32)
    still = _difference(left, right, Placement.identity(len(left)))
    return np.minimum(still, _difference(left, right, registered(left, right)))


def _difference(a: Images, b: Images, placement: Placement) -> Images:
    side = a.shape[1]
    left, right = _equally_sharp(a, b, placement)
    inside = inner(placement, side)
    seen = np.maximum(_boxed(inside), _TINY)
    reference = _standardised(left, inside)
    least = np.full(left.shape, np.inf, np.float32)
    # The registration is accurate to half a pixel.
    for dx in _JITTER:
        for dy in _JITTER:
            nudged = placement.moved(np.array([0, dx, 0, dy]), side)
            other = _standardised(nudged.warped(right), inside)
            least = np.minimum(least, _unexplained(reference, other, seen))
    half_visible = np.where(seen > 0.5, least / seen, 0)
    return np.sqrt(half_visible.reshape(len(a), -1).max(axis=1, initial=0).clip(0)).astype(np.float32)


def registered(a: Images, b: Images) -> Placement:
    """Finds the positions of a's pixels in b by Gauss-Newton steps, coarse to fine, ignoring brightness and contrast.

    Args:
        a: float32 of shape (n, side, side).
        b: float32 of shape (n, side, side).
    """
    placement = Placement.identity(len(a))
    for reduction, blur, steps in _LEVELS:
        fixed, moving = (_blurred(_reduced(images, reduction), blur) for images in (a, b))
        slopes = np.gradient(moving, axis=(2, 1))
        placement = placement.scaled(1 / reduction)
        for _ in range(steps):
            placement = placement.moved(
                _step(fixed, moving, (slopes[0], slopes[1]), placement, _RIM * blur), fixed.shape[1]
            )
        placement = placement.scaled(reduction)
    return placement


def _step(
    fixed: Images, moving: Images, slopes: tuple[Images, Images], placement: Placement, rim: float
) -> NDArray[np.float64]:
    """Returns the least-squares step, after projecting brightness and contrast out of the residual and the slopes."""
    count, side, _ = fixed.shape
    inside = placement.covered(side, rim).astype(np.float32)
    seen = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    warped = placement.warped(moving)
    spread = _spread(warped, inside, seen)
    other = _standardised(warped, inside)
    residual = _standardised(fixed, inside) - other
    by_x, by_y = (placement.warped(slope) * inside / spread for slope in slopes)
    grid = _grid(side)
    jacobian = np.stack([by_x * grid, by_x, by_y * grid[:, None], by_y], axis=1)
    jacobian -= jacobian.sum(axis=(2, 3), keepdims=True) / seen[:, None] * inside[:, None]
    gain = (jacobian * other[:, None]).sum(axis=(2, 3), keepdims=True) / seen[:, None]
    flat = (jacobian - gain * other[:, None]).reshape(count, 4, -1)
    square = (flat @ flat.transpose(0, 2, 1)).astype(np.float64)
    damping = 1e-3 * (np.trace(square, axis1=1, axis2=2) / 4 + 1)
    square += damping[:, None, None] * np.eye(4)
    target = (flat @ residual.reshape(count, -1, 1)).astype(np.float64)
    return np.asarray(np.linalg.solve(square, target)[..., 0])


def _equally_sharp(a: Images, b: Images, placement: Placement) -> tuple[Images, Images]:
    """Returns both thumbnails, with the sharper one blurred so that they agree best."""
    inside = inner(placement, a.shape[1])
    best, left, right = np.full(len(a), -np.inf), a.copy(), b.copy()
    for blur_a, blur_b in _BLURS:
        one, two = _blurred(a, blur_a), _blurred(b, blur_b)
        agreement = (_standardised(one, inside) * _standardised(placement.warped(two), inside)).sum(axis=(1, 2))
        better = agreement > best
        best[better], left[better], right[better] = agreement[better], one[better], two[better]
    return left, right


def _unexplained(a: Images, b: Images, seen: Images) -> Images:
    """Returns the part of the larger variance that local brightness and contrast do not explain, around each pixel."""
    mean_a, mean_b = _boxed(a), _boxed(b)
    own_a = _boxed(a * a) - mean_a * mean_a / seen
    own_b = _boxed(b * b) - mean_b * mean_b / seen
    shared = _boxed(a * b) - mean_a * mean_b / seen
    explained = np.clip(shared * shared / np.maximum(own_a * own_b, 1e-8), 0, 1)
    return np.asarray(np.maximum(own_a, own_b) * (1 - explained))


def inner(placement: Placement, side: int) -> Images:
    """Returns the pixels to compare: without the rim, which mixes the image with its frame, and without the corners.

    Args:
        placement: The positions of n thumbnails in others.
        side: Side of the thumbnails, in pixels.

    Returns:
        float32 of shape (n, side, side): 1 for a pixel to compare, else 0.
    """
    covered = placement.covered(side)
    edge = np.abs(_grid(side)) > side / 2 - _CORNER
    covered &= ~(edge[:, None] & edge)
    return scipy.ndimage.minimum_filter(covered, size=(1, 3, 3), mode="constant", cval=0).astype(np.float32)


def _standardised(images: Images, inside: Images) -> Images:
    seen = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    mean = (images * inside).sum(axis=(1, 2), keepdims=True) / seen
    return np.asarray((images - mean) * inside / _spread(images, inside, seen))


def _spread(images: Images, inside: Images, seen: Images) -> Images:
    mean = (images * inside).sum(axis=(1, 2), keepdims=True) / seen
    return np.asarray(np.sqrt(((images - mean) ** 2 * inside).sum(axis=(1, 2), keepdims=True) / seen).clip(_FAINT))


def _reduced(images: Images, factor: int) -> Images:
    count, side, _ = images.shape
    return images.reshape(count, side // factor, factor, side // factor, factor).mean(axis=(2, 4))


def _blurred(images: Images, pixels: float) -> Images:
    return (
        images if not pixels else np.asarray(scipy.ndimage.gaussian_filter(images, (0, pixels, pixels), mode="nearest"))
    )


def _boxed(images: Images) -> Images:
    return np.asarray(scipy.ndimage.uniform_filter(images, (1, _WINDOW, _WINDOW), mode="constant"))


def _grid(side: int) -> Images:
    return np.arange(side, dtype=np.float32) - (side - 1) / 2


def unpacked(column: "pd.Series[bytes]") -> NDArray[np.uint8]:
    """Returns a column of thumbnails (GREY_SIDE² bytes each, none null) as uint8 of shape (n, GREY_SIDE, GREY_SIDE)."""
    return np.frombuffer(b"".join(column), np.uint8).reshape(-1, GREY_SIDE, GREY_SIDE)


@late
def looks_alike() -> Any:
    """Returns `alike` for two columns of thumbnails (GREY_SIDE² bytes each, none null)."""
    import pandas as pd

    @pandas_udf(BooleanType())
    def looks_alike(a: pd.Series, b: pd.Series) -> pd.Series:
        return pd.Series(alike(unpacked(a), unpacked(b)), index=a.index)

    return looks_alike
