"""How a finished drawing is rendered: photo, watercolour, pixels, pencil and others."""

from collections.abc import Callable
from types import MappingProxyType

import numpy as np
from PIL import Image, ImageChops, ImageEnhance, ImageFilter, ImageOps

from jobs.commands.generate.pictures.motifs.textures import spectral
from jobs.commands.generate.pictures.primitives.randomness import Rng, between

Style = Callable[[Image.Image, Rng], Image.Image]


def grain(image: Image.Image, rng: Rng, strength: float) -> Image.Image:
    """Adds the same noise to all channels, `strength` its standard deviation in grey values."""
    noise = np.asarray(rng.standard_normal((image.height, image.width), dtype=np.float32) * strength + 128)
    layer = Image.fromarray(noise.clip(0, 255).astype(np.uint8)).convert("RGB")
    return ImageChops.add(image, layer, scale=1.0, offset=-128)


def _shaded(image: Image.Image, rng: Rng, low: float) -> Image.Image:
    """Light that falls off unevenly, as in a photograph."""
    light = low + (1 - low) * spectral(rng, (8, 8), 1.5)
    layer = Image.fromarray((light * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BICUBIC)
    return ImageChops.multiply(image, layer.convert("RGB"))


def photo(image: Image.Image, rng: Rng) -> Image.Image:
    """Soft focus, uneven light and grain."""
    soft = image.filter(ImageFilter.SMOOTH)
    return grain(_shaded(soft, rng, between(rng, 0.5, 0.8)), rng, between(rng, 3, 9))


def watercolor(image: Image.Image, rng: Rng) -> Image.Image:
    """Washed tones on paper."""
    soft = image.filter(ImageFilter.BoxBlur(max(1, min(image.size) // 160)))
    paper = _shaded(Image.blend(soft, Image.new("RGB", image.size, (255, 252, 244)), 0.25), rng, 0.6)
    return grain(ImageEnhance.Color(paper).enhance(1.2), rng, 2.5)


def black_and_white(image: Image.Image, rng: Rng) -> Image.Image:
    """Grey with a little more contrast."""
    return ImageOps.autocontrast(ImageOps.grayscale(image), cutoff=1).convert("RGB")


def vintage(image: Image.Image, rng: Rng) -> Image.Image:
    """Sepia that has faded unevenly."""
    sepia = ImageOps.colorize(ImageOps.grayscale(image), (50, 30, 20), (255, 242, 214), mid=(166, 126, 88))
    return _shaded(Image.blend(image, sepia, between(rng, 0.6, 1.0)), rng, 0.65)


def pixel_art(image: Image.Image, rng: Rng) -> Image.Image:
    """Coarse squares."""
    step = max(2, min(image.size) // int(rng.integers(40, 72)))
    small = image.resize((max(1, image.width // step), max(1, image.height // step)), Image.Resampling.BOX)
    return ImageOps.posterize(small, 4).resize(image.size, Image.Resampling.NEAREST)


def pencil_sketch(image: Image.Image, rng: Rng) -> Image.Image:
    """Dark contours over light shading."""
    grey = ImageOps.grayscale(image)
    edges = grey.filter(ImageFilter.FIND_EDGES).point([255 - min(255, 3 * value) for value in range(256)])
    shading = grey.point([round(120 + value * 135 / 255) for value in range(256)])
    return grain(ImageChops.multiply(edges, shading).convert("RGB"), rng, 4)


STYLES: MappingProxyType[str, Style] = MappingProxyType(
    {
        "photo": photo,
        "watercolor": watercolor,
        "black and white": black_and_white,
        "vintage": vintage,
        "pixel art": pixel_art,
        "pencil sketch": pencil_sketch,
    }
)
