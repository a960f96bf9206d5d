"""Poisson bootstrap of keyword counts in one pass.

Each image has its own Poisson(1) count in each resample, drawn from a hash of its id, so that the resamples are the
same however the rows are spread. Source: Chamandy et al., "Estimating uncertainty for massive data streams", 2012.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T
from scipy import stats

WEIGHT_UNIT = 1_000_000
"""Weights are summed as whole millionths, so that sums do not depend on the order of rows."""

COUNTS = T.StructType(
    [
        T.StructField("keyword", T.IntegerType()),
        T.StructField("resample", T.IntegerType()),
        T.StructField("unfiltered", T.LongType()),
        T.StructField("filtered", T.LongType()),
        T.StructField("weighted", T.LongType()),
    ]
)
"""Partial sums: keyword is its place, or -1 for all captions; resample 0 is the data itself."""

_BLOCK = 4096


@dataclass(frozen=True)
class Resampling:
    """Counts keywords in the data and in each resample.

    Attributes:
        keywords: Number of keywords.
        resamples: Number of resamples.
        seed: Of the resamples.
    """

    keywords: int
    resamples: int
    seed: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Arrow batches of (image_hash, kept, weight, found) to `COUNTS`: the function for `DataFrame.mapInArrow`.

        `weight` is in units of `WEIGHT_UNIT`, `found` the places of the keywords in a caption.
        """
        sums = np.zeros((3, self.keywords + 1, self.resamples + 1), dtype=np.int64)
        for batch in batches:
            for begin in range(0, batch.num_rows, _BLOCK):
                sums += self._sums(batch.slice(begin, _BLOCK))
        keyword, resample = np.meshgrid(np.arange(-1, self.keywords), np.arange(self.resamples + 1), indexing="ij")
        columns = [keyword.ravel().astype(np.int32), resample.ravel().astype(np.int32), *sums.reshape(3, -1)]
        yield pa.record_batch([pa.array(column) for column in columns], names=COUNTS.names)

    def _sums(self, rows: pa.RecordBatch) -> NDArray[np.int64]:
        ids = rows.column("image_hash").to_numpy(zero_copy_only=False).view(np.uint64)
        kept = rows.column("kept").to_numpy(zero_copy_only=False).astype(np.float64)
        weight = rows.column("weight").to_numpy(zero_copy_only=False).astype(np.float64)
        counts = np.concatenate([np.ones((len(ids), 1)), poisson_counts(ids, self.resamples, self.seed)], axis=1)
        has = np.zeros((len(ids), self.keywords + 1))
        has[:, 0] = 1
        found = rows.column("found")
        owner = np.repeat(np.arange(len(ids)), found.value_lengths().to_numpy(zero_copy_only=False))
        has[owner, 1 + found.flatten().to_numpy(zero_copy_only=False)] = 1
        # Whole numbers below 2^53: exact in float64, and a matrix product is fast only there.
        return np.stack([(has * side[:, None]).T @ counts for side in (np.ones(len(ids)), kept, weight)]).astype(
            np.int64
        )


def poisson_counts(ids: NDArray[np.uint64], resamples: int, seed: int) -> NDArray[np.float64]:
    """How often each row stands in each resample.

    Args:
        ids: A 64-bit hash of each row's id, uint64 of shape (n,).
        resamples: Number of resamples.
        seed: Of the resamples.

    Returns:
        Poisson(1) counts as float64 of shape (n, resamples).

    Examples:
        >>> poisson_counts(np.arange(100_000, dtype=np.uint64), 1, seed=0).mean().round(1)
        np.float64(1.0)
    """
    streams = np.random.Generator(np.random.PCG64([seed, resamples])).integers(0, 2**63, resamples, dtype=np.uint64)
    mixed = _mix(ids[:, None] ^ _mix(streams)[None, :])
    uniform = (mixed >> np.uint64(11)).astype(np.float64) / float(1 << 53)
    steps = stats.poisson.cdf(np.arange(12), 1.0)
    return np.searchsorted(steps, uniform, side="right").astype(np.float64)


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Two steps of SplitMix64's finisher: neighbouring ids give unrelated numbers."""
    for _ in range(2):
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        value = value ^ (value >> np.uint64(31))
    return value
