import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.images.decoding import GREY_SIDE as SIDE
from udfs.images.agreement import AGREE, agreement

LARGE = 4 * SIDE


def scene(seed: int) -> NDArray[np.float64]:
    """Returns a picture with structure of all sizes, as photographs have, of shape (LARGE, LARGE)."""
    noise = np.fft.rfft2(np.random.default_rng(seed).normal(size=(LARGE, LARGE)))
    down, across = np.fft.fftfreq(LARGE)[:, None], np.fft.rfftfreq(LARGE)[None]
    spectrum = noise / np.maximum(np.hypot(down, across), 1 / LARGE)
    values = np.fft.irfft2(spectrum, (LARGE, LARGE))
    return np.clip(128 + 50 * values / values.std(), 0, 255)


def small(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    height, width = picture.shape
    resized = ndimage.zoom(ndimage.gaussian_filter(picture, 1.5), (SIDE / height, SIDE / width), order=1)
    return resized.round().clip(0, 255).astype(np.uint8)


def framed(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.pad(picture, 20, constant_values=250)


def captioned(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    copy = picture.copy()
    copy[200:220, 30:200:8] = 255
    return copy


def shifted(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    copy = np.full_like(picture, 255)
    copy[15:, 15:] = picture[:-15, :-15]
    return copy


CHANGES = {
    "cropped": lambda p: p[5:-46, 40:-11],
    "framed": framed,
    "shifted": shifted,
    "darker": lambda p: p * 0.6,
    "less contrast": lambda p: (p - 128) * 0.5 + 150,
    "a quarter of the contrast": lambda p: (p - 128) * 0.25 + 128,
    "captioned": captioned,
    "noisy": lambda p: p + np.random.default_rng(9).normal(0, 12, p.shape),
    "cropped and darker": lambda p: p[20:-20, 20:-20] * 0.7,
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_copy_agrees_with_its_original(name: str) -> None:
    originals = [scene(seed) for seed in range(12)]
    copies = np.stack([small(CHANGES[name](one)) for one in originals])
    assert (agreement(np.stack([small(one) for one in originals]), copies) >= AGREE).mean() >= 0.9


def test_different_images_with_the_same_layout_do_not_agree() -> None:
    layout = ndimage.gaussian_filter(scene(100), 24)
    layout = 128 + 60 * (layout - layout.mean()) / layout.std()
    own = [layout + 0.4 * (scene(seed) - ndimage.gaussian_filter(scene(seed), 24)) for seed in range(20)]
    thumbnails = np.stack([small(one) for one in own])
    found = agreement(thumbnails[:10], thumbnails[10:])
    assert np.corrcoef(thumbnails[0].ravel(), thumbnails[10].ravel())[0, 1] > 0.8  # they look alike as a whole
    assert found.max() < AGREE / 2


def test_a_frame_does_not_count_as_structure() -> None:
    a, b = framed(scene(1)), framed(scene(2))
    assert agreement(small(a)[None], small(b)[None])[0] < AGREE / 2


def test_agreement_does_not_depend_on_the_batch_and_is_high_both_ways() -> None:
    originals = np.stack([small(scene(seed)) for seed in range(70)])
    copies = np.stack([small(scene(seed)[10:-30, 25:-5]) for seed in range(70)])
    whole = agreement(originals, copies)
    assert np.array_equal(whole[65:], agreement(originals[65:], copies[65:]))
    assert (agreement(copies, originals) >= AGREE).all() and (whole >= AGREE).all()


def test_plain_thumbnails_do_not_agree_by_chance() -> None:
    plain = np.full((3, SIDE, SIDE), 200, np.uint8)
    assert np.isfinite(agreement(plain, plain)).all()
    assert agreement(plain[:1], small(scene(1))[None])[0] < AGREE
