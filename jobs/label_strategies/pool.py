"""The images that may be picked: their random order, and what is collected of them as numpy has it."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from udfs.hashes.hamming import HASH_BYTES, words


def in_random_order(pool: DataFrame, seed: int, purpose: str) -> DataFrame:
    """The pool in an order that has nothing to do with what the images show, the same each time.

    Args:
        pool: image_id and more.
        seed: Of the order.
        purpose: Another purpose, another order, so that no two samples have to do with each other.
    """
    return pool.orderBy(random_place(seed, purpose), "image_id")


def random_place(seed: int, purpose: str) -> Column:
    """The place of image_id in the order of `in_random_order`, long."""
    return F.xxhash64(F.lit(f"{seed} {purpose}"), F.col("image_id"))


def matrix(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of embeddings as float32 of shape (n, dims)."""
    numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False).astype(np.float32)
    return numbers.reshape(len(column), -1)


def hashes(column: pa.ChunkedArray) -> NDArray[np.uint64]:
    """A column of hashes as words, uint64 of shape (n, 4)."""
    joined = b"".join(column.to_pylist())
    return words(np.frombuffer(joined, dtype=np.uint8).reshape(-1, HASH_BYTES))
