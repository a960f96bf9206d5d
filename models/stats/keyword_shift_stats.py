"""Shifts of the share of captions with a word: intervals, and tests for many words at once."""

import warnings
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from models.stats.thresholds import interval

_FEW = 10

Ends = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Moves:
    """Shifts of k keywords, each relative to the unfiltered share.

    Attributes:
        shares: Shares of the unfiltered, the filtered and the weighted captions, float64 of shape (k, 3).
        filtered: Shift by filtering, lower and upper end, each float64 of shape (k,); nan if no caption has the word.
        weighted: The same after weighing.
    """

    shares: NDArray[np.float64]
    filtered: Ends
    weighted: Ends


def moves(counts: NDArray[np.float64], confidence: float, widened: NDArray[np.float64]) -> Moves:
    """Returns the shifts of keywords with their intervals.

    If fewer than ten captions with a word were kept, or fewer than ten removed, resamples are not informative: if none
    was removed, they are all equal. Then the interval is the exact one of the share of the word's captions that was
    kept, divided by the kept share of all captions. After weighing, it is the wider of that and the bootstrap interval.

    Args:
        counts: Captions with each keyword, of shape (k + 1, resamples + 1, 3); row 0 counts all captions, column 0 the
            data itself; the last axis is unfiltered, filtered, weighted.
        confidence: Confidence of the percentile interval of a keyword chosen beforehand.
        widened: For each keyword nan, or the larger confidence it needs because it was picked for its shift. A few
            hundred resamples do not give such extreme quantiles, so this interval is the shift ± z standard errors.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and 12.5; the exact interval is
        that of Clopper and Pearson (1934). Quantiles are Weibull's: the i-th of n resamples is the quantile
        i / (n + 1); with i / n, a 95 % interval would cover 94 %.
    """
    if len(counts) == 1:
        none = np.zeros(0)
        return Moves(np.zeros((0, 3)), (none, none, none), (none, none, none))
    with np.errstate(divide="ignore", invalid="ignore"):
        shares = counts[1:] / counts[:1]
        moved = shares[:, :, 1:] / shares[:, :, :1] - 1.0
    moved[~np.isfinite(moved)] = np.nan
    tail = (1.0 - confidence) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a word without kept captions gives only nan
        low, high = np.nanquantile(moved[:, 1:], [tail, 1.0 - tail], axis=1, method="weibull")
        spread = np.nanstd(moved[:, 1:], axis=1, ddof=1)
    margin = scipy.stats.norm.ppf((1.0 + widened) / 2)[:, None] * spread
    picked = np.isfinite(widened)[:, None]
    low = np.where(picked, np.maximum(moved[:, 0] - margin, -1.0), low)
    high = np.where(picked, moved[:, 0] + margin, high)
    _replace_rare(low, high, moved[:, 0], counts[:, 0], np.where(picked[:, 0], widened, confidence))
    filtered, weighted = ((moved[:, 0, side], low[:, side], high[:, side]) for side in (0, 1))
    return Moves(shares[:, 0], filtered, weighted)


def _replace_rare(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    moved: NDArray[np.float64],
    counts: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> None:
    """Replaces the interval ends, of shape (k, 2), of words with few captions kept or removed by exact ones."""
    everything, left = counts[0, :2]
    captions, kept = counts[1:, 0], counts[1:, 1]
    for i in np.flatnonzero((captions > 0) & (np.minimum(kept, captions - kept) < _FEW) & (left > 0)):
        ends = np.array(interval(int(kept[i]), int(captions[i]), float(confidence[i]))) * everything / left
        low[i, 0], high[i, 0] = ends - 1.0
        # Mean weight of the word's kept captions, relative to all; unknown if none was kept.
        heavier = (1.0 + moved[i, 1]) / (1.0 + moved[i, 0]) if kept[i] else 1.0
        if np.isfinite(moved[i, 1]):
            low[i, 1], high[i, 1] = min(low[i, 1], ends[0] * heavier - 1.0), max(high[i, 1], ends[1] * heavier - 1.0)


def chance(captions: NDArray[np.int64], kept: NDArray[np.int64], total: tuple[int, int]) -> NDArray[np.float64]:
    """Returns the probability of a shift at least this large if the filter is independent of the word.

    Args:
        captions: Number of unfiltered captions with each word, int64 of shape (k,).
        kept: Number of kept captions among them, int64 of shape (k,).
        total: Number of all unfiltered captions, and of all kept captions.

    Returns:
        p-values of the likelihood-ratio test on the table (with the word or not, kept or not), shape (k,).

    Source:
        Dunning, "Accurate methods for the statistics of surprise and coincidence", Computational Linguistics 1993.

    Examples:
        >>> chance(np.array([100, 100]), np.array([90, 60]), (1000, 900)).round(3).tolist()
        [1.0, 0.0]
    """
    everything, left = total
    with_word = np.stack([kept, captions - kept]).astype(np.float64)
    cells = np.stack([with_word, np.array([left, everything - left])[:, None] - with_word])
    expected = cells.sum(axis=0) * cells.sum(axis=1, keepdims=True) / max(1, everything)
    ratio = np.divide(cells, expected, out=np.ones_like(cells), where=expected > 0)
    return np.asarray(scipy.stats.chi2.sf(2.0 * np.maximum(0.0, scipy.special.xlogy(cells, ratio).sum(axis=(0, 1))), 1))


def adjusted(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Corrects p-values for multiple tests: of the words at or below q, a share of at most q is false (in expectation).

    Source:
        Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 1995.
    """
    return np.asarray(scipy.stats.false_discovery_control(chances)) if len(chances) else chances


def widened(confidence: float, picked: int, looks: int) -> float:
    """Returns the confidence that intervals of picked words need, so that the stated share of them is right.

    Args:
        confidence: Wanted confidence, such as 0.95.
        picked: Number of words that were picked for their shift.
        looks: Number of words they were picked from.

    Source:
        Benjamini and Yekutieli, "False discovery rate-adjusted multiple confidence intervals", JASA 2005.

    Examples:
        >>> round(widened(0.95, 20, 1000), 4)
        0.999
    """
    return 1.0 - (1.0 - confidence) * picked / max(1, looks)
