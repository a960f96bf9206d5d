import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import ModelError
from models.stats import thresholds
from models.stats.thresholds import Target

SIMULATIONS = 2000


def coverage(draw, recall_at, target, positives, negatives):
    """The share of simulated calibrations whose true recall is at or above the bound they claim."""
    rng = np.random.default_rng(7)
    held = 0
    for _ in range(SIMULATIONS):
        found = thresholds.calibrate(draw(rng, positives), rng.random(negatives) * 0.6, target)
        held += recall_at(found.threshold) >= found.recall_lower
    return held / SIMULATIONS


def test_lower_bound_is_the_share_with_the_right_tail_probability():
    from scipy import stats

    bound = thresholds.lower_bound(90, 100, 0.95)

    assert stats.binom.sf(89, 100, bound) == pytest.approx(0.05)


def test_bounds_without_trials_are_trivial():
    assert thresholds.lower_bound(0, 0, 0.95) == 0.0
    assert thresholds.upper_bound(0, 0, 0.95) == 1.0
    assert thresholds.interval(0, 0, 0.95) == (0.0, 1.0)


@given(st.integers(1, 400), st.floats(0.5, 0.995), st.floats(0.5, 0.995))
def test_order_is_the_largest_that_proves_the_recall(positives, recall, confidence):
    k = thresholds.order(positives, recall, confidence)

    if k > 0:
        assert thresholds.lower_bound(positives - k + 1, positives, confidence) >= recall - 1e-9
    if k < positives:
        assert thresholds.lower_bound(positives - k, positives, confidence) < recall + 1e-9


@given(st.floats(0.5, 0.999), st.floats(0.5, 0.999))
def test_needed_is_the_smallest_number_that_can_be_calibrated(recall, confidence):
    n = thresholds.needed(recall, confidence)

    assert thresholds.order(n, recall, confidence) >= 1
    assert thresholds.order(n - 1, recall, confidence) == 0


def test_one_positive_too_few_gives_no_threshold():
    assert thresholds.calibrate(np.ones(58), np.zeros(10), Target(0.95, 0.95)) is None
    assert thresholds.calibrate(np.ones(59), np.zeros(10), Target(0.95, 0.95)) is not None


def test_threshold_is_the_kth_smallest_positive_if_a_negative_is_just_below():
    positive = np.linspace(0.5, 1.0, 93)
    negative = [positive[1] - 1e-9]

    found = thresholds.calibrate(positive, negative, Target(0.95, 0.95))

    assert found.threshold == pytest.approx(positive[1], abs=2e-9)
    assert (found.missed, found.dropped_negatives) == (1, 0)
    assert found.recall_lower == thresholds.lower_bound(92, 93, 0.95)


def test_threshold_is_lowered_past_the_allowed_negatives_only():
    negative = np.arange(100) / 200

    found = thresholds.calibrate(np.full(60, 0.9), negative, Target(0.95, 0.95, dropped_negatives=0.03))

    assert found.dropped_negatives == 3
    assert negative[96] < found.threshold <= negative[97]


def test_tied_negatives_are_removed_together_or_not_at_all():
    negative = [0.1] * 90 + [0.4] * 10

    found = thresholds.calibrate(np.full(60, 0.9), negative, Target(0.95, 0.95, dropped_negatives=0.05))

    assert found.dropped_negatives == 0
    assert found.threshold > 0.4


def test_lowered_threshold_keeps_the_bound_of_the_order_statistic():
    positive = np.concatenate([[0.3], np.full(92, 0.9)])

    found = thresholds.calibrate(positive, np.full(50, 0.1), Target(0.95, 0.95))

    assert found.missed == 0
    assert found.recall_lower == thresholds.lower_bound(92, 93, 0.95)


def test_threshold_is_never_lowered_to_remove_everything():
    found = thresholds.calibrate(np.full(60, 0.5), [], Target(0.95, 0.95, dropped_negatives=0.5))

    assert found.threshold == 0.5


def test_scores_that_are_not_numbers_are_refused():
    with pytest.raises(ModelError, match="not numbers"):
        thresholds.calibrate([np.nan] * 60, [0.1], Target(0.95, 0.95))


def test_precision_is_the_positive_share_of_removed_images():
    found = thresholds.Calibration(
        0.5, 0.95, 0.95, positives=100, negatives=900, missed=4, dropped_negatives=24, escaped_upper=0.1
    )

    share, low, high = found.precision()

    assert share == pytest.approx(0.8)
    assert low < 0.8 < high


@pytest.mark.parametrize("positives", [59, 93, 300])
def test_bound_holds_as_often_as_stated(positives):
    share = coverage(
        draw=lambda rng, n: rng.random(n),
        recall_at=lambda threshold: 1 - threshold,
        target=Target(0.95, 0.95, dropped_negatives=0.0),
        positives=positives,
        negatives=5,
    )

    # Three standard errors of 2,000 draws.
    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / SIMULATIONS)


def test_bound_is_exact_if_the_threshold_is_not_lowered():
    share = coverage(
        draw=lambda rng, n: rng.random(n),
        recall_at=lambda threshold: 1 - threshold,
        target=Target(0.9, 0.9),
        positives=80,
        negatives=0,
    )

    assert share == pytest.approx(0.9, abs=3 * np.sqrt(0.9 * 0.1 / SIMULATIONS))


def test_bound_holds_for_scores_with_ties():
    share = coverage(
        draw=lambda rng, n: rng.integers(0, 20, n) / 20,
        recall_at=lambda threshold: np.mean(np.arange(20) / 20 >= threshold),
        target=Target(0.9, 0.95),
        positives=100,
        negatives=20,
    )

    assert share >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / SIMULATIONS)


def test_escape_bound_holds():
    rng, held, share = np.random.default_rng(3), 0, 0.05
    for _ in range(500):
        positives = rng.binomial(3000, share)
        # One positive in fifty has the score 0.
        scores = np.where(rng.random(positives) < 0.02, 0.0, rng.random(positives))
        found = thresholds.calibrate(scores, rng.random(3000 - positives) * 0.3, Target(0.9, 0.95))
        missed = 0.02 + 0.98 * found.threshold if found.threshold > 0 else 0.0
        held += share * missed <= found.escaped_upper

    assert held / 500 >= 0.95


@pytest.mark.parametrize(("positives", "threshold"), [(10, 0.3), (59, 0.05), (300, 0.5)])
def test_bound_of_a_set_threshold_holds_and_is_the_one_of_clopper_and_pearson(positives, threshold):
    rng, held = np.random.default_rng(9), 0
    for _ in range(SIMULATIONS):
        found = thresholds.bounds_at(threshold, rng.random(positives), [], 0.95)
        held += 1 - threshold >= found.recall_lower
    assert held / SIMULATIONS >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / SIMULATIONS)
    assert found.recall_lower == thresholds.lower_bound(positives - found.missed, positives, 0.95)


def test_a_set_threshold_stays_and_counts_scores_equal_to_it_as_removed():
    found = thresholds.bounds_at(0.5, [0.5, 0.4], [0.5, 0.6, 0.1], 0.95)

    assert (found.threshold, found.missed, found.dropped_negatives) == (0.5, 1, 2)
    assert found.escaped_upper == thresholds.upper_bound(1, 5, 0.95)


def test_scores_that_are_not_numbers_are_refused_for_a_set_threshold():
    with pytest.raises(ModelError, match="not numbers"):
        thresholds.bounds_at(0.5, [np.nan], [0.1], 0.95)


def test_unsure_images_widen_the_interval_of_the_prevalence():
    share, low, high = thresholds.prevalence(10, 90, 20, 0.95)

    assert share == pytest.approx(0.1)
    assert (low, high) == (thresholds.interval(10, 120, 0.95)[0], thresholds.interval(30, 120, 0.95)[1])
    assert thresholds.prevalence(0, 0, 0, 0.95)[1:] == (0.0, 1.0)
