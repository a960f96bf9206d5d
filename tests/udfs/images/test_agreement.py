import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.images.decoding import GREY_SIDE as SIDE
from udfs.images.agreement import AGREE, EDGES_DIFFER, agreement, edge_agreement
from udfs.images.registration import Placement

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


def areas(seed: int) -> NDArray[np.intp]:
    """Returns the areas of a drawing: the number of the uppermost of 16 ellipses at each pixel, 0 for the ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:LARGE, :LARGE]
    found = np.zeros((LARGE, LARGE), np.intp)
    for number in range(1, 17):
        (y, x), (high, wide) = rng.uniform(0, LARGE, 2), rng.uniform(LARGE / 16, LARGE / 4, 2)
        found[((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 < 1] = number
    return found


def coloured(drawing: NDArray[np.intp], change: float = 0.0) -> NDArray[np.float64]:
    """Returns a drawing with a grey level for each area, each changed by a random number up to `change`."""
    rng = np.random.default_rng(5)
    levels = rng.permutation(np.linspace(60, 200, 17)) + change * rng.uniform(-1, 1, 17)
    return np.asarray(levels[drawing])


def lines(seed: int) -> NDArray[np.float64]:
    """Returns a page of words in lines that have the same distance on all pages."""
    rng, page = np.random.default_rng(seed), np.full((LARGE, LARGE), 250.0)
    for top in range(12, LARGE - 12, 16):
        ink = rng.random(LARGE // 4).repeat(4) < 0.75
        ink[: LARGE // 12] = False
        page[top : top + 8, ink] = 20
    return page


def edges(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float32]:
    return edge_agreement(a.astype(np.float32), b.astype(np.float32), Placement.identity(len(a)))


def test_a_recoloured_drawing_agrees_also_if_it_is_cropped_and_another_drawing_does_not() -> None:
    drawings = [areas(seed) for seed in range(10)]
    own = np.stack([small(coloured(one)) for one in drawings])
    recoloured = np.stack([small(coloured(one, 45)) for one in drawings])
    cropped = np.stack([small(coloured(one, 45)[10:-14, 16:-4]) for one in drawings])
    assert (agreement(own, recoloured) >= AGREE).all()
    assert (agreement(own, cropped) >= AGREE).mean() >= 0.7
    assert (agreement(own, np.roll(recoloured, 1, axis=0)) < AGREE).all()


def test_edges_agree_whatever_the_contrast_across_them() -> None:
    one = small(scene(1))[None]
    assert edges(one, 255 - one)[0] == pytest.approx(1, abs=1e-3)
    assert edges(one, (one * 0.3 + 90).astype(np.uint8))[0] > 0.9
    assert abs(edges(one, small(scene(2))[None])[0]) < 0.1
    # Each edge in another direction, at the same place.
    assert edges(one, one.transpose(0, 2, 1))[0] < 0.3


def test_smooth_images_agree_with_their_copies_only() -> None:
    smooth = [40 + 0.7 * ndimage.gaussian_filter(scene(seed), 16) for seed in range(10)]
    own = np.stack([small(one) for one in smooth])
    copies = np.stack([small(one[8:-12, 10:-6] * 0.8 + 20) for one in smooth])
    assert (agreement(own, copies) >= AGREE).mean() >= 0.9
    assert (agreement(own, np.roll(copies, 1, axis=0)) < AGREE).all()


def test_pages_with_the_same_distance_of_lines_do_not_agree() -> None:
    pages = np.stack([small(lines(seed)) for seed in range(10)])
    others = np.roll(pages, 1, axis=0)
    assert (agreement(pages, others) < AGREE).all()
    assert (edges(pages, others) < EDGES_DIFFER).all()
    assert (agreement(pages, np.stack([small(lines(seed) * 0.8) for seed in range(10)])) >= AGREE).all()


def test_edges_of_one_direction_do_not_agree_by_it() -> None:
    heights = np.random.default_rng(0).uniform(20, 230, (2, 32)).repeat(2, axis=1)
    stripes = np.broadcast_to(heights[:, :, None], (2, SIDE, SIDE)).astype(np.uint8)
    assert edges(stripes[:1], stripes[1:])[0] < EDGES_DIFFER


def test_edges_do_not_depend_on_the_batch() -> None:
    own = np.stack([small(scene(seed)) for seed in range(4)])
    copies = np.stack([small(scene(seed) * 0.8) for seed in (0, 1, 7, 8)])
    alone = [edges(own[[i]], copies[[i]])[0] for i in range(4)]
    assert np.array_equal(edges(own, copies), alone)
