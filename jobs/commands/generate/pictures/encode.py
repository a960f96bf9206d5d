"""Encodes pictures with the formats, qualities and modes of images from the web."""

import io
from dataclasses import dataclass

from PIL import ExifTags, Image, ImageDraw, ImageOps

from jobs.commands.generate.pictures.primitives.randomness import Rng, chance, pick_weighted

_FORMATS = {"jpg": 0.72, "png": 0.13, "webp": 0.09, "gif": 0.06}


@dataclass(frozen=True)
class Encoding:
    """The encoding of a picture.

    Attributes:
        extension: `jpg`, `png`, `webp` or `gif`.
        quality: Quality of JPEG and WebP, 20 to 95.
        mode: `RGB`, `L` (grey) or `RGBA` (rounded corners that are transparent).
    """

    extension: str
    quality: int
    mode: str


def choose(rng: Rng, copy: bool) -> Encoding:
    """Returns a random encoding; copies may have a much lower quality."""
    extension = pick_weighted(rng, _FORMATS)
    quality = int(rng.integers(20, 91)) if copy else int(rng.integers(60, 96))
    mode = "RGB"
    if extension == "png" and chance(rng, 0.35):
        mode = "RGBA"
    elif extension == "jpg" and chance(rng, 0.04):
        mode = "L"
    return Encoding(extension, quality, mode)


def encode(image: Image.Image, encoding: Encoding, name: str) -> bytes:
    """Returns the bytes of an image file.

    Args:
        image: 8-bit RGB.
        encoding: The encoding.
        name: Stored in the file's metadata, so that no two files of a set have the same bytes. Otherwise a re-encoded
            copy could be the same file with the same caption.

    Examples:
        >>> encode(Image.new("RGB", (4, 4)), Encoding("gif", 80, "RGB"), "a")[:4]
        b'GIF8'
    """
    buffer = io.BytesIO()
    if encoding.mode == "L":
        image = ImageOps.grayscale(image)
    elif encoding.mode == "RGBA":
        image = _with_round_corners(image)
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = name
    match encoding.extension:
        case "jpg":
            image.save(buffer, "JPEG", quality=encoding.quality, exif=exif)
        case "png":
            image.save(buffer, "PNG", compress_level=1, exif=exif)
        case "webp":
            image.save(buffer, "WEBP", quality=encoding.quality, method=0, exif=exif)
        case _:
            few = image.quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(buffer, "GIF", comment=name.encode())
    return buffer.getvalue()


def _with_round_corners(image: Image.Image) -> Image.Image:
    mask = Image.new("L", image.size, 0)
    radius = min(image.size) // 10
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, image.width - 1, image.height - 1), radius, fill=255)
    solid = image.copy()
    solid.putalpha(mask)
    return solid
