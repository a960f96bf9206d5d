"""Computes Hamming distances between packed binary hashes."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import IntegerType

from udfs.arrays.arrow import joined_bytes
from udfs.arrays.late import late

if TYPE_CHECKING:
    import pandas as pd

HASH_BYTES = 32
HASH_BITS = 8 * HASH_BYTES
HASH_WORDS = HASH_BYTES // 8


def unpack(column: "pd.Series[bytes]") -> NDArray[np.uint8]:
    """Converts a pandas column of 32-byte hashes to an array.

    Args:
        column: n hashes, none null, each of 32 bytes.

    Returns:
        uint8 of shape (n, 32).

    Raises:
        ValueError: A hash does not have 32 bytes.
    """
    return _rows(np.frombuffer(b"".join(column), dtype=np.uint8), len(column))


def hashes_of(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """Converts an Arrow column of 32-byte hashes to an array.

    Args:
        column: n hashes, none null, each of 32 bytes.

    Returns:
        uint8 of shape (n, 32).

    Raises:
        ValueError: A hash does not have 32 bytes.

    Examples:
        >>> hashes_of(pa.array([bytes(32), bytes(32)])).shape
        (2, 32)
    """
    return _rows(joined_bytes(column), len(column))


def _rows(joined: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Divides the joined bytes of `count` hashes into one row for each hash."""
    if len(joined) != HASH_BYTES * count:
        raise ValueError(f"every hash must have {HASH_BYTES} bytes")
    return joined.reshape(-1, HASH_BYTES)


def words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Converts hashes to 64-bit words, whose XOR and bit counts are eight times as fast as those of bytes.

    Args:
        hashes: uint8 of shape (n, 32).

    Returns:
        uint64 of shape (n, 4).
    """
    return np.ascontiguousarray(hashes).view(np.uint64)


def distances(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> NDArray[np.uint16]:
    """Returns the number of bits in which hashes differ, row by row (shapes broadcast).

    Args:
        a: uint64 of shape (..., 4).
        b: uint64 of shape (..., 4).

    Returns:
        uint16 of the broadcast shape without its last axis, 0 to 256.

    Examples:
        >>> zeros, ones = np.zeros((1, 32), np.uint8), np.full((1, 32), 255, np.uint8)
        >>> distances(words(zeros), words(ones))
        array([256], dtype=uint16)
    """
    return np.bitwise_count(a ^ b).sum(axis=-1, dtype=np.uint16)


@late
def hamming() -> Any:
    """Returns the Hamming distance of two binary columns of 32 bytes each, in bits; null if either is null."""
    import pandas as pd

    @pandas_udf(IntegerType())
    def hamming(a: pd.Series, b: pd.Series) -> pd.Series:
        both = a.notna() & b.notna()
        result = pd.Series(pd.array([None] * len(a), dtype="Int32"), index=a.index)
        result[both] = distances(words(unpack(a[both])), words(unpack(b[both])))
        return result

    return hamming


def bit_vectors(hashes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Converts hashes to vectors whose squared distance is four times their Hamming distance.

    Args:
        hashes: uint8 of shape (n, 32).

    Returns:
        float32 of shape (n, 256), -1 or 1.

    Examples:
        >>> bit_vectors(np.array([[128] + [0] * 31], np.uint8))[0, :3].tolist()
        [1.0, -1.0, -1.0]
    """
    return np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1
