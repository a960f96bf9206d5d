import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from models.stats.strangers import FARTHEST, Limits, SampledPairs, limits, shares, upper_shares

SIZE = FARTHEST + 1


def sampled(near: NDArray[np.int64], others: int, different: float = 1.0, seed: int = 0) -> SampledPairs:
    """Returns pairs of which at most 64 of each distance were looked at, with a share of different images."""
    rng = np.random.default_rng(seed)
    images, distances = np.nonzero(near)
    order = rng.permutation(len(images))
    images, distances = images[order], distances[order]
    chosen = np.concatenate([np.flatnonzero(distances == distance)[:64] for distance in range(SIZE)])
    looked = rng.random(len(chosen)) < different
    return SampledPairs(near, others, images[chosen], distances[chosen], looked)


def pairs_of(distances: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns the number of pairs of each sampled image at each distance; distances of shape (images, others)."""
    near = np.zeros((len(distances), SIZE), np.int64)
    rows, columns = np.nonzero(distances < SIZE)
    np.add.at(near, (rows, distances[rows, columns]), 1)
    return near


def random_distances(images: int, others: int, seed: int, bits: int = 160) -> NDArray[np.int64]:
    return np.random.default_rng(seed).binomial(bits, 0.5, (images, others))


def test_counted_shares_are_the_shares_of_pairs_within_each_distance() -> None:
    distances = random_distances(200, 2000, seed=1)
    one = sampled(pairs_of(distances), 2000)
    found = shares(one.strangers(), one.pairs)
    assert found is not None
    for distance in (60, 70, 80, 96):
        assert found[distance] == pytest.approx((distances <= distance).mean(), rel=1e-9)


def test_the_interval_holds_beyond_the_counted_distances() -> None:
    missed = 0
    for seed in range(10):
        upper = upper_shares(sampled(pairs_of(random_distances(200, 2000, seed)), 2000), seed, 0.95)
        assert upper is not None
        # The sample has 400,000 pairs; the true shares go down to one in a thousand million.
        missed += any(upper[distance] < binom.cdf(distance, 160, 0.5) for distance in (42, 46, 50, 54))
    assert missed <= 2


def test_the_estimate_is_not_far_too_large() -> None:
    upper = upper_shares(sampled(pairs_of(random_distances(500, 5000, seed=3)), 5000), 0, 0.95)
    assert upper is not None and upper[48] < 30 * binom.cdf(48, 160, 0.5)


def test_copies_that_a_look_finds_do_not_count() -> None:
    distances = random_distances(300, 3000, seed=4)
    near = pairs_of(distances)
    alone = sampled(near, 3000)
    with_copies = near.copy()
    with_copies[:100, 10:30] += 1  # a third of the images has twenty copies each
    images, places = np.nonzero(with_copies)
    is_copy = places < 30
    looked = SampledPairs(with_copies, 3000, images, places, ~is_copy)
    assert np.allclose(looked.strangers(), near.sum(axis=0)) and alone.strangers()[:30].sum() == 0
    assert looked.strangers()[70] == near[:, 70].sum()


def test_pairs_of_another_kind_in_the_far_tail_are_not_extrapolated_away() -> None:
    near = pairs_of(random_distances(200, 2000, seed=5))
    near[:4, 20] += 1  # pages of text: a few pairs far nearer than the others
    found = shares(sampled(near, 2000).strangers(), 200 * 2000)
    assert found is not None and found[20] >= 4 / (200 * 2000) and found[19] < found[20]


def test_an_image_with_most_of_the_nearest_strangers_is_a_hub() -> None:
    near = pairs_of(random_distances(200, 2000, seed=6))
    assert sampled(near, 2000).hub_share() < 0.2
    near[7, 30] += 5000
    images, places = np.nonzero(near)
    repeats = np.minimum(near[images, places], 64)
    images, places = np.repeat(images, repeats), np.repeat(places, repeats)
    assert SampledPairs(near, 2000, images, places, np.ones(len(images), np.bool_)).hub_share() > 0.5


def test_too_few_near_pairs_give_no_estimate() -> None:
    near = np.zeros((10, SIZE), np.int64)
    near[:5, 90] = 9
    assert shares(sampled(near, 100).strangers(), 1000) is None and upper_shares(sampled(near, 100), 0, 0.95) is None


def test_limits_never_exceed_what_is_allowed() -> None:
    share = np.power(10.0, np.linspace(-15, -3, SIZE))
    for images in (1 << 10, 1 << 20, 1 << 30):
        found = limits(share, images, strangers=0.001, looks=1.0, false_accepts=0.001)
        expected = share * images
        assert expected[found.safe] <= 0.001 < expected[found.safe + 1]
        assert expected[found.outer] <= 1.0 < expected[found.outer + 1] and found.outer > found.safe
    assert limits(np.full(SIZE, 1e-3), 1 << 20, 0.001, 1.0, 0.001) == Limits(0, 0)


def test_a_worse_look_reaches_less_far() -> None:
    share = np.power(10.0, np.linspace(-15, -3, SIZE))
    outer = [limits(share, 1 << 20, 0.001, 1.0, false).outer for false in (1e-4, 1e-3, 1e-2, 1e-1)]
    assert outer == sorted(outer, reverse=True) and outer[0] > outer[-1]
