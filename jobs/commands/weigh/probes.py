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
    """The cross-fitting fold of an image, by a hash of its id."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(folds)).cast("int")


def sampled(seed: int, share: float) -> Column:
    """Whether an image is in a sample of about this share of all, by a hash of its id: no sort, whatever the size."""
    return F.pmod(F.xxhash64(F.lit(seed), "image_id"), F.lit(_SLOTS)) < F.lit(int(min(1.0, share) * _SLOTS))


def cross_fitted_probes(
    data: Unfiltered, features: Features, settings: WeighSettings, seed: int, progress: Progress
) -> tuple[list[Probe], ProbeQuality]:
    """One probe for each fold, fitted on samples of the others.

    Args:
        data: The unfiltered reference.
        features: What the probes see.
        settings: Sample size, folds and regularisation.
        seed: Of the folds and samples.
        progress: Where a warning is shown if the images are too few.

    Returns:
        `settings.folds` probes and their quality; where there is no feature, or the images are too few, probes that
        weigh everything alike.
    """
    alike = [Probe(np.zeros(features.count), 0.0)] * settings.folds
    if not features.count:
        return alike, ProbeQuality(None, None)
    found = _sample(data, features, settings, seed).toArrow()
    # Sorted, so that sums come out the same to the last bit however the rows were spread.
    found = found.sort_by("image_id").combine_chunks()
    words, embeddings = (_one_array(found.column(name)) for name in ("words", "embedding"))
    matrix, fold = features.matrix(words, embeddings), found.column("fold").to_numpy()
    places = [np.flatnonzero(found.column(side).to_numpy()) for side in ("in_all", "in_kept")]
    unfiltered = np.repeat([True, False], [len(side) for side in places])
    every = np.concatenate(places)
    if not probe.can_cross_fit(unfiltered, fold[every]):
        progress.warn(
            f"weigh: {data.kept:,} of {data.total:,} images are kept, too few for a probe, so all weigh the same"
        )
        return alike, ProbeQuality(None, None)
    return probe.cross_fit(matrix[every], unfiltered, fold[every], settings.regularisation)


def _sample(data: Unfiltered, features: Features, settings: WeighSettings, seed: int) -> DataFrame:
    """image_id, words, embedding, fold, in_all, in_kept: about `settings.sample` images of each of the two sides.

    An image that was kept can be in both samples.
    """
    in_all, in_kept = (sampled(seed + 1, settings.sample / max(1, count)) for count in (data.total, data.kept))
    rows = data.rows.where(in_all | (F.col("kept") & in_kept))
    # The id alone says which embeddings may be asked for: the join need not move the others.
    return featured(rows, data.signals.where(in_all | in_kept), features).select(
        "image_id", "words", "embedding", fold_of(seed, settings.folds).alias("fold"),
        in_all.alias("in_all"), (F.col("kept") & in_kept).alias("in_kept"),
    )  # fmt: skip


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
