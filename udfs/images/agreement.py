"""Measures whether two small grey thumbnails show the same image, by their fine structure.

A perceptual hash says that two images have a similar layout. Copies also agree in their fine structure, once they lie
over each other: also if one of them is cropped, framed, recoloured or has text over it. Different images do not, even
if their layout is the same. `udfs.images.registration` is stricter: there, one changed detail makes another image.

Two things are compared. Grey levels agree in most copies, but another hue changes them in each area differently, and
smooth images have hardly any fine structure. Edges keep their place and direction in such copies too. If the lines of
two pages of text have the same distance, their grey levels agree, but their edges do not.

Sources: the similarity of local windows is the contrast and structure term of SSIM (Wang et al., IEEE TIP 2004), here
of images without their coarse structure. Edges are compared by the squared gradient, a complex number that is the same
on both sides of an edge: the double-angle representation (Granlund, "In search of a general picture processing
operator", Computer Graphics and Image Processing 8, 1978).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import FloatType

from udfs.arrays.late import late
from udfs.images.registration import Images, Placement, inner, registered, unpacked

AGREE = 0.66
"""Smallest agreement of two thumbnails of the same image. docs/deduplication.md has the errors by kind of change."""

EDGES_AGREE, EDGES_DIFFER = 0.82, 0.45
"""Thumbnails whose edges agree as much as the first number show the same image, whatever their grey levels; if their
edges agree less than the second one, they show different images. Fitted on 6,500 drawings and the pairs of 6,345
photographs of garments and flowers and of 500 pages of text with the nearest hashes."""

FALSE_ACCEPTS = 1e-3
"""Share of the pairs of different images with near hashes whose agreement is `AGREE` or more, rounded up: 7 of 12,000
pairs of garments photographed in one place, the hardest of the sets that were tried."""

_COARSE = 2.0  # pixels; structure much wider than this is removed: different images may share it
_WINDOW = 7
_NOISE = 4.0  # variance of grey levels (0 to 255) due to compression
_BLOCK = 64
_TINY = 1e-6
_EDGE_BLUR = 1.0  # pixels
_FAINT = 0.1  # squared grey levels a pixel; weaker edges count less
_FLATTENED = 0.875  # how little the strength of an edge counts, as another hue changes it: at 1 it does not count
_HOPELESS = 0.45  # thumbnails that agree less than this after the first registration show different images


def agreement(a: NDArray[np.uint8], b: NDArray[np.uint8], enough: float = AGREE) -> NDArray[np.float32]:
    """Returns how well the fine structure of thumbnails agrees, after one is laid over the other.

    Args:
        a: Grey thumbnails, uint8 of shape (n, side, side).
        b: The thumbnails to compare with, same shape.
        enough: Thumbnails that agree this much as they lie are not moved. Most copies need no registration, which
            costs most of the time.

    Returns:
        float32 of shape (n,): the larger one of the mean structural similarity of local windows and the agreement of
        edges, scaled so that `EDGES_AGREE` becomes `AGREE`; only the latter if it is below `EDGES_DIFFER`. From -1 to
        1; 1 for the same image.

    Examples:
        >>> noise = np.random.default_rng(0).integers(0, 256, (2, 16, 16), dtype=np.uint8)
        >>> one, other = noise.repeat(4, 1).repeat(4, 2)
        >>> darker = (one * 0.6 + 20).astype(np.uint8)
        >>> same, unlike = agreement(np.stack([one, one]), np.stack([darker, other]))
        >>> bool(same > 0.95), bool(abs(unlike) < 0.3)
        (True, True)
    """
    found = np.empty(len(a), np.float32)
    for begin in range(0, len(a), _BLOCK):
        left, right = (side[begin : begin + _BLOCK].astype(np.float32) for side in (a, b))
        block = _agreement_as_placed(left, right, Placement.identity(len(left)))
        for register, least in ((registered, -1.0), (_registered_by_edges, _HOPELESS)):
            rest = np.flatnonzero((block < enough) & (block >= least))
            if len(rest):
                one, other = left[rest], right[rest]
                moved = _agreement_as_placed(one, other, register(one, other))
                block[rest] = np.maximum(block[rest], moved)
        found[begin : begin + _BLOCK] = block
    return found


def _agreement_as_placed(a: Images, b: Images, placement: Placement) -> Images:
    edges = edge_agreement(a, b, placement)
    scaled = edges * np.float32(AGREE / EDGES_AGREE)
    grey = np.maximum(structural_agreement(a, b, placement), scaled)
    return np.where(edges < EDGES_DIFFER, scaled, grey)


def _registered_by_edges(a: Images, b: Images) -> Placement:
    """Returns `registered` for the strength of edges: grey levels mislead it if they differ by areas."""
    one, other = (np.abs(_gradient(images)) for images in (a, b))
    return registered(one, other)


@dataclass(frozen=True)
class Windows:
    """The fine structure of two thumbnails in the window around each pixel; each array is (n, side, side).

    Attributes:
        left: Variance in the first thumbnail.
        right: Variance in the second one, laid over the first.
        shared: Their covariance.
        counted: 1 for pixels around which enough of both can be seen, else 0.
    """

    left: Images
    right: Images
    shared: Images
    counted: Images

    @classmethod
    def of(cls, a: Images, b: Images, placement: Placement) -> "Windows":
        """Compares thumbnails; a placement says where those of `b` lie over those of `a`."""
        inside = inner(placement, a.shape[1])
        seen = np.maximum(_boxed(inside), _TINY)
        left, right = _fine(a, inside), _fine(placement.warped(b), inside)
        mean_left, mean_right = _boxed(left) / seen, _boxed(right) / seen
        return cls(
            (_boxed(left * left) / seen - mean_left**2).clip(0),
            (_boxed(right * right) / seen - mean_right**2).clip(0),
            np.asarray(_boxed(left * right) / seen - mean_left * mean_right, np.float32),
            (seen > 0.5) * inside,
        )

    def with_contrast(self, gain: Images) -> "Windows":
        """Returns the windows after the contrast of each second thumbnail is multiplied by a number."""
        factor = gain[:, None, None]
        return Windows(self.left, self.right * factor**2, self.shared * factor, self.counted)


def structural_agreement(a: Images, b: Images, placement: Placement) -> Images:
    """Returns `agreement` for thumbnails that lie as a placement says: float32 of shape (n,)."""
    found = Windows.of(a, b, placement)
    # A copy may have another contrast as a whole.
    energy = [(own * found.counted).sum(axis=(1, 2)) for own in (found.left, found.right)]
    found = found.with_contrast(np.sqrt(energy[0] / np.maximum(energy[1], _TINY)))
    similarity = 2 * found.shared / (found.left + found.right + 2 * _NOISE)
    # Windows with more structure, in either image, count more.
    weight = np.maximum(found.left, found.right) ** 0.25 * found.counted
    total = np.maximum(weight.sum(axis=(1, 2)), _TINY)
    return np.asarray((similarity * weight).sum(axis=(1, 2)) / total, np.float32)


def edge_agreement(a: Images, b: Images, placement: Placement) -> Images:
    """Returns how well edges agree in place and direction, whatever their contrast: float32 of shape (n,), -1 to 1."""
    inside = inner(placement, a.shape[1])
    left, right = (_directions(images, inside) for images in (a, placement.warped(b)))
    shared = (left * right.conj()).real.sum(axis=(1, 2))
    energy = [(np.abs(own) ** 2).sum(axis=(1, 2)) for own in (left, right)]
    return np.asarray(shared / np.sqrt(energy[0] * energy[1] + 1), np.float32)


def _directions(images: Images, inside: Images) -> NDArray[np.complex64]:
    """Returns the squared gradient with less contrast between weak and strong edges, minus its mean.

    Without its mean, edges of one direction in both images do not count as agreement.
    """
    gradient = _gradient(images)
    squared = gradient**2 / (np.abs(gradient) ** 2 + _FAINT) ** _FLATTENED * inside
    seen = np.maximum(inside.sum(axis=(1, 2), keepdims=True), 1)
    return np.asarray(squared - squared.sum(axis=(1, 2), keepdims=True) / seen * inside, np.complex64)


def _gradient(images: Images) -> NDArray[np.complex64]:
    """Returns the gradient in grey levels a pixel: its real part is along x, its imaginary part along y."""
    across, down = (
        scipy.ndimage.gaussian_filter(images, (0, _EDGE_BLUR, _EDGE_BLUR), order=(0, *order), mode="nearest")
        for order in ((0, 1), (1, 0))
    )
    return np.asarray(across + 1j * down, np.complex64)


def _fine(images: Images, inside: Images) -> Images:
    """Returns the fine structure of the pixels inside; pixels outside, such as a frame, have no influence on it."""
    coarse = _blurred(images * inside) / np.maximum(_blurred(inside), _TINY)
    return np.asarray((images - coarse) * inside, np.float32)


def _blurred(images: Images) -> Images:
    return np.asarray(scipy.ndimage.gaussian_filter(images, (0, _COARSE, _COARSE), mode="constant"))


def _boxed(images: Images) -> Images:
    return np.asarray(scipy.ndimage.uniform_filter(images, (1, _WINDOW, _WINDOW), mode="constant"))


@late
def agreement_of() -> Any:
    """Returns `agreement` for two columns of thumbnails (GREY_SIDE² bytes each); null if one of them is null."""
    import pandas as pd

    @pandas_udf(FloatType())
    def agreement_of(a: pd.Series, b: pd.Series) -> pd.Series:
        both = a.notna() & b.notna()
        result = pd.Series(np.nan, index=a.index, dtype=np.float32)
        if both.any():
            result[both] = agreement(unpacked(a[both]), unpacked(b[both]))
        return result

    return agreement_of
