"""Converts Arrow columns to numpy arrays and back, without a Python object for each row."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray


def joined_bytes(column: pa.Array | pa.ChunkedArray) -> NDArray[np.uint8]:
    """Concatenates the cells of a binary column.

    Args:
        column: Binary cells, none null.

    Returns:
        uint8 of shape (total bytes,); reshape it if all cells have the same width.

    Examples:
        >>> joined_bytes(pa.array([b"ab", b"c"])).tobytes()
        b'abc'
        >>> joined_bytes(pa.chunked_array([[b"ab", b"c"], [b"d"]])).tobytes()
        b'abcd'
    """
    if isinstance(column, pa.ChunkedArray):
        parts = [joined_bytes(chunk) for chunk in column.chunks]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint8)
    offsets = np.frombuffer(column.buffers()[1], dtype=np.int32)[column.offset : column.offset + len(column) + 1]
    if not len(column) or offsets[0] == offsets[-1]:
        return np.zeros(0, dtype=np.uint8)
    return np.frombuffer(column.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]


def cells(rows: NDArray[np.uint8]) -> pa.Array:
    """Converts rows of bytes to a binary column.

    Args:
        rows: uint8 of shape (n, width).

    Examples:
        >>> cells(np.array([[97, 98]], dtype=np.uint8)).to_pylist()
        [b'ab']
    """
    buffer = pa.py_buffer(np.ascontiguousarray(rows))
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(rows.shape[1]), len(rows), [None, buffer])
    return fixed.cast(pa.binary())


def lists(rows: NDArray[np.float32]) -> pa.Array:
    """Converts rows of numbers to a list column.

    Args:
        rows: float32 of shape (n, width).

    Examples:
        >>> lists(np.array([[1, 2]], dtype=np.float32)).to_pylist()
        [[1.0, 2.0]]
    """
    count, width = rows.shape
    return pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * width, np.ascontiguousarray(rows).ravel())


def matrix(column: pa.Array | pa.ChunkedArray) -> NDArray[np.float32]:
    """Converts a list column to a matrix.

    Args:
        column: Lists of numbers, all with the same length, none null.

    Returns:
        float32 of shape (n, length); (0, 0) for no rows.

    Examples:
        >>> matrix(pa.array([[1, 2], [3, 4]])).tolist()
        [[1.0, 2.0], [3.0, 4.0]]
        >>> matrix(pa.chunked_array([[[1.0]], [[2.0]]])).shape, matrix(pa.array([], pa.list_(pa.float32()))).shape
        ((2, 1), (0, 0))
    """
    if not len(column):
        return np.zeros((0, 0), np.float32)
    numbers = np.asarray(pc.list_flatten(column)).astype(np.float32, copy=False)
    return numbers.reshape(len(column), -1)
