import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.builders.scenes import captioned, edges_of, scene, thumbnail
from udfs.images.overlays import overlay_of, overlays


def thumbnails(change: object, count: int = 20) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    assert callable(change)
    scenes = [scene(seed) for seed in range(count)]
    return np.stack([thumbnail(one) for one in scenes]), np.stack([thumbnail(change(one)) for one in scenes])


def watermarked(image: Image.Image) -> Image.Image:
    layer = Image.new("L", image.size, 0)
    for top in (20, 90, 160):
        ImageDraw.Draw(layer).text((20, top), "a stock photo", font=ImageFont.load_default(40), fill=110)
    return Image.composite(Image.new("L", image.size, 255), image, layer)


def labelled(image: Image.Image) -> Image.Image:
    copy = image.copy()
    draw = ImageDraw.Draw(copy)
    draw.rectangle((220, 190, 310, 230), 40)
    draw.text((226, 196), "LOGO", font=ImageFont.load_default(26), fill=230)
    return copy


@pytest.mark.parametrize("change", [captioned, watermarked, labelled])
def test_the_copy_with_an_overlay_is_told(change: object) -> None:
    originals, copies = thumbnails(change)
    assert (overlays(originals, copies) == -1).mean() >= 0.8
    assert (overlays(copies, originals) == 1).mean() >= 0.8
    assert not (overlays(originals, copies) == 1).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.filter(ImageFilter.GaussianBlur(2)),
        lambda image: image.filter(ImageFilter.UnsharpMask(2, 150, 0)),
        lambda image: image.point(lambda level: level * 0.6 + 20),
        lambda image: image.crop((16, 12, 304, 228)),
        lambda image: image.resize((120, 90)),
    ],
    ids=["same", "blurred", "sharpened", "darker", "cropped", "smaller"],
)
def test_other_changes_are_no_overlay(change: object) -> None:
    originals, copies = thumbnails(change)
    assert (overlays(originals, copies) != 0).mean() <= 0.1


def test_without_a_thumbnail_there_is_no_overlay() -> None:
    originals, copies = thumbnails(captioned, 2)
    a = pd.Series([originals[0].tobytes(), None, originals[1].tobytes()])
    b = pd.Series([copies[0].tobytes(), copies[1].tobytes(), None])
    alike = pd.Series([False] * 3)
    assert overlay_of.func(a, b, alike).tolist()[1:] == [0, 0]
    assert overlay_of.func(pd.Series([None]), pd.Series([None]), alike[:1]).tolist() == [0]


# With edge maps ---------------------------------------------------------------------------------------------------


def appearances(images: list[Image.Image]) -> pd.Series:
    return pd.Series([thumbnail(one).tobytes() + edges_of(one) for one in images])


def found(change: object, count: int = 20, differ: bool = False) -> NDArray[np.int32]:
    """Returns -1 for each copy that has an overlay, 1 for each original that has one."""
    assert callable(change)
    scenes = [scene(seed) for seed in range(count)]
    a, b = appearances(scenes), appearances([change(one) for one in scenes])
    answer, turned = (overlay_of.func(*pair, pd.Series([differ] * count)).to_numpy() for pair in ((a, b), (b, a)))
    assert (answer == -turned).all()
    return np.asarray(answer)


def faintly_signed(image: Image.Image) -> Image.Image:
    """Returns a copy with a line of text that a thumbnail hardly shows."""
    copy = image.copy()
    ImageDraw.Draw(copy).text((200, 222), "photo: a. example", font=ImageFont.load_default(12), fill=200)
    return copy


def noisy(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image, np.float32) + np.random.default_rng(0).normal(0, 6, (image.height, image.width))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize(
    ("change", "differ", "least"),
    [
        (captioned, False, 1.0),
        (captioned, True, 1.0),
        (watermarked, False, 1.0),
        (watermarked, True, 0.9),
        (labelled, False, 0.9),  # the box hides edges of the scene too
        (labelled, True, 0.8),
        (faintly_signed, False, 0.9),
    ],
)
def test_the_copy_with_an_overlay_is_told_by_edges_too(change: object, differ: bool, least: float) -> None:
    answer = found(change, differ=differ)
    assert (answer == -1).mean() >= least and (answer == 1).sum() <= 1


def test_a_thumbnail_does_not_show_what_edges_tell() -> None:
    originals, copies = thumbnails(faintly_signed)
    assert (overlays(originals, copies) == -1).mean() < 0.5


@pytest.mark.parametrize(
    "change", [noisy, lambda image: image.filter(ImageFilter.UnsharpMask(2, 150, 0))], ids=["noisy", "sharpened"]
)
def test_a_noisy_or_sharpened_copy_has_edges_that_its_original_lacks(change: object) -> None:
    answer = found(change)
    assert (answer == -1).mean() >= 0.9 and not (answer == 1).any()


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image,
        lambda image: image.filter(ImageFilter.GaussianBlur(1)),
        lambda image: image.point(lambda level: level * 0.6 + 20),
        lambda image: image.resize((256, 192), Image.Resampling.LANCZOS),
    ],
    ids=["same", "blurred", "darker", "smaller"],
)
def test_weaker_edges_do_not_make_an_original_overlaid(change: object) -> None:
    assert not found(change, differ=True).any()


def test_a_moved_copy_is_compared_by_its_thumbnail() -> None:
    def cropped_and_captioned(image: Image.Image) -> Image.Image:
        return captioned(image.crop((24, 18, 296, 222)))

    answer = found(cropped_and_captioned)
    assert (answer == -1).mean() >= 0.5 and not (answer == 1).any()


def test_one_image_without_edges_leaves_the_decision_to_thumbnails() -> None:
    images = [scene(seed) for seed in range(4)]
    copies = [captioned(one) for one in images]
    bare = pd.Series([thumbnail(one).tobytes() for one in copies])
    by_thumbnails = overlays(*(np.stack([thumbnail(one) for one in some]) for some in (images, copies)))
    alike = pd.Series([False] * 4)
    assert overlay_of.func(appearances(images), bare, alike).tolist() == by_thumbnails.tolist()
