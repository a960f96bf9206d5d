"""Which of many candidates a person should look at: spread out, and no two of them near-duplicates."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits

_ROUNDS = 20


def centres(embeddings: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows in the middle of the groups that k-means finds, largest group first.

    k-means++ starts it, whose centres are drawn by their squared distance from those drawn before: a small group far
    from all others is likely to get one.

    Args:
        embeddings: float32 of shape (n, dims), n at least `count`.
        count: Groups.
        seed: Of the first centres.

    Returns:
        Row nearest to each group's mean, int64 of shape (groups,), and the group's share of the rows, float64 of the
        same shape. Fewer than `count` where rows are equal.

    Source:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples:
        >>> rows, shares = centres(np.array([[0, 1], [0, 1], [1, 0]], np.float32), 2, seed=0)
        >>> rows.tolist(), shares.round(2).tolist()
        ([0, 2], [0.67, 0.33])
    """
    # More threads would add up the same numbers in another order, and so pick other rows.
    with threadpool_limits(1):
        found = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=seed).fit(embeddings)
    apart = np.linalg.norm(embeddings - found.cluster_centers_[found.labels_], axis=1)
    order = np.lexsort((apart, found.labels_))
    groups, first, sizes = np.unique(found.labels_[order], return_index=True, return_counts=True)
    by_size = np.lexsort((groups, -sizes))
    return order[first[by_size]].astype(np.int64), sizes[by_size] / len(embeddings)


def strata(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Rows in an order whose every prefix is spread over the range of scores, not heaped at its top or bottom.

    The range is cut into `count` bins of equal width; the order takes one row of each bin in turn, the highest bin
    first and within a bin in the order in which the rows came.

    Args:
        scores: Shape (n,), finite.
        count: Bins.

    Returns:
        int64 of shape (n,): a permutation of the rows.

    Examples:
        >>> strata(np.array([0.9, 0.8, 0.1, 0.2, 0.7], np.float32), 2)
        array([0, 2, 1, 3, 4])
    """
    if not len(scores):
        return np.zeros(0, np.int64)
    low, width = float(scores.min()), max(float(np.ptp(scores)), 1e-9)
    bins = np.minimum((scores - low) / width * count, count - 1).astype(np.int64)
    turn = np.empty(len(scores), np.int64)
    for each in np.unique(bins):
        members = np.flatnonzero(bins == each)
        turn[members] = np.arange(len(members))
    return np.lexsort((-bins, turn)).astype(np.int64)


def distinct(hashes: NDArray[np.uint64], order: Iterable[int], count: int, max_distance: int) -> list[int]:
    """The first rows of an order of which no two are near-duplicates.

    Args:
        hashes: uint64 of shape (n, 4), 256 bits each.
        order: Rows, the most wanted first; a row may come more than once.
        count: How many are wanted.
        max_distance: Bits of 256 within which two rows are near-duplicates.

    Returns:
        At most `count` rows.

    Examples:
        >>> hashes = np.array([[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 255]], np.uint64)
        >>> distinct(hashes, [1, 0, 2], 3, max_distance=2)
        [1, 2]
    """
    chosen: list[int] = []
    for row in order:
        if len(chosen) == count:
            break
        apart = np.bitwise_count(hashes[chosen] ^ hashes[row]).sum(axis=1)
        if (apart > max_distance).all():
            chosen.append(int(row))
    return chosen
