"""The features of the probe: frequent words of the caption, the embedding, or both."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import scipy
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.runtime.config import WeighSettings
from udfs.arrays.arrow import matrix
from udfs.text.captions import Keywords

_LEAST_CAPTIONS = 50


@dataclass(frozen=True)
class Unfiltered:
    """The unfiltered reference.

    Attributes:
        rows: image_id, kept, words (words of the caption, each once).
        embeddings: image_id, embedding; larger than the rows, so it is joined only if embeddings are features.
        total: Number of rows.
        kept: Number of rows that passed the filter.
    """

    rows: DataFrame
    embeddings: DataFrame
    total: int
    kept: int


@dataclass(frozen=True)
class Features:
    """The features of the probe, in this order: the words of the caption, then the embedding.

    Attributes:
        words: Words whose presence is a feature.
        dims: Length of the embedding; 0 if it is not used.
        chosen: Kinds of features, as the setting `weigh.features` names them.
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
        """The words as `Keywords`, to find them in captions."""
        return Keywords(self.words)

    def matrix(self, words: pa.ListArray, embeddings: pa.ListArray) -> "scipy.sparse.csr_matrix":
        """Returns features of shape (n, words + dims) from captions' words and embeddings; a missing embedding is 0."""
        caption, place = self.keywords.places(words)
        words_found = scipy.sparse.csr_matrix(
            (np.ones(len(caption)), (caption, place)), shape=(len(words), len(self.words))
        )
        if not self.dims:
            return words_found
        present = pc.fill_null(embeddings.value_lengths(), 0).to_numpy(zero_copy_only=False) == self.dims
        stacked = np.zeros((len(words), self.dims))
        if present.any():
            stacked[present] = matrix(embeddings.filter(pa.array(present)))
        return scipy.sparse.hstack([words_found, scipy.sparse.csr_matrix(stacked)], format="csr")


def vocabulary(rows: DataFrame, settings: WeighSettings, kept: float) -> tuple[str, ...]:
    """Returns the most frequent caption words of which filtering kept enough captions.

    A word that loses most of its captions names what the filter must remove. Weights by such a word would give the few
    remaining images a large weight. The minimum is relative to the share of captions that filtering kept; otherwise a
    strict filter, which removes a fifth of everything, would leave no word.

    Args:
        rows: words, kept.
        settings: The minimum (`min_support`), and the number of words.
        kept: Share of all captions that filtering kept, in [0, 1].
    """
    counted = rows.select(F.explode("words").alias("word"), "kept").groupBy("word")
    counts = counted.agg(F.count("*").alias("captions"), F.count_if("kept").alias("left"))
    enough = (F.col("captions") >= _LEAST_CAPTIONS) & (F.col("left") >= settings.min_support * kept * F.col("captions"))
    top = counts.where(enough).orderBy(F.desc("captions"), "word").limit(settings.words)
    return tuple(row.word for row in top.select("word").collect())


def featured(rows: DataFrame, embeddings: DataFrame, features: Features) -> DataFrame:
    """Returns image_id, kept, words, embedding (null if there is none, empty if it is not a feature)."""
    if not features.dims:
        return rows.withColumn("embedding", F.array().cast("array<float>"))
    # Two commands that ran at once may both have computed the features of an image.
    once = embeddings.select("image_id", "embedding").dropDuplicates(["image_id"])
    return rows.join(once, "image_id", "left")
