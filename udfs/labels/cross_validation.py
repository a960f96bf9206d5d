"""Repeated cross-validation as one Spark job: each task fits some of the versions of a classifier."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import types as T

from models.stats import batched_logistic

HELD_OUT = T.StructType([T.StructField("example", T.IntegerType()), T.StructField("logit", T.DoubleType())])
"""The logit of an example by a version that did not see it."""

# Versions fitted together; their weights and curvatures are arrays with this many rows.
_TOGETHER = 10


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """Versions of a classifier, numbered repeat by repeat and fold by fold.

    Attributes:
        embeddings: Embeddings of the labelled images, float32 of shape (n, dims).
        labels: bool of shape (n,).
        folds: Number of versions of one repeat; each is fitted on all folds but one.
        decay: Ridge penalty; see `models.stats.batched_logistic.fit`.
        seed: Seed of the folds.
    """

    embeddings: NDArray[np.float32]
    labels: NDArray[np.bool_]
    folds: int
    decay: float
    seed: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Maps Arrow batches of (id long) to `HELD_OUT` rows; use it with `DataFrame.mapInArrow`."""
        inputs = batched_logistic.standardised(self.embeddings)
        for batch in batches:
            numbers = batch.column("id").to_numpy()
            for begin in range(0, len(numbers), _TOGETHER):
                yield self._held_out(inputs, numbers[begin : begin + _TOGETHER])

    def _held_out(self, inputs: NDArray[np.float64], numbers: NDArray[np.int64]) -> pa.RecordBatch:
        out = np.stack(
            [
                batched_logistic.stratified_random_folds(self.labels, self.folds, repeat, self.seed) == fold
                for repeat, fold in zip(numbers // self.folds, numbers % self.folds, strict=True)
            ]
        )
        theta = batched_logistic.fit(inputs, self.labels, batched_logistic.balanced(self.labels, ~out), self.decay)
        logits = theta[:, :-1] @ inputs.T + theta[:, -1:]
        examples = np.nonzero(out)[1].astype(np.int32)
        return pa.record_batch([pa.array(examples), pa.array(logits[out])], names=HELD_OUT.names)
