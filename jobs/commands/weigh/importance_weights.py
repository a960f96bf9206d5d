"""Importance weights of the kept images, which correct the bias of filtering."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.weigh.beyond_reach import BeyondReach, LostImage, beyond_reach
from jobs.commands.weigh.features import Features, Unfiltered, featured, vocabulary
from jobs.commands.weigh.probes import cross_fitted_probes, fold_of
from jobs.facts.reference import with_words
from jobs.runtime.config import WeighSettings, load, overrides_of
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from models.errors import WinnowError
from models.stats import probe
from models.stats.probe import Probe, ReliabilityBin
from udfs.text.bootstrap import WEIGHT_UNIT


@dataclass(frozen=True)
class WeighingConfig:
    """How importance weights are estimated.

    Attributes:
        settings: The section `weigh` of the settings.
        dims: Length of the embeddings; 0 if there are none.
        seed: Seed of the folds and samples.
    """

    settings: WeighSettings
    dims: int = 0
    seed: int = 0

    @classmethod
    def with_defaults(cls, seed: int = 0, dims: int = 0, **changes: object) -> Self:
        """Returns the defaults of conf/winnow.toml with some settings changed.

        Args:
            seed: Seed of the folds and samples.
            dims: Length of the embeddings.
            **changes: New values of settings of the section `weigh`, by name.

        Raises:
            SettingsError: There is no such setting, or its value is not allowed.

        Examples:
            >>> WeighingConfig.with_defaults(folds=5, features=["caption"]).settings.folds
            5
        """
        return cls(load(overrides=overrides_of("weigh", changes)).weigh, dims, seed)


@dataclass(frozen=True)
class WeightQuality:
    """The quality of the weights: a row of the table weight_quality.

    Attributes:
        kept: Number of kept images.
        reference: Number of images of the unfiltered reference.
        effective_sample_size: Number of equally weighted images with the same statistical precision.
        clipped: Number of kept images whose raw weight reached the bound.
        max_weight: Largest weight.
        probe_auc: Area under the ROC curve of the probes; None if no probe was fitted.
        calibration_error: Expected calibration error of the probes; None if no probe was fitted.
        beyond_reach: Share of the sampled removed images that no kept image resembles; None if it is not known.
        features: Kinds of features of the probes; empty if no image was filtered.
    """

    kept: int
    reference: int
    effective_sample_size: float
    clipped: int
    max_weight: float
    probe_auc: float | None
    calibration_error: float | None
    beyond_reach: float | None
    features: tuple[str, ...]


@dataclass(frozen=True)
class ImportanceWeights:
    """The weights of the kept images, and their quality.

    Attributes:
        weights: image_id string, weight double (mean 1), of the kept images; read it before the scratch is closed.
        quality: The quality of the weights.
        reliability: The reliability curve of the probes, by increasing prediction.
        beyond_reach: Removed images that no kept image resembles, the least similar first.
    """

    weights: DataFrame
    quality: WeightQuality
    reliability: tuple[ReliabilityBin, ...]
    beyond_reach: tuple[LostImage, ...]


@dataclass(frozen=True)
class _Sums:
    """Sum of the raw weights, sum of their squares, number of clipped ones, and the largest."""

    total: float
    squares: float
    clipped: int
    largest: float


def importance_weights(
    reference: DataFrame,
    embeddings: DataFrame | None,
    config: WeighingConfig,
    scratch: Scratch,
    progress: Progress | None = None,
) -> ImportanceWeights:
    """Weighs the kept images so that their captions or embeddings have the same distribution as in the unfiltered data.

    A probe learns to distinguish unfiltered images from kept ones. Its odds are the ratio of their densities, which is
    the weight of an image. Each image gets its weight from a probe that was not fitted on it.

    Args:
        reference: The unfiltered data, deduplicated: image_id string (unique), caption string, kept boolean (whether it
            passed the filter).
        embeddings: image_id string, embedding array<float> (`config.dims` numbers, unit length); None if there are no
            embeddings. Then they cannot be features, and `beyond_reach` is not known.
        config: Settings, length of the embeddings and seed.
        scratch: Stores frames that are read twice.
        progress: Shows steps and warnings; None shows nothing.

    Raises:
        WinnowError: No image is kept, or `config` needs embeddings and there are none.

    Source:
        Choi et al., "Fair generative modeling via weak supervision", ICML 2020, section 3: the density ratio from a
        classifier. `models.stats.probe.fit_probe` names the source of the loss.

    Examples:
        >>> def balanced_weights(spark, folder):
        ...     reference = spark.read.parquet("reference.parquet")  # image_id, caption, kept
        ...     with Scratch(spark, folder) as scratch:
        ...         found = importance_weights(reference, None, WeighingConfig.with_defaults(), scratch)
        ...         found.weights.write.parquet("weights.parquet")
    """
    progress = progress or Progress.silent()
    _require_embeddings(embeddings, config)
    with progress.step("weigh: read the unfiltered reference"):
        data = _gathered(reference, embeddings, scratch)
    features = _features(data, config, progress)
    with progress.step("weigh: fit the probe"):
        probes, fit = cross_fitted_probes(data, features, config.settings, config.seed, progress)
    with progress.step("weigh: find removed images that no kept image resembles"):
        reach = BeyondReach() if embeddings is None else beyond_reach(data, config.settings, config.seed)
    with progress.step("weigh: weigh the kept images"):
        shown = featured(data.rows.where("kept"), data.embeddings, features)
        raw = scratch.keep(raw_weights(shown, features, probes, config))
        sums = _sums(raw)
    quality = WeightQuality(
        data.kept, data.total, probe.effective_sample_size(sums.total, sums.squares), sums.clipped,
        sums.largest * data.kept / sums.total, fit.auc, fit.calibration_error, reach.share, features.chosen,
    )  # fmt: skip
    return ImportanceWeights(scaled_weights(raw, data.kept / sums.total), quality, fit.reliability, reach.images)


def raw_weights(kept: DataFrame, features: Features, probes: list[Probe], config: WeighingConfig) -> DataFrame:
    """Returns P(unfiltered | x) / P(filtered | x) of each kept image, by the probe that was not fitted on it.

    Args:
        kept: image_id, words, embedding; rows of `featured`.
        features: Features of the probes.
        probes: One probe for each fold.
        config: Folds, bound and seed.

    Returns:
        image_id string, raw long (millionths), clipped boolean (whether it reached the bound).
    """
    bound = float(np.log(config.settings.max_weight))

    def weigh(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            matrix = features.matrix(batch.column("words"), batch.column("embedding"))
            fold = batch.column("fold").to_numpy(zero_copy_only=False)
            odds = np.zeros(len(fold))
            for number, fitted in enumerate(probes):
                odds[fold == number] = fitted.log_odds(matrix[fold == number])
            raw = np.rint(np.exp(np.minimum(odds, bound)) * WEIGHT_UNIT).astype(np.int64)
            columns = [batch.column("image_id"), pa.array(raw), pa.array(odds > bound)]
            yield pa.record_batch(columns, names=["image_id", "raw", "clipped"])

    shown = kept.select("image_id", "words", "embedding", fold_of(config.seed, config.settings.folds).alias("fold"))
    return shown.mapInArrow(weigh, "image_id string, raw long, clipped boolean")


def scaled_weights(raw: DataFrame, scale: float) -> DataFrame:
    """Returns image_id, weight: the raw weights times `scale`, which makes their mean 1."""
    return raw.select("image_id", (F.col("raw").cast("double") * scale).alias("weight"))


def _require_embeddings(embeddings: DataFrame | None, config: WeighingConfig) -> None:
    if "embedding" in config.settings.features and (embeddings is None or config.dims < 1):
        raise WinnowError(
            'weigh.features asks for "embedding", but no embeddings were given: pass `embeddings` and `dims`, or set '
            'weigh.features to ["caption"]'
        )


def _gathered(reference: DataFrame, embeddings: DataFrame | None, scratch: Scratch) -> Unfiltered:
    """Returns the reference with the words of its captions and the numbers of images."""
    rows = scratch.keep(with_words(reference))
    counts = rows.agg(F.count("*"), F.count_if("kept")).collect()[0]
    total, kept = int(counts[0]), int(counts[1])
    if not kept:
        raise WinnowError(
            f"none of {total:,} images is kept, so there is nothing to weigh: use a filter that keeps some"
        )
    if embeddings is None:
        embeddings = reference.sparkSession.createDataFrame([], "image_id string, embedding array<float>")
    return Unfiltered(rows, embeddings, total, kept)


def _features(data: Unfiltered, config: WeighingConfig, progress: Progress) -> Features:
    """Returns the features according to the settings; none if no image was filtered."""
    chosen = tuple(config.settings.features) if data.kept < data.total else ()
    words = vocabulary(data.rows, config.settings, data.kept / data.total) if "caption" in chosen else ()
    if "caption" in chosen and not words:
        progress.warn(
            "weigh: no caption word is left in enough kept images (weigh.min_support), so the weights ignore captions"
        )
    return Features(words, config.dims if "embedding" in chosen else 0, chosen)


def _sums(raw: DataFrame) -> _Sums:
    """Sums the raw weights as whole numbers, so that the sums do not depend on the order of rows."""
    square = F.col("raw").cast("decimal(19,0)") * F.col("raw").cast("decimal(19,0)")
    row = raw.agg(F.sum("raw"), F.sum(square), F.count_if("clipped"), F.max("raw")).collect()[0]
    return _Sums(float(row[0]), float(row[1]), int(row[2]), float(row[3]))
