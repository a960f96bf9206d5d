"""Images of 256 x 256 pixels for tests of PDQ: from plain ones, whose hash is only rounding, to text and drawings."""

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jobs.commands.generate.pictures.drawing import draw
from jobs.commands.generate.pictures.plan import PictureSet, plan
from jobs.commands.generate.pictures.scenes import compose
from models.images.resizing import View, thumbnail
from tests.builders.images import blobs, pattern
from udfs.hashes.pdq import PDQ_SIDE

Pixels = NDArray[np.uint8]

ROWS, COLUMNS = np.mgrid[:PDQ_SIDE, :PDQ_SIDE]


def _grey(values: NDArray[np.generic]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def resized(image: Image.Image) -> Pixels:
    """Returns an image in the size of which PDQ computes its hash."""
    return thumbnail(image, View((PDQ_SIDE, PDQ_SIDE)))


def noise(height: int, width: int, highest: int = 255) -> Image.Image:
    """Returns random pixels from 0 to `highest`."""
    return Image.fromarray(np.random.default_rng(4).integers(0, highest + 1, (height, width, 3), dtype=np.uint8))


def _text() -> Pixels:
    image = Image.new("RGB", (PDQ_SIDE, PDQ_SIDE), "white")
    for line in range(16):
        ImageDraw.Draw(image).text((4, 16 * line), f"Line {line} of a page of text, {line**5}", fill="black")
    return np.asarray(image)


def _drawing(index: int) -> Pixels:
    pictures = PictureSet(count=400, seed=5)
    return resized(draw(pictures.seed, compose(pictures.seed, plan(pictures).role(index))))


def _single_pixel() -> Pixels:
    image = np.zeros((PDQ_SIDE, PDQ_SIDE, 3), np.uint8)
    image[-1, -1] = 255
    return image


KINDS: Mapping[str, Callable[[], Pixels]] = MappingProxyType(
    {
        "plain black": lambda: _grey(0 * ROWS),
        "plain orange": lambda: np.full((PDQ_SIDE, PDQ_SIDE, 3), (255, 127, 3), np.uint8),
        "one pixel": _single_pixel,
        "gradient": lambda: _grey(COLUMNS),
        "diagonal gradient": lambda: _grey((ROWS + COLUMNS) // 2),
        "disc": lambda: _grey(255 * ((ROWS - 128) ** 2 + (COLUMNS - 128) ** 2 < 80**2)),
        "stripes of one pixel": lambda: _grey(255 * (COLUMNS % 2)),
        "stripes of three pixels": lambda: _grey(200 * (COLUMNS // 3 % 2) + 7),
        "board of one pixel": lambda: _grey(255 * ((ROWS + COLUMNS) % 2)),
        "board of 32 pixels": lambda: _grey(255 * ((ROWS // 32 + COLUMNS // 32) % 2)),
        "symmetric": lambda: np.maximum(pattern(1, PDQ_SIDE), pattern(1, PDQ_SIDE).swapaxes(0, 1)),
        "noise": lambda: np.asarray(noise(PDQ_SIDE, PDQ_SIDE)),
        "dark noise": lambda: np.asarray(noise(PDQ_SIDE, PDQ_SIDE, highest=2)),
        "bright noise": lambda: 255 - np.asarray(noise(PDQ_SIDE, PDQ_SIDE, highest=40)),
        "tiny": lambda: resized(noise(2, 3)),
        "very wide": lambda: resized(noise(3, 2000)),
        "very tall": lambda: resized(noise(2000, 3)),
        "blurred": lambda: pattern(2, PDQ_SIDE),
        "blobs": lambda: blobs(1, PDQ_SIDE)[0],
        "text": _text,
        "drawing": lambda: _drawing(0),
        "another drawing": lambda: _drawing(17),
    }
)


def turned(image: Pixels) -> Iterator[Pixels]:
    """Yields an image, its rotations and their mirror images, as views."""
    for quarter in range(4):
        yield np.rot90(image, quarter)
        yield np.rot90(image, quarter)[:, ::-1]
