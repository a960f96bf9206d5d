import numpy as np

from udfs.hashes.hamming import bit_vectors
from udfs.search.cluster import Assigning


def test_a_vector_goes_to_the_same_clusters_whatever_batch_it_comes_in() -> None:
    # Points half way between centroids are many among bits, and where the product rounds otherwise they change sides.
    generator = np.random.default_rng(0)
    vectors = bit_vectors(generator.integers(0, 256, (3000, 32), dtype=np.uint8))
    means = vectors[generator.integers(0, 3000, (2, 40, 3))].mean(axis=2)
    assigning = Assigning(means, nearest=2, buckets=8)

    whole = np.sort(assigning.keys(vectors), axis=1)

    for size in (1, 7, 1000):
        parts = [assigning.keys(vectors[begin : begin + size]) for begin in range(0, 300, size)]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts), axis=1)[:300], whole[:300])
