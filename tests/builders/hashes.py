"""Random hashes, hashes near them, and entries of the search made of them."""

import numpy as np
from numpy.typing import NDArray

from udfs.hashes.hamming import words
from udfs.search.lsh import Entries


def random_hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def flipped(hashes: NDArray[np.uint8], bits: int, seed: int = 1) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    unpacked = np.unpackbits(hashes, axis=1)
    for row in unpacked:
        row[generator.choice(256, bits, replace=False)] ^= 1
    return np.packbits(unpacked, axis=1)


def entries_of(hashes: NDArray[np.uint8], known: int = 0) -> Entries:
    """Returns entries ranked in their order; the last `known` were compared before."""
    ranks = np.arange(len(hashes))
    return Entries(np.ascontiguousarray(words(hashes).T), ranks, ranks >= len(hashes) - known)
