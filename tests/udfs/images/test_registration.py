"""Comparison of aligned thumbnails: differences of copies are removed, differences of content are found."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from models.images.decoding import GREY_SIDE as SIDE
from models.images.decoding import grey
from udfs.images.registration import Placement, alike, largest_difference, registered

BIG = 4 * SIDE


def scene(seed: int, hour: float | None = None) -> NDArray[np.float64]:
    """Draws blobs of random greys, and a clock if `hour` is given."""
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:BIG, :BIG]
    picture = np.full((BIG, BIG), 120.0)
    for _ in range(12):
        y, x = generator.uniform(0, BIG, 2)
        size = generator.uniform(0.06, 0.2) * BIG
        picture[np.hypot(rows - y, columns - x) < size] = generator.uniform(30, 220)
    if hour is not None:
        y, x = rows - BIG / 2, columns - BIG / 2
        picture[np.hypot(y, x) < 0.35 * BIG] = 235
        turn = np.pi * hour / 6
        along, across = np.sin(turn) * x - np.cos(turn) * y, np.cos(turn) * x + np.sin(turn) * y
        picture[(along > 0) & (along < 0.28 * BIG) & (np.abs(across) < 0.012 * BIG)] = 20
    return picture


def small(picture: NDArray[np.float64]) -> NDArray[np.uint8]:
    rows, columns = picture.shape
    smooth = ndimage.gaussian_filter(picture, BIG / SIDE / 2)
    resized = ndimage.zoom(smooth, (SIDE / rows, SIDE / columns), order=1, mode="nearest", grid_mode=True)
    return resized.clip(0, 255).astype(np.uint8)[None]


def cropped(picture: NDArray[np.float64]) -> NDArray[np.float64]:
    return picture[int(0.04 * BIG) : int(0.97 * BIG), int(0.02 * BIG) : int(0.94 * BIG)]


CHANGES = {
    "darker": lambda p: 0.6 * p,
    "flatter": lambda p: 0.5 * p + 70,
    "cropped": cropped,
    "framed": lambda p: np.pad(p, BIG // 16, constant_values=10),
    "shifted": lambda p: np.pad(p, ((BIG // 20, 0), (0, BIG // 25)), constant_values=255)[:BIG, BIG // 25 :],
    "blurred": lambda p: ndimage.gaussian_filter(p, 4),
    "grainy": lambda p: p + np.random.default_rng(1).normal(0, 8, p.shape),
    "smaller and grainy": lambda p: p[::2, ::2] + np.random.default_rng(2).normal(0, 8, (BIG // 2, BIG // 2)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("seed", range(4))
def test_copies_match_and_clocks_at_other_times_do_not(change: str, seed: int) -> None:
    one = scene(seed, hour=1)
    copy, later = CHANGES[change](one), CHANGES[change](scene(seed, hour=2))
    assert alike(small(one), small(copy)).tolist() == [True]
    assert alike(small(one), small(later)).tolist() == [False]
    assert alike(small(copy), small(one)).tolist() == [True]


def test_different_images_do_not_match() -> None:
    pictures = np.concatenate([small(scene(seed)) for seed in range(20)])
    assert not alike(pictures[:-1], pictures[1:]).any()
    assert alike(pictures, pictures).all() and (largest_difference(pictures, pictures) < 0.02).all()


def test_registration_finds_scale_and_shift_of_a_framed_copy() -> None:
    picture = scene(3)
    framed = np.pad(picture, BIG // 10, constant_values=0)
    scale_x, shift_x, scale_y, shift_y = registered(
        small(picture).astype(np.float32), small(framed).astype(np.float32)
    ).numbers[0]
    share = BIG / len(framed)
    assert abs(scale_x - share) < 0.01 and abs(scale_y - share) < 0.01
    assert abs(shift_x) < 0.2 and abs(shift_y) < 0.2


def test_pixels_outside_the_other_thumbnail_are_not_compared() -> None:
    numbers = np.array([[1, 10, 1, 0]], np.float32)
    covered = Placement(numbers).covered(SIDE)[0]
    assert covered[:, : SIDE - 10].all() and not covered[:, SIDE - 10 :].any()
    ramp = np.broadcast_to(np.arange(SIDE, dtype=np.float32), (1, SIDE, SIDE))
    assert np.allclose(Placement(numbers).warped(ramp)[0, :, : SIDE - 10], ramp[0, :, 10:])


def test_rounded_corners_are_ignored() -> None:
    whole = scene(5)
    rows, columns = np.abs(np.mgrid[:BIG, :BIG] - (BIG - 1) / 2)
    rounded, radius = whole.copy(), 0.1 * BIG
    rounded[np.hypot((rows - BIG / 2 + radius).clip(0), (columns - BIG / 2 + radius).clip(0)) > radius] = 255
    assert alike(small(whole), small(rounded)).all()
    moved = rounded.copy()
    moved[BIG // 2 - 20 : BIG // 2 + 20, :40] = 255
    assert not alike(small(whole), small(moved)).any()


def test_a_plain_image_matches_its_copy_with_compression_artefacts() -> None:
    plain = np.full((1, SIDE, SIDE), 128, np.uint8)
    traces = plain + np.random.default_rng(0).integers(0, 2, plain.shape, dtype=np.uint8)
    assert alike(plain, traces).all()


def test_the_result_of_a_pair_does_not_depend_on_other_pairs() -> None:
    pictures = np.concatenate([small(scene(seed % 7, hour=1 + seed % 3)) for seed in range(150)])
    order = np.random.default_rng(0).permutation(150)
    together = alike(pictures, pictures[order])
    assert together[:12].tolist() == [
        bool(alike(pictures[i : i + 1], pictures[order[i : i + 1]])[0]) for i in range(12)
    ]
    assert 0 < together.sum() < 150


def test_grey_is_the_luma() -> None:
    assert grey(np.array([[[[0, 255, 0], [0, 0, 255]]]], np.uint8)).tolist() == [[[149, 29]]]
