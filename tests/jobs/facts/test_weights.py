"""The facts of the weights: the intervals of the reliability curve, and the share beyond reach."""

import numpy as np
import pytest
from pyspark.sql import Row

from jobs.facts import sentences
from jobs.facts.weights import Reach, Reliability, reliability
from models.stats import probe


def curve(
    draw: np.random.Generator, images: int, unfiltered: float, filtered: float
) -> list[tuple[float, Reliability]]:
    """Returns true shares and bins of ten groups with more and more removed images, sampled as by `weigh`."""
    removal = np.linspace(0.05, 0.2, 10)
    removed, place = draw.random((10, images)) < removal[:, None], draw.random((10, images))
    sides = (place < unfiltered).sum(axis=1), ((place < filtered) & ~removed).sum(axis=1)
    shares = [side / side.sum() for side in sides]
    observed = shares[0] / (shares[0] + shares[1])
    true = 1 / (1 + (1 - removal) / np.mean(1 - removal))
    bins = [
        Row(low=0.0, high=1.0, images=int(n), predicted=float(t), observed=float(o))
        for n, t, o in zip(sides[0] + sides[1], true, observed, strict=True)
    ]
    return list(zip(true, reliability(bins, Row(kept=int((~removed).sum()), reference=10 * images)), strict=True))


@pytest.mark.parametrize(("images", "unfiltered", "filtered"), [(300, 1.0, 1.0), (3000, 0.2, 0.23)])
def test_intervals_of_the_curve_cover_the_truth_and_do_not_count_a_kept_image_twice(
    images: int, unfiltered: float, filtered: float
) -> None:
    draw = np.random.default_rng(0)
    found = [pair for _ in range(100) for pair in curve(draw, images, unfiltered, filtered)]
    covered = np.mean([one.interval[0] <= true <= one.interval[1] for true, one in found])
    wide = np.mean([one.interval[1] - one.interval[0] for _, one in found])
    as_if_apart = np.mean([2 * 1.96 * (0.25 / one.images) ** 0.5 for _, one in found])
    assert 0.94 <= covered <= 0.98
    assert wide < as_if_apart / (3 if unfiltered == 1.0 else 1.7)


def test_a_bin_without_a_removed_image_has_an_interval() -> None:
    bins = [Row(low=0.4, high=0.6, images=200, predicted=0.5, observed=0.5 - d) for d in (0.0, 0.02)]
    first, second = reliability(bins, Row(kept=200, reference=204))
    assert all(one.interval[0] <= one.observed < one.interval[1] for one in (first, second))


def test_the_interval_is_binomial_if_the_sides_are_unknown() -> None:
    (found,) = reliability([Row(low=0.4, high=0.6, images=100, predicted=0.5, observed=0.5)], None)
    assert found.interval == pytest.approx((0.398, 0.602), abs=1e-3)


def test_a_random_filter_removes_as_many_images_beyond_reach_as_chance_gives() -> None:
    draw = np.random.default_rng(0)
    shares, held = [], []
    for _ in range(300):
        removed, kept = draw.random(200).astype(np.float32), draw.random(400).astype(np.float32)
        share = float(probe.beyond_reach(removed, kept).mean())
        _, low, high = probe.beyond_chance(share, 200, 400, 0.95)
        shares.append(share)
        held.append(low <= 0 <= high)
    assert np.mean(shares) == pytest.approx(0.05, abs=0.005)
    assert np.mean(held) >= 0.94


def test_only_a_share_above_chance_is_called_irreplaceable() -> None:
    texts = [sentences.reach(Reach(s, *probe.beyond_chance(s, 1000, 1000, 0.95))) for s in (0.055, 0.2, 0.0)]
    assert texts[0] == (
        "5.5 % of the filtered images have no similar image left; chance alone would give 5 %, and the "
        "difference is not significant."
    )
    assert texts[1] == (
        "20.0 % of the filtered images have no similar image left (5 % expected by chance). "
        "Weights cannot replace them."
    )
    assert texts[2] == "0.0 % of the filtered images have no similar image left, fewer than expected by chance (5 %)."
    assert sentences.reach_excess(Reach(0.2, *probe.beyond_chance(0.2, 1000, 1000, 0.95))).startswith("+15.0 [+12.")
