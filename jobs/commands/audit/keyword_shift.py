"""How filtering changed the share of captions with a keyword, and how far the weights restore it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.audit.tracked_keywords import TrackedKeywords, counted_words, tracked_keywords
from jobs.runtime import keyword_lists
from jobs.runtime.config import AuditSettings, load, overrides_of
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from models.stats import keyword_shift_stats
from udfs.text.bootstrap import COUNTS, WEIGHT_UNIT, Resampling
from udfs.text.captions import Keywords, caption_tokens


@dataclass(frozen=True)
class KeywordShiftConfig:
    """Settings of `keyword_shift`.

    Attributes:
        settings: The section `audit` of the settings.
        seed: Seed of the resamples.
    """

    settings: AuditSettings
    seed: int = 0

    @classmethod
    def with_defaults(cls, seed: int = 0, **changes: object) -> Self:
        """Returns the defaults of conf/winnow.toml with some settings changed.

        Args:
            seed: Seed of the resamples.
            **changes: New values of settings of the section `audit`, by name.

        Raises:
            SettingsError: There is no such setting, or its value is not allowed.

        Examples:
            >>> KeywordShiftConfig.with_defaults(lists=[], keywords=["old man"]).listed
            {'old man': 'own'}
        """
        return cls(load(overrides=overrides_of("audit", changes)).audit, seed)

    @cached_property
    def listed(self) -> dict[str, str]:
        """The topic of each listed keyword; the lists are read once."""
        return keyword_lists.topics_of(self.settings.keywords, self.settings.lists)


@dataclass(frozen=True)
class KeywordShiftRow:
    """The shift of one keyword: a row of the table keyword_shift.

    A shift is relative to the unfiltered share: −0.5 means that the share was halved. Unknown values are None.

    Attributes:
        keyword: Word or phrase.
        unfiltered: Share of the unfiltered captions that contain it, in [0, 1].
        filtered: Share of the kept captions.
        weighted: Share of the kept captions, by weight.
        shift: Shift by filtering.
        shift_low: Lower end of its interval; None if no caption was filtered.
        shift_high: Upper end.
        weighted_shift: Shift that remains after weighing.
        weighted_low: Lower end of its interval.
        weighted_high: Upper end.
        captions: Number of unfiltered captions that contain it.
        topic: Topic of its list; None for a mover.
        mover: Whether it is a mover, not a listed keyword.
        adjusted: p-value of the shift, corrected for the number of words tested.
        looks: Number of words tested.
    """

    keyword: str
    unfiltered: float | None
    filtered: float | None
    weighted: float | None
    shift: float | None
    shift_low: float | None
    shift_high: float | None
    weighted_shift: float | None
    weighted_low: float | None
    weighted_high: float | None
    captions: int
    topic: str | None
    mover: bool
    adjusted: float
    looks: int


@dataclass(frozen=True)
class KeywordShift:
    """The shifts of all keywords.

    Attributes:
        rows: One row for each keyword that occurs in a caption, the most frequent first.
        looks: Number of frequent words that were tested for a shift.
    """

    rows: tuple[KeywordShiftRow, ...]
    looks: int


def keyword_shift(
    reference: DataFrame,
    weights: DataFrame,
    config: KeywordShiftConfig,
    scratch: Scratch,
    progress: Progress | None = None,
) -> KeywordShift:
    """Compares the share of captions with a keyword in the unfiltered, the filtered and the weighted data.

    The keywords are those of the lists, and the frequent words that filtering moved most.

    Args:
        reference: The unfiltered data, deduplicated: image_id string (unique), caption string, kept boolean (whether it
            passed the filter).
        weights: image_id string, weight double (mean 1), of the kept images.
        config: Settings and seed.
        scratch: Stores a frame that is read three times.
        progress: Shows the steps; None shows nothing.

    Source:
        Intervals and p-values: see `models.stats.keyword_shift_stats`.

    Examples:
        >>> def shifts(spark, folder):
        ...     reference = spark.read.parquet("reference.parquet")  # image_id, caption, kept
        ...     weights = spark.read.parquet("weights.parquet")  # image_id, weight
        ...     with Scratch(spark, folder) as scratch:
        ...         found = keyword_shift(reference, weights, KeywordShiftConfig.with_defaults(), scratch)
        ...     return {row.keyword: (row.shift, row.weighted_shift) for row in found.rows}
    """
    progress, settings = progress or Progress.silent(), config.settings
    rows = scratch.keep(with_tokens(reference, weights))
    with progress.step("audit: count words"):
        words = counted_words(rows, Keywords.of(list(config.listed)), settings)
        watched = tracked_keywords(words, config.listed, settings)
    with progress.step("audit: count keywords"):
        counts = _array(keyword_counts(rows, watched.keywords, settings, config.seed), watched, settings)
        return KeywordShift(tuple(shift_rows(counts, watched, settings)), watched.looks)


def with_tokens(reference: DataFrame, weights: DataFrame) -> DataFrame:
    """Returns image_hash, kept, weight (whole millionths, 0 if not kept), tokens (the caption's words in order)."""
    return reference.join(weights, "image_id", "left").select(
        F.xxhash64("image_id").alias("image_hash"),
        "kept",
        F.coalesce(F.round(F.col("weight") * WEIGHT_UNIT), F.lit(0)).cast("long").alias("weight"),
        caption_tokens(F.col("caption")).alias("tokens"),
    )


def keyword_counts(rows: DataFrame, keywords: Keywords, settings: AuditSettings, seed: int) -> DataFrame:
    """Counts the unfiltered, filtered and weighted captions with each keyword, in the data and in each resample.

    Args:
        rows: Rows of `with_tokens`.
        keywords: Keywords to count.
        settings: Number of resamples.
        seed: Seed of the resamples.

    Returns:
        `udfs.text.bootstrap.COUNTS`, summed.
    """
    shown = rows.select("image_hash", "kept", "weight", "tokens")
    counted = shown.mapInArrow(Resampling(keywords, settings.resamples, seed), COUNTS)
    sums = [F.sum(side).alias(side) for side in ("unfiltered", "filtered", "weighted")]
    return counted.groupBy("keyword", "resample").agg(*sums)


def shift_rows(counts: NDArray[np.float64], watched: TrackedKeywords, settings: AuditSettings) -> list[KeywordShiftRow]:
    """Returns one row for each keyword that occurs in a caption, the most frequent first.

    If no caption was filtered, no word moved, and the rows have no interval.

    Args:
        counts: Counts in the form that `models.stats.keyword_shift_stats.moves` takes.
        watched: The keywords.
        settings: Confidence of the intervals.
    """
    total = (int(counts[0, 0, 0]), int(counts[0, 0, 1]))
    captions, kept = (counts[1:, 0, side].astype(np.int64) for side in (0, 1))
    picked = np.array([topic is None for topic in watched.topics], dtype=np.bool_)
    wide = np.where(picked, keyword_shift_stats.widened(settings.confidence, watched.movers, watched.looks), np.nan)
    moves = keyword_shift_stats.moves(counts, settings.confidence, wide)
    chances = np.concatenate([keyword_shift_stats.chance(captions, kept, total), watched.chances])
    adjusted, names = keyword_shift_stats.adjusted(chances), watched.keywords.names
    # A mover has the rate by which it was chosen: the listed keywords are no part of that choice.
    adjusted[: len(picked)][picked] = watched.rates
    rows = []
    for i in sorted(np.flatnonzero(captions), key=lambda i: (-captions[i], names[i])):
        values = _finite([*moves.shares[i], *(ends[i] for ends in (*moves.filtered, *moves.weighted))])
        if total[0] == total[1]:
            values[4:6] = values[7:9] = None, None
        details = (int(captions[i]), watched.topics[i], bool(picked[i]), float(adjusted[i]), watched.looks)
        rows.append(KeywordShiftRow(*(names[i], *values, *details)))
    return rows


def _finite(numbers: list[float]) -> list[Any]:
    """Returns the numbers, with None for those that are not finite."""
    return [float(value) if np.isfinite(value) else None for value in numbers]


def _array(counts: DataFrame, watched: TrackedKeywords, settings: AuditSettings) -> NDArray[np.float64]:
    """Collects the counts, shape (keywords + 1, resamples + 1, 3), bounded by the settings. Row 0: all captions."""
    values = np.zeros((len(watched.keywords.names) + 1, settings.resamples + 1, 3))
    found = counts.toPandas()
    sums = found[["unfiltered", "filtered", "weighted"]].to_numpy(np.float64)
    values[found["keyword"].to_numpy() + 1, found["resample"].to_numpy()] = sums
    return values
