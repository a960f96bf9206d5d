"""`audit`: how filtering moved the keywords of captions, and how far the weights move them back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import tables, weigh
from jobs.config import AuditSettings, fingerprint
from jobs.job import Job, Summary
from jobs.lake import Recipe
from udfs.bootstrap import COUNTS, WEIGHT_UNIT, Resampling
from udfs.captions import keywords_in


@dataclass(frozen=True)
class Shift:
    """How the share of one keyword moved; each shift is relative to the unfiltered share.

    Attributes:
        keyword: The word or phrase.
        captions: Unfiltered captions that hold it.
        shares: Its share of the unfiltered, the filtered and the weighted captions.
        filtered: Shift by filtering, and the ends of its interval.
        weighted: Shift after weighing, and the ends of its interval.
    """

    keyword: str
    captions: int
    shares: tuple[float, float, float]
    filtered: tuple[float, float, float]
    weighted: tuple[float, float, float]

    def sentence(self) -> str:
        """What was found, in words."""
        before, after = (f"{s:+.1%} [{low:+.1%}, {high:+.1%}]" for s, low, high in (self.filtered, self.weighted))
        return f"'{self.keyword}' {before} after filtering, {after} after weighing".replace("-", "−")


def run(job: Job) -> Summary:
    """Counts the keywords of the settings and writes keyword_shift."""
    lake, settings = job.lake, job.settings.audit
    lake.require(tables.WEIGHTS)
    inputs = lake.inputs(tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.WEIGHTS)
    recipe = Recipe("audit", inputs, {**fingerprint(settings), "seed": job.settings.seed})
    before = lake.recipe(tables.KEYWORD_SHIFT)
    if before is not None and before.makes_the_same(recipe):
        job.progress.note("audit: up to date")
        return dict(before.result)
    with job.progress.step("audit: count keywords"):
        reference = weigh.reference_of(
            lake.read(tables.IMAGES), lake.read(tables.VERDICTS), lake.read(tables.DUPLICATES),
            lake.read(tables.FILTERED_DUPLICATES),
        )  # fmt: skip
        counts = keyword_counts(reference, lake.read(tables.WEIGHTS), settings, job.settings.seed)
        shifts = shifts_of(_array(counts, settings), settings)
        summary: Summary = {f"keyword {shift.keyword}": shift.sentence() for shift in shifts[:4]}
        rows = [(s.keyword, *s.shares, *s.filtered, *s.weighted, s.captions) for s in shifts]
        frame = lake.spark.createDataFrame(rows, tables.KEYWORD_SHIFT.schema)
        lake.replace(tables.KEYWORD_SHIFT, frame, Recipe(recipe.command, recipe.inputs, recipe.settings, summary))
    return summary


def keyword_counts(reference: DataFrame, weights: DataFrame, settings: AuditSettings, seed: int) -> DataFrame:
    """Captions with each keyword in the data and in each resample, unfiltered, filtered and weighted.

    Args:
        reference: As `jobs.weigh.reference_of` returns it.
        weights: Table weights.
        settings: Keywords and number of resamples.
        seed: Of the resamples.

    Returns:
        `udfs.bootstrap.COUNTS`, summed.
    """
    weighed = reference.join(weights, "image_id", "left")
    rows = weighed.select(
        F.xxhash64("image_id").alias("image_hash"),
        "kept",
        F.coalesce(F.round(F.col("weight") * WEIGHT_UNIT), F.lit(0)).cast("long").alias("weight"),
        keywords_in(F.col("caption"), tuple(settings.keywords)).alias("found"),
    )
    counted = rows.mapInArrow(Resampling(len(settings.keywords), settings.resamples, seed), COUNTS)
    sums = [F.sum(side).alias(side) for side in ("unfiltered", "filtered", "weighted")]
    return counted.groupBy("keyword", "resample").agg(*sums)


def _array(counts: DataFrame, settings: AuditSettings) -> NDArray[np.float64]:
    """Collected counts of shape (keywords + 1, resamples + 1, 3); bounded by the settings. Row 0 is all captions."""
    values = np.zeros((len(settings.keywords) + 1, settings.resamples + 1, 3))
    for row in counts.collect():
        values[row.keyword + 1, row.resample] = row.unfiltered, row.filtered, row.weighted
    return values


def shifts_of(counts: NDArray[np.float64], settings: AuditSettings) -> list[Shift]:
    """Shifts with percentile bootstrap intervals, largest keyword first; keywords that no caption holds are left out.

    Args:
        counts: Captions with each keyword, of shape (keywords + 1, resamples + 1, 3); row 0 counts all captions, column
            0 the data itself; the last axis is unfiltered, filtered, weighted.
        settings: Keywords and confidence.
    """
    shares = counts[1:] / counts[:1]
    with np.errstate(divide="ignore", invalid="ignore"):
        moved = shares[:, :, 1:] / shares[:, :, :1] - 1.0
    tail = (1.0 - settings.confidence) / 2
    found = []
    for place, keyword in enumerate(settings.keywords):
        if counts[place + 1, 0, 0] == 0:
            continue
        ends = np.nanquantile(moved[place, 1:], [tail, 1.0 - tail], axis=0)
        filtered, weighted = ((float(moved[place, 0, i]), float(ends[0, i]), float(ends[1, i])) for i in (0, 1))
        unfiltered, after, balanced = (float(share) for share in shares[place, 0])
        captions = int(counts[place + 1, 0, 0])
        found.append(Shift(keyword, captions, (unfiltered, after, balanced), filtered, weighted))
    return sorted(found, key=lambda shift: (-shift.captions, shift.keyword))
