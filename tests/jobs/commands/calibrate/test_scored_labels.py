import numpy as np
import pytest

from jobs.commands.calibrate.scored_labels import ScoredLabels, bounds_with_unsure, calibrate_with_unsure
from models.stats import thresholds
from models.stats.thresholds import Target


def sample(scores, positive, unsettled):
    return ScoredLabels(np.arange(len(scores)).astype(str), positive, unsettled, scores)


@pytest.mark.parametrize("others", [0, 300])
def test_the_bounds_hold_whatever_the_unsettled_images_are(others):
    # A tenth of the positives is borderline and scores low, and four in five of these get no label. `others`
    # high-scoring images get no label either. If unsettled images are ignored, the bound on recall holds in 41 % of the
    # draws; if they count as positives, with 300 others, in none.
    rng, target, draws = np.random.default_rng(1), Target(0.95, 0.95, 0.002), 300
    recall_holds = escape_holds = 0
    for _ in range(draws):
        hard = rng.random(100) < 0.1
        positives = np.where(hard, 0.5 * rng.random(100), 0.5 + 0.5 * rng.random(100))
        high, low = 0.5 + 0.5 * rng.random(others), 0.3 * rng.random(1900 - others)
        unsettled = np.concatenate([hard & (rng.random(100) < 0.8), np.ones(others, bool), np.zeros(len(low), bool)])
        positive = (np.arange(2000) < 100) & ~unsettled
        drawn = sample(np.concatenate([positives, high, low]), positive, unsettled)

        found = calibrate_with_unsure(drawn, target)

        missed = 0.1 * min(found.threshold / 0.5, 1) + 0.9 * max(0, (found.threshold - 0.5) / 0.5)
        recall_holds += 1 - missed >= found.recall_lower
        escape_holds += 0.05 * missed <= found.escaped_upper
    assert recall_holds >= 0.95 * draws and escape_holds >= 0.95 * draws


@pytest.mark.parametrize("others", [0, 300])
def test_the_bounds_of_a_set_threshold_hold_whatever_the_unsettled_images_are(others):
    # A third of the positives scores below the threshold of 0.5, and four in five of these get no label.
    rng, draws, threshold, recall = np.random.default_rng(2), 400, 0.5, 2 / 3
    recall_holds = escape_holds = ignored = 0
    for _ in range(draws):
        below = rng.random(60) < 1 - recall
        high, low = 0.5 + 0.5 * rng.random(others), 0.3 * rng.random(1940 - others)
        unsettled = np.concatenate([below & (rng.random(60) < 0.8), np.ones(others, bool), np.zeros(len(low), bool)])
        positive = (np.arange(2000) < 60) & ~unsettled
        scores = np.concatenate([np.where(below, 0.4, 0.9), high, low])

        found = bounds_with_unsure(sample(scores, positive, unsettled), threshold, 0.95)

        recall_holds += recall >= found.recall_lower
        escape_holds += 0.03 * (1 - recall) <= found.escaped_upper
        ignored += recall >= thresholds.bounds_at(threshold, scores[positive], low, 0.95).recall_lower
    assert recall_holds >= 0.95 * draws and escape_holds >= 0.95 * draws
    # Without the unsettled images, the bound would be wrong in most draws.
    assert ignored < 0.5 * draws


@pytest.mark.parametrize("truth", ["all positive", "none positive", "only the missed positive"])
def test_the_bound_of_a_set_threshold_is_at_most_the_bound_for_the_true_labels(truth):
    scores = np.concatenate([np.full(30, 0.9), np.full(3, 0.2), np.full(4, 0.3), np.full(5, 0.8), np.full(50, 0.1)])
    kind = np.repeat(["positive", "positive", "unsure", "unsure", "negative"], [30, 3, 4, 5, 50])
    found = sample(scores, kind == "positive", kind == "unsure")

    stated = bounds_with_unsure(found, 0.5, 0.95)

    more = {"all positive": (4, 5), "none positive": (0, 0), "only the missed positive": (4, 0)}[truth]
    assert stated.recall_lower <= thresholds.lower_bound(30 + more[1], 33 + sum(more), 0.95)
    assert stated.escaped_upper >= thresholds.upper_bound(3 + more[0], len(scores), 0.95)
    assert (stated.positives, stated.missed) == (33, 7)


def test_more_unsure_images_below_a_set_threshold_than_positives_leave_a_bound_of_zero():
    found = sample(np.array([0.9, 0.8, 0.1, 0.2, 0.3]), np.arange(5) < 2, np.arange(5) >= 2)

    stated = bounds_with_unsure(found, 0.5, 0.95)

    assert (stated.positives, stated.missed, stated.recall_lower) == (2, 2, 0.0)


def test_without_a_label_the_recall_of_a_set_threshold_is_unknown():
    found = bounds_with_unsure(sample(np.empty(0), np.empty(0, bool), np.empty(0, bool)), 0.8, 0.95)

    assert (found.threshold, found.recall_lower, found.positives, found.escaped_upper) == (0.8, None, 0, 1.0)
