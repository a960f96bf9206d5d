"""Thresholds of filters, with confidence bounds on their recall.

A filter removes an image if its score is at or above the threshold. Its recall is the share of all positive images that
it removes. Threshold and recall come from a random sample of labelled images that no model was trained on.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from models.errors import ModelError


@dataclass(frozen=True)
class Target:
    """The target of a filter.

    Attributes:
        recall: Share of the positive images that must be removed, in (0, 1).
        confidence: Probability, over the draw of the random sample, with which the recall must hold, in (0, 1).
        dropped_negatives: Share of the random negatives that may be removed to exceed the recall, in [0, 1).
    """

    recall: float
    confidence: float
    dropped_negatives: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """A threshold with its bounds from the random labels.

    Attributes:
        threshold: An image is removed if its score is at or above it.
        recall_lower: Lower confidence bound on the recall; None if it is unknown, because no random label is positive.
        confidence: Confidence of the bounds.
        positives: Number of positive random labels.
        negatives: Number of negative random labels.
        missed: Number of positives below the threshold.
        dropped_negatives: Number of negatives at or above the threshold.
        escaped_upper: Upper confidence bound on the share of all images that are positive and below the threshold.
    """

    threshold: float
    recall_lower: float | None
    confidence: float
    positives: int
    negatives: int
    missed: int
    dropped_negatives: int
    escaped_upper: float

    def precision(self) -> tuple[float, float, float]:
        """Returns the share of the removed images that are positive: estimate and two-sided exact interval.

        If the threshold was chosen on the same labels, this is an estimate without a guarantee, unlike the bound on
        recall.
        """
        found = self.positives - self.missed
        dropped = found + self.dropped_negatives
        low, high = interval(found, dropped, self.confidence)
        return (found / dropped if dropped else math.nan), low, high


def lower_bound(successes: int, trials: int, confidence: float) -> float:
    """Returns the one-sided exact lower confidence bound on a share.

    Args:
        successes: Number of successes.
        trials: Number of independent draws.
        confidence: Probability with which the bound holds, in (0, 1).

    Returns:
        The share p at which `successes` or more have the probability 1 - confidence; 0 without a success.

    Source:
        Clopper and Pearson (1934), "The use of confidence or fiducial limits": Beta quantile 1 - confidence with the
        parameters successes and trials - successes + 1.

    Examples:
        >>> round(lower_bound(59, 59, 0.95), 4)
        0.9505
        >>> lower_bound(0, 10, 0.95)
        0.0
    """
    if successes == 0:
        return 0.0
    return float(scipy.special.betaincinv(successes, trials - successes + 1, 1 - confidence))


def upper_bound(successes: int, trials: int, confidence: float) -> float:
    """Returns the one-sided exact upper confidence bound on a share, the counterpart of `lower_bound`.

    Args:
        successes: Number of successes.
        trials: Number of independent draws; with 0, the bound is 1.
        confidence: Probability with which the bound holds, in (0, 1).

    Examples:
        >>> round(upper_bound(0, 59, 0.95), 4)
        0.0495
    """
    return 1.0 - lower_bound(trials - successes, trials, confidence)


def interval(successes: int, trials: int, confidence: float) -> tuple[float, float]:
    """Returns the two-sided exact confidence interval of a share.

    Args:
        successes: Number of successes.
        trials: Number of independent draws; with 0, the interval is [0, 1].
        confidence: Probability with which the interval contains the share, in (0, 1).

    Source:
        Clopper and Pearson (1934).

    Examples:
        >>> low, high = interval(8, 10, 0.95)
        >>> round(low, 3), round(high, 3)
        (0.444, 0.975)
    """
    one_sided = (1 + confidence) / 2
    return lower_bound(successes, trials, one_sided), upper_bound(successes, trials, one_sided)


def prevalence(positives: int, negatives: int, unsure: int, confidence: float) -> tuple[float, float, float]:
    """Returns the share of all images that belong to a category: estimate and two-sided exact interval.

    Each unsure image may belong to the category or not, so the low end counts none of them and the high end all.

    Args:
        positives: Number of positive random labels.
        negatives: Number of negative random labels.
        unsure: Number of random images that were answered unsure and have no label.
        confidence: Probability with which the interval contains the share, in (0, 1).

    Returns:
        Estimate (NaN without a label), low end, high end. Without an answer, the interval is [0, 1].

    Examples:
        >>> [round(value, 3) for value in prevalence(38, 212, 0, 0.95)]
        [0.152, 0.11, 0.203]
    """
    labels = positives + negatives
    low, _ = interval(positives, labels + unsure, confidence)
    _, high = interval(positives + unsure, labels + unsure, confidence)
    return positives / labels if labels else math.nan, low, high


def needed(recall: float, confidence: float) -> int:
    """Returns the smallest number of random positives that can prove a recall, if none of them is missed.

    Args:
        recall: Target recall, in (0, 1).
        confidence: Target confidence, in (0, 1).

    Source:
        Wilks (1941), "Determination of sample sizes for setting tolerance limits": the smallest n with
        recall^n <= 1 - confidence.

    Examples:
        >>> needed(0.95, 0.95), needed(0.99, 0.95)
        (59, 299)
    """
    estimate = max(1, math.ceil(math.log(1 - confidence) / math.log(recall)))
    # Rounding of the logarithms can be off by one if the power equals the limit exactly.
    return next(n for n in range(max(1, estimate - 1), estimate + 2) if order(n, recall, confidence) > 0)


def order(positives: int, recall: float, confidence: float) -> int:
    """Returns the rank of the positive score that is the threshold: the largest k whose k - 1 misses prove the recall.

    It depends on the number of positives and on the target, never on a score. The bound of `calibrate` needs this.

    Args:
        positives: Number n of random positives.
        recall: Target recall, in (0, 1).
        confidence: Target confidence, in (0, 1).

    Returns:
        k in 1..n, counted from the smallest score; 0 if n positives are too few even without a miss.

    Source:
        The Clopper-Pearson bound with m misses is at least r exactly if Binomial(n, 1 - r) is at most m with
        probability 1 - confidence or less.

    Examples:
        >>> order(58, 0.95, 0.95), order(59, 0.95, 0.95), order(93, 0.95, 0.95)
        (0, 1, 2)
    """
    if positives == 0:
        return 0
    # The quantile is the first m whose probability reaches 1 - confidence: all smaller m are allowed.
    k = int(scipy.stats.binom.ppf(1 - confidence, positives, 1 - recall))
    return k + 1 if scipy.stats.binom.cdf(k, positives, 1 - recall) <= 1 - confidence else k


def calibrate(positive: ArrayLike, negative: ArrayLike, target: Target) -> Calibration | None:
    """Returns the threshold that reaches the target recall with the target confidence, from scores of random labels.

    The threshold is the k-th smallest positive score, with k from `order`. The bound holds although the same labels
    choose and prove the threshold. The share of positives below the k-th of n random scores has the distribution
    Beta(k, n - k + 1) for any distribution of scores. So the recall at the threshold is Beta(n - k + 1, k), and its
    quantile at 1 - confidence is the Clopper-Pearson bound with k - 1 misses. Ties only make the recall larger. A
    sample without replacement from a finite lake is also on the safe side.

    Then the threshold is lowered, which cannot reduce recall, as long as at most the allowed share of the random
    negatives is removed in addition. Fewer than k - 1 positives may then be missed, but the bound stays the one for
    k - 1: the data decided how far the threshold was lowered, so a bound for the new count would not be valid.

    Args:
        positive: Scores of the random positives, shape (n,), in [0, 1].
        negative: Scores of the random negatives, shape (m,), in [0, 1].
        target: Target of the filter.

    Returns:
        The calibration; None if there are fewer positives than `needed`.

    Raises:
        ModelError: A score is not a number.

    Source:
        Wilks (1941), distribution-free tolerance limits.

    Examples:
        >>> found = calibrate([0.9] * 58 + [0.7], [0.1, 0.2, 0.8], Target(0.95, 0.95))
        >>> round(found.threshold, 3), round(found.recall_lower, 3), found.missed, found.dropped_negatives
        (0.201, 0.95, 0, 1)
    """
    positives, negatives = _sorted(positive, negative)
    n = len(positives)
    k = order(n, target.recall, target.confidence)
    if k == 0:
        return None
    threshold = _lowered(positives, negatives, k, target.dropped_negatives)
    return Calibration(
        threshold=threshold,
        recall_lower=lower_bound(n - k + 1, n, target.confidence),
        confidence=target.confidence,
        positives=n,
        negatives=len(negatives),
        missed=int(np.searchsorted(positives, threshold)),
        dropped_negatives=len(negatives) - int(np.searchsorted(negatives, threshold)),
        escaped_upper=_escaped(n, len(negatives), k, target.confidence),
    )


def bounds_at(threshold: float, positive: ArrayLike, negative: ArrayLike, confidence: float) -> Calibration:
    """Returns the bounds of a threshold that was set without looking at these labels.

    No label chose the threshold, so the number of random positives below it is binomial, and the recall has the plain
    Clopper-Pearson bound of the observed misses. The share of all images that escape is a binomial share too.

    Args:
        threshold: The threshold, in [0, 1].
        positive: Scores of the random positives, shape (n,).
        negative: Scores of the random negatives, shape (m,).
        confidence: Probability with which each bound holds, in (0, 1).

    Returns:
        The bounds; the recall is unknown (None) without a positive.

    Raises:
        ModelError: A score is not a number.

    Examples:
        >>> found = bounds_at(0.8, [0.9] * 34 + [0.7], [0.1, 0.85], 0.95)
        >>> round(found.recall_lower, 3), found.missed, found.dropped_negatives
        (0.871, 1, 1)
        >>> bounds_at(0.8, [], [0.1], 0.95).recall_lower is None
        True
    """
    positives, negatives = _sorted(positive, negative)
    n, m = len(positives), len(negatives)
    missed = int(np.searchsorted(positives, threshold))
    return Calibration(
        threshold=threshold,
        recall_lower=lower_bound(n - missed, n, confidence) if n else None,
        confidence=confidence,
        positives=n,
        negatives=m,
        missed=missed,
        dropped_negatives=m - int(np.searchsorted(negatives, threshold)),
        escaped_upper=upper_bound(missed, n + m, confidence),
    )


def _sorted(positive: ArrayLike, negative: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    positives, negatives = (np.sort(np.asarray(scores, dtype=np.float64)) for scores in (positive, negative))
    if np.isnan(positives).any() or np.isnan(negatives).any():
        raise ModelError("scores of labelled images are not numbers: the model that gave them cannot be used")
    return positives, negatives


def _escaped(positives: int, negatives: int, k: int, confidence: float) -> float:
    """Returns an upper bound on the share of all images that are positive and yet kept.

    It is the product of two bounds: on the share of positives among the images, and on the share of positives below the
    k-th random positive. Each fails with probability (1 - confidence) / 2. The first is that of Clopper and Pearson.
    The second is that of `calibrate`; it holds for every number of positives, and so also if this number is random. By
    the union bound, both hold with the confidence, and so does their product. A lowered threshold lets fewer escape.
    """
    each = (1 + confidence) / 2
    missed = 1 - lower_bound(positives - k + 1, positives, each)
    return upper_bound(positives, positives + negatives, each) * missed


def _lowered(positives: NDArray[np.float64], negatives: NDArray[np.float64], k: int, share: float) -> float:
    """Returns the threshold just above the first negative that must not be removed; both arrays are sorted."""
    threshold = float(positives[k - 1])
    below = int(np.searchsorted(negatives, threshold))
    allowed = math.floor(share * len(negatives))
    if below <= allowed:
        # No negative stops it, and a threshold of 0 would remove everything.
        return threshold
    kept = float(negatives[below - 1 - allowed])
    above = [scores[np.searchsorted(scores, kept, side="right") :] for scores in (positives, negatives)]
    return _short_above(kept, float(min(scores[0] for scores in above if len(scores))))


def _short_above(low: float, high: float) -> float:
    """Returns the smallest number above `low` with the fewest decimals that is at most `high`; at least three decimals.

    Between two neighbouring scores, every threshold removes the same labelled images, so a person gets one to read.

    Examples:
        >>> _short_above(0.123456789, 0.9), _short_above(0.5, 0.50002)
        (0.124, 0.50001)
    """
    for decimals in range(3, 16):
        scale = 10**decimals
        short = (math.floor(low * scale) + 1) / scale
        if low < short <= high:
            return short
    return high
