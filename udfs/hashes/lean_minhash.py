"""Signatures of 256-bit hashes as datasketch's `LeanMinHash`, for indexes outside Spark.

A service that asks for one image at a time, such as "is this upload in the training set?", needs an index in memory or
in Redis or Cassandra, not a Spark job. datasketch has such indexes (`MinHashLSH`, `MinHashLSHForest`,
`AsyncMinHashLSH`), but its own signature of a hash is slow, because it hashes each of the 128 set bits.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from udfs.hashes.minhash import signatures

if TYPE_CHECKING:
    from datasketch import LeanMinHash

_SCHEME = "legacy"  # datasketch's word for values that none of its own permutations made; it compares equal schemes


def lean_minhashes(hashes: NDArray[np.uint8], count: int, seed: int = 0) -> "list[LeanMinHash]":
    """Returns signatures that datasketch's indexes take.

    Signatures of the same `count` and `seed` can be compared, on any machine and in any process. They must not be mixed
    with those of datasketch's own `MinHash`.

    Args:
        hashes: uint8 of shape (n, 32).
        count: Number of permutations: `num_perm` of the index.
        seed: Seed of the permutations.

    Examples:
        >>> one = np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8)
        >>> near = one.copy()
        >>> near[0, 0] ^= 7  # 3 bits
        >>> a, b = lean_minhashes(np.concatenate([one, near]), 512)
        >>> bool(abs(a.jaccard(b) - 126.5 / 129.5) < 0.03)
        True
    """
    from datasketch import LeanMinHash  # it imports SciPy's integration, which no Spark worker needs

    values = signatures(hashes, count, seed).astype(np.uint64)
    return [LeanMinHash(seed=seed, hashvalues=row, scheme=_SCHEME) for row in values]
