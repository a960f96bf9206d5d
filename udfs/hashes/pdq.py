"""Computes PDQ, a perceptual hash that needs no training.

Hash and quality are those of Facebook's C++ code, as the package `pdqhash` builds it for x86-64, bit for bit. That code
sums 32-bit floats one after the other. Where two coefficients are almost equal, its hash depends on how these sums are
rounded. So there are two ways to the same result:

1. The filters are sums of whole numbers for the 64 x 64 pixels that remain; the rest is float64. This way is several
   times as fast. It gives a result only if the rounding of 32-bit floats cannot change it.
2. All other images are computed in 32-bit floats, with the sums in the order of the C++ code.

Each image is computed alone, so a result cannot depend on a batch. The second way consists of single additions,
multiplications and conversions, which IEEE 754 defines, so all processors give the same bits. In the first way, the
library for matrix products and its number of threads change a coefficient by less than 1e-9, and each margin is over
1e-3. `pdqhash` itself may differ on ARM, where compilers may join a multiplication and an addition.

Source: Facebook, "The TMK+PDQF video-hashing algorithm and the PDQ image-hashing algorithm", 2019. The constants are
those of `pdq/cpp` in github.com/facebook/ThreatExchange: `hashing/pdqhashing.cpp` and `downscaling/downscaling.cpp`.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType, IntegerType, StructField, StructType

from models.images import decoding
from models.images.resizing import View, thumbnail
from udfs.arrays.late import late

PDQ_SIDE = 256
"""Side of the image that is hashed, in pixels. PDQ reduces it to 64, so a larger one would only cost time."""

PDQ_DISTANCE = 31
"""Largest PDQ distance of near-duplicates, in bits of 256, as recommended by its authors."""

_THOUSANDTHS = (299, 587, 114)  # luma of red, green and blue (ITU-R BT.601)
_SMALL = 64  # side of the reduced image, in pixels
_STRIDE = PDQ_SIDE // _SMALL
_FIRST = _STRIDE // 2  # the kept pixels are those at (i + 0.5) * 256 / 64, rounded down
_FREQUENCIES = 16  # along each axis, from 1: the constant part does not count
_MEDIAN = _FREQUENCIES**2 // 2 - 1  # the lower one of the two middle coefficients

# How far the 32-bit floats may be from exact arithmetic. These values are measured, not proved: the benchmark
# `python -m tests.bench.pdq` gives the largest error on images as a share of them. The largest one known is a sixth, on
# black and white boards, whose coefficients are sums of large numbers that cancel out (decision 0022).
_COEFFICIENT_MARGIN = 0.03  # for each axis, at its lowest frequency: the higher the frequency, the smaller the error
_GRADIENT_MARGIN = 0.01  # in percent of the range from black to white

Image32 = NDArray[np.float32]
Image64 = NDArray[np.float64]


def pdq_of(image: Image.Image) -> tuple[bytes, int]:
    """Returns the PDQ hash of an image and its quality.

    Args:
        image: 8-bit RGB of any size and aspect ratio.

    Returns:
        The 256 bits as 32 bytes, and the quality: 0 (plain) to 100 (detailed).

    Examples:
        >>> pdq_of(Image.new("RGB", (64, 64), "white"))[1]
        0
    """
    return pdq_of_thumbnail(thumbnail(image, View((PDQ_SIDE, PDQ_SIDE))))


def pdq_of_thumbnail(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """Returns the PDQ hash of a thumbnail and its quality.

    Args:
        rgb: uint8 of shape (256, 256, 3), in any memory layout.

    Returns:
        The 256 bits as 32 bytes, and the quality: 0 (plain) to 100 (detailed). The first bit is that of the highest
        frequencies, the last bit that of the lowest.

    Raises:
        ValueError: The thumbnail has another shape or type.

    Examples:
        >>> board = np.kron(np.eye(2), np.ones((128, 128)))[..., None] * np.full(3, 255)
        >>> bits, quality = pdq_of_thumbnail(board.astype(np.uint8))
        >>> len(bits), quality
        (32, 100)
    """
    if rgb.shape != (PDQ_SIDE, PDQ_SIDE, 3) or rgb.dtype != np.uint8:
        raise ValueError(
            f"the thumbnail is {rgb.dtype} of shape {rgb.shape}, but PDQ needs uint8 of shape "
            f"({PDQ_SIDE}, {PDQ_SIDE}, 3): use `pdq_of` for other images"
        )
    return _pdq_if_certain(rgb) or _pdq_in_float32(rgb)


def _pdq_if_certain(rgb: NDArray[np.uint8]) -> tuple[bytes, int] | None:
    """Returns hash and quality by exact filters; None if the rounding of 32-bit floats could change one of them."""
    small = _reduced(rgb)
    bits, quality = _bits_if_certain(_coefficients(small)), _quality_if_certain(_gradients(small))
    return None if bits is None or quality is None else (bits, quality)


def _reduced(rgb: NDArray[np.uint8]) -> Image64:
    """Returns the luma of an image after PDQ's filters, at the pixels that it keeps.

    Args:
        rgb: uint8 of shape (256, 256, 3).

    Returns:
        float64 of shape (64, 64), 0 to 255.
    """
    rows = _tents(rgb, np.uint16)
    red, green, blue = (rows[..., band] * np.int32(weight) for band, weight in enumerate(_THOUSANDTHS))
    return _tents((red + green + blue).T, np.int32).T / 16_000


def _tents(pixels: NDArray[np.integer], dtype: type[np.integer]) -> NDArray[np.integer]:
    """Returns four times the filtered rows that PDQ keeps of 256 rows.

    A box filter of PDQ has a window of (256 + 127) // 128 = 2 pixels: (x[i] + x[i + 1]) / 2, and x[255] at the end.
    Two of them are (x[i] + 2 x[i + 1] + x[i + 2]) / 4, and (x[254] + 3 x[255]) / 4 at the last row that is kept.

    Args:
        pixels: Shape (256, ...).
        dtype: A type that holds four times the largest value.

    Returns:
        Shape (64, ...).
    """
    total = pixels[_FIRST::_STRIDE].astype(dtype)
    total += pixels[_FIRST + 1 :: _STRIDE]
    total += pixels[_FIRST + 1 :: _STRIDE]
    total[:-1] += pixels[_FIRST + 2 :: _STRIDE]
    total[-1] += pixels[-1]
    return total


def _coefficients(small: Image64) -> Image64:
    """Returns the DCT of a reduced image at frequencies 1 to 16: float64 of shape (16, 16)."""
    basis = _basis().astype(np.float64)
    return basis @ small @ basis.T


@cache
def _basis() -> Image32:
    """Returns the rows 1 to 16 of the orthonormal DCT-II of 64 values: float32 of shape (16, 64).

    The standard library's cosine and this order of the factors give the floats of the C++ code.
    """
    scale, unit = float(np.float32(math.sqrt(2 / _SMALL))), math.pi / 2 / _SMALL
    return np.array(
        [[scale * math.cos(unit * (i + 1) * (2 * j + 1)) for j in range(_SMALL)] for i in range(_FREQUENCIES)],
        np.float32,
    )


@cache
def _coefficient_margins() -> Image64:
    """Returns how far a coefficient in 32-bit floats may be from the exact one: float64 of shape (256,).

    The errors of a running sum drift slowly along an axis, so that they change low frequencies most.
    """
    falling = 1 / np.arange(1, _FREQUENCIES + 1)
    return (_COEFFICIENT_MARGIN * np.add.outer(falling, falling)).ravel()


def _bits_if_certain(coefficients: Image64) -> bytes | None:
    """Returns the hash if no error within the margins moves a coefficient across the median; None otherwise."""
    values = coefficients.ravel()
    order = np.argpartition(values, _MEDIAN)
    low, high = order[: _MEDIAN + 1], order[_MEDIAN + 1 :]
    margins = _coefficient_margins()
    if (values + margins)[low].max() >= (values - margins)[high].min():
        return None
    is_set = np.zeros(len(values), np.bool_)
    is_set[high] = True
    return _packed(is_set)


def _packed(is_set: NDArray[np.bool_]) -> bytes:
    """Returns 256 bits as 32 bytes, from the highest frequency to the lowest."""
    return np.packbits(is_set.ravel()[::-1]).tobytes()


def _gradients(small: NDArray[np.floating]) -> NDArray[np.floating]:
    """Returns the differences of neighbouring pixels, in percent of the range from black to white, without signs.

    Args:
        small: Reduced image of shape (64, 64), 0 to 255.

    Returns:
        8,064 values of the same type, 0 to 100.
    """
    steps = np.concatenate([np.diff(small, axis=0).ravel(), np.diff(small, axis=1).ravel()])
    return np.abs(steps) * 100 / 255


def _quality(gradients: NDArray[np.floating]) -> int:
    """Returns the sum of gradients of 1 % and more, each rounded down, divided by 90 and at most 100."""
    return min(int(gradients.astype(np.int32).sum()) // 90, 100)


def _quality_if_certain(gradients: NDArray[np.floating]) -> int | None:
    """Returns the quality if no error within the margin changes it; None otherwise."""
    lowest, highest = _quality(gradients - _GRADIENT_MARGIN), _quality(gradients + _GRADIENT_MARGIN)
    return lowest if lowest == highest else None


def _pdq_in_float32(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """Returns hash and quality with the rounding of the C++ code.

    A bit is set if its coefficient is above the lower median of all, as found by Torben's method in that code.
    """
    small = _reduced_in_float32(rgb)
    values = _coefficients_in_float32(small).ravel()
    return _packed(values > np.partition(values, _MEDIAN)[_MEDIAN]), _quality(_gradients(small))


def _reduced_in_float32(rgb: NDArray[np.uint8]) -> Image32:
    """Returns `_reduced` with the rounding of the C++ code: float32 of shape (64, 64)."""
    red, green, blue = (rgb[..., band] * (weight / 1000) for band, weight in enumerate(_THOUSANDTHS))
    luma = (red + green + blue).astype(np.float32)
    for _ in range(2):
        luma = _running_means(_running_means(luma).T).T
    return luma[_FIRST::_STRIDE, _FIRST::_STRIDE]


def _running_means(rows: Image32) -> Image32:
    """Returns the mean of each pixel and the one to its right, by a running sum along each row.

    The sum begins with x[0] + x[1]. Each further step adds the next value and subtracts the oldest one, so its rounding
    errors remain. `accumulate` adds one value after the other, as its definition says.

    Args:
        rows: float32 of shape (n, 256).

    Returns:
        float32 of shape (n, 256). The last column is the last sum, which has only one value left.
    """
    terms = np.empty((len(rows), 2 * rows.shape[1] - 1), np.float32)
    terms[:, :2] = rows[:, :2]
    terms[:, 2:-1:2] = rows[:, 2:]
    terms[:, 3:-1:2] = -rows[:, :-2]
    terms[:, -1] = -rows[:, -2]
    sums = np.add.accumulate(terms, axis=1)
    return np.column_stack([sums[:, 1:-1:2] / 2, sums[:, -1]])


def _coefficients_in_float32(small: Image32) -> Image32:
    """Returns `_coefficients` with the rounding of the C++ code, which adds one product after the other."""
    basis = _basis()
    columns = np.add.accumulate(basis[:, :, None] * small, axis=1)[:, -1]
    return np.add.accumulate(columns[:, None] * basis, axis=2)[..., -1]


@late
def pdq() -> Any:
    """Returns the PDQ of a column of encoded images: a struct of `hash` (32 bytes) and `quality`.

    Both are null if an image cannot be decoded or has more than `decoding.MAX_MEGAPIXELS`.
    """
    import pandas as pd

    @pandas_udf(StructType([StructField("hash", BinaryType()), StructField("quality", IntegerType())]))
    def pdq(image: pd.Series) -> pd.DataFrame:
        rows = [_pdq_or_none(data) for data in image]
        return pd.DataFrame(rows, columns=["hash", "quality"]).astype({"quality": "Int32"})

    return pdq


def _pdq_or_none(data: bytes | None) -> tuple[bytes | None, int | None]:
    try:
        return pdq_of(decoding.decode(bytes(data or b""), PDQ_SIDE, decoding.MAX_MEGAPIXELS))
    except decoding.ImageFault:
        return None, None
