"""What is collected of the images that may be picked, as numpy has it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.arrays.arrow import joined_bytes
from udfs.hashes.hamming import HASH_BYTES, words


def hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A column of hashes as words, uint64 of shape (n, 4)."""
    return words(joined_bytes(column).reshape(-1, HASH_BYTES))
