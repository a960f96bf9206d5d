"""Resizes decoded images for models, in the ways that models are trained with."""

import io
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.images.decoding import MAX_SIDE, Decoder

Fit = Literal["squeeze", "crop", "pad"]
Resample = Literal["nearest", "bilinear", "bicubic", "lanczos"]

_PILLOW = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_REACH = {"bilinear": 1, "bicubic": 2, "lanczos": 3}  # pixels to each side that a filter uses without antialiasing
_BICUBIC = -0.75  # the coefficient of OpenCV and of torch without antialiasing; with it, all use -0.5
# A JPEG decoded at reduced size has twice the sides that a model needs, or more. The thumbnail then differs by half a
# grey level on average from that of the whole image: docs/decisions/0016-resize-as-models-were-trained.md.
_SPARE = 2
_LONG = 4  # an axis of which a crop keeps less than a quarter is not computed whole


@dataclass(frozen=True, order=True)
class View:
    """How an image becomes a thumbnail for a model. Models with the same view share their thumbnails.

    The image is resized for a frame with the sides `size / crop_pct`, rounded down. The centre of the frame is the
    thumbnail.

    Attributes:
        size: Height and width of the thumbnail, in pixels.
        fit: How an image with another aspect ratio fits the frame: `squeeze` changes its aspect ratio, `crop` fills the
            frame and cuts the rest off, `pad` adds a border.
        crop_pct: Share of the frame's sides that the thumbnail keeps, above 0 and at most 1: 0.875 is 224 of 256.
        resample: Filter of the resizing.
        antialias: Whether the filter widens when an image shrinks, as in Pillow. Without it, the filter reads only the
            nearest pixels, as in OpenCV for bilinear and bicubic. OpenCV's Lanczos filter is wider, and its nearest
            pixel is the upper left one, where Pillow's is the one in the middle.
        pad_colour: Colour of the border, RGB from 0 to 255.
        jpeg: Whether the thumbnail is written as JPEG and read again, with the quality of 75 that is Pillow's default.
    """

    size: tuple[int, int]
    fit: Fit = "squeeze"
    crop_pct: float = 1.0
    resample: Resample = "bilinear"
    antialias: bool = True
    pad_colour: tuple[int, int, int] = (0, 0, 0)
    jpeg: bool = False

    @property
    def min_side(self) -> int:
        """Width and height in pixels that a decoded image needs: `min_side` of `models.images.decoding.decode`."""
        if not self.antialias or self.resample == "nearest":
            return MAX_SIDE  # only single pixels count, and those of a reduced decoding are averages
        return max(self.size) if self._is_plain else _SPARE * max(self._frame)

    @property
    def _frame(self) -> tuple[int, int]:
        height, width = self.size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    @property
    def _is_plain(self) -> bool:
        """Whether only the size is set, as for hashes. These pixels must not change: older hashes would be invalid."""
        return self == View(self.size)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Returns the height and width to which this view resizes an image before it crops or pads it.

        They are those of torchvision (crop) and timm (pad, squeeze).

        Args:
            width: Width of the image, in pixels.
            height: Height of the image, in pixels.

        Examples:
            >>> View((224, 224), "crop", 0.875).resized(500, 375)
            (256, 341)
            >>> View((224, 224), "pad").resized(500, 375)
            (168, 224)
        """
        tall, wide = self._frame
        if self.fit == "squeeze":
            return tall, wide
        is_wider = width * tall > height * wide
        if self.fit == "crop":
            return (tall, tall * width // height) if is_wider else (wide * height // width, wide)
        if is_wider:
            return max(1, round(wide * height / width)), wide
        return tall, max(1, round(tall * width / height))


def thumbnail_of_file(file: Decoder, view: View, min_side: int) -> NDArray[np.uint8]:
    """Returns the thumbnail of an image file, decoded at reduced size if that leaves enough pixels.

    Args:
        file: The image file.
        view: How to resize it.
        min_side: Width and height in pixels at which the file is decoded in any case.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        ImageFault: The image cannot be decoded.
    """
    image = file.at_least(max(min_side, view.min_side))
    return thumbnail(image, view, file.size)


def thumbnail(image: Image.Image, view: View, whole: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """Returns an image resized for a model.

    Args:
        image: 8-bit RGB.
        view: How to resize it.
        whole: Width and height of the image file in pixels, if `image` was decoded at reduced size.

    Returns:
        uint8 of shape (height, width, 3).

    Source:
        The sides and offsets of torchvision's `Resize` and `CenterCrop`, and of timm's `ResizeKeepRatio` and
        `CenterCropOrPad`.

    Examples:
        >>> flag = Image.new("RGB", (40, 10), "white")
        >>> flag.paste("red", (0, 0, 10, 10))
        >>> [int(thumbnail(flag, View((8, 8), fit))[4, 0, 1]) for fit in ("squeeze", "crop", "pad")]
        [0, 255, 0]
    """
    if view._is_plain:
        small = image.resize(view.size[::-1], Image.Resampling.BILINEAR, reducing_gap=3.0)
        return np.asarray(small, dtype=np.uint8)
    framed = _framed(image, view, whole or image.size)
    return _through_jpeg(framed) if view.jpeg else framed


def _framed(image: Image.Image, view: View, whole: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns the thumbnail of a view before it goes through JPEG."""
    width, height = whole
    sides = view.resized(width, height)
    # A pixel of a reduced decoding covers `shrink` pixels of the file. Its last ones may cover fewer.
    shrink = round(width / image.width)
    rows = _Kept.of(height / shrink, sides[0], view.size[0])
    columns = _Kept.of(width / shrink, sides[1], view.size[1])
    if view.antialias or view.resample == "nearest":
        kept = _filtered(image, rows, columns, view.resample)
    else:
        kept = _sampled(np.asarray(image), rows, columns, view.resample)
    if kept.shape[:2] == view.size:
        return kept
    framed = np.full((*view.size, 3), view.pad_colour, dtype=np.uint8)
    framed[rows.place : rows.place + rows.count, columns.place : columns.place + columns.count] = kept
    return framed


def _through_jpeg(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return np.asarray(Image.open(file), dtype=np.uint8)


@dataclass(frozen=True)
class _Kept:
    """What a thumbnail keeps of one axis of an image.

    Attributes:
        side: Pixels of the image.
        resized: Pixels of the whole axis after resizing.
        first: First of these that is kept.
        count: Number of these that are kept.
        place: Pixel of the thumbnail that shows the first; there is a border before it.
    """

    side: float
    resized: int
    first: int
    count: int
    place: int

    @classmethod
    def of(cls, side: float, resized: int, size: int) -> "_Kept":
        """Returns what is kept of an axis with `side` pixels, which is resized and then cropped or padded to `size`."""
        if resized < size:
            return cls(side, resized, 0, resized, (size - resized) // 2)
        return cls(side, resized, round((resized - size) / 2), size, 0)

    @property
    def begin(self) -> float:
        """Where the kept part begins in the image, in its pixels."""
        return self.first * self.side / self.resized

    @property
    def end(self) -> float:
        """Where the kept part ends in the image, in its pixels."""
        return (self.first + self.count) * self.side / self.resized

    @property
    def pixels(self) -> slice:
        """The kept pixels after resizing."""
        return slice(self.first, self.first + self.count)


def _filtered(image: Image.Image, rows: _Kept, columns: _Kept, resample: str) -> NDArray[np.uint8]:
    """Returns the kept part of an image, resized by Pillow: uint8 of shape (rows, columns, 3)."""
    is_long = max(rows.resized / rows.count, columns.resized / columns.count) > _LONG
    if is_long:
        box = (columns.begin, rows.begin, columns.end, rows.end)
        return np.asarray(image.resize((columns.count, rows.count), _PILLOW[resample], box), dtype=np.uint8)
    # Pillow rounds and clips after each axis, in an order that depends on the sides. So resize all, as other programs
    # do: the pixels are then the same. JPEG and filters that overshoot would amplify a difference.
    whole = image.resize((columns.resized, rows.resized), _PILLOW[resample], (0, 0, columns.side, rows.side))
    return np.asarray(whole, dtype=np.uint8)[rows.pixels, columns.pixels]


def _sampled(pixels: NDArray[np.uint8], rows: _Kept, columns: _Kept, resample: str) -> NDArray[np.uint8]:
    """Returns the kept part of an image, resized without antialiasing: uint8 of shape (rows, columns, 3)."""
    places, weights = _taps(columns, pixels.shape[1], _REACH[resample], resample)
    lines, shares = _taps(rows, pixels.shape[0], _REACH[resample], resample)
    # Pick the rows first: they are contiguous, and few of them remain.
    picked = np.einsum("rtwc,rt->rwc", pixels[lines].astype(np.float32), shares)
    values = np.einsum("rktc,kt->rkc", picked[:, places], weights)
    return np.asarray(np.rint(values).clip(0, 255), dtype=np.uint8)


def _taps(kept: _Kept, side: int, reach: int, resample: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Returns the pixels of an axis that each pixel of the thumbnail reads, and their weights: shape (count, taps)."""
    step = (kept.end - kept.begin) / kept.count
    centres = kept.begin + (np.arange(kept.count) + 0.5) * step - 0.5
    places = np.floor(centres)[:, None] + np.arange(1 - reach, 1 + reach)
    weights = _kernel(np.abs(places - centres[:, None]), resample)
    weights /= weights.sum(axis=1, keepdims=True)
    # Beyond the border, the outermost pixel is repeated.
    return places.clip(0, side - 1).astype(np.intp), weights.astype(np.float32)


def _kernel(distance: NDArray[np.float64], resample: str) -> NDArray[np.float64]:
    """Returns the weight of a pixel by its distance, in pixels and at most the filter's reach."""
    if resample == "bilinear":
        return 1 - distance
    if resample == "lanczos":
        return np.asarray(np.sinc(distance) * np.sinc(distance / 3))
    near = ((_BICUBIC + 2) * distance - (_BICUBIC + 3)) * distance**2 + 1
    far = _BICUBIC * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)
