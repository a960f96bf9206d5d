"""Winnow's PDQ has the bits of the package `pdqhash`, which is compiled when it is installed (see `make setup`)."""

import platform
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.builders.images import pattern
from tests.builders.pdq_images import KINDS, Pixels, turned
from udfs.hashes import pdq
from udfs.hashes.pdq import PDQ_SIDE, pdq_of, pdq_of_thumbnail

pdqhash = pytest.importorskip("pdqhash", reason="pdqhash needs a C++ compiler and the headers of Python")

# On ARM, compilers may join a multiplication and an addition, which rounds once instead of twice.
rounds_as_x86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64"), reason="pdqhash may round differently on this processor"
)

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())


def _by_package(image: Pixels) -> tuple[bytes, int]:
    bits, quality = pdqhash.compute(np.ascontiguousarray(image))
    return np.packbits(np.asarray(bits, np.uint8)).tobytes(), quality


@rounds_as_x86
@kinds
def test_hash_and_quality_are_those_of_pdqhash(kind: Callable[[], Pixels]) -> None:
    for image in turned(kind()):
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
    for image in turned(kind()):
        package, quality = pdqhash.compute_float(np.ascontiguousarray(image))
        own = pdq._coefficients_in_float32(pdq._reduced_in_float32(image)).ravel()[::-1]
        np.testing.assert_array_equal(own, package)
        assert pdq._pdq_in_float32(image)[1] == quality


def test_bits_have_the_order_of_other_programs() -> None:
    image = Image.fromarray(pattern(4, 128))
    own = np.unpackbits(np.frombuffer(pdq_of(image)[0], np.uint8))
    package = np.asarray(pdqhash.compute(np.asarray(image.resize((PDQ_SIDE, PDQ_SIDE))))[0], np.uint8)
    assert (own != package).sum() < 60
