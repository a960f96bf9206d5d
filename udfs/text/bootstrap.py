"""Poisson bootstrap of keyword counts in one pass.

Each image has a Poisson(1) count in each resample, drawn from a hash of its id, so the resamples do not depend on the
partitioning. Source: Chamandy et al., "Estimating uncertainty for massive data streams", 2012.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa
import scipy
from numpy.typing import NDArray
from pyspark.sql import types as T

from udfs.arrays.splitmix64 import splitmix64
from udfs.text.captions import Keywords

WEIGHT_UNIT = 1_000_000
"""Weights are summed as whole millionths, so that the sums do not depend on the order of rows."""

COUNTS = T.StructType(
    [
        T.StructField("keyword", T.IntegerType()),
        T.StructField("resample", T.IntegerType()),
        T.StructField("unfiltered", T.LongType()),
        T.StructField("filtered", T.LongType()),
        T.StructField("weighted", T.LongType()),
    ]
)
"""Partial sums: keyword is the index of a keyword, or -1 for all captions; resample 0 is the data itself."""

_BLOCK = 4096
_LEVELS = 1 << 16


@dataclass(frozen=True)
class Resampling:
    """Counts keywords in the data and in each resample.

    Attributes:
        keywords: Keywords to count.
        resamples: Number of resamples.
        seed: Seed of the resamples.
    """

    keywords: Keywords
    resamples: int
    seed: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Maps Arrow batches of (image_hash, kept, weight, tokens) to `COUNTS`; use it with `DataFrame.mapInArrow`.

        `weight` is in millionths (see `WEIGHT_UNIT`); `tokens` are a caption's words in order.
        """
        count = len(self.keywords.names)
        sums = np.zeros((3, count + 1, self.resamples + 1), dtype=np.int64)
        for batch in batches:
            for begin in range(0, batch.num_rows, _BLOCK):
                sums += self._sums(batch.slice(begin, _BLOCK))
        keyword, resample = np.meshgrid(np.arange(-1, count), np.arange(self.resamples + 1), indexing="ij")
        some = sums.any(axis=0).ravel()
        columns = [keyword.ravel().astype(np.int32), resample.ravel().astype(np.int32), *sums.reshape(3, -1)]
        yield pa.record_batch([pa.array(column[some]) for column in columns], names=COUNTS.names)

    def _sums(self, rows: pa.RecordBatch) -> NDArray[np.int64]:
        ids = rows.column("image_hash").to_numpy(zero_copy_only=False).view(np.uint64)
        kept, weight = (
            rows.column(name).to_numpy(zero_copy_only=False).astype(np.float64) for name in ("kept", "weight")
        )
        caption, keyword = self.keywords.places(rows.column("tokens"))
        return resampled_sums(
            np.stack([np.ones(len(ids)), kept, weight]),
            (caption, keyword, len(self.keywords.names)),
            poisson_counts(ids, self.resamples, self.seed),
        )


def resampled_sums(
    sides: NDArray[np.float64], found: tuple[NDArray[np.int64], NDArray[np.int64], int], counts: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Sums over all captions, and over the captions with each keyword, in the data and in each resample.

    Args:
        sides: What each caption adds to each of s sums, whole numbers of shape (s, n).
        found: Caption and keyword of each occurrence, and the number k of keywords.
        counts: How often each caption is in each resample, of shape (n, r).

    Returns:
        Shape (s, k + 1, r + 1). Axis 1: all captions, then the keywords. Axis 2: the data itself, then the resamples.

    Examples:
        >>> occurs = np.array([1]), np.array([0]), 1
        >>> resampled_sums(np.ones((1, 3)), occurs, np.array([[1.0], [2.0], [0.0]])).tolist()
        [[[3, 3], [1, 2]]]
    """
    caption, keyword, keywords = found
    # Each keyword is in few captions, so a sparse product is fast. Whole numbers below 2^53 are exact.
    every = np.concatenate([np.ones((len(counts), 1)), counts], axis=1)
    rows = np.concatenate([np.zeros(len(counts), dtype=np.int64), keyword + 1])
    columns = np.concatenate([np.arange(len(counts)), caption])
    shape = (keywords + 1, len(counts))
    sums = [scipy.sparse.csr_matrix((side[columns], (rows, columns)), shape=shape) @ every for side in sides]
    return np.stack(sums).astype(np.int64)


def poisson_counts(ids: NDArray[np.uint64], resamples: int, seed: int) -> NDArray[np.float64]:
    """Returns how often each row is in each resample.

    Args:
        ids: A 64-bit hash of each row's id, uint64 of shape (n,).
        resamples: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        Poisson(1) counts as float64 of shape (n, resamples).

    Examples:
        >>> poisson_counts(np.arange(100_000, dtype=np.uint64), 1, seed=0).mean().round(1)
        np.float64(1.0)
    """
    # Each hash gives four uniform numbers of 16 bits, which is enough for small counts.
    hashes = -(-resamples // 4)
    streams = np.random.Generator(np.random.PCG64([seed, resamples])).integers(0, 2**63, hashes, dtype=np.uint64)
    numbers = splitmix64(ids[:, None] ^ splitmix64(streams)[None, :])
    return _poisson_table()[numbers.view(np.uint16)][:, :resamples]


@cache
def _poisson_table() -> NDArray[np.float64]:
    """Returns the Poisson(1) count at each of the 65,536 levels of a uniform number."""
    levels = (np.arange(_LEVELS) + 0.5) / _LEVELS
    return np.searchsorted(scipy.stats.poisson.cdf(np.arange(12), 1.0), levels, side="right").astype(np.float64)
