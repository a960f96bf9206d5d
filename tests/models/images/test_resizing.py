"""Thumbnails of every kind, against plain scripts of Pillow and torch."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from models.images.decoding import Decoder, decode
from models.images.resizing import Fit, View, thumbnail, thumbnail_of_file

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FITS: tuple[Fit, ...] = ("squeeze", "crop", "pad")


def image_of(width: int, height: int, seed: int = 0) -> Image.Image:
    """Returns coloured blobs with fine noise over them."""
    rng = np.random.default_rng(seed)
    blobs = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), FILTERS["bicubic"])
    pixels = np.asarray(blobs).astype(int) + rng.integers(-40, 41, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def plainly(image: Image.Image, view: View) -> NDArray[np.uint8]:
    """Resizes the whole image, then crops or pads it, as torchvision and timm do for a square size."""
    width, height = image.size
    side = view.size[0]
    frame = math.floor(side / view.crop_pct)
    if view.fit == "squeeze":
        sides = (frame, frame)
    elif view.fit == "crop":
        long = int(frame * max(width, height) / min(width, height))
        sides = (frame, long) if width <= height else (long, frame)
    else:
        sides = tuple(max(1, round(frame * own / max(width, height))) for own in (width, height))
    small = image.resize(sides, FILTERS[view.resample])
    left, top = (-((side - own) // 2) if own < side else round((own - side) / 2) for own in sides)
    canvas = Image.new("RGB", (side, side), view.pad_colour)
    canvas.paste(small, (-left, -top))
    return np.asarray(canvas)


def difference(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> int:
    assert one.shape == other.shape
    return int(np.abs(one.astype(int) - other).max())


def test_height_is_before_width() -> None:
    halves = Image.new("RGB", (40, 20), "red")
    halves.paste((0, 0, 255), (20, 0, 40, 20))

    small = thumbnail(halves, View((8, 16)))

    assert small.shape == (8, 16, 3) and small.dtype == np.uint8
    assert small[4, 1].tolist() == [255, 0, 0] and small[4, 14].tolist() == [0, 0, 255]


@settings(max_examples=80, deadline=None)
@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.sampled_from([1, 16, 33, 64]),
    st.sampled_from(FITS),
    st.sampled_from([1.0, 0.95, 0.875, 0.7]),
    st.sampled_from(["bilinear", "bicubic", "lanczos"]),
)
def test_pixels_are_those_of_resizing_all_and_then_cropping_or_padding(
    sides: tuple[int, int], size: int, fit: Fit, crop_pct: float, resample: str
) -> None:
    image, view = image_of(*sides), View((size, size), fit, crop_pct, resample, pad_colour=(9, 99, 199))
    found, expected = thumbnail(image, view), plainly(image, view)

    if view == View((size, size)):  # reduced in two steps, as hashes of older lakes were
        assert difference(found, expected) <= 3
    elif max(sides) <= 3 * min(sides):
        assert difference(found, expected) == 0
    else:
        assert np.abs(found.astype(int) - expected).mean() < 2


@pytest.mark.parametrize("fit", FITS)
def test_nearest_gives_the_pixels_of_resizing_all(fit: Fit) -> None:
    image, view = image_of(150, 90), View((30, 30), fit, resample="nearest")

    assert difference(thumbnail(image, view), plainly(image, view)) == 0


@pytest.mark.parametrize("crop_pct", [1.0, 0.875])
def test_images_of_all_sides_can_be_cropped(crop_pct: float) -> None:
    view, large = View((224, 224), "crop", crop_pct), image_of(1200, 330)
    for side in range(1, 1201):
        wide = large.crop((0, 0, side, 330))
        assert thumbnail(wide, view).shape == thumbnail(wide.transpose(Image.Transpose.ROTATE_90), view).shape


@pytest.mark.parametrize("sides", [(1, 20_000), (20_000, 1), (1, 1), (3, 2)])
@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("antialias", [True, False])
def test_extreme_images_give_thumbnails(sides: tuple[int, int], fit: Fit, antialias: bool) -> None:
    small = thumbnail(Image.new("RGB", sides, "white"), View((24, 16), fit, 0.9, "bicubic", antialias))

    assert small.shape == (24, 16, 3) and small.max() == 255


@pytest.mark.parametrize("sides", [(100, 100), (300, 100), (100, 300), (61, 400)])
def test_a_crop_for_an_oblong_size_covers_it_and_padding_shows_the_whole_image(sides: tuple[int, int]) -> None:
    width, height = sides
    crop, pad = (View((48, 96), fit).resized(width, height) for fit in ("crop", "pad"))

    assert crop[0] >= 48 and crop[1] >= 96 and (crop[0] == 48 or crop[1] == 96)
    assert pad[0] <= 48 and pad[1] <= 96 and (pad[0] == 48 or pad[1] == 96)
    for rows, columns in (crop, pad):
        assert abs(rows * width - columns * height) <= max(width, height)


def test_padding_is_centred_and_has_its_colour() -> None:
    padded = thumbnail(Image.new("RGB", (40, 20), "red"), View((9, 8), "pad", pad_colour=(1, 2, 3)))

    assert (padded == [255, 0, 0]).all(axis=2)[:, 0].tolist() == [False] * 2 + [True] * 4 + [False] * 3
    assert padded[0].tolist() == [[1, 2, 3]] * 8


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), [(310, 150), (64, 64), (40, 90), (20, 20)])
def test_without_antialiasing_pixels_are_those_of_torch(resample: str, width: int, height: int) -> None:
    image = image_of(width, height)
    planes = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].double()
    whole = torch.nn.functional.interpolate(planes, (64, 64), mode=resample, align_corners=False)[0]
    expected = whole.round().clamp(0, 255).permute(1, 2, 0).numpy().astype(np.uint8)

    found = thumbnail(image, View((64, 64), resample=resample, antialias=False))
    cropped = thumbnail(image, View((48, 48), crop_pct=0.75, resample=resample, antialias=False))

    assert difference(found, expected) <= 1
    assert difference(cropped, expected[8:56, 8:56]) <= 1


def test_without_antialiasing_lanczos_enlarges_as_pillow_does() -> None:
    image = image_of(20, 16).point(
        lambda level: 80 + level // 3
    )  # far from black and white, where Pillow clips each pass

    found = thumbnail(image, View((64, 64), resample="lanczos", antialias=False))

    assert (
        difference(found[12:-12, 12:-12], np.asarray(image.resize((64, 64), FILTERS["lanczos"]))[12:-12, 12:-12]) <= 1
    )


def test_antialiasing_averages_what_sampling_skips() -> None:
    # The two pixels in the middle of each eight are white.
    stripes = Image.fromarray(np.tile(np.array([0, 0, 0, 255, 255, 0, 0, 0], np.uint8), (64, 8))).convert("RGB")

    averaged, sampled = (thumbnail(stripes, View((8, 8), antialias=wide)) for wide in (True, False))

    assert (sampled == 255).all() and averaged.max() < 128


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_a_jpeg_decoded_at_reduced_size_gives_nearly_the_same_thumbnail(fit: Fit, resample: str) -> None:
    buffer, view = io.BytesIO(), View((64, 64), fit, 0.875, resample)
    image_of(1201, 901).save(buffer, "JPEG", quality=90)

    file = Decoder(buffer.getvalue())
    found, expected = thumbnail_of_file(file, view, 1), thumbnail(decode(buffer.getvalue(), 1200), view)

    assert file.at_least(view.min_side).size == (301, 226)
    assert np.abs(found.astype(int) - expected).mean() < 0.5


@pytest.mark.parametrize("view", [View((8, 8), antialias=False), View((8, 8), resample="nearest")])
def test_sampling_needs_all_pixels(view: View) -> None:
    buffer = io.BytesIO()
    image_of(1200, 900).save(buffer, "JPEG")

    assert decode(buffer.getvalue(), view.min_side).size == (1200, 900)


def test_a_thumbnail_can_go_through_jpeg() -> None:
    image, view = image_of(80, 60), View((32, 32), "crop")
    file = io.BytesIO()
    Image.fromarray(thumbnail(image, view)).save(file, "JPEG", quality=75)

    assert difference(thumbnail(image, replace(view, jpeg=True)), np.asarray(Image.open(file))) == 0


def test_views_are_ordered_and_hashable() -> None:
    assert len({View((8, 8)), View((8, 8), "squeeze"), View((8, 8), "crop")}) == 2
    assert sorted([View((8, 8)), View((8, 8), "crop"), View((4, 8))])[0] == View((4, 8))
