"""Selection of diverse images to label, without near-duplicates."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

_ROUNDS = 20


def centres(embeddings: NDArray[np.float32], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Returns the row in the middle of each k-means cluster, the largest cluster first.

    k-means++ draws the first centres by their squared distance from those drawn before. So a small cluster far from all
    others is likely to get a centre.

    Args:
        embeddings: float32 of shape (n, dims), n at least `count`.
        count: Number of clusters.
        seed: Seed of the first centres.

    Returns:
        Row nearest to each cluster's mean, int64 of shape (clusters,), and the cluster's share of the rows, float64 of
        the same shape. There may be fewer than `count` clusters if rows are equal.

    Source:
        Arthur and Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.

    Examples:
        >>> rows, shares = centres(np.array([[0, 1], [0, 1], [1, 0]], np.float32), 2, seed=0)
        >>> rows.tolist(), shares.round(2).tolist()
        ([0, 2], [0.67, 0.33])
    """
    from sklearn.cluster import KMeans  # takes a second to import

    # More threads would add the numbers in another order, and might select other rows.
    with threadpool_limits(1):
        found = KMeans(count, n_init=1, max_iter=_ROUNDS, random_state=seed).fit(embeddings)
    apart = np.linalg.norm(embeddings - found.cluster_centers_[found.labels_], axis=1)
    order = np.lexsort((apart, found.labels_))
    groups, first, sizes = np.unique(found.labels_[order], return_index=True, return_counts=True)
    by_size = np.lexsort((groups, -sizes))
    return order[first[by_size]].astype(np.int64), sizes[by_size] / len(embeddings)


def strata(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Orders rows so that the beginning of the order, however long, is spread over the range of scores.

    The range is divided into `count` bins of equal width. The order takes one row of each bin in turn, the highest bin
    first; within a bin, rows keep their order.

    Args:
        scores: Finite scores, shape (n,).
        count: Number of bins.

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
    """Returns the first rows of an order, without near-duplicates of earlier ones.

    Args:
        hashes: uint64 of shape (n, 4), 256 bits each.
        order: Rows by priority; a row may occur more than once.
        count: Number of rows to return.
        max_distance: Largest Hamming distance of near-duplicates, in bits of 256.

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
