import numpy as np
import pytest

from udfs.labels.simulated_labeller import SimulatedLabeller

KEYS = [f"picture-{number}.png" for number in range(20_000)]
TRUTH = np.arange(len(KEYS)) % 10 == 0


def wrong(labeller: SimulatedLabeller, category: str = "boats") -> np.ndarray:
    return labeller.answers(KEYS, TRUTH, category) != TRUTH


@pytest.mark.parametrize("errors", [0.0, 0.02, 0.3, 1.0])
def test_error_rate_is_the_same_for_positives_and_negatives(errors):
    found = wrong(SimulatedLabeller(errors))
    for rows in (TRUTH, ~TRUTH):
        assert abs(found[rows].mean() - errors) <= 4 * np.sqrt(errors * (1 - errors) / rows.sum())


def test_labeller_repeats_its_errors_and_other_labellers_make_others():
    first = wrong(SimulatedLabeller(0.2, 1, "ann"))
    backwards = SimulatedLabeller(0.2, 1, "ann").answers(KEYS[::-1], TRUTH[::-1], "boats")[::-1]
    assert np.array_equal(first, backwards != TRUTH)
    others = [wrong(SimulatedLabeller(0.2, 1, "bob")), wrong(SimulatedLabeller(0.2, 2, "ann"))]
    others.append(wrong(SimulatedLabeller(0.2, 1, "ann"), "cars"))
    assert all(abs((first & other).mean() - 0.04) < 0.01 for other in others)
