"""Many versions of a classifier at once: logistic regressions on the same rows with different row weights."""

import numpy as np
import scipy
from numpy.typing import NDArray

_STEPS = 50
_HALVINGS = 12
_GRADIENT = 1e-7
# Without any decay, separable labels have no optimum.
_LEAST_DECAY = 1e-6


def fit(
    inputs: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64], decay: float
) -> NDArray[np.float64]:
    """Fits ridge logistic regressions on the same rows, one for each set of row weights, by Newton's method.

    Args:
        inputs: Standardised features, float64 of shape (n, dims).
        labels: bool of shape (n,).
        weights: float64 of shape (versions, n); each row has the sum 1, and 0 hides an example from a version.
        decay: Ridge penalty: factor of half the squared coefficients in the loss. The intercept has no penalty.

    Returns:
        float64 of shape (versions, dims + 1), the intercept last.

    Source:
        Newton's method for logistic regression (iteratively reweighted least squares), Hastie et al., "The elements of
        statistical learning", 2nd edition, section 4.4.1; steps are halved until the loss falls.

    Examples:
        >>> x, y = np.array([[-1.0], [1.0]]), np.array([False, True])
        >>> theta = fit(x, y, np.array([[0.5, 0.5]]), decay=0.1)
        >>> bool(theta[0, 0] > 1), bool(abs(theta[0, 1]) < 1e-6)
        (True, True)
    """
    design = np.hstack([inputs, np.ones((len(inputs), 1))])
    penalty = np.append(np.full(inputs.shape[1], max(decay, _LEAST_DECAY)), 1e-9)
    theta = np.zeros((len(weights), design.shape[1]))
    loss = _loss(theta, design, labels, weights, penalty)
    for _ in range(_STEPS):
        p = scipy.special.expit(theta @ design.T)
        gradient = (weights * (p - labels)) @ design + penalty * theta
        if np.abs(gradient).max() < _GRADIENT:
            break
        curvature = weights * p * (1 - p)
        hessians = np.stack([(design.T * c) @ design for c in curvature]) + np.diag(penalty)
        step = np.linalg.solve(hessians, gradient[..., None])[..., 0]
        size = np.ones((len(theta), 1))
        for _ in range(_HALVINGS):
            moved = _loss(theta - size * step, design, labels, weights, penalty)
            worse = moved > loss
            if not worse.any():
                break
            size[worse] /= 2
        # A version that no step improves keeps its coefficients.
        size[moved > loss] = 0
        theta, loss = theta - size * step, np.minimum(moved, loss)
        if not size.any():
            break
    return theta


def _loss(
    theta: NDArray[np.float64],
    design: NDArray[np.float64],
    labels: NDArray[np.bool_],
    weights: NDArray[np.float64],
    penalty: NDArray[np.float64],
) -> NDArray[np.float64]:
    z = theta @ design.T
    losses = np.logaddexp(0, np.where(labels, -z, z))
    return np.asarray((weights * losses).sum(axis=1) + (penalty * theta**2).sum(axis=1) / 2)


def stratified_random_folds(labels: NDArray[np.bool_], folds: int, repeat: int, seed: int) -> NDArray[np.int64]:
    """Assigns rows to random folds, separately for each class, so that every fold has its share of both classes.

    Args:
        labels: bool of shape (n,).
        folds: Number of folds.
        repeat: Number of the repeat; each repeat has other folds.
        seed: Seed of all repeats.

    Returns:
        Fold of each row, int64 of shape (n,), 0 to folds - 1.

    Examples:
        >>> dealt = stratified_random_folds(np.array([True, True, False, False]), 2, repeat=0, seed=0)
        >>> sorted(dealt[:2].tolist()), sorted(dealt[2:].tolist())
        ([0, 1], [0, 1])
    """
    rng = np.random.default_rng([seed, repeat])
    fold_of_row = np.empty(len(labels), np.int64)
    for members in (np.flatnonzero(labels), np.flatnonzero(~labels)):
        # Starts at a random fold: else a class with fewer rows than folds would always be held out by the first folds.
        fold_of_row[rng.permutation(members)] = (np.arange(len(members)) + rng.integers(folds)) % folds
    return fold_of_row


def standardised(embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
    """Scales columns to mean 0 and variance 1; a constant column becomes 0.

    Args:
        embeddings: Shape (n, dims).

    Examples:
        >>> standardised(np.array([[1, 5], [3, 5]], np.float32))
        array([[-1.,  0.],
               [ 1.,  0.]])
    """
    x = embeddings.astype(np.float64)
    spread = x.std(axis=0)
    return np.asarray((x - x.mean(axis=0)) / np.where(spread > 1e-6, spread, 1.0))


def balanced(labels: NDArray[np.bool_], seen: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns row weights that give both classes the same total; if only one class is seen, it has all the weight.

    Args:
        labels: bool of shape (n,).
        seen: Rows that each version may see, bool of shape (versions, n).

    Returns:
        float64 of shape (versions, n); each row has the sum 1.

    Examples:
        >>> balanced(np.array([True, False, False]), np.array([[True, True, True], [True, True, False]]))
        array([[0.5 , 0.25, 0.25],
               [0.5 , 0.5 , 0.  ]])
    """
    weights = np.zeros(seen.shape)
    for side in (seen & labels, seen & ~labels):
        weights += side / np.maximum(side.sum(axis=1, keepdims=True), 1)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def balanced_rows(labels: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Returns the positions of the first rows of each class: half of `most`, or more if the other class has fewer.

    Args:
        labels: bool of shape (n,).
        most: Number of rows to return, if there are so many.

    Returns:
        Positions in ascending order, int64; all of them if n is at most `most`.

    Examples:
        >>> balanced_rows(np.array([False, False, False, False, True]), 4)
        array([0, 1, 2, 4])
    """
    classes = np.flatnonzero(labels), np.flatnonzero(~labels)
    share = most // 2
    chosen = [own[: max(share, most - len(other))] for own, other in (classes, classes[::-1])]
    return np.sort(np.concatenate(chosen))
