"""How well scores rank the positive images of a category above the negative ones: the AUC, with an exact bound.

The AUC is the probability that a random positive image scores higher than a random negative one; a tie counts half. A
classifier that knows nothing of the category has 0.5.
"""

import math
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

_HALVINGS = 60
"""Enough to find a bound in [0, 1] to the last bit of a float64."""


@dataclass(frozen=True)
class Ranking:
    """The AUC of scores on random labels.

    Attributes:
        auc: AUC of the labelled images, 0 to 1; NaN without a positive or without a negative image.
        lower: Lower confidence bound on the AUC, 0 to 1; it holds whatever the unsettled images are.
    """

    auc: float
    lower: float

    @property
    def better_than_chance(self) -> bool:
        """Whether the labels show that the scores rank better than chance."""
        return self.lower > 0.5


def ranking(positive: ArrayLike, negative: ArrayLike, unsettled: ArrayLike, confidence: float) -> Ranking:
    """Returns the AUC of the scores of random labels, and a lower bound that holds for every distribution of scores.

    The bound is that of Hoeffding for an average over k independent pairs, with k the smaller of the numbers of
    positives and negatives: a two-sample U-statistic is an average of such averages. So the bound is exact also for few
    labels, for ties, and if the labels are ranked without an error, where intervals by DeLong's variance have no width.
    With k pairs it cannot be above (1 - confidence)^(1 / k).

    An image without a label may be positive or negative. If j of the unsettled images are positive, the AUC is smallest
    if these are the j with the lowest scores. The bound is the smallest over all j.

    Args:
        positive: Scores of the random positives, shape (n,).
        negative: Scores of the random negatives, shape (m,).
        unsettled: Scores of random images without a label, shape (u,).
        confidence: Probability with which the bound holds, in (0, 1).

    Source:
        Hoeffding (1963), "Probability inequalities for sums of bounded random variables": equation 2.1, and section 5
        for U-statistics.

    Examples:
        >>> found = ranking([0.9, 0.8, 0.7, 0.6, 0.5], [0.1, 0.2, 0.3, 0.4, 0.1, 0.2], [], 0.95)
        >>> found.auc, round(found.lower, 3), found.better_than_chance
        (1.0, 0.549, True)
        >>> round(ranking([0.9, 0.2], [0.9, 0.1], [], 0.95).auc, 3)
        0.625
    """
    yes, no, unknown = (np.sort(np.asarray(scores, dtype=np.float64)) for scores in (positive, negative, unsettled))
    settled = float(_wins(yes, no).sum())
    # 1. The j lowest unsettled images win as positives against the negatives, and the others lose as negatives.
    gained = np.concatenate([[0.0], np.cumsum(_wins(unknown, no))])
    lost = len(yes) - _wins(unknown, yes)
    still = lost.sum() - np.concatenate([[0.0], np.cumsum(lost)])
    # 2. Unsettled positives never win against unsettled negatives: these score as high or higher.
    j = np.arange(len(unknown) + 1)
    n, m = len(yes) + j, len(no) + len(unknown) - j
    bounds = _lower_bounds((settled + gained + still) / np.maximum(n * m, 1), np.minimum(n, m), confidence)
    return Ranking(settled / (len(yes) * len(no)) if len(yes) and len(no) else math.nan, float(bounds.min()))


def pairs_needed(auc: float, confidence: float) -> int:
    """Returns how many positives and how many negatives show that scores with this AUC are better than chance.

    Args:
        auc: AUC, above 0.5.
        confidence: Probability with which the bound of `ranking` holds, in (0, 1).

    Examples:
        >>> pairs_needed(1.0, 0.95), pairs_needed(0.9, 0.95), pairs_needed(0.6, 0.95)
        (5, 9, 149)
    """
    divergence = float(scipy.special.rel_entr(auc, 0.5) + scipy.special.rel_entr(1 - auc, 0.5))
    return math.floor(-math.log1p(-confidence) / divergence) + 1


def _wins(scores: NDArray[np.float64], against: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns for each score the number of sorted others below it; a tie counts half."""
    left, right = (np.searchsorted(against, scores, side) for side in ("left", "right"))
    return np.asarray((left + right) / 2)


def _lower_bounds(shares: NDArray[np.float64], pairs: NDArray[np.int64], confidence: float) -> NDArray[np.float64]:
    """Returns the smallest mean that is as near to each share as Hoeffding allows for its number of pairs, or 0."""
    allowed = -math.log1p(-confidence) / np.maximum(pairs, 1e-9)
    low, high = np.zeros_like(shares), shares
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        divergence = scipy.special.rel_entr(shares, middle) + scipy.special.rel_entr(1 - shares, 1 - middle)
        low, high = np.where(divergence > allowed, middle, low), np.where(divergence > allowed, high, middle)
    return low
