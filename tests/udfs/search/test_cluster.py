import numpy as np

from udfs.hashes.hamming import bit_vectors
from udfs.search.cluster import Assigning


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
