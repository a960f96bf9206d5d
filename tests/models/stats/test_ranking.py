import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models.stats.ranking import _lower_bounds, pairs_needed, ranking

CONFIDENCE = 0.95


def test_the_auc_is_that_of_scikit_learn_also_with_ties():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(2, 10, 40) / 10, rng.integers(0, 8, 200) / 10

    found = ranking(positive, negative, [], CONFIDENCE)

    truth = [1] * 40 + [0] * 200
    assert found.auc == pytest.approx(roc_auc_score(truth, np.concatenate([positive, negative])))
    assert 0.5 < found.lower < found.auc


def test_the_bound_solves_the_inequality_of_hoeffding():
    found = ranking([0.9] * 15 + [0.1] * 5, [0.5] * 100, [], CONFIDENCE)

    p, q = found.auc, found.lower
    assert p == 0.75
    divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    assert 20 * divergence == pytest.approx(-np.log(1 - CONFIDENCE))


@pytest.mark.parametrize(("positives", "shown"), [(1, False), (4, False), (5, True), (60, True)])
def test_a_perfect_ranking_of_few_positives_shows_nothing(positives, shown):
    assert ranking(np.ones(positives), np.zeros(1000), [], CONFIDENCE).better_than_chance is shown


@pytest.mark.parametrize("wins", [60, 75, 90, 95])
def test_the_number_of_pairs_that_an_auc_needs_is_the_smallest(wins):
    def shown(pairs):
        # Each negative scores 0.5, and a share of the positives more than that.
        higher = wins * pairs / 100
        bound = _lower_bounds(np.array([higher / pairs]), np.array([pairs]), CONFIDENCE)
        return bound[0] > 0.5

    needed = pairs_needed(wins / 100, CONFIDENCE)

    assert shown(needed) and not shown(needed - 1)


def test_few_negatives_show_as_little_as_few_positives():
    assert not ranking(np.ones(1000), np.zeros(4), [], CONFIDENCE).better_than_chance


def test_equal_scores_are_no_better_than_chance():
    found = ranking(np.full(500, 0.3), np.full(500, 0.3), [], CONFIDENCE)

    assert found.auc == 0.5 and not found.better_than_chance


def test_without_both_kinds_of_labels_nothing_is_shown():
    for positive, negative in (([], [0.1]), ([0.9], []), ([], [])):
        found = ranking(positive, negative, [0.5], CONFIDENCE)
        assert np.isnan(found.auc) and found.lower == 0.0 and not found.better_than_chance


@pytest.mark.parametrize(("positives", "negatives"), [(3, 50), (12, 12), (60, 400)])
@pytest.mark.parametrize("ability", [0.0, 1.0, 3.0])
def test_the_bound_holds_at_least_as_often_as_stated(positives, negatives, ability):
    # Normal scores, rounded so that there are ties. The true AUC comes from all pairs of a large sample.
    rng, draws = np.random.default_rng(5), 400
    large = np.round(rng.normal(ability, 1, 4000), 1), np.round(rng.normal(0, 1, 4000), 1)
    truth = ranking(*large, [], CONFIDENCE).auc
    held = shown = 0
    for _ in range(draws):
        found = ranking(
            np.round(rng.normal(ability, 1, positives), 1), np.round(rng.normal(0, 1, negatives), 1), [], CONFIDENCE
        )
        held += found.lower <= truth
        shown += found.better_than_chance
    assert held >= CONFIDENCE * draws
    if ability == 0:
        assert shown <= (1 - CONFIDENCE) * draws
    if ability == 3 and positives == 60:
        assert shown == draws


def test_the_bound_is_the_smallest_over_all_labels_of_the_unsettled_images():
    rng = np.random.default_rng(3)
    positive, negative, unsettled = rng.random(9) / 2 + 0.5, rng.random(14) * 0.7, rng.random(5)

    found = ranking(positive, negative, unsettled, CONFIDENCE)

    each = []
    for truth in range(2**5):
        yes = np.array([bool(truth >> i & 1) for i in range(5)])
        both = np.concatenate([positive, unsettled[yes]]), np.concatenate([negative, unsettled[~yes]])
        each.append(ranking(*both, [], CONFIDENCE).lower)
    assert found.lower == pytest.approx(min(each))
    assert found.lower < ranking(positive, negative, [], CONFIDENCE).lower
