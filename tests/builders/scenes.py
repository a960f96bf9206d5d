"""Synthetic images that have the spectrum of photographs."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from models.images.decoding import GREY_SIDE as SIDE
from models.images.edges import edge_map


def scene(seed: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """Returns an image with the spectrum of photographs: power falls with the square of the frequency."""
    width, height = size
    rng = np.random.default_rng(seed)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.maximum(np.hypot(down, across), 1 / max(size))
    levels = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(height, width))) / radius, (height, width))
    # A smooth sky above, structure below.
    levels *= np.linspace(0.1, 2, height)[:, None]
    return Image.fromarray((125 + 40 * levels / levels.std()).clip(8, 247).astype(np.uint8))


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """Returns a thumbnail as `score` stores it, of a grey image."""
    return np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def edges_of(image: Image.Image) -> bytes:
    """Returns the edge map of a grey image as `score` stores it."""
    found = edge_map(np.asarray(image))
    assert found is not None
    return found.tobytes()


def captioned(image: Image.Image, words: str = "winnow") -> Image.Image:
    """Returns a copy with white words over it."""
    copy = image.copy()
    ImageDraw.Draw(copy).text(
        (20, 20), words, font=ImageFont.load_default(40), fill=245, stroke_width=1, stroke_fill=10
    )
    return copy
