"""`calibrate`: sets a threshold for each category from random labels and scores, with a lower bound on its recall."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.labels import random_sample, resolved, sets
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.models_in_use import current_models
from jobs.runtime import config, wording
from jobs.runtime.config import CategorySettings
from models.errors import WinnowError
from models.stats import thresholds
from models.stats.thresholds import Calibration, Target

# One process sorts the scores of labels. With more random labels it uses a random subset: the bound stays exact.
_MOST_LABELS = 1_000_000

_LEAST_SHOWN = 3

_LACKS = "not calibrated"
_RANDOM = "`winnow label next --strategy random`"


@dataclass(frozen=True)
class Outcome:
    """The result of calibrating one category.

    Attributes:
        calibration: The threshold; None if labels are missing.
        lack: What is missing, as a sentence; None if the category was calibrated.
        least: The random positives with the lowest scores, which determine the threshold: image_id and score.
        unsettled: Number of random images that were answered unsure and have no label.
        gaps: Why the sample is not a random sample of the lake, from `random_sample.gaps`.
    """

    calibration: Calibration | None = None
    lack: str | None = None
    least: tuple[tuple[str, float], ...] = ()
    unsettled: int = 0
    gaps: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoredLabels:
    """The random sample of a category with its labels and scores.

    Attributes:
        image_ids: str of shape (n,).
        positive: bool of shape (n,): labelled positive.
        unsettled: bool of shape (n,): answered unsure and without a label; never `positive`.
        scores: float64 of shape (n,).
    """

    image_ids: NDArray[np.str_]
    positive: NDArray[np.bool_]
    unsettled: NDArray[np.bool_]
    scores: NDArray[np.float64]

    @property
    def negative(self) -> NDArray[np.bool_]:
        """Returns which images are labelled negative: bool of shape (n,)."""
        return ~self.positive & ~self.unsettled

    def least(self, which: NDArray[np.bool_]) -> tuple[tuple[str, float], ...]:
        """Returns image_id and score of the lowest scores among the images that `which` marks, the lowest first."""
        order = np.lexsort((self.image_ids, self.scores))
        lowest = order[which[order]][:_LEAST_SHOWN]
        return tuple((str(self.image_ids[i]), float(self.scores[i])) for i in lowest)


def run(job: Job) -> Summary:
    """Writes the table thresholds: one row for each category with enough random labels.

    Raises:
        WinnowError: A category has too few random labels (thresholds of the others are written), or labelled images
            have no score by the current model.
    """
    categories = job.settings.categories
    if not categories:
        job.progress.note("calibrate: the settings have no category, so there is nothing to calibrate")
        return {}
    job.lake.require(tables.LABELS)
    models = current_models(job)
    now = job.lake.snapshot()
    recipe = _recipe(job, models, now)
    if (before := job.up_to_date(now.made_by(recipe, tables.THRESHOLDS))) is not None:
        for name in sorted(categories):
            _warn_of_gaps(job, name, models[name])
        return _finished(before)
    checks = {name: text for name in sorted(categories) if (text := _escape_check(job, name, models[name], now))}
    outcomes = {name: _calibrated(job, name, models[name], categories[name]) for name in sorted(categories)}
    summary = _summary(outcomes) | {f"{name}: check of the threshold so far": text for name, text in checks.items()}
    rows = [_row(name, models[name], found.calibration) for name, found in outcomes.items() if found.calibration]
    made = recipe.with_result(summary)
    job.lake.replace(tables.THRESHOLDS, job.lake.spark.createDataFrame(rows, tables.THRESHOLDS.schema), made)
    return _finished(summary)


def calibration_set(labels: DataFrame, scores: DataFrame, category: str, model: str) -> DataFrame:
    """Joins the random labels of a category with the scores of one model.

    Args:
        labels: image_id, label, from `sets.random_labels`; the label is null for images that were answered unsure.
        scores: Table scores.
        category: Name of the category.
        model: Digest of the category's current model.

    Returns:
        image_id, label boolean, score float (null if the image has no score).
    """
    own = scores.where((F.col("category") == category) & (F.col("model") == model))
    # If a score is stored twice, both are equal: take one.
    by_image = own.groupBy("image_id").agg(F.max("score").alias("score"))
    return labels.select("image_id", "label").join(by_image, "image_id", "left")


def calibrate_with_unsure(found: ScoredLabels, target: Target) -> Calibration | None:
    """Returns the threshold that reaches a recall, whatever the true labels of the unsettled images are.

    In the sample, n images are labelled positive, and N are truly positive, each of them labelled positive or
    unsettled. Let k be the value of `thresholds.order` for n. The k-th smallest score of labelled positives and
    unsettled images together is at most the k-th smallest of the N. So the bound for N positives with k - 1 misses
    holds at this score. The stated bound, for n positives with k - 1 misses, is lower. Counting unsettled images as
    positives would be wrong: negatives among them that are filtered would hide positives that are missed.

    Args:
        found: The random sample.
        target: The recall and confidence to reach.

    Returns:
        The calibration; an unsettled image below the threshold counts as missed, one above it does not count. None if
        too few images are labelled positive.

    Raises:
        ModelError: A score is NaN.

    Examples:
        >>> number = np.arange(61)
        >>> found = ScoredLabels(number.astype(str), number < 59, number == 59, np.where(number < 59, 0.9, 0.3))
        >>> calibrate_with_unsure(found, Target(0.95, 0.95)).threshold
        0.3
    """
    positive, negative, unsettled = (found.scores[which] for which in (found.positive, found.negative, found.unsettled))
    # As many scores as there are labelled positives: an image with a higher score is not missed, whatever its label.
    lowest = np.sort(np.concatenate([positive, unsettled]))[: len(positive)]
    calibration = thresholds.calibrate(lowest, negative, target)
    if calibration is None:
        return None
    # The escape bound is the product of two bounds; the first one is on the share of positives.
    each, labelled = (1 + target.confidence) / 2, len(positive) + len(negative)
    share = thresholds.upper_bound(len(positive), labelled, each)
    most = thresholds.upper_bound(len(positive) + len(unsettled), labelled + len(unsettled), each)
    return replace(calibration, escaped_upper=calibration.escaped_upper * most / share)


def lacking(positives: int, negatives: int, target: Target) -> str:
    """Returns how many random labels a category still needs before it can be calibrated, as the end of a sentence.

    No other sample needs fewer labels. With prevalence p and target recall r, a share (1 - r) p of the images may
    escape, and the sample must show if more do. A uniform sample of n images contains none of them with probability
    (1 - (1 - r) p)^n, so n must be at least ln(1 / (1 - confidence)) / ((1 - r) p). Sampling high scores more often
    helps only if the escaping images have high scores, which nobody knows. The number given here,
    `thresholds.needed` / p, equals this n up to terms of second order.

    Args:
        positives: Number of random positives.
        negatives: Number of random negatives.
        target: The recall and confidence to reach.

    Examples:
        >>> lacking(20, 980, Target(recall=0.95, confidence=0.95)).split(": ")
        ['20 of 1,000 random labels are positive, 59 are needed', '39 more, so label about 1,950 more images at random']
        >>> lacking(0, 0, Target(recall=0.95, confidence=0.95))
        'no random labels, 59 positive ones are needed: `winnow label next --strategy random` picks images to label'
    """
    labels, needed = positives + negatives, thresholds.needed(target.recall, target.confidence)
    if not labels:
        return f"no random labels, {needed} positive ones are needed: {_RANDOM} picks images to label"
    missing = needed - positives
    # Without a positive there is only an upper bound on the share of positives, so the number is a lower bound.
    share = positives / labels or thresholds.upper_bound(0, labels, target.confidence)
    more = f"{'about' if positives else 'at least'} {math.ceil(missing / share):,}"
    have = f"{positives:,} of {labels:,} random labels are positive, {needed:,} are needed"
    return f"{have}: {missing:,} more, so label {more} more images at random"


def _recipe(job: Job, models: Mapping[str, str], now: Snapshot) -> Recipe:
    targets = {name: config.fingerprint(settings) for name, settings in job.settings.categories.items()}
    labels = config.fingerprint(job.settings.labels)
    settings = {"models": dict(models), "categories": targets, "seed": job.settings.seed, "labels": labels}
    return Recipe("calibrate", now.inputs(tables.LABELS, tables.UNSURE, tables.SCORES), settings)


def _calibrated(job: Job, category: str, model: str, settings: CategorySettings) -> Outcome:
    sets.report_contradictions(job, job.lake.read(tables.LABELS), "calibrate", category)
    with job.progress.step(f"calibrate: {category}"):
        found = _scored(job, category, model)
        gaps = _warn_of_gaps(job, category, model)
    positives, negatives, unsettled = (int(a.sum()) for a in (found.positive, found.negative, found.unsettled))
    if unsettled:
        examples = ", ".join(image_id for image_id, _ in found.least(found.unsettled))
        job.progress.warn(
            f"calibrate: {unsettled:,} random images for {category} were answered unsure and have no label of origin "
            f"random: until they have one, each below the threshold counts as a missed positive: {examples}"
        )
    target = Target(settings.recall, settings.confidence, settings.dropped_negatives)
    calibration = calibrate_with_unsure(found, target)
    if calibration is None:
        return Outcome(lack=lacking(positives, negatives, target))
    return Outcome(calibration, least=found.least(found.positive), unsettled=unsettled, gaps=gaps)


def _warn_of_gaps(job: Job, category: str, model: str) -> Mapping[str, str]:
    """Warns of gaps in the random sample and returns them; runs each time, because the recipe does not cover gaps."""
    gaps = random_sample.gaps(job, category, model)
    for what, text in gaps.items():
        job.progress.warn(f"calibrate: {category}: {what}: {text}")
    return gaps


def _scored(job: Job, category: str, model: str) -> ScoredLabels:
    given, unsure = job.lake.read(tables.LABELS), job.lake.read(tables.UNSURE)
    labels = sets.random_labels(given, category, job.settings.labels.contradictions)
    labels = labels.unionByName(random_sample.unsettled(given, unsure, category).select("image_id", _no_label()))
    rows = calibration_set(labels, job.lake.read(tables.SCORES), category, model)
    chance = F.xxhash64(F.lit(job.settings.seed), F.col("image_id"))
    found = rows.orderBy(chance, "image_id").limit(_MOST_LABELS).select("image_id", "label", "score").toArrow()
    if found["score"].null_count:
        unusable = sets.report_unusable(job, labels, "calibrate", category)
        found = found.filter(pa.array([name not in unusable for name in found["image_id"].to_pylist()], pa.bool_()))
    missing = found["score"].null_count
    if missing:
        raise WinnowError(
            f"{missing} of {len(found)} images of the random sample for {category} have no score by model {model}: "
            "run `winnow score` first"
        )
    return ScoredLabels(
        np.array(found["image_id"].to_pylist(), dtype=np.str_),
        found["label"].fill_null(False).to_numpy().astype(np.bool_),
        found["label"].is_null().to_numpy().astype(np.bool_),
        found["score"].to_numpy().astype(np.float64),
    )


def kept_and_answered_later(
    labels: DataFrame, unsure: DataFrame, scores: DataFrame, threshold: DataFrame, since: datetime
) -> DataFrame:
    """Counts the random images below a threshold that were answered after it was set, and the possible positives.

    Args:
        labels: Table labels.
        unsure: Table unsure.
        scores: Table scores.
        threshold: category, model, threshold: one row.
        since: Time when the threshold was set, UTC.

    Returns:
        kept, positives (including images answered unsure): one row.
    """
    image = ["image_id", "category"]
    given = labels.where((F.col("origin") == "random") & F.col("label").isNotNull()).drop("origin")
    unsure_answers = unsure.where(F.col("origin") == "random").withColumnRenamed("answered_at", "labelled_at")
    answers = given.unionByName(unsure_answers.select(*image, _no_label(), "annotator", "labelled_at"))
    # The threshold was computed from images that were answered earlier, so they cannot check it.
    earlier = answers.where(~(F.col("labelled_at") > F.lit(since)))
    later = answers.where(F.col("labelled_at") > F.lit(since)).join(earlier, image, "left_anti")
    settled = resolved.resolved(later.where(F.col("label").isNotNull())).select(*image, "label")
    unsettled = later.select(*image).distinct().join(settled, image, "left_anti").withColumn("label", F.lit(True))
    scored = settled.unionByName(unsettled).join(scores, image).join(threshold, ["category", "model"])
    below = scored.where(F.col("score").cast("double") < F.col("threshold")).dropDuplicates(["image_id"])
    return below.agg(F.count("*").alias("kept"), F.count_if("label").alias("positives"))


def _escape_check(job: Job, category: str, model: str, now: Snapshot) -> str | None:
    """Returns what newer random labels say about the current threshold; None if there are none below it."""
    lake, commit = job.lake, now.commit(tables.THRESHOLDS)
    if commit is None or commit.recipe is None:
        return None
    own = (F.col("category") == category) & (F.col("model") == model)
    threshold = lake.read(tables.THRESHOLDS).where(own).select("category", "model", "threshold")
    labels, unsure, scores = (lake.read(table) for table in (tables.LABELS, tables.UNSURE, tables.SCORES))
    found = kept_and_answered_later(labels, unsure, scores, threshold, commit.written_at)
    kept, positives = found.collect()[0]
    if not kept:
        return None
    bound = thresholds.upper_bound(positives, kept, job.settings.categories[category].confidence)
    counts = f"{positives:,} of {kept:,} kept images answered since are positive or unsure"
    return f"{counts}: at most {bound:.3%} of all kept images"


def _no_label() -> Column:
    return F.lit(None).cast("boolean").alias("label")


def _row(category: str, model: str, found: Calibration) -> tuple[str, str, float, float, float, int, int, int, int]:
    measured = (found.threshold, found.recall_lower, found.confidence)
    return category, model, *measured, found.positives, found.negatives, found.missed, found.dropped_negatives


def _summary(outcomes: Mapping[str, Outcome]) -> Summary:
    summary: Summary = {}
    for category, outcome in outcomes.items():
        found = outcome.calibration
        if found is None:
            continue
        share, low, high = found.precision()
        summary[f"{category}: threshold"] = wording.score(found.threshold)
        summary[f"{category}: recall at least"] = (
            f"{wording.rounded_down(found.recall_lower)} ({wording.confidence(found.confidence)} confidence)"
        )
        summary[f"{category}: random positives"] = f"{found.positives}, {found.missed} missed"
        least = ", ".join(f"{image_id} ({wording.score(score)})" for image_id, score in outcome.least)
        summary[f"{category}: random positives that score least"] = f"{least}: a wrong label here lowers precision"
        if outcome.unsettled:
            summary[f"{category}: random images answered unsure"] = (
                f"{outcome.unsettled}, each may be a missed positive"
            )
        summary |= {f"{category}: {what}": text for what, text in outcome.gaps.items()}
        summary[f"{category}: random negatives"] = f"{found.negatives}, {found.dropped_negatives} dropped"
        summary[f"{category}: escapes at most"] = f"{found.escaped_upper:.3%} of all images"
        if not math.isnan(share):
            summary[f"{category}: precision about"] = f"{share:.1%} ({low:.1%} to {high:.1%})"
    lacks = [f"{category}: {outcome.lack}" for category, outcome in outcomes.items() if outcome.lack]
    if lacks:
        summary[_LACKS] = "; ".join(lacks)
    return summary


def _finished(summary: Summary) -> Summary:
    # Also if everything is up to date: a category without a threshold is an error until it has enough labels.
    if _LACKS in summary:
        raise WinnowError(f"too few random labels, so no threshold, for {summary[_LACKS]}")
    return summary
