from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.builders.pdq_images import KINDS, Pixels, noise, resized, turned
from udfs.hashes import pdq
from udfs.hashes.pdq import PDQ_SIDE, pdq_of, pdq_of_thumbnail

# By pdqhash 0.2.8. The other tests that compare with it need the package (test_pdq_by_pdqhash.py).
OF_PDQHASH = MappingProxyType(
    {
        "plain orange": ("5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa", 0),
        "one pixel": ("aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555", 1),
        "diagonal gradient": ("aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555aaaa5555", 0),
        "disc": ("9e782da65867a596e1a6d259879b5a795a58a5a6e96197868786785a7a5e2720", 100),
        "stripes of three pixels": ("55555555555555555555555555555555aaaaaaaa5555aaaa555555555555aaaa", 100),
        "board of 32 pixels": ("aafd00d5aad500d5a8d500d5a0d500d5ff2aff2a80d5ff2a80d5ff2a80d5ff2a", 100),
        "noise": ("efdc718bcf2e54f1e0c73cf6e40e8e58af362d44c5666122a1e96aa45144f266", 100),
        "dark noise": ("a50cd211ff9a2ad24a3be931c82b5514d8f587ec5c9e6fec70c0e85eabe188cc", 0),
        "blurred": ("69ee7f6c142cd9cfde4936016997026c867809f625f6e67148d365b1952b843e", 100),
    }
)

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


@pytest.mark.parametrize("name", OF_PDQHASH)
def test_hash_and_quality_are_those_that_pdqhash_gave(name: str) -> None:
    code, quality = pdq_of_thumbnail(KINDS[name]())
    assert (code.hex(), quality) == OF_PDQHASH[name]


@kinds
def test_float32_errors_are_far_below_the_margins(kind: Callable[[], Pixels]) -> None:
    for image in turned(kind()):
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
    image = noise(300, 500)
    assert pdq_of(image) == pdq_of_thumbnail(resized(image))


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64, 3), np.uint8), np.zeros((PDQ_SIDE, PDQ_SIDE), np.uint8), np.zeros((PDQ_SIDE, PDQ_SIDE, 3))],
    ids=["size", "grey", "float"],
)
def test_thumbnail_of_another_shape_or_type_is_refused(image: NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="PDQ needs uint8 of shape"):
        pdq_of_thumbnail(image)
