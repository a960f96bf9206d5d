import numpy as np
import pytest
from scipy import stats

from models.stats import keyword_shift_stats
from udfs.text.bootstrap import poisson_counts, resampled_sums


def test_bootstrap_intervals_cover_the_true_shift_in_95_of_100_simulations() -> None:
    # A word is in 20 % of the captions. The filter removes 24 % of these and 10 % of the others. Weights differ.
    share, left_with, left_without, simulations, rows = 0.2, 0.76, 0.9, 300, 2000
    left = share * left_with + (1 - share) * left_without
    # The weight is 1 or 3 at random: 3 for 60 % of the word's images, and for half of the others.
    heavy = share * left_with * (0.6 * 3 + 0.4) / (share * left_with * (0.6 * 3 + 0.4) + (1 - share) * left_without * 2)
    truth = np.array([left_with / left - 1, heavy / share - 1])
    covered = np.zeros(2)
    for simulation in range(simulations):
        draw = np.random.default_rng([5, simulation])
        word = draw.random(rows) < share
        kept = draw.random(rows) < np.where(word, left_with, left_without)
        weight = kept * np.where(draw.random(rows) < np.where(word, 0.6, 0.5), 3, 1)
        sides = np.stack([np.ones(rows), kept, weight])
        ids = draw.integers(0, 2**63, rows, dtype=np.uint64)
        caption = np.flatnonzero(word)
        sums = resampled_sums(sides, (caption, np.zeros_like(caption), 1), poisson_counts(ids, 200, 0))
        found = keyword_shift_stats.moves(np.moveaxis(sums, 0, -1).astype(float), 0.95, np.array([np.nan]))
        covered += [
            low[0] <= t <= high[0] for t, (_, low, high) in zip(truth, (found.filtered, found.weighted), strict=True)
        ]
    assert (covered / simulations >= 0.93).all() and (covered / simulations <= 0.97).all(), covered / simulations


def test_intervals_of_picked_words_are_wider() -> None:
    draw = np.random.default_rng(0)
    sums = draw.poisson(1000, (3, 201, 3)).astype(float)
    sums[0] = 10_000
    sums[1:, :, 0] += 500  # more captions have a word than are kept of it
    plain, wide = (
        keyword_shift_stats.moves(sums, 0.95, np.full(2, c)).filtered
        for c in (np.nan, keyword_shift_stats.widened(0.95, 1, 1000))
    )
    assert plain[0] == pytest.approx(wide[0])
    assert (wide[1] < plain[1]).all() and (wide[2] > plain[2]).all()


def test_words_independent_of_the_filter_are_rarely_found() -> None:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        captions = draw.integers(50, 2000, 500)
        kept = draw.hypergeometric(90_000, 10_000, captions)
        kept[:3] -= captions[:3] // 5
        adjusted = keyword_shift_stats.adjusted(keyword_shift_stats.chance(captions, kept, (100_000, 90_000)))
        found.append(((adjusted[:3] <= 0.05).sum(), (adjusted[3:] <= 0.05).sum()))
    true, false = np.sum(found, axis=0)
    assert true / 600 > 0.95 and false / (true + false) < 0.07


def test_words_in_all_captions_or_in_no_kept_one_give_no_error() -> None:
    assert keyword_shift_stats.chance(np.array([100, 10]), np.array([90, 0]), (100, 90)) == pytest.approx(
        [1.0, 0.0], abs=1e-6
    )
    sums = np.array([[[10.0, 5.0, 0.0]] * 21, [[4.0, 0.0, 0.0]] * 21])
    found = keyword_shift_stats.moves(sums, 0.9, np.array([np.nan]))
    assert found.filtered[0][0] == -1.0 and np.isnan(found.weighted[0][0])


@pytest.mark.parametrize("captions", [5, 10, 20, 50])
def test_intervals_of_rare_words_cover_zero_if_the_filter_is_independent_of_them(captions: int) -> None:
    # Each row is one simulation: 3 % of all captions are removed at random, and weights are 1 or 3 at random.
    draw = np.random.default_rng(captions)
    rows, everything, share = 1000, 20_000, 0.97
    kept = draw.binomial(captions, share, rows)
    heavy = draw.binomial(kept, 0.5)
    parts = [captions - kept, kept - heavy, heavy]
    resampled = [np.column_stack([part, draw.poisson(part[:, None], (rows, 200))]) for part in parts]
    counts = np.empty((rows + 1, 201, 3))
    counts[1:] = np.stack([sum(resampled), resampled[1] + resampled[2], resampled[1] + 3 * resampled[2]], axis=-1)
    counts[0] = [everything, share * everything, 2 * share * everything]
    found = keyword_shift_stats.moves(counts, 0.95, np.full(rows, np.nan))
    covered = [np.mean((low <= 0) & (high >= 0)) for _, low, high in (found.filtered, found.weighted)]
    # Bootstrap intervals alone would cover 14 to 76 % after filtering.
    assert covered[0] >= 0.95, covered
    assert covered[1] >= 0.93, covered


def test_picked_rare_word_has_the_exact_interval_of_its_confidence() -> None:
    counts = np.zeros((2, 201, 3))
    counts[0], counts[1] = [1000, 900, 900], [60, 60, 66]
    for confidence in (0.95, 0.999):
        found = keyword_shift_stats.moves(counts, 0.95, np.array([confidence]))
        least = ((1 - confidence) / 2) ** (1 / 60)
        assert found.filtered[1][0] == pytest.approx(least / 0.9 - 1)
        assert found.filtered[2][0] == pytest.approx(1 / 0.9 - 1)
        assert found.weighted[1][0] == pytest.approx(1.1 * least / 0.9 - 1)


def test_quantiles_of_resamples_are_weibull_quantiles() -> None:
    # The resamples have shifts of 0.001 to 0.2. The 2.5 % quantile is at rank 0.025 x 201 = 5.025.
    counts = np.full((2, 201, 3), 1000.0)
    counts[0], counts[1, 0] = 10_000, 1000
    counts[1, :, 0] = 1000
    counts[1, 0, 1] = 500
    counts[1, 1:, 1] = 1000 + np.arange(1, 201)
    found = keyword_shift_stats.moves(counts, 0.95, np.array([np.nan]))
    assert found.filtered[1][0] == pytest.approx(0.005025)
    assert found.filtered[2][0] == pytest.approx(0.195975)


def test_chance_is_the_p_value_of_the_likelihood_ratio_test() -> None:
    # Of 1,000 captions 600 are kept; of 100 with the word 45 are. Kept against removed, with the word and without it.
    table = np.array([[45, 55], [555, 345]])
    expected = stats.chi2_contingency(table, correction=False, lambda_="log-likelihood").pvalue

    found = keyword_shift_stats.chance(np.array([100]), np.array([45]), (1000, 600))

    assert found == pytest.approx([expected], rel=1e-9)
