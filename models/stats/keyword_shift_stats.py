"""How the share of captions with a word moved: intervals, and tests for many words at once."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import xlogy

from models.stats.thresholds import interval

_FEW = 10

Ends = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Moves:
    """Shifts of k keywords, each relative to the unfiltered share.

    Attributes:
        shares: Shares of the unfiltered, the filtered and the weighted captions, float64 of shape (k, 3).
        filtered: Shift by filtering, lower and upper end, each float64 of shape (k,); nan where nothing holds the word.
        weighted: Likewise after weighing.
    """

    shares: NDArray[np.float64]
    filtered: Ends
    weighted: Ends


def moves(counts: NDArray[np.float64], confidence: float, widened: NDArray[np.float64]) -> Moves:
    """Shifts and their intervals.

    Args:
        counts: Captions with each keyword, of shape (k + 1, resamples + 1, 3); row 0 counts all captions, column 0 the
            data itself; the last axis is unfiltered, filtered, weighted.
        confidence: Of the percentile interval that a keyword chosen beforehand gets.
        widened: For each keyword nan, or the confidence it needs because it was picked for its shift. Quantiles so far
            out are not to be had from some hundred resamples: such an interval is the shift ± z standard errors.

    Where fewer than ten captions with a word were kept, or fewer than ten dropped, resamples say too little: where none
    was dropped they are all alike. There the interval is the exact one of the share of the word's captions that was
    kept, over the kept share of all; after weighing, the wider of that and the resamples'.

    Source:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, sections 13.3 and 12.5; the exact interval is
        that of Clopper and Pearson (1934). Quantiles are Weibull's: the i-th of n resamples is that of i / (n + 1);
        those of i / n would make 94 % of 95.
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
        warnings.simplefilter("ignore", RuntimeWarning)  # a word that no kept caption holds has no numbers
        low, high = np.nanquantile(moved[:, 1:], [tail, 1.0 - tail], axis=1, method="weibull")
        spread = np.nanstd(moved[:, 1:], axis=1, ddof=1)
    reach = stats.norm.ppf((1.0 + widened) / 2)[:, None] * spread
    picked = np.isfinite(widened)[:, None]
    low = np.where(picked, np.maximum(moved[:, 0] - reach, -1.0), low)
    high = np.where(picked, moved[:, 0] + reach, high)
    _settle_rare(low, high, moved[:, 0], counts[:, 0], np.where(picked[:, 0], widened, confidence))
    filtered, weighted = ((moved[:, 0, side], low[:, side], high[:, side]) for side in (0, 1))
    return Moves(shares[:, 0], filtered, weighted)


def _settle_rare(
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    moved: NDArray[np.float64],
    counts: NDArray[np.float64],
    confidence: NDArray[np.float64],
) -> None:
    """Puts exact ends, of shape (k, 2), in the place of those of words with few captions kept or few dropped."""
    everything, left = counts[0, :2]
    captions, kept = counts[1:, 0], counts[1:, 1]
    for i in np.flatnonzero((captions > 0) & (np.minimum(kept, captions - kept) < _FEW) & (left > 0)):
        ends = np.array(interval(int(kept[i]), int(captions[i]), float(confidence[i]))) * everything / left
        low[i, 0], high[i, 0] = ends - 1.0
        # How much more than others the word's kept captions weigh; of none that were kept it is not known.
        heavier = (1.0 + moved[i, 1]) / (1.0 + moved[i, 0]) if kept[i] else 1.0
        if np.isfinite(moved[i, 1]):
            low[i, 1], high[i, 1] = min(low[i, 1], ends[0] * heavier - 1.0), max(high[i, 1], ends[1] * heavier - 1.0)


def chance(captions: NDArray[np.int64], kept: NDArray[np.int64], total: tuple[int, int]) -> NDArray[np.float64]:
    """How probable a shift at least this large is where the filter does not care for the word.

    Args:
        captions: Unfiltered captions with each word, int64 of shape (k,).
        kept: Those of them that the filter left.
        total: All unfiltered captions, and all that the filter left.

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
    return np.asarray(stats.chi2.sf(2.0 * np.maximum(0.0, xlogy(cells, ratio).sum(axis=(0, 1))), 1))


def adjusted(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """p-values corrected for their number: among the words at or below q, a share of q at most is there by chance.

    Source:
        Benjamini and Hochberg, "Controlling the false discovery rate", Journal of the Royal Statistical Society B 1995.
    """
    return np.asarray(stats.false_discovery_control(chances)) if len(chances) else chances


def widened(confidence: float, picked: int, looks: int) -> float:
    """The confidence that intervals need for words picked out of many, so that of these few as many miss as promised.

    Args:
        confidence: Of the intervals, such as 0.95.
        picked: Words picked.
        looks: Words they were picked from.

    Source:
        Benjamini and Yekutieli, "False discovery rate-adjusted multiple confidence intervals", JASA 2005.

    Examples:
        >>> round(widened(0.95, 20, 1000), 4)
        0.999
    """
    return 1.0 - (1.0 - confidence) * picked / max(1, looks)
