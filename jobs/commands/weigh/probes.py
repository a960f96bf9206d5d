"""The cross-fitted probes that estimate the density ratio of unfiltered to filtered images."""

import numpy as np
import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.weigh.features import Features, Unfiltered, featured
from jobs.runtime.config import WeighSettings
from jobs.runtime.progress import Progress
from models.stats import probe
from models.stats.probe import Probe, ProbeQuality

_SLOTS = 1 << 40


def fold_of(seed: int, folds: int) -> Column:
    """Returns the cross-fitting fold of an image, by a hash of its id."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(folds)).cast("int")


def sampled(seed: int, share: float) -> Column:
    """Returns whether an image is in a sample of about this share, by a hash of its id, without a sort."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(_SLOTS)) < F.lit(int(min(1.0, share) * _SLOTS))


def cross_fitted_probes(
    data: Unfiltered, features: Features, settings: WeighSettings, seed: int, progress: Progress
) -> tuple[list[Probe], ProbeQuality]:
    """Fits one probe for each fold, on samples of the other folds.

    Args:
        data: The unfiltered reference.
        features: Features of the probes.
        settings: Sample size, folds and regularisation.
        seed: Seed of the folds and samples.
        progress: Shows a warning if there are too few images.

    Returns:
        `settings.folds` probes and their quality. Without features, or with too few images, the probes give all images
        the same weight.
    """
    constant = [Probe(np.zeros(features.count), 0.0)] * settings.folds
    if not features.count:
        return constant, ProbeQuality(None, None)
    sample = _sample(data, features, settings, seed).toArrow()
    # Sorted, so that sums are the same to the last bit for any partitioning.
    sample = sample.sort_by("image_id").combine_chunks()
    words, embeddings = (_one_array(sample.column(name)) for name in ("words", "embedding"))
    matrix, fold = features.matrix(words, embeddings), sample.column("fold").to_numpy()
    places = [np.flatnonzero(sample.column(side).to_numpy()) for side in ("in_all", "in_kept")]
    unfiltered = np.repeat([True, False], [len(side) for side in places])
    every = np.concatenate(places)
    if not probe.can_cross_fit(unfiltered, fold[every]):
        progress.warn(
            f"weigh: {data.kept:,} of {data.total:,} images are kept, too few to fit a probe, so all weights are 1"
        )
        return constant, ProbeQuality(None, None)
    return probe.cross_fit(matrix[every], unfiltered, fold[every], settings.regularisation)


def _sample(data: Unfiltered, features: Features, settings: WeighSettings, seed: int) -> DataFrame:
    """Returns image_id, words, embedding, fold, in_all, in_kept: two samples of about `settings.sample` images each.

    A kept image can be in both samples.
    """
    in_all, in_kept = (sampled(seed + 1, settings.sample / max(1, count)) for count in (data.total, data.kept))
    rows = data.rows.where(in_all | (F.col("kept") & in_kept))
    # The id alone decides which embeddings can be needed, so the join does not move the others.
    return featured(rows, data.embeddings.where(in_all | in_kept), features).select(
        "image_id", "words", "embedding", fold_of(seed, settings.folds).alias("fold"),
        in_all.alias("in_all"), (F.col("kept") & in_kept).alias("in_kept"),
    )  # fmt: skip


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
