"""The probe that tells unfiltered from filtered images, and the importance weights it gives.

With equal weight on both sides, P(unfiltered | x) / P(filtered | x) is the ratio of their densities at x (Choi et al.,
"Fair generative modeling via weak supervision", ICML 2020). The probe is linear in the log of this ratio.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse
from sklearn.metrics import roc_auc_score

from models.stats.thresholds import interval

WITHIN_REACH = 0.95

_CALIBRATION_BINS = 10
_LOG_LIMIT = 30.0
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class Probe:
    """A linear probe: log-odds of being unfiltered.

    Attributes:
        coefficients: float64 of shape (features,), for features as they come.
        intercept: Log-odds where all features are 0.
    """

    coefficients: NDArray[np.float64]
    intercept: float

    def log_odds(self, features: NDArray[np.float64] | sparse.csr_matrix) -> NDArray[np.float64]:
        """Log P(unfiltered | x) - log P(filtered | x), float64 of shape (n,), for features of shape (n, features)."""
        return np.asarray(features @ self.coefficients, dtype=np.float64).ravel() + self.intercept


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose predicted probability of being unfiltered lies in [low, high].

    Attributes:
        low: Lowest prediction.
        high: Highest prediction.
        images: How many.
        predicted: Their mean prediction.
        observed: The share that is unfiltered, where both sides weigh the same.
    """

    low: float
    high: float
    images: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class ProbeQuality:
    """How well the probes do on images that they did not see.

    Attributes:
        auc: Area under the ROC curve; 0.5 means that filtering left no trace in the features. None where no probe was
            fitted.
        calibration_error: Expected calibration error, mean gap between predicted and observed share over the bins;
            None where no probe was fitted.
        reliability: The reliability curve, by rising prediction.
    """

    auc: float | None
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...] = ()


def fit_probe(features: sparse.csr_matrix, unfiltered: NDArray[np.bool_], regularisation: float) -> Probe:
    """Fits the log of the density ratio, with prior one half and a ridge.

    The loss is the mean of the weights over the filtered side less the mean of their logs over the unfiltered one.
    Where its gradient vanishes, every feature has the same mean in the weighted filtered data as in the unfiltered
    data, up to the ridge: the weights undo the shift of every caption word that is a feature. The logistic loss, which
    estimates the same ratio, has this property only where the two sides hardly differ.

    Args:
        features: Of shape (n, features).
        unfiltered: Which side each row is a sample of, shape (n,).
        regularisation: Ridge on the coefficients of standardised features, in rows; larger is smoother.

    Raises:
        ValueError: One of the sides has no row.

    Source:
        Zhao, "Covariate balancing propensity score by tailored loss functions", Annals of Statistics 2019; the same
        loss as KLIEP's, Sugiyama et al., NIPS 2007.
    """
    if unfiltered.all() or not unfiltered.any():
        raise ValueError("both unfiltered and filtered images are needed to fit a probe")
    mean, variance = _mean(features), _variances(features)
    # A word that every caption holds tells nothing: its coefficient is 0.
    scale = np.divide(1.0, np.sqrt(np.abs(variance)), out=np.zeros_like(variance), where=variance > _LEAST_VARIANCE)
    scaled = sparse.csr_matrix(features @ sparse.diags(scale))
    # Features are centred within the products, so that they stay sparse: else a word in nearly every caption stands in
    # for the intercept, and the fit ends far from its least.
    middle = mean * scale
    filtered_side = scaled[~unfiltered]
    target = _mean(scaled[unfiltered]) - middle
    ridge = regularisation / len(unfiltered)

    def loss(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope, intercept = theta[:-1], theta[-1]
        odds = filtered_side @ slope + (intercept - middle @ slope)
        weights = np.exp(np.minimum(odds, _LOG_LIMIT)) / filtered_side.shape[0]
        total = weights.sum()
        gradient = filtered_side.T @ weights - middle * total - target + ridge * slope
        value = total - target @ slope - intercept + ridge * (slope @ slope) / 2
        return float(value), np.append(gradient, total - 1.0)

    theta = optimize.minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", tol=1e-9).x
    coefficients = theta[:-1] * scale
    return Probe(coefficients, float(theta[-1] - mean @ coefficients))


def _mean(features: sparse.csr_matrix) -> NDArray[np.float64]:
    return np.asarray(features.mean(axis=0), dtype=np.float64).ravel()


def _variances(features: sparse.csr_matrix) -> NDArray[np.float64]:
    mean = _mean(features)
    square = np.asarray(features.multiply(features).mean(axis=0)).ravel()
    return np.asarray(square - mean**2, dtype=np.float64)


def can_cross_fit(unfiltered: NDArray[np.bool_], folds: NDArray[np.int64]) -> bool:
    """Whether every fold leaves images of both sides to the probe that is fitted without it.

    Args:
        unfiltered: Side of each row, shape (n,).
        folds: Fold of each row, shape (n,).

    Examples:
        >>> can_cross_fit(np.array([True, True, False, False]), np.array([0, 1, 0, 1]))
        True
        >>> can_cross_fit(np.array([True, True, False]), np.array([0, 1, 1]))
        False
    """
    sides = (unfiltered, ~unfiltered)
    return len(folds) > 0 and all((side & (folds != fold)).any() for fold in np.unique(folds) for side in sides)


def cross_fit(
    features: sparse.csr_matrix, unfiltered: NDArray[np.bool_], folds: NDArray[np.int64], regularisation: float
) -> tuple[list[Probe], ProbeQuality]:
    """One probe for each fold, fitted on the others, and their quality on the fold that each did not see.

    Args:
        features: Of shape (n, features).
        unfiltered: Side of each row.
        folds: Fold of each row, 0 to k - 1.
        regularisation: See `fit_probe`.

    Returns:
        The k probes, the i-th for weighing fold i, and their quality.
    """
    count = int(folds.max()) + 1
    probes = [fit_probe(features[folds != f], unfiltered[folds != f], regularisation) for f in range(count)]
    odds = np.empty(len(unfiltered))
    for fold, probe in enumerate(probes):
        odds[folds == fold] = probe.log_odds(features[folds == fold])
    return probes, _quality(odds, unfiltered)


def _quality(log_odds: NDArray[np.float64], unfiltered: NDArray[np.bool_]) -> ProbeQuality:
    """AUC, and calibration over bins of equal numbers: predictions crowd near one half, where equal widths see nothing.

    Source:
        Nguyen and O'Connor, "Posterior calibration and exploratory analysis for NLP models", EMNLP 2015.
    """
    shares = np.array([np.mean(~unfiltered), np.mean(unfiltered)])
    weight = (0.5 / shares)[unfiltered.astype(int)]
    predicted = 1.0 / (1.0 + np.exp(-log_odds))
    edges = np.unique(np.quantile(predicted, np.linspace(0.0, 1.0, _CALIBRATION_BINS + 1)))
    place = np.searchsorted(edges[1:-1], predicted, side="right")
    total, images = np.bincount(place, weight), np.bincount(place)
    means = [np.bincount(place, weight * value) / np.maximum(total, 1e-300) for value in (predicted, unfiltered)]
    bins = tuple(
        ReliabilityBin(float(edges[i]), float(edges[min(i + 1, len(edges) - 1)]), int(images[i]), *map(float, mean))
        for i, mean in enumerate(zip(*means, strict=True))
        if images[i]
    )
    error = float(np.sum(total * np.abs(means[0] - means[1])) / total.sum())
    return ProbeQuality(float(roc_auc_score(unfiltered, log_odds)), error, bins)


def effective_sample_size(total: float, total_of_squares: float) -> float:
    """Kish's effective sample size: how many images of weight 1 the weighted ones are worth.

    Args:
        total: Sum of the weights.
        total_of_squares: Sum of their squares.

    Examples:
        >>> effective_sample_size(10.0, 10.0)
        10.0
    """
    return total**2 / total_of_squares if total_of_squares else 0.0


def beyond_reach(
    removed: NDArray[np.float32], kept: NDArray[np.float32], level: float = WITHIN_REACH
) -> NDArray[np.bool_]:
    """Which removed images no kept image resembles, so that no weight can bring them back.

    An image is beyond reach where its nearest kept image is farther than that of 95 % of the kept images themselves.
    So a filter that takes images by chance leaves 5 % of them beyond reach: `beyond_chance` tells what is more.

    Args:
        removed: Similarity of each removed image to its nearest kept one, shape (n,).
        kept: Similarity of each kept image to its nearest other kept one, shape (m,).
        level: Share of kept images that count as within reach.

    Returns:
        Shape (n,); all false where there is nothing to compare with.

    Examples:
        >>> beyond_reach(np.array([0.2, 0.9]), np.array([0.9, 0.8, 0.95])).tolist()
        [True, False]
    """
    if len(kept) == 0:
        return np.zeros(len(removed), dtype=np.bool_)
    return np.asarray(removed < np.quantile(kept, 1.0 - level) - 1e-6)


def beyond_chance(share: float, removed: int, kept: int, confidence: float) -> tuple[float, float, float]:
    """How many more removed images are beyond reach than would be if the filter had taken images by chance.

    Args:
        share: Of the sampled removed images, those beyond reach; see `beyond_reach`.
        removed: How many were sampled.
        kept: How many kept images were sampled, to say what is near.
        confidence: Of the interval, in (0, 1).

    Returns:
        The excess over the 5 % of chance, and the ends of its interval; shares of the removed images.

    Source:
        Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 1998,
        with exact intervals of the two shares: the 5 % are those of a sample too.

    Examples:
        >>> [round(end, 3) for end in beyond_chance(0.06, 1000, 1000, 0.95)]
        [0.01, -0.011, 0.031]
    """
    chance = 1.0 - WITHIN_REACH
    low, high = interval(round(share * removed), removed, confidence)
    chance_low, chance_high = interval(round(chance * kept), kept, confidence)
    excess = share - chance
    below, above = np.hypot(share - low, chance_high - chance), np.hypot(high - share, chance - chance_low)
    return excess, float(excess - below), float(excess + above)
