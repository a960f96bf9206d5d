"""The probe that distinguishes unfiltered from filtered images, and the importance weights that it gives.

With equal weight on both sides, P(unfiltered | x) / P(filtered | x) is the ratio of their densities at x (Choi et al.,
"Fair generative modeling via weak supervision", ICML 2020). The probe is linear in the log of this ratio.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from models.stats.thresholds import interval

WITHIN_REACH = 0.95

_CALIBRATION_BINS = 10
_LOG_LIMIT = 30.0
_LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class Probe:
    """A linear probe: log-odds of being unfiltered.

    Attributes:
        coefficients: float64 of shape (features,), for features that are not standardised.
        intercept: Log-odds if all features are 0.
    """

    coefficients: NDArray[np.float64]
    intercept: float

    def log_odds(self, features: "NDArray[np.float64] | scipy.sparse.csr_matrix") -> NDArray[np.float64]:
        """Returns log P(unfiltered | x) - log P(filtered | x), float64 of shape (n,), for features (n, features)."""
        return np.asarray(features @ self.coefficients, dtype=np.float64).ravel() + self.intercept


@dataclass(frozen=True)
class ReliabilityBin:
    """Images whose predicted probability of being unfiltered is in [low, high].

    Attributes:
        low: Lowest prediction.
        high: Highest prediction.
        images: Number of images.
        predicted: Their mean prediction.
        observed: Share that is unfiltered, with the same total weight on both sides.
    """

    low: float
    high: float
    images: int
    predicted: float
    observed: float


@dataclass(frozen=True)
class ProbeQuality:
    """The quality of the probes on images that they were not fitted on.

    Attributes:
        auc: Area under the ROC curve; 0.5 means that filtering left no trace in the features. None if no probe was
            fitted.
        calibration_error: Expected calibration error: mean difference of predicted and observed share over the bins.
            None if no probe was fitted.
        reliability: The reliability curve, by increasing prediction.
    """

    auc: float | None
    calibration_error: float | None
    reliability: tuple[ReliabilityBin, ...] = ()


def fit_probe(features: "scipy.sparse.csr_matrix", unfiltered: NDArray[np.bool_], regularisation: float) -> Probe:
    """Fits the log of the density ratio, with prior one half and a ridge.

    The loss is the mean of the weights over the filtered side minus the mean of their logs over the unfiltered side. At
    its minimum, every feature has the same mean in the weighted filtered data as in the unfiltered data, up to the
    ridge: the weights correct the shift of every caption word that is a feature. The logistic loss estimates the same
    ratio, but has this property only if the two sides are almost equal.

    Args:
        features: Of shape (n, features).
        unfiltered: True for rows of the unfiltered side, shape (n,).
        regularisation: Ridge on the coefficients of standardised features, in rows; a larger value is smoother.

    Raises:
        ValueError: One of the sides has no rows.

    Source:
        Zhao, "Covariate balancing propensity score by tailored loss functions", Annals of Statistics 2019; the same
        loss as KLIEP's, Sugiyama et al., NIPS 2007.
    """
    if unfiltered.all() or not unfiltered.any():
        raise ValueError("both unfiltered and filtered images are needed to fit a probe")
    mean, variance = _mean(features), _variances(features)
    # A word in every caption carries no information: its coefficient is 0.
    scale = np.divide(1.0, np.sqrt(np.abs(variance)), out=np.zeros_like(variance), where=variance > _LEAST_VARIANCE)
    scaled = scipy.sparse.csr_matrix(features @ scipy.sparse.diags(scale))
    # Features are centred within the products, so that they stay sparse. Without centring, a word in nearly every
    # caption acts like the intercept, and the fit ends far from the minimum.
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

    theta = scipy.optimize.minimize(loss, np.zeros(features.shape[1] + 1), jac=True, method="L-BFGS-B", tol=1e-9).x
    coefficients = theta[:-1] * scale
    return Probe(coefficients, float(theta[-1] - mean @ coefficients))


def _mean(features: "scipy.sparse.csr_matrix") -> NDArray[np.float64]:
    return np.asarray(features.mean(axis=0), dtype=np.float64).ravel()


def _variances(features: "scipy.sparse.csr_matrix") -> NDArray[np.float64]:
    mean = _mean(features)
    square = np.asarray(features.multiply(features).mean(axis=0)).ravel()
    return np.asarray(square - mean**2, dtype=np.float64)


def can_cross_fit(unfiltered: NDArray[np.bool_], folds: NDArray[np.int64]) -> bool:
    """Returns whether the rows outside each fold contain both sides.

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
    features: "scipy.sparse.csr_matrix", unfiltered: NDArray[np.bool_], folds: NDArray[np.int64], regularisation: float
) -> tuple[list[Probe], ProbeQuality]:
    """Fits one probe for each fold on the other folds, and measures each on its own fold.

    Args:
        features: Of shape (n, features).
        unfiltered: Side of each row.
        folds: Fold of each row, 0 to k - 1.
        regularisation: See `fit_probe`.

    Returns:
        The k probes and their quality; probe i gives the weights of fold i.
    """
    count = int(folds.max()) + 1
    probes = [fit_probe(features[folds != f], unfiltered[folds != f], regularisation) for f in range(count)]
    odds = np.empty(len(unfiltered))
    for fold, probe in enumerate(probes):
        odds[folds == fold] = probe.log_odds(features[folds == fold])
    return probes, _quality(odds, unfiltered)


def _quality(log_odds: NDArray[np.float64], unfiltered: NDArray[np.bool_]) -> ProbeQuality:
    """Returns AUC and calibration. Bins have equal numbers of images, because most predictions are near one half.

    Source:
        Nguyen and O'Connor, "Posterior calibration and exploratory analysis for NLP models", EMNLP 2015.
    """
    shares = np.array([np.mean(~unfiltered), np.mean(unfiltered)])
    weight = (0.5 / shares)[unfiltered.astype(int)]
    from sklearn.metrics import roc_auc_score  # takes a second to import

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
    """Returns Kish's effective sample size: the number of equally weighted images with the same precision.

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
    """Returns which removed images no kept image resembles, so that no weight can replace them.

    An image is beyond reach if its nearest kept image is farther away than for 95 % of the kept images themselves. So a
    filter that removes images at random leaves 5 % of them beyond reach; `beyond_chance` estimates the excess.

    Args:
        removed: Similarity of each removed image to its nearest kept one, shape (n,).
        kept: Similarity of each kept image to its nearest other kept one, shape (m,).
        level: Share of kept images that count as within reach.

    Returns:
        bool of shape (n,); all false if there are no kept images.

    Examples:
        >>> beyond_reach(np.array([0.2, 0.9]), np.array([0.9, 0.8, 0.95])).tolist()
        [True, False]
    """
    if len(kept) == 0:
        return np.zeros(len(removed), dtype=np.bool_)
    return np.asarray(removed < np.quantile(kept, 1.0 - level) - 1e-6)


def beyond_chance(share: float, removed: int, kept: int, confidence: float) -> tuple[float, float, float]:
    """Estimates how many more removed images are beyond reach than if the filter had removed images at random.

    Args:
        share: Share of the sampled removed images that are beyond reach; see `beyond_reach`.
        removed: Number of removed images in the sample.
        kept: Number of kept images in the sample that sets the limit of `beyond_reach`.
        confidence: Confidence of the interval, in (0, 1).

    Returns:
        The excess over the 5 % of chance, and the ends of its interval, as shares of the removed images.

    Source:
        Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 1998,
        with exact intervals of the two shares: the 5 % come from a sample too.

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
