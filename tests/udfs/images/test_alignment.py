"""Likeness: high for changed copies, low for images that only have the same layout."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from tests.builders.images import pattern
from udfs.images.alignment import SIDE, likeness, likenesses, thumbnail, thumbnails


def seen(image: Image.Image, quality: int = 80) -> np.ndarray:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=quality)
    return thumbnail(buffer.getvalue())


def scene(seed: int) -> Image.Image:
    """Draws a night sky over a meadow, with random fireworks: all scenes have the same layout."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (200, 140), (20, 24, 48))
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 105, 200, 140), fill=(40, 90, 40))
    for _ in range(6):
        x, y, r = rng.integers(10, 190), rng.integers(5, 95), rng.integers(8, 26)
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(int(v) for v in rng.integers(80, 256, 3)))
    return image


CHANGES = {
    "recoded": lambda image: image,
    "half": lambda image: image.resize((image.width // 2, image.height // 2)),
    "cropped": lambda image: image.crop((8, 3, 188, 129)),
    "framed": lambda image: ImageOps.expand(image, 10, "white"),
    "moved": lambda image: moved(image),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "warm": lambda image: Image.fromarray((np.asarray(image) * [1.1, 1.0, 0.8]).clip(0, 255).astype(np.uint8)),
    "grey": lambda image: image.convert("L"),
}


def moved(image: Image.Image) -> Image.Image:
    ground = Image.new("RGB", image.size, "white")
    ground.paste(image, (8, 6))
    return ground


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(3))
def test_a_changed_copy_has_a_high_likeness(change: str, seed: int) -> None:
    original = scene(seed)
    assert likeness(seen(original), seen(CHANGES[change](original), quality=60)) > 0.9


def test_images_with_the_same_layout_have_a_lower_likeness() -> None:
    scenes = [seen(scene(seed)) for seed in range(8)]
    assert max(likeness(a, b) for i, a in enumerate(scenes) for b in scenes[:i]) < 0.8


def test_different_images_have_a_low_likeness() -> None:
    pictures = [seen(Image.fromarray(pattern(seed, 128))) for seed in range(6)]
    assert max(likeness(a, b) for i, a in enumerate(pictures) for b in pictures[:i]) < 0.7


def test_plain_images_can_be_compared() -> None:
    white, black = (np.full((SIDE, SIDE, 3), level, np.uint8) for level in (255, 0))
    assert np.isfinite(likeness(white, black))


def test_columns_may_hold_missing_or_broken_images() -> None:
    buffer = io.BytesIO()
    scene(0).save(buffer, "PNG")
    found = thumbnails.func(pd.Series([buffer.getvalue(), b"no picture", None]))
    assert [None if value is None else len(value) for value in found] == [SIDE * SIDE * 3, None, None]
    likeness_column = likenesses.func(found, pd.Series([found[0], found[0], found[0]]))
    assert likeness_column[0] > 0.999 and likeness_column[1:].isna().all()


def test_structure_that_only_one_of_both_images_has_counts() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (24, 24, 1)).repeat(4, 0).repeat(4, 1).repeat(3, 2)
    original, generated = texture.astype(np.uint8), texture.astype(np.uint8)
    original[:, 48:] = 128
    assert likeness(original, generated) < 0.8 and likeness(generated, original) < 0.8
    assert likeness(original, original) > 0.99
