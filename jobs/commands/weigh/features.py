"""What the probe sees of an image: frequent words of its caption, its embedding, or both."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from scipy import sparse

from jobs.runtime.config import WeighSettings
from udfs.arrays.arrow import matrix
from udfs.text.captions import Keywords

_LEAST_CAPTIONS = 50


@dataclass(frozen=True)
class Unfiltered:
    """The unfiltered reference that is weighed.

    Attributes:
        rows: image_id, kept, words (of the caption, each once).
        signals: image_id, embedding; larger than the rows, so that it is joined only where an embedding is asked for.
        total: Number of rows.
        kept: Number of those that passed the filter.
    """

    rows: DataFrame
    signals: DataFrame
    total: int
    kept: int


@dataclass(frozen=True)
class Features:
    """The features of the probe, in this order: the words of the caption, then the embedding.

    Attributes:
        words: Words whose presence is a feature.
        dims: Length of the embedding; 0 where it is not used.
        chosen: Their kinds, as the setting `weigh.features` names them.
    """

    words: tuple[str, ...]
    dims: int
    chosen: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of features."""
        return len(self.words) + self.dims

    @cached_property
    def keywords(self) -> Keywords:
        """The words, to look for."""
        return Keywords(self.words)

    def matrix(self, words: pa.ListArray, embeddings: pa.ListArray) -> sparse.csr_matrix:
        """Features of shape (n, words + dims), from captions' words and embeddings; a missing embedding is all 0."""
        caption, place = self.keywords.places(words)
        found = sparse.csr_matrix((np.ones(len(caption)), (caption, place)), shape=(len(words), len(self.words)))
        if not self.dims:
            return found
        there = pc.fill_null(embeddings.value_lengths(), 0).to_numpy(zero_copy_only=False) == self.dims
        stacked = np.zeros((len(words), self.dims))
        if there.any():
            stacked[there] = matrix(embeddings.filter(pa.array(there)))
        return sparse.hstack([found, sparse.csr_matrix(stacked)], format="csr")


def vocabulary(rows: DataFrame, settings: WeighSettings, kept: float) -> tuple[str, ...]:
    """The most frequent caption words that filtering left enough of.

    A word that loses most of its captions names what the filter is there to remove: to weigh by it would ask the few
    that are left to stand for it. What is enough is relative to the share that filtering left of all captions: a strict
    filter, which drops a fifth of everything, would otherwise leave no word to weigh by.

    Args:
        rows: words, kept.
        settings: How much is enough, and how many words.
        kept: Share of all captions that filtering left, in [0, 1].
    """
    counted = rows.select(F.explode("words").alias("word"), "kept").groupBy("word")
    counts = counted.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    enough = (F.col("captions") >= _LEAST_CAPTIONS) & (F.col("left") >= settings.min_support * kept * F.col("captions"))
    top = counts.where(enough).orderBy(F.desc("captions"), "word").limit(settings.words)
    return tuple(row.word for row in top.select("word").collect())


def featured(rows: DataFrame, signals: DataFrame, features: Features) -> DataFrame:
    """image_id, kept, words, embedding: null where there is none, and empty where the probe does not see it."""
    if not features.dims:
        return rows.withColumn("embedding", F.array().cast("array<float>"))
    return rows.join(signals.select("image_id", "embedding"), "image_id", "left")
