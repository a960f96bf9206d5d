import numpy as np
import pytest
from numpy.typing import NDArray

from models.images.edges import EDGE_SIDE, edge_map, strengths


def ramps(slopes: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Returns an image whose parts have columns that alternate by a number of grey levels."""
    cell = side // slopes.shape[0]
    amplitude = slopes.repeat(cell, 0).repeat(cell, 1)
    return (100 + amplitude * (np.arange(side) % 2)).astype(np.uint8)


@pytest.mark.parametrize("side", [128, 512])
def test_a_map_says_how_strong_the_edges_of_each_part_are(side: int) -> None:
    slopes = np.random.default_rng(0).integers(1, 120, (EDGE_SIDE, EDGE_SIDE)).astype(float)
    found = edge_map(ramps(slopes, side))
    assert found is not None and found.shape == (EDGE_SIDE, EDGE_SIDE)
    # Columns between two parts have another slope.
    assert np.median(np.abs(strengths(found) / slopes - 1)) < 0.06


def test_a_step_of_the_scale_is_three_percent_and_the_largest_gradient_fits() -> None:
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = edge_map(checks)
    assert found is not None and found.max() == 204 and strengths(found).max() == pytest.approx(361, rel=0.03)
    assert strengths(np.array([0, 1, 24, 48], np.uint8)).tolist() == pytest.approx([0, 0.0293, 1, 3], abs=1e-4)


def test_parts_of_sides_that_do_not_divide_have_means_of_their_own() -> None:
    flat = np.full((101, 333), 90, np.uint8)
    flat[:, ::2] = 110
    found = edge_map(flat)
    assert found is not None and np.ptp(found) == 0


@pytest.mark.parametrize(("shape", "is_measured"), [((32, 32), True), ((31, 900), False), ((900, 31), False)])
def test_an_image_with_fewer_pixels_than_the_map_needs_has_none(shape: tuple[int, int], is_measured: bool) -> None:
    assert (edge_map(np.zeros(shape, np.uint8)) is not None) is is_measured
