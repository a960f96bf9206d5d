"""Images decoded: any file that a user's data holds becomes 8-bit RGB, or a reason why not."""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

Fit = Literal["squeeze", "crop"]

# Sizes are checked in `_refuse_bombs` against the user's own limit, before a pixel is decoded. Pillow's limit, above
# which it warns and above twice which it refuses, is for what takes memory before: a GIF is filled while it is opened.
Image.MAX_IMAGE_PIXELS = 500_000_000

# MPO, the JPEG with several pictures of some cameras, is opened as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I")
# What `_upright_rgb` can make RGB of; LAB, for one, is not among them.
_MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "F", *_SIXTEEN_BIT)

_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_ON_ITS_SIDE = (5, 6, 7, 8)
# Pictures that Winnow knows but does not read: where the mark stands in the file, and what it is.
_UNREAD = ((4, b"ftyphei", "HEIC"), (4, b"ftypmif1", "HEIF"), (4, b"jP  ", "JPEG 2000"), (4, b"JXL ", "JPEG XL"),
           (0, b"\xff\x0a", "JPEG XL"), (0, b"8BPS", "PSD"), (0, b"<svg", "SVG"))  # fmt: skip

_MOST_SCANS = 100  # as libtiff has it; encoders write some 10
_SCAN = b"\xff\xda"
# Where a segment of a JPEG begins, or its picture ends. In coded pixels only 00 or a restart (D0 to D7) follows FF.
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_END = b"\xff\xd9"
_TILE_TAGS = (322, 323)  # width and height
_BAND_PIXELS = 1 << 18  # some MB, which the processor's caches hold: faster than the whole at once

MAX_MEGAPIXELS = 180.0
"""Million pixels of the largest picture that is decoded where there are no settings: the default of theirs."""

MAX_SIDE = 65_535
"""Pixels a side of the largest picture, as JPEG and GIF have it: each row costs memory of its own, however short."""

GREY_SIDE = 64
"""Pixels a side of the grey thumbnail that `score` keeps: the hand of a clock that fills half of a picture is more than
one pixel wide."""


class ImageFault(Exception):  # noqa: N818 - a fault of the image, which costs its row, not an error of the program
    """Why an image cannot be used.

    Attributes:
        reason: One of a few phrases that can be counted, such as `truncated`.
        detail: What the decoder said.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickles, so that it may cross from a Spark worker."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class ImageInfo:
    """What an image's file says of it.

    Attributes:
        width: In pixels, as displayed (after the EXIF orientation).
        height: In pixels, as displayed.
        format: `JPEG`, `PNG`, … by content, whatever the file's name says.
    """

    width: int
    height: int
    format: str


def check(data: bytes, max_megapixels: float) -> ImageInfo:
    """Decodes an image once to see that it can be decoded.

    Args:
        data: The file's bytes.
        max_megapixels: Pictures of more million pixels are refused from their header alone. Whatever it is, so are
            those of more than 1,000 million, those with a side over `MAX_SIDE`, and JPEGs of more scans than encoders
            write.

    Raises:
        ImageFault: It cannot be used; reason `empty`, `not an image`, `unsupported`, `decompression bomb`, `truncated`
            or `corrupt`.
        MemoryError: There was no room to decode it, which is no fault of the image.
    """
    image = _open(data, max_megapixels)
    width, height = image.size
    # JPEG at an eighth of its size still reads every coded byte, so that a missing end is noticed, at half the cost.
    _load(image, min_side=1)
    if _orientation(image) in _ON_ITS_SIDE:
        width, height = height, width
    return ImageInfo(width, height, image.format or "")


def decode(data: bytes, min_side: int, max_megapixels: float = float("inf")) -> Image.Image:
    """An image as upright 8-bit RGB.

    Transparent pixels are laid over white, 16-bit ones keep their high byte, of an animation the first frame counts.

    Args:
        data: The file's bytes.
        min_side: Width and height in pixels that are enough. A larger JPEG is decoded at 1/2, 1/4 or 1/8 as long as
            neither side falls below it; all else keeps its size.
        max_megapixels: As in `check`, for what has not been through it.

    Raises:
        ImageFault: It cannot be decoded.

    Examples:
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (640, 480), "red").save(buffer, "JPEG")
        >>> decode(buffer.getvalue(), min_side=100).size
        (160, 120)
    """
    return _upright_rgb(_load(_open(data, max_megapixels), min_side))


def thumbnail(image: Image.Image, size: tuple[int, int], fit: Fit = "squeeze") -> NDArray[np.uint8]:
    """An image made as small as a model wants it, antialiased.

    Args:
        image: 8-bit RGB.
        size: Height and width in pixels.
        fit: `squeeze` shows all of it whatever its aspect; `crop` the largest part in the middle of the wanted aspect.

    Returns:
        uint8 of shape (height, width, 3).

    Examples:
        >>> flag = Image.new("RGB", (40, 10), "white")
        >>> flag.paste("red", (0, 0, 10, 10))
        >>> [int(thumbnail(flag, (8, 8), fit)[0, 0, 1]) for fit in ("squeeze", "crop")]
        [0, 255]
    """
    height, width = size
    box = None
    if fit == "crop":
        scale = min(image.width / width, image.height / height)
        left, upper = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, upper, image.width - left, image.height - upper)
    small = image.resize((width, height), Image.Resampling.BILINEAR, box, reducing_gap=3.0)
    return np.asarray(small, dtype=np.uint8)


def grey(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The luma of thumbnails (ITU-R BT.601).

    Args:
        thumbnails: RGB, uint8 of shape (n, height, width, 3).

    Returns:
        uint8 of shape (n, height, width).

    Examples:
        >>> grey(np.array([[[[255, 255, 255], [255, 0, 0]]]], np.uint8)).tolist()
        [[[255, 77]]]
    """
    red, green, blue = (thumbnails[..., band].astype(np.uint16) for band in range(3))
    # 77 + 150 + 29 = 256: no product leaves 16 bits.
    return np.asarray((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def _open(data: bytes, max_megapixels: float) -> Image.Image:
    if not data:
        raise ImageFault("empty", "the file has no bytes")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise _unidentified(data) from error
    except Image.DecompressionBombError as error:
        raise ImageFault("decompression bomb", str(error)) from error
    except MemoryError:
        raise
    except Exception as error:
        raise _fault(error) from error
    _refuse_bombs(image, data, max_megapixels)
    return image


def _refuse_bombs(image: Image.Image, data: bytes, max_megapixels: float) -> None:
    """Raises where decoding takes more memory than a picture within the limits does, or far more time."""
    _refuse_size(*image.size, max_megapixels)
    if isinstance(image, TiffImageFile):
        # A tile is decoded whole, even where the picture is but a corner of it. Strips end where the picture does.
        _refuse_size(*_tile_size(image), max_megapixels, what="a tile of ")
    # Each scan of a JPEG goes over the whole picture, though it be of 20 bytes. libtiff counts those of a TIFF.
    if image.format in ("JPEG", "MPO") and _has_too_many_scans(data):
        raise ImageFault("decompression bomb", f"a JPEG of more than {_MOST_SCANS} scans")


def _refuse_size(width: int, height: int, max_megapixels: float, what: str = "") -> None:
    megapixels = width * height / 1e6
    if megapixels > max_megapixels:
        detail = f"{what}{width} x {height} is {megapixels:.0f} megapixels, over the limit of {max_megapixels:g}"
        raise ImageFault("decompression bomb", detail)
    if max(width, height) > MAX_SIDE:
        detail = f"{what}{width} x {height} has a side over the limit of {MAX_SIDE} pixels"
        raise ImageFault("decompression bomb", detail)


def _tile_size(image: TiffImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tiles, 0 where it has none."""
    width, height = (image.tag_v2.get(tag, 0) for tag in _TILE_TAGS)
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ImageFault("corrupt", f"tiles of {width!r} x {height!r}")
    return width, height


def _has_too_many_scans(data: bytes) -> bool:
    """Whether a JPEG's first picture has more scans than any encoder writes."""
    # Most files end here: a film or another picture behind the first one may hold these two bytes too.
    if data.count(_SCAN) <= _MOST_SCANS:
        return False
    place = scans = 0
    while scans <= _MOST_SCANS and (found := _SEGMENT.search(data, place)) and found[0] != _END:
        scans += found[0] == _SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans > _MOST_SCANS


def _load(image: Image.Image, min_side: int) -> Image.Image:
    if isinstance(image, TiffImageFile) and _lacks_pixels(image):
        raise ImageFault("truncated", f"strips or tiles are missing of {image.width} x {image.height} pixels")
    try:
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            image.draft(None, (min_side, min_side))
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _fault(error) from error
    if image.mode not in _MODES:
        raise ImageFault("unsupported", f"{image.format} with colours as {image.mode}")
    return image


def _lacks_pixels(image: TiffImageFile) -> bool:
    """Whether a TIFF names too few strips or tiles, for which Pillow leaves what they do not cover black."""
    boxes = [part.extents for part in image.tile if part.extents]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in boxes)
    return covered < image.width * image.height


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 (upright) to 8; a picture with broken EXIF data counts as upright."""
    if image.format == "GIF":
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except MemoryError:
        raise
    except Exception:  # Pillow's parser raises whatever the broken bytes make of it; the pixels are sound
        return 1


def _upright_rgb(image: Image.Image) -> Image.Image:
    try:
        if _orientation(image) in _TURNS:
            image = image.transpose(_TURNS[_orientation(image)])
        if image.mode in _SIXTEEN_BIT:
            return _in_bands(image, _high_bytes)
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            return _in_bands(image, _over_white)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        raise _fault(error) from error


def _in_bands(image: Image.Image, rgb_of: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """A picture as RGB, made a band of rows at a time: whole, what lies between takes several times its memory.

    Each pixel comes of itself alone, so that the result is the same bit for bit and hashes of older lakes hold.
    """
    rows = max(1, _BAND_PIXELS // image.width)
    if rows >= image.height:
        return rgb_of(image)
    rgb = Image.new("RGB", image.size)
    for top in range(0, image.height, rows):
        band = (0, top, image.width, min(top + rows, image.height))
        rgb.paste(rgb_of(image.crop(band)), band)
    return rgb


def _high_bytes(image: Image.Image) -> Image.Image:
    # `I` has 32 bits and a sign, and of its numbers only those of 16 bits mean grey levels.
    values = np.asarray(image).astype(np.int32)
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _unidentified(data: bytes) -> ImageFault:
    """Why Pillow does not know a file: another format, a broken header, or no picture at all."""
    start = bytes(data[:16])
    for offset, mark, name in _UNREAD:
        if data[offset : offset + len(mark)] == mark:
            return ImageFault("unsupported", f"{name} is not read: convert it to one of {', '.join(FORMATS)}")
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(start) is True:
            return ImageFault("corrupt", f"begins like {name}, but its header cannot be read ({len(data)} bytes)")
    return ImageFault("not an image", f"no known image format begins with {start!r}")


def _fault(error: Exception) -> ImageFault:
    detail = f"{type(error).__name__}: {error}"
    return ImageFault("truncated" if "truncated" in str(error) else "corrupt", detail)
