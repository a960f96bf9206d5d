"""Hashes integers to pseudorandom integers, for samples that depend only on the rows."""

import numpy as np
from numpy.typing import NDArray


def splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Applies two rounds of SplitMix64's finalizer: neighbouring values give unrelated numbers.

    Args:
        values: uint64 of any shape.

    Returns:
        uint64 of the same shape; different for different values.

    Source:
        Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.

    Examples:
        >>> numbers = splitmix64(np.arange(8000, dtype=np.uint64))
        >>> len(np.unique(numbers)), bool(900 < (numbers % np.uint64(8) == 0).sum() < 1100)
        (8000, True)
    """
    for _ in range(2):
        values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        values = values ^ (values >> np.uint64(31))
    return values
