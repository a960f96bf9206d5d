import numpy as np
from numpy.typing import NDArray

from tests.builders.hashes import entries_of, flipped, random_hashes
from udfs.hashes.hamming import bit_vectors
from udfs.search.cluster import Assigning, k_means, nearest_centroids
from udfs.search.lsh import Matching


def test_the_clusters_of_a_vector_do_not_depend_on_its_batch() -> None:
    # Many bit vectors are half way between two centroids. If the product rounded differently, they would change sides.
    generator = np.random.default_rng(0)
    vectors = bit_vectors(generator.integers(0, 256, (3000, 32), dtype=np.uint8))
    means = vectors[generator.integers(0, 3000, (2, 40, 3))].mean(axis=2)
    assigning = Assigning(means, nearest=2, buckets=8)

    whole = np.sort(assigning.keys(vectors), axis=1)

    for size in (1, 7, 1000):
        parts = [assigning.keys(vectors[begin : begin + size]) for begin in range(0, 300, size)]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts), axis=1)[:300], whole[:300])


def test_k_means_divides_points_and_fills_up_missing_centroids() -> None:
    generator = np.random.default_rng(0)
    centres = 20 * generator.standard_normal((4, 8))
    points = (centres[np.arange(400) % 4] + generator.standard_normal((400, 8))).astype(np.float32)
    found = k_means(points, 4, 5)
    assert np.abs(found[np.argsort(found[:, 0])] - centres[np.argsort(centres[:, 0])]).max() < 0.5
    assert np.array_equal(k_means(points[:2], 3, 2), points[[0, 1, 0]])


def two_levels(vectors: NDArray[np.float32], each: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    sample = vectors[np.random.default_rng(seed).permutation(len(vectors))[:2000]]
    coarse = k_means(sample, each, 5)
    near = nearest_centroids(sample, coarse, 1)[:, 0]
    return coarse, np.concatenate([k_means(sample[near == group], each, 5) for group in range(each)])


def test_the_second_level_is_searched_within_the_nearest_centroids_of_the_first() -> None:
    vectors = bit_vectors(random_hashes(500))
    coarse, fine = two_levels(vectors, 6, seed=1)
    keys = Assigning(fine[None], 2, 8, coarse[None], first=3).keys(vectors)
    near = np.sort(nearest_centroids(vectors, coarse, 2), axis=1)
    for vector, groups, found in zip(vectors, near, np.sort(keys, axis=1), strict=True):
        own = fine.reshape(6, 6, -1)[groups].astype(np.float64)
        nearest = ((own - vector) ** 2).sum(axis=2).argmin(axis=1)
        assert found.tolist() == (3 * 36 + groups * 6 + nearest).tolist()


def test_clusters_below_the_bound_keep_the_recall_that_larger_ones_lose() -> None:
    # A model of a lake of 10^9 rows: clusters of 300 hashes, of which a task compares 200, and of 50 by two levels.
    generator = np.random.default_rng(0)
    base = flipped(np.repeat(random_hashes(60), 40, axis=0), 50, seed=2)
    near = flipped(base, 16, seed=3)
    hashes = np.concatenate([base, near])[generator.permutation(4800)]
    vectors, entries = bit_vectors(hashes), entries_of(hashes)
    every = Matching(31, 10**6).match(np.zeros(4800, np.uint32), entries)
    wanted = set(zip(every.a.tolist(), every.b.tolist(), strict=True))

    def recall(keys: NDArray[np.uint32]) -> float:
        found: set[tuple[int, int]] = set()
        for column in keys.T:
            pairs = Matching(31, 200, crowd_pairs=10**6).match(column, entries)
            found |= set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
        return len(found & wanted) / len(wanted)

    one = Assigning(np.stack([k_means(vectors[generator.permutation(4800)[:2000]], 16, 5) for _ in range(2)]), 1, 8)
    levels = [two_levels(vectors, 10, seed) for seed in range(2)]
    two = Assigning(np.stack([fine for _, fine in levels]), 1, 8, np.stack([coarse for coarse, _ in levels]))
    assert len(wanted) == 2400 and recall(one.keys(vectors)) < 0.8
    assert recall(two.keys(vectors)) > 0.95
