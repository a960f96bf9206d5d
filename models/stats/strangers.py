"""Estimates how many strangers an image has within a distance: different images that a hash takes for copies of it.

The estimate comes from the pairs of a sample of images with all others. Near pairs were looked at, so that copies do
not count. Far in the tail there are no pairs to count, so their number there follows from the tail's own slope.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FARTHEST = 96
"""Largest distance, in bits of 256, at which strangers are counted; two random images are about 128 bits apart."""

_EXCEEDANCES = 200  # pairs that the slope of the tail is estimated from
_FEWEST = 50
_RESAMPLES = 200


@dataclass(frozen=True)
class SampledPairs:
    """The near pairs of sampled images with all other images.

    Attributes:
        near: int64 of shape (s, FARTHEST + 1): the pairs of each sampled image at each distance, copies included.
        others: Number of images that each sampled image was compared with.
        looked: intp of shape (k,): the sampled image of each pair that was looked at, as a row of `near`.
        distances: intp of shape (k,): the distance of each of these pairs.
        different: bool of shape (k,): whether its images are different.
    """

    near: NDArray[np.int64]
    others: int
    looked: NDArray[np.intp]
    distances: NDArray[np.intp]
    different: NDArray[np.bool_]

    def strangers(self, weights: Floats | None = None) -> Floats:
        """Returns the estimated pairs of different images at each distance, of shape (FARTHEST + 1,).

        Args:
            weights: How often each sampled image counts, of shape (s,); None counts each once.
        """
        weights = np.ones(len(self.near)) if weights is None else weights
        size = self.near.shape[1]
        own = weights[self.looked]
        # If no look of a distance is of an image that counts, all looks of the distance do.
        own = np.where(np.bincount(self.distances, own, size)[self.distances] > 0, own, 1.0)
        seen = np.bincount(self.distances, own, size)
        unlike = np.bincount(self.distances, own * self.different, size)
        return np.asarray((weights @ self.near) * unlike / np.maximum(seen, 1e-9))

    @property
    def pairs(self) -> int:
        """Number of compared pairs."""
        return len(self.near) * self.others

    def hub_share(self) -> float:
        """Returns the share of the nearest strangers that one sampled image has; it is large if an image is a hub."""
        every = self.strangers()
        within = _tail_start(every)
        if within is None:
            return 0.0
        counts = np.bincount(self.looked[(self.distances <= within) & self.different], minlength=len(self.near))
        return float(counts.max() / max(counts.sum(), 1))


def shares(strangers: Floats, pairs: float) -> Floats | None:
    """Returns the share of the pairs of different images that are within each distance.

    Below the distance of about the 200th nearest pair, the share falls by a constant factor with each bit. The factor
    is the maximum-likelihood estimate from these pairs. Real tails fall faster and faster, so the shares are too large
    rather than too small. If more pairs were counted than that gives, as where images of two kinds are mixed, the
    counted share is returned.

    Args:
        strangers: Pairs of different images at each distance, from 0 bits on.
        pairs: Number of all pairs.

    Returns:
        The shares, of the same shape; None if fewer than 50 pairs are near enough to be counted.

    Source:
        Pickands, "Statistical inference using extreme order statistics", Annals of Statistics 3 (1975): peaks over a
        threshold, here with the exponential tail, whose discrete form is geometric.

    Examples:
        >>> counted = np.array([0, 0, 10, 100, 1000.0])
        >>> np.log10(shares(counted, 1e9)).round(1).tolist()
        [-10.0, -9.0, -8.0, -7.0, -6.0]
        >>> print(shares(counted[:3], 1e9))
        None
    """
    counted = np.cumsum(strangers) / pairs
    start = _tail_start(strangers)
    if start is None:
        return None
    excess = start - np.arange(start + 1)
    mean = float((strangers[: start + 1] * excess).sum() / strangers[: start + 1].sum())
    fitted = counted.copy()
    fitted[: start + 1] = counted[start] * (mean / (1 + mean)) ** excess
    return np.asarray(np.maximum(fitted, counted))


def upper_shares(sampled: SampledPairs, seed: int, confidence: float) -> Floats | None:
    """Returns the upper ends of one-sided confidence intervals of `shares`, at each distance.

    The images are resampled, not the pairs: the pairs of one image depend on each other.

    Args:
        sampled: The near pairs of sampled images.
        seed: Seed of the resamples.
        confidence: Confidence of each interval, between 0 and 1.

    Returns:
        The shares, of shape (FARTHEST + 1,); None as for `shares`.

    Source:
        Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 13: percentile intervals.
    """
    if shares(sampled.strangers(), sampled.pairs) is None:
        return None
    rng = np.random.default_rng(seed)
    count = len(sampled.near)
    drawn = rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES).astype(np.float64)
    resampled = [shares(sampled.strangers(weights), sampled.pairs) for weights in drawn]
    return np.asarray(np.quantile([one for one in resampled if one is not None], confidence, axis=0))


@dataclass(frozen=True)
class Limits:
    """The distances within which two images count as copies.

    Attributes:
        safe: Largest distance, in bits, at which a pair counts unseen.
        outer: Largest distance at which a pair counts if its thumbnails agree; `safe` or more.
    """

    safe: int
    outer: int


def limits(share: Floats, images: int, strangers: float, looks: float, false_accepts: float) -> Limits:
    """Returns the distances within which an image has few enough strangers.

    Args:
        share: The share of the pairs of different images within each distance.
        images: Number of images.
        strangers: Average number of strangers of an image that may count as its copies.
        looks: Average number of pairs of different images to look at, for each image.
        false_accepts: Share of the different images that a look takes for copies.

    Examples:
        >>> limits(10.0 ** np.arange(-12, -3), 10**6, strangers=0.001, looks=1, false_accepts=0.01)
        Limits(safe=3, outer=5)
        >>> limits(10.0 ** np.arange(-12, -3), 10**10, strangers=0.001, looks=1, false_accepts=0.01)
        Limits(safe=0, outer=1)
    """
    expected = share * images
    safe = _last(expected <= strangers)
    return Limits(safe, max(safe, _last((expected * false_accepts <= strangers) & (expected <= looks))))


def _last(allowed: NDArray[np.bool_]) -> int:
    """Returns the last distance of the first allowed ones; 0 if none is."""
    return int(np.argmin(np.append(allowed, False))) - 1 if allowed[0] else 0


def _tail_start(strangers: Floats) -> int | None:
    """Returns the distance within which there are about 200 pairs of different images; None if there are too few."""
    counted = np.cumsum(strangers)
    if counted[-1] < _FEWEST:
        return None
    return int(np.searchsorted(counted, min(_EXCEEDANCES, counted[-1])))
