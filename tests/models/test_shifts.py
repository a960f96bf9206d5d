import numpy as np
import pytest

from models import shifts
from udfs.bootstrap import poisson_counts, resampled_sums


def test_bootstrap_intervals_cover_the_true_shift_in_95_of_100_simulations() -> None:
    # A word in 20 % of captions; the filter takes 24 % of these and 10 % of the others; weights differ.
    share, left_with, left_without, simulations, rows = 0.2, 0.76, 0.9, 300, 2000
    left = share * left_with + (1 - share) * left_without
    # The weight is 1 or 3 by a coin that the word loads: 60 % of its images have the large one, half of the others.
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
        found = shifts.moves(np.moveaxis(sums, 0, -1).astype(float), 0.95, np.array([np.nan]))
        covered += [
            low[0] <= t <= high[0] for t, (_, low, high) in zip(truth, (found.filtered, found.weighted), strict=True)
        ]
    assert (covered / simulations >= 0.93).all() and (covered / simulations <= 0.97).all(), covered / simulations


def test_intervals_of_picked_words_are_wider() -> None:
    draw = np.random.default_rng(0)
    sums = draw.poisson(1000, (3, 201, 3)).astype(float)
    sums[0] = 10_000
    plain, wide = (shifts.moves(sums, 0.95, np.full(2, c)).filtered for c in (np.nan, shifts.widened(0.95, 1, 1000)))
    assert plain[0] == pytest.approx(wide[0])
    assert (wide[1] < plain[1]).all() and (wide[2] > plain[2]).all()


def test_words_that_the_filter_does_not_care_for_are_hardly_ever_found() -> None:
    draw = np.random.default_rng(0)
    found = []
    for _ in range(200):
        captions = draw.integers(50, 2000, 500)
        kept = draw.hypergeometric(90_000, 10_000, captions)
        kept[:3] -= captions[:3] // 5
        doubt = shifts.adjusted(shifts.chance(captions, kept, (100_000, 90_000)))
        found.append(((doubt[:3] <= 0.05).sum(), (doubt[3:] <= 0.05).sum()))
    true, false = np.sum(found, axis=0)
    assert true / 600 > 0.95 and false / (true + false) < 0.07


def test_a_word_that_all_captions_hold_or_none_kept_gives_no_error() -> None:
    assert shifts.chance(np.array([100, 10]), np.array([90, 0]), (100, 90)) == pytest.approx([1.0, 0.0], abs=1e-6)
    sums = np.array([[[10.0, 5.0, 0.0]] * 21, [[4.0, 0.0, 0.0]] * 21])
    found = shifts.moves(sums, 0.9, np.array([np.nan]))
    assert found.filtered[0][0] == -1.0 and np.isnan(found.weighted[0][0])
