import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from tests.builders.scenes import captioned, scene, thumbnail
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
    assert overlay_of.func(a, b).tolist()[1:] == [0, 0]
    assert overlay_of.func(pd.Series([None]), pd.Series([None])).tolist() == [0]
