"""The random sample of a category with its labels and scores, and what it says of a threshold whatever is unsettled."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.stats import thresholds
from models.stats.ranking import Ranking, ranking
from models.stats.thresholds import Calibration, Target

_LEAST_SHOWN = 3


@dataclass(frozen=True)
class ScoredLabels:
    """The random sample of a category with its labels and scores.

    Attributes:
        image_ids: str of shape (n,).
        positive: bool of shape (n,): labelled positive.
        unsettled: bool of shape (n,): answered unsure and without a label; never `positive`.
        scores: float64 of shape (n,).
    """

    image_ids: NDArray[np.str_]
    positive: NDArray[np.bool_]
    unsettled: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @classmethod
    def none(cls) -> "ScoredLabels":
        """Returns an empty sample, of which nothing is known."""
        return cls(np.empty(0, np.str_), np.empty(0, np.bool_), np.empty(0, np.bool_), np.empty(0, np.float64))

    @property
    def negative(self) -> NDArray[np.bool_]:
        """Returns which images are labelled negative: bool of shape (n,)."""
        return ~self.positive & ~self.unsettled

    @property
    def lowest(self) -> NDArray[np.float64]:
        """Returns the lowest scores of positives and unsettled images, as many as there are positives: float64.

        A possible positive with a higher score does not count: it is not missed, whatever its label.
        """
        return np.sort(self.scores[self.positive | self.unsettled])[: int(self.positive.sum())]

    def least(self, which: NDArray[np.bool_]) -> tuple[tuple[str, float], ...]:
        """Returns image_id and score of the lowest scores among the images that `which` marks, the lowest first."""
        order = np.lexsort((self.image_ids, self.scores))
        lowest = order[which[order]][:_LEAST_SHOWN]
        return tuple((str(self.image_ids[i]), float(self.scores[i])) for i in lowest)


def calibrate_with_unsure(found: ScoredLabels, target: Target) -> Calibration | None:
    """Returns the threshold that reaches a recall, whatever the true labels of the unsettled images are.

    In the sample, n images are labelled positive, and N are truly positive, each of them labelled positive or
    unsettled. Let k be the value of `thresholds.order` for n. The k-th smallest score of labelled positives and
    unsettled images together is at most the k-th smallest of the N. So the bound for N positives with k - 1 misses
    holds at this score. The stated bound, for n positives with k - 1 misses, is lower. Counting unsettled images as
    positives would be wrong: negatives among them that are filtered would hide positives that are missed.

    Args:
        found: The random sample.
        target: The recall and confidence to reach.

    Returns:
        The calibration; an unsettled image below the threshold counts as missed, one above it does not count. None if
        too few images are labelled positive.

    Raises:
        ModelError: A score is NaN.

    Examples:
        >>> number = np.arange(61)
        >>> found = ScoredLabels(number.astype(str), number < 59, number == 59, np.where(number < 59, 0.9, 0.3))
        >>> calibrate_with_unsure(found, Target(0.95, 0.95)).threshold
        0.3
    """
    negative = found.scores[found.negative]
    calibration = thresholds.calibrate(found.lowest, negative, target)
    if calibration is None:
        return None
    # The escape bound is the product of two bounds; the first one is on the share of positives.
    each, positives, unsettled = (1 + target.confidence) / 2, len(found.lowest), int(found.unsettled.sum())
    share = thresholds.upper_bound(positives, positives + len(negative), each)
    most = thresholds.upper_bound(positives + unsettled, len(found.scores), each)
    return replace(calibration, escaped_upper=calibration.escaped_upper * most / share)


def bounds_with_unsure(found: ScoredLabels, threshold: float, confidence: float) -> Calibration:
    """Returns the bounds of a threshold that is set, whatever the true labels of the unsettled images are.

    In the sample, n images are labelled positive and m of them are below the threshold. Of the unsettled images, u are
    below it. If x of these u and y of the other unsettled images are positive, the bound for n + x + y positives with
    m + x misses holds, because the threshold was set without these labels. The Clopper-Pearson bound grows if one more
    positive is found, and it shrinks if one of the positives is missed instead of found. So the bound for n positives
    with m + u misses (or n, if these are fewer) is at most that for n + x + y with m + x. It is the stated one.

    Args:
        found: The random sample.
        threshold: The threshold, in [0, 1].
        confidence: Probability with which each bound holds, in (0, 1).

    Returns:
        The bounds; an unsettled image below the threshold counts as missed, one above it does not count. The recall is
        unknown (None) if no image is labelled positive.

    Raises:
        ModelError: A score is NaN.

    Examples:
        >>> number = np.arange(61)
        >>> found = ScoredLabels(number.astype(str), number < 59, number == 59, np.where(number < 59, 0.9, 0.3))
        >>> bounds = bounds_with_unsure(found, 0.5, 0.95)
        >>> bounds.missed, bounds.positives, round(bounds.recall_lower, 3)
        (1, 59, 0.922)
    """
    bounds = thresholds.bounds_at(threshold, found.lowest, found.scores[found.negative], confidence)
    escaped = (found.positive | found.unsettled) & (found.scores < threshold)
    most = thresholds.upper_bound(int(escaped.sum()), len(found.scores), confidence)
    return replace(bounds, escaped_upper=most)


def ranking_of(found: ScoredLabels, confidence: float) -> Ranking:
    """Returns the AUC of the scores on the random sample, with a bound that holds whatever the unsettled images are."""
    positive, negative, unsettled = (found.scores[which] for which in (found.positive, found.negative, found.unsettled))
    return ranking(positive, negative, unsettled, confidence)
