import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from models.images.decoding import Decoder
from models.images.quality import QUALITY_SIDE, Quality, colourfulness, content_box, jpeg_quality, quality
from tests.builders.scenes import scene

Change = Callable[[Image.Image], Image.Image]


def measured(image: Image.Image) -> Quality:
    return quality(np.asarray(image))


def noisy(image: Image.Image) -> Image.Image:
    levels = np.asarray(image) + np.random.default_rng(1).normal(0, 8, (image.height, image.width))
    return Image.fromarray(levels.clip(0, 255).astype(np.uint8))


def enlarged(image: Image.Image, by: float, how: Image.Resampling) -> Image.Image:
    return image.resize((round(image.width * by), round(image.height * by)), how)


@pytest.mark.parametrize("how", [Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS])
@pytest.mark.parametrize("by", [1.6, 2.0, 3.0])
def test_an_enlarged_image_has_no_more_detail_than_before(how: Image.Resampling, by: float) -> None:
    for seed in range(5):
        image = scene(seed)
        assert measured(image).sharpness == 1.0
        assert by * measured(enlarged(image, by, how)).sharpness <= 1.05


@pytest.mark.parametrize("radius", [1, 2, 4])
def test_a_blurred_image_has_less_detail(radius: int) -> None:
    found = measured(scene(0).filter(ImageFilter.GaussianBlur(radius)))
    assert found.sharpness <= 0.6 / radius**0.5


def test_a_smaller_image_is_as_sharp_as_the_large_one() -> None:
    image = scene(0, (640, 480))
    assert measured(image.resize((320, 240), Image.Resampling.LANCZOS)).sharpness == 1.0


@pytest.mark.parametrize("change", [noisy, lambda image: image.filter(ImageFilter.UnsharpMask(2, 150, 0))])
def test_noise_and_sharpening_raise_the_noise(change: Change) -> None:
    for seed in range(5):
        image = scene(seed)
        assert measured(change(image)).noise > measured(image).noise + 2


@pytest.mark.parametrize("colour", [0, 40, 255])
def test_a_frame_is_cut_off_also_after_compression(colour: int) -> None:
    framed = ImageOps.expand(scene(0), (20, 30, 20, 10), colour)
    buffer = io.BytesIO()
    framed.save(buffer, "JPEG", quality=60)
    left, top, right, bottom = content_box(np.asarray(Image.open(buffer)))
    assert np.abs(np.array([left, top, right, bottom]) - (20, 30, 340, 270)).max() <= 3
    assert measured(framed).unframed == pytest.approx(320 * 240 / (360 * 280), rel=0.03)


@pytest.mark.parametrize("width", [3, 13, 16, 17, 18, 19, 20, 21, 22, 40, 90])
def test_frames_of_all_widths_are_cut_off(width: int) -> None:
    framed = np.asarray(ImageOps.expand(scene(0), (width, 0, 0, width), 40).convert("L"))
    left, top, right, bottom = content_box(framed)
    # A line beyond the edge may look like the frame.
    assert top == 0 and right == 320 + width
    assert 0 <= left - width <= 1 and 0 <= 240 - bottom <= 1


def test_a_strip_with_text_below_an_image_is_cut_off() -> None:
    image = scene(0)
    page = Image.new("L", (320, 280), 255)
    page.paste(image)
    ImageDraw.Draw(page).text((10, 248), "on Monday again", font=ImageFont.load_default(20), fill=0)
    assert abs(content_box(np.asarray(page))[3] - 240) <= 2


@pytest.mark.parametrize("size", [16, 20])
def test_a_line_of_the_strip_may_be_full_of_letters(size: int) -> None:
    image = scene(0, (160, 120))
    page = Image.new("L", (160, 150), 255)
    page.paste(image)
    ImageDraw.Draw(page).text((1, 122), "on Monday again", font=ImageFont.load_default(size), fill=0)
    assert abs(content_box(np.asarray(page))[3] - 120) <= 2


def test_a_plain_background_is_no_frame() -> None:
    thing = Image.new("L", (320, 240), 250)
    draw = ImageDraw.Draw(thing)
    draw.ellipse((60, 40, 260, 200), 90)
    draw.rectangle((140, 20, 180, 60), 60)
    assert content_box(np.asarray(thing)) == (0, 0, 320, 240)


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (31, 300), (32, 32), (4000, 2)])
def test_small_and_narrow_images_have_values(size: tuple[int, int]) -> None:
    found = measured(Image.new("L", size, 128))
    assert (found.unframed, found.sharpness) == (1.0, 1.0) and np.isfinite(found.noise)


@pytest.mark.parametrize("level", [0, 255])
def test_a_plain_image_has_values(level: int) -> None:
    assert np.isfinite(measured(Image.new("L", (200, 200), level)).noise)


@pytest.mark.parametrize("wanted", [20, 30, 50, 75, 90, 95])
def test_jpeg_quality_is_that_of_the_encoder(wanted: int) -> None:
    buffer = io.BytesIO()
    scene(0).save(buffer, "JPEG", quality=wanted)
    decoder = Decoder(buffer.getvalue())
    decoder.at_least(64)
    assert abs(jpeg_quality(decoder.jpeg_tables) - wanted) <= 1


def test_a_png_has_no_quantization_tables() -> None:
    buffer = io.BytesIO()
    scene(0).save(buffer, "PNG")
    decoder = Decoder(buffer.getvalue())
    decoder.at_least(64)
    assert not decoder.jpeg_tables


def test_luma_is_decoded_with_enough_pixels_for_detail() -> None:
    large = enlarged(scene(0, (600, 450)), 2, Image.Resampling.BICUBIC).convert("RGB")
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=90)
    decoder = Decoder(buffer.getvalue())
    assert decoder.at_least(256).size == (600, 450)
    luma = decoder.luma(QUALITY_SIDE)
    assert luma.shape == (900, 1200) and quality(luma, decoder.size).sharpness < 0.6
    assert np.abs(luma.astype(int) - np.asarray(large.convert("L"))).mean() < 2


def test_detail_of_a_reduced_image_counts_against_the_whole_one() -> None:
    large = enlarged(scene(0, (640, 480)), 4, Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    large.save(buffer, "JPEG", quality=90)
    decoder = Decoder(buffer.getvalue())
    decoder.at_least(256)
    luma = decoder.luma(QUALITY_SIDE)
    assert luma.shape == (960, 1280) and 4 * quality(luma, decoder.size).sharpness < 1.1


def test_a_grey_image_has_no_colour() -> None:
    colours: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)
    pixels = colours.repeat(8, 1).repeat(8, 2)
    assert colourfulness(pixels)[0] > 50
    assert colourfulness(pixels[..., :1].repeat(3, axis=3))[0] == 0


def test_noise_in_its_colours_does_not_make_a_grey_image_colourful() -> None:
    noisy = np.random.default_rng(0).normal(128, 16, (1, 64, 64, 3)).clip(0, 255).astype(np.uint8)
    assert colourfulness(noisy)[0] < 4
