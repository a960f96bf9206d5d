"""Likeness of what images show: short vectors from the table features, and the search for the most similar."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from udfs.arrays.arrow import matrix

DIMENSIONS = 256
"""Numbers that are kept of each embedding: half a kilobyte for each image. With the shipped semantic encoder, 94 % of
the 20 nearest images stay among the 20 nearest, and all among the first 60 (docs/benchmarks.md)."""

CHUNK = 4_096
"""Vectors in one row of the index."""

_FIT = 8_000


def directions(features: DataFrame) -> NDArray[np.float32]:
    """Returns the directions in which embeddings differ most, from a reproducible sample of them.

    Args:
        features: image_id, embedding (unit length).

    Returns:
        float32 of shape (dims, at most `DIMENSIONS`); shape (0, 0) without embeddings.
    """
    order = F.xxhash64(F.lit(1), "image_id")
    sample = features.orderBy(order, "image_id").limit(_FIT).select("embedding").toArrow()
    return principal(matrix(sample["embedding"])) if sample.num_rows else np.zeros((0, 0), np.float32)


def principal(embeddings: NDArray[np.float32], count: int = DIMENSIONS) -> NDArray[np.float32]:
    """Returns the principal directions of vectors, which keep most of their inner products.

    Args:
        embeddings: float32 of shape (n, dims).
        count: Number of directions.

    Returns:
        float32 of shape (dims, at most `count`), orthonormal, the most important first.

    Examples:
        >>> principal(np.array([[1, 0, 0], [0.8, 0.6, 0]], np.float32), 2).shape
        (3, 2)
        >>> abs(principal(np.array([[0, 1], [0, 1]], np.float32), 1).round(3)).tolist()
        [[0.0], [1.0]]
    """
    _, vectors = np.linalg.eigh(embeddings.T.astype(np.float64) @ embeddings)
    return np.ascontiguousarray(vectors[:, ::-1][:, :count], np.float32)


def packed(embeddings: NDArray[np.float32], onto: NDArray[np.float32]) -> NDArray[np.float16]:
    """Returns embeddings in the given directions, at unit length.

    Args:
        embeddings: float32 of shape (n, dims).
        onto: float32 of shape (dims, d), as `principal` returns them.

    Returns:
        float16 of shape (n, d). The inner product of two rows is their likeness, -1 to 1.

    Examples:
        >>> packed(np.array([[3, 4]], np.float32), np.eye(2, dtype=np.float32)).round(1).tolist()
        [[0.60009765625, 0.7998046875]]
    """
    short = embeddings @ onto
    length = np.linalg.norm(short, axis=1, keepdims=True)
    return (short / np.where(length > 0, length, 1)).astype(np.float16)


def likeness(chunks: Iterable[bytes], vector: NDArray[np.float16]) -> NDArray[np.float32]:
    """Returns the likeness of a vector with each of many, chunk by chunk.

    Args:
        chunks: Bytes of float16 vectors, row by row.
        vector: float16 of shape (d,).

    Returns:
        float32 of shape (n,).

    Examples:
        >>> rows = np.eye(3, dtype=np.float16)
        >>> likeness([rows[:2].tobytes(), rows[2:].tobytes()], rows[1]).tolist()
        [0.0, 1.0, 0.0]
    """
    wanted = vector.astype(np.float32)
    parts = [np.frombuffer(chunk, np.float16).reshape(-1, len(wanted)).astype(np.float32) @ wanted for chunk in chunks]
    return np.concatenate(parts) if parts else np.zeros(0, np.float32)


def vectors(features: DataFrame, onto: NDArray[np.float32]) -> DataFrame:
    """Returns the short vector of each image: image_id, vector (float16, as bytes).

    Args:
        features: image_id, embedding.
        onto: The directions.
    """
    import pandas as pd

    def shorten(embedding: pd.Series) -> pd.Series:
        rows = packed(np.stack(embedding.to_list()).astype(np.float32), onto)
        return pd.Series([row.tobytes() for row in rows])

    return features.select("image_id", F.pandas_udf(shorten, "binary")("embedding").alias("vector"))
