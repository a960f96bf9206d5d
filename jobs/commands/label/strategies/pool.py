"""The images that may be picked: their random order, and what is collected of them as numpy has it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.hashes.hamming import HASH_BYTES, words


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of embeddings as float32 of shape (n, dims)."""
    numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers.reshape(len(column), -1)


def hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A column of hashes as words, uint64 of shape (n, 4)."""
    joined = b"".join(column.to_pylist())
    return words(np.frombuffer(joined, dtype=np.uint8).reshape(-1, HASH_BYTES))
