"""Decodes image files to 8-bit RGB, or gives the reason why a file cannot be decoded."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from models.images import side_data

Result = TypeVar("Result")

# `_refuse_bombs` checks sizes against the user's limit before a pixel is decoded. Pillow's limit (it warns above it and
# refuses above twice as much) is for formats that take memory earlier: Pillow fills a GIF while it opens it.
Image.MAX_IMAGE_PIXELS = 500_000_000

# MPO, a JPEG with several images from some cameras, is opened as JPEG.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I")
# The modes that `_upright_rgb` can convert to RGB. LAB, for example, is not one of them.
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
_SWAPS_SIDES = (5, 6, 7, 8)
# Image formats that Winnow recognises but does not read: offset of the signature, signature, name.
_UNREAD = ((4, b"ftyphei", "HEIC"), (4, b"ftyphev", "HEIC"), (4, b"ftypmif1", "HEIF"), (4, b"ftypmsf1", "HEIF"),
           (4, b"jP  ", "JPEG 2000"), (4, b"JXL ", "JPEG XL"), (0, b"\xff\x0a", "JPEG XL"), (0, b"II\xbc", "JPEG XR"),
           (0, b"8BPS", "PSD"), (0, b"\0\0\1\0", "ICO"))  # fmt: skip
# Other files that come in place of an image: offset of the signature, signature, what it is.
_OTHERS = ((0, b"%PDF", "a PDF document"), (0, b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
           *((4, b"ftyp" + brand, "an MP4 video") for brand in (b"iso", b"mp4", b"M4V", b"avc1", b"dash", b"3gp")),
           (4, b"ftypqt", "a QuickTime video"))  # fmt: skip
# The first element of an SVG file or a web page. Declarations, comments and a byte order mark may come before it.
_MARKUP_BYTES = 4096
_MARKUP = re.compile(rb"<(?:(svg)|html|head|body|!doctype html)\b", re.IGNORECASE)
_BEFORE_MARKUP = b"\xef\xbb\xbf\xff\xfe \t\r\n"

_MOST_SCANS = 100  # the limit of libtiff; encoders write about 10
_SCAN = b"\xff\xda"
_SCAN_AS_UINT16 = int.from_bytes(_SCAN, "little")
# The start of a JPEG segment, or the end of its image. In coded pixels only 00 or a restart (D0 to D7) follows FF.
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")
_END = b"\xff\xd9"
_TILE_TAGS = (322, 323)  # width and height
_BITS_TAG = 258  # bits of each sample
_BAND_PIXELS = 1 << 18  # a few MB fit the processor's caches, which is faster than the whole image at once

MAX_MEGAPIXELS = 180.0
"""Largest image to decode, in million pixels, where no settings apply. It is also the default of the setting."""

MAX_SIDE = 65_535
"""Longest side of an image, in pixels, as in JPEG and GIF. The limit exists because each row costs memory."""

GREY_SIDE = 64
"""Side of the grey thumbnail that `score` stores, in pixels. In it, the hand of a clock that fills half of an image is
more than one pixel wide."""


class ImageFault(Exception):  # noqa: N818 - a fault of the image, which is quarantined, not an error of the program
    """The reason why an image cannot be used.

    Attributes:
        reason: One of a few fixed phrases, such as `truncated`.
        detail: The message of the decoder.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Supports pickling, so that Spark workers can return it."""
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class ImageInfo:
    """The size and format of an image file.

    Attributes:
        width: In pixels, as displayed (after the EXIF orientation).
        height: In pixels, as displayed.
        format: `JPEG`, `PNG`, … by content, not by file name.
    """

    width: int
    height: int
    format: str


def check(data: bytes, max_megapixels: float) -> ImageInfo:
    """Checks that an image can be decoded, and returns its size and format.

    Damaged or too large side data (text, profiles, EXIF) cost no image. A progressive JPEG that ends too early is a
    fault, even if all its scans but the last are there.

    Args:
        data: The file's bytes.
        max_megapixels: Images with more million pixels are refused by their header. Images with more than 1,000 million
            pixels, with a side over `MAX_SIDE`, and JPEGs with more scans than encoders write are always refused.

    Raises:
        ImageFault: The image cannot be used; reason `empty`, `not an image`, `unsupported`, `decompression bomb`,
            `truncated` or `corrupt`.
        MemoryError: The memory did not suffice. This is not a fault of the image.
    """
    return _despite_side_data(data, partial(_check, max_megapixels=max_megapixels))


def decode(data: bytes, min_side: int, max_megapixels: float = float("inf")) -> Image.Image:
    """Returns an image as upright 8-bit RGB.

    Transparent pixels become white, 16-bit values keep their high byte, and an animation gives its first frame. Floats
    from 0 to 1 are scaled to 255; floats up to 255, the highest at least 2, are taken as they are. 32-bit integers up
    to 255 are taken as they are, up to 65,535 they keep the high byte of 16. Images with other values are refused.

    Args:
        data: The file's bytes.
        min_side: Sufficient width and height, in pixels. A larger JPEG is decoded at 1/2, 1/4 or 1/8 of its size if no
            side falls below this; other formats keep their size.
        max_megapixels: As in `check`, for images that `check` has not seen.

    Raises:
        ImageFault: The image cannot be decoded.

    Examples:
        >>> buffer = io.BytesIO()
        >>> Image.new("RGB", (640, 480), "red").save(buffer, "JPEG")
        >>> decode(buffer.getvalue(), min_side=100).size
        (160, 120)
    """
    return Decoder(data, max_megapixels).at_least(min_side)


class Decoder:
    """Decodes one image file for several models.

    Attributes:
        size: Width and height of the whole image as displayed, in pixels, after the first decoding.
        jpeg_tables: Quantization tables of a JPEG by number, after the first decoding; empty for other formats.
    """

    def __init__(self, data: bytes, max_megapixels: float = float("inf")) -> None:
        self.size = (0, 0)
        self.jpeg_tables: Mapping[int, Sequence[int]] = {}
        self._data, self._max_megapixels = data, max_megapixels
        self._decoded: dict[int, Image.Image] = {}

    def at_least(self, min_side: int) -> Image.Image:
        """Returns the image as `decode` does. Decodes it again only if it has not been decoded at this size yet.

        Raises:
            ImageFault: The image cannot be decoded.
        """
        if min_side not in self._decoded:
            self._decoded[min_side] = _despite_side_data(self._data, partial(self._decode, min_side=min_side))
        return self._decoded[min_side]

    def _decode(self, data: bytes, min_side: int) -> Image.Image:
        image = _open(data, self._max_megapixels)
        size = image.size
        _reduce(image, min_side)
        same = [done for done in self._decoded.values() if sorted(done.size) == sorted(image.size)]
        if same:
            return same[0]
        decoded = _upright_rgb(_load(image))
        self.size = _upright(size, image)
        self.jpeg_tables = getattr(image, "quantization", None) or {}
        return decoded

    def luma(self, min_side: int) -> NDArray[np.uint8]:
        """Returns the luma of the image, decoded as by `at_least`, but a JPEG not upright and without its colours.

        Returns:
            uint8 of shape (height, width).

        Raises:
            ImageFault: The image cannot be decoded.
        """
        for decoded in self._decoded.values():
            if decoded.size == self.size:
                return np.asarray(decoded.convert("L"))
        return _despite_side_data(self._data, partial(self._luma, min_side=min_side))

    def _luma(self, data: bytes, min_side: int) -> NDArray[np.uint8]:
        image = _open(data, self._max_megapixels)
        _reduce(image, min_side, "L")
        return np.asarray(_load(image).convert("L"))


def grey(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Returns the luma of thumbnails (ITU-R BT.601).

    Args:
        thumbnails: RGB, uint8 of shape (n, height, width, 3).

    Returns:
        uint8 of shape (n, height, width).

    Examples:
        >>> grey(np.array([[[[255, 255, 255], [255, 0, 0]]]], np.uint8)).tolist()
        [[[255, 77]]]
    """
    red, green, blue = (thumbnails[..., band].astype(np.uint16) for band in range(3))
    # 77 + 150 + 29 = 256, so the sum fits 16 bits.
    return np.asarray((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def _despite_side_data(data: bytes, attempt: Callable[[bytes], Result]) -> Result:
    """Returns the result for a file or, if its side data may be what fails, for a copy without them.

    Raises:
        ImageFault: The fault of the file itself, if no copy works either.
    """
    try:
        return attempt(data)
    except ImageFault as fault:
        if fault.reason in ("corrupt", "truncated"):
            for copy in side_data.copies(data):
                with suppress(ImageFault):
                    return attempt(copy)
        raise


def _check(data: bytes, max_megapixels: float) -> ImageInfo:
    image = _open(data, max_megapixels)
    size = image.size
    # Decoding a JPEG at an eighth of its size reads all bytes, so it detects a missing end at half the cost.
    _reduce(image, min_side=1)
    _wide_to_rgb(_load(image))
    return ImageInfo(*_upright(size, image), image.format or "")


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
    """Raises if decoding would need more memory than any image within the limits, or far more time."""
    _refuse_size(*image.size, max_megapixels)
    if isinstance(image, TiffImageFile):
        # Pillow decodes whole tiles, even if the image fills only a corner of one. Strips end where the image ends.
        _refuse_size(*_tile_size(image), max_megapixels, what="a tile of ")
    # Each scan of a JPEG covers the whole image, even if it has only 20 bytes. libtiff counts the scans in a TIFF.
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
    """Returns width and height of a TIFF's tiles; 0 if it has none."""
    width, height = (image.tag_v2.get(tag, 0) for tag in _TILE_TAGS)
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ImageFault("corrupt", f"tiles of {width!r} x {height!r}")
    return width, height


def _has_too_many_scans(data: bytes) -> bool:
    """Returns whether a JPEG's first image has more scans than any encoder writes."""
    # This decides for most files. A video or a second image after the first may contain these two bytes too.
    if _scan_marks(data) <= _MOST_SCANS:
        return False
    place = scans = 0
    while scans <= _MOST_SCANS and (found := _SEGMENT.search(data, place)) and found[0] != _END:
        scans += found[0] == _SCAN
        place = found.end() + int.from_bytes(data[found.end() : found.end() + 2])
    return scans > _MOST_SCANS


def _scan_marks(data: bytes) -> int:
    """Returns `data.count(_SCAN)`, six times as fast."""
    pairs = (np.frombuffer(data[offset:], "<u2", (len(data) - offset) // 2) for offset in (0, 1))
    return sum(int(np.count_nonzero(pair == _SCAN_AS_UINT16)) for pair in pairs)


def _reduce(image: Image.Image, min_side: int, mode: str | None = None) -> None:
    """Makes a large JPEG load at a fraction of its size, with both sides still at least `min_side`; "L": only luma."""
    if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
        image.draft(mode, (min_side, min_side))


def _load(image: Image.Image) -> Image.Image:
    if isinstance(image, TiffImageFile) and _lacks_pixels(image):
        raise ImageFault("truncated", f"strips or tiles are missing of {image.width} x {image.height} pixels")
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:
        raise _fault(error) from error
    if image.mode not in _MODES:
        raise ImageFault("unsupported", f"{image.format} with colours as {image.mode}")
    return image


def _lacks_pixels(image: TiffImageFile) -> bool:
    """Returns whether a TIFF has too few strips or tiles. Pillow would fill the missing area with black."""
    boxes = [part.extents for part in image.tile if part.extents]
    covered = sum((right - left) * (lower - upper) for left, upper, right, lower in boxes)
    return covered < image.width * image.height


def _orientation(image: Image.Image) -> int:
    """Returns the EXIF orientation, 1 (upright) to 8. An image with broken EXIF data counts as upright."""
    if image.format == "GIF":
        return 1
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except MemoryError:
        raise
    except Exception:  # Pillow's parser may raise any error on broken bytes; the pixels are not affected
        return 1


def _upright(size: tuple[int, int], image: Image.Image) -> tuple[int, int]:
    """Returns the size of an image as displayed. A TIFF says only after loading what remains to be turned."""
    return size[::-1] if _orientation(image) in _SWAPS_SIDES else size


def _upright_rgb(image: Image.Image) -> Image.Image:
    wide_to_rgb = _wide_to_rgb(image)
    try:
        if _orientation(image) in _TURNS:
            image = image.transpose(_TURNS[_orientation(image)])
        if wide_to_rgb is not None:
            return _in_bands(image, wide_to_rgb)
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            return _in_bands(image, _over_white)
        return image.convert("RGB")
    except MemoryError:
        raise
    except Exception as error:
        raise _fault(error) from error


def _wide_to_rgb(image: Image.Image) -> Callable[[Image.Image], Image.Image] | None:
    """Returns how to convert an image with more than 8 bits in its only channel; None for all other images.

    Raises:
        ImageFault: Its values are on no known scale, so it would come out black or white.
    """
    if image.mode != "F" and not (isinstance(image, TiffImageFile) and image.tag_v2.get(_BITS_TAG) == (32,)):
        return _high_bytes if image.mode in _SIXTEEN_BIT else None
    lowest, highest = _range_of(image)
    if image.mode == "F" and 0 <= lowest <= highest <= 1:
        return _scaled_to_255
    # A float image whose highest value is just over 1 is not one of 255 grey levels: it would come out black.
    if 0 <= lowest <= highest <= 255 and (image.mode != "F" or highest >= 2):
        return _as_they_are
    if image.mode != "F" and 0 <= lowest <= highest <= 65_535:
        return _high_bytes
    found, known = f"float values from {lowest:g} to {highest:g}", "0 to 1 or 0 to 255"
    if image.mode != "F":
        found, known = f"32-bit values from {lowest:.0f} to {highest:.0f}", "0 to 255 or 0 to 65535"
    raise ImageFault("unsupported", f"{found}: convert it to values from {known}")


def _range_of(image: Image.Image) -> tuple[float, float]:
    """Returns the lowest and highest value of an image with one channel; NaN if a value is NaN."""
    values = (np.asarray(image.crop(box)) for box in _bands(image))
    lowest, highest = np.array([(band.min(), band.max()) for band in values], np.float64).T
    return float(lowest.min()), float(highest.max())


def _scaled_to_255(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.rint(np.asarray(image) * np.float32(255)).astype(np.uint8)).convert("RGB")


def _as_they_are(image: Image.Image) -> Image.Image:
    return Image.fromarray(np.asarray(image).astype(np.uint8)).convert("RGB")


def _in_bands(image: Image.Image, rgb_of: Callable[[Image.Image], Image.Image]) -> Image.Image:
    """Converts an image to RGB in bands of rows. At once, intermediate results would need several times its memory.

    Each pixel is converted alone, so the result is the same bit for bit, and the hashes of older lakes stay valid.
    """
    boxes = list(_bands(image))
    if len(boxes) == 1:
        return rgb_of(image)
    rgb = Image.new("RGB", image.size)
    for box in boxes:
        rgb.paste(rgb_of(image.crop(box)), box)
    return rgb


def _bands(image: Image.Image) -> Iterator[tuple[int, int, int, int]]:
    rows = max(1, _BAND_PIXELS // image.width)
    for top in range(0, image.height, rows):
        yield 0, top, image.width, min(top + rows, image.height)


def _high_bytes(image: Image.Image) -> Image.Image:
    # `I` has signed 32-bit values, of which only 0 to 65535 are grey levels.
    values = np.asarray(image).astype(np.int32)
    return Image.fromarray((values.clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")


def _unidentified(data: bytes) -> ImageFault:
    """Returns why Pillow does not recognise a file: another format, a broken header, or not an image."""
    start = bytes(data[:16])
    for offset, mark, name in _UNREAD:
        if data[offset : offset + len(mark)] == mark:
            return _unread(name)
    for offset, mark, name in _OTHERS:
        if data[offset : offset + len(mark)] == mark:
            return ImageFault("not an image", f"{name}, not an image")
    if (markup := _markup(data)) is not None:
        return markup
    for name in FORMATS:
        accept = Image.OPEN[name][1]
        if accept is not None and accept(start) is True:
            return ImageFault("corrupt", f"begins like {name}, but its header cannot be read ({len(data)} bytes)")
    return ImageFault("not an image", f"no known image format begins with {start!r}")


def _markup(data: bytes) -> ImageFault | None:
    """Returns the fault of an SVG file or a web page, which is what a failed download often gives; None otherwise."""
    # Without its zero bytes, UTF-16 of these names is ASCII.
    start = data[:_MARKUP_BYTES].replace(b"\0", b"").lstrip(_BEFORE_MARKUP)
    first = _MARKUP.search(start) if start.startswith(b"<") else None
    if first is None:
        return None
    return _unread("SVG") if first[1] else ImageFault("not an image", "an HTML page, not an image")


def _unread(name: str) -> ImageFault:
    return ImageFault("unsupported", f"{name} is not read: convert it to one of {', '.join(FORMATS)}")


def _fault(error: Exception) -> ImageFault:
    detail = f"{type(error).__name__}: {error}"
    return ImageFault("truncated" if "truncated" in str(error) else "corrupt", detail)
