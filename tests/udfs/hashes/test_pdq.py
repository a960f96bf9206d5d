import platform
from collections.abc import Callable, Iterator
from types import MappingProxyType

import numpy as np
import pdqhash
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from jobs.commands.generate.pictures.drawing import draw
from jobs.commands.generate.pictures.plan import PictureSet, plan
from jobs.commands.generate.pictures.scenes import compose
from models.images.resizing import View, thumbnail
from tests.builders.images import blobs, pattern
from udfs.hashes import pdq
from udfs.hashes.pdq import PDQ_SIDE, pdq_of, pdq_of_thumbnail

Pixels = NDArray[np.uint8]

ROWS, COLUMNS = np.mgrid[:PDQ_SIDE, :PDQ_SIDE]

# On ARM, compilers may join a multiplication and an addition, which rounds once instead of twice.
rounds_as_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="pdqhash may round differently on this processor"
)


def _grey(values: NDArray[np.generic]) -> Pixels:
    return np.repeat(values.astype(np.uint8)[..., None], 3, axis=2)


def _resized(image: Image.Image) -> Pixels:
    return thumbnail(image, View((PDQ_SIDE, PDQ_SIDE)))


def _noise(height: int, width: int, highest: int = 255) -> Image.Image:
    return Image.fromarray(np.random.default_rng(4).integers(0, highest + 1, (height, width, 3), dtype=np.uint8))


def _text() -> Pixels:
    image = Image.new("RGB", (PDQ_SIDE, PDQ_SIDE), "white")
    for line in range(16):
        ImageDraw.Draw(image).text((4, 16 * line), f"Line {line} of a page of text, {line**5}", fill="black")
    return np.asarray(image)


def _drawing(index: int) -> Pixels:
    pictures = PictureSet(count=400, seed=5)
    return _resized(draw(pictures.seed, compose(pictures.seed, plan(pictures).role(index))))


def _single_pixel() -> Pixels:
    image = np.zeros((PDQ_SIDE, PDQ_SIDE, 3), np.uint8)
    image[-1, -1] = 255
    return image


KINDS = MappingProxyType(
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
        "noise": lambda: np.asarray(_noise(PDQ_SIDE, PDQ_SIDE)),
        "dark noise": lambda: np.asarray(_noise(PDQ_SIDE, PDQ_SIDE, highest=2)),
        "bright noise": lambda: 255 - np.asarray(_noise(PDQ_SIDE, PDQ_SIDE, highest=40)),
        "tiny": lambda: _resized(_noise(2, 3)),
        "very wide": lambda: _resized(_noise(3, 2000)),
        "very tall": lambda: _resized(_noise(2000, 3)),
        "blurred": lambda: pattern(2, PDQ_SIDE),
        "blobs": lambda: blobs(1, PDQ_SIDE)[0],
        "text": _text,
        "drawing": lambda: _drawing(0),
        "another drawing": lambda: _drawing(17),
    }
)

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def _turned(image: Pixels) -> Iterator[Pixels]:
    """Yields an image, its rotations and their mirror images, as views."""
    for quarter in range(4):
        yield np.rot90(image, quarter)
        yield np.rot90(image, quarter)[:, ::-1]


def _by_package(image: Pixels) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(np.ascontiguousarray(image))
    return np.packbits(np.asarray(bits, np.uint8)).tobytes(), quality


@rounds_as_x86
@kinds
def test_hash_and_quality_are_those_of_pdqhash(kind: Callable[[], Pixels]) -> None:
    for image in _turned(kind()):
        assert pdq_of_thumbnail(image) == _by_package(image)


@rounds_as_x86
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]), st.integers(1, 256))
def test_random_squares_have_the_hash_of_pdqhash(seed: int, side: int, levels: int) -> None:
    values = np.random.default_rng(seed).integers(0, levels, (PDQ_SIDE // side, PDQ_SIDE // side, 3), dtype=np.uint8)
    image = values.repeat(side, axis=0).repeat(side, axis=1)
    assert pdq_of_thumbnail(image) == _by_package(image)


@rounds_as_x86
@kinds
def test_float32_way_gives_the_floats_of_pdqhash(kind: Callable[[], Pixels]) -> None:
    for image in _turned(kind()):
        package, quality = pdqhash.compute_float(np.ascontiguousarray(image))
        own = pdq._coefficients_in_float32(pdq._reduced_in_float32(image)).ravel()[::-1]
        np.testing.assert_array_equal(own, package)
        assert pdq._pdq_in_float32(image)[1] == quality


@kinds
def test_float32_errors_are_far_below_the_margins(kind: Callable[[], Pixels]) -> None:
    for image in _turned(kind()):
        exact, rounded = pdq._reduced(image), pdq._reduced_in_float32(image)
        error = np.abs(pdq._coefficients(exact) - pdq._coefficients_in_float32(rounded)).ravel()
        assert (error / pdq._coefficient_margins()).max() < 0.25
        assert np.abs(pdq._gradients(exact) - pdq._gradients(rounded)).max() < 0.2 * pdq._GRADIENT_MARGIN


def test_exact_way_is_taken_for_most_images_and_not_for_ties() -> None:
    certain = [name for name, kind in KINDS.items() if pdq._pdq_if_certain(kind()) is not None]
    assert {"noise", "blurred", "text", "drawing"} <= set(certain)
    assert not {"plain black", "plain orange", "gradient", "diagonal gradient"} & set(certain)


def test_exact_way_gives_up_if_an_error_could_swap_two_coefficients() -> None:
    margins = pdq._coefficient_margins()
    values = np.linspace(-100, 100, 256)
    values[128] = values[127] + 0.99 * (margins[127] + margins[128])
    assert pdq._bits_if_certain(values.reshape(16, 16)) is None
    values[128] = values[127] + 1.01 * (margins[127] + margins[128])
    assert pdq._bits_if_certain(values.reshape(16, 16)) == b"\xff" * 16 + b"\0" * 16


def test_exact_way_gives_up_if_an_error_could_change_the_quality() -> None:
    assert pdq._quality_if_certain(np.full(90, 1.5)) == 1
    assert pdq._quality_if_certain(np.full(90, 1.001)) is None
    assert pdq._quality_if_certain(np.full(9000, 1.5)) == 100


@pytest.mark.parametrize("name", ["noise", "symmetric", "plain orange"])
def test_result_depends_neither_on_memory_layout_nor_on_other_images(name: str) -> None:
    image = KINDS[name]()
    wide = np.zeros((PDQ_SIDE, PDQ_SIDE, 6), np.uint8)
    wide[..., ::2] = image
    layouts = [image, np.asfortranarray(image), wide[..., ::2], np.ascontiguousarray(image[::-1])[::-1]]

    alone = pdq_of_thumbnail(image)
    among_others = [pdq_of_thumbnail(one) for other in layouts for one in (KINDS["text"](), other)][1::2]

    assert among_others == [alone] * len(layouts)
    assert pdq_of_thumbnail(KINDS["text"]()) != alone


@pytest.mark.parametrize("name", ["plain black", "plain orange", "board of one pixel"])
def test_quality_of_an_image_without_detail_is_0(name: str) -> None:
    assert pdq_of_thumbnail(KINDS[name]())[1] == 0


def test_image_of_another_size_is_resized_first() -> None:
    image = _noise(300, 500)
    assert pdq_of(image) == pdq_of_thumbnail(_resized(image))


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64, 3), np.uint8), np.zeros((PDQ_SIDE, PDQ_SIDE), np.uint8), np.zeros((PDQ_SIDE, PDQ_SIDE, 3))],
    ids=["size", "grey", "float"],
)
def test_thumbnail_of_another_shape_or_type_is_refused(image: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="PDQ needs uint8 of shape"):
        pdq_of_thumbnail(image)
