"""`calibrate`: sets a threshold for each category from random labels and scores, with a lower bound on its recall."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.calibrate import later_labels, trained_on
from jobs.commands.calibrate.missing_labels import Answers, auc, lacking, not_better_than_chance
from jobs.commands.calibrate.scored_labels import (
    ScoredLabels,
    bounds_with_unsure,
    calibrate_with_unsure,
    ranking_of,
)
from jobs.job import Job, Summary
from jobs.labels import random_sample, sets
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.models_in_use import current_models
from jobs.prerequisites import require_labels
from jobs.runtime import config, wording
from jobs.runtime.config import CategorySettings
from jobs.scoring.gaps import undecodable
from models.errors import WinnowError
from models.stats.ranking import Ranking, pairs_needed
from models.stats.thresholds import Calibration, Target

# One process sorts the scores of labels. With more random labels it uses a random subset: the bound stays exact.
_MOST_LABELS = 1_000_000

_LACKS = "not calibrated"
_REVISION = 3


@dataclass(frozen=True)
class Outcome:
    """The result of calibrating one category.

    Attributes:
        calibration: The threshold; None if there is none.
        lack: Why there is none, as a sentence; None if there is one.
        ranking: The AUC on the random labels; None if it was not looked at.
        least: The random positives with the lowest scores, which determine the threshold: image_id and score; empty if
            the threshold is set.
        unsettled: Number of random images that were answered unsure and have no label.
        gaps: Why the sample is not a random sample of the lake, from `random_sample.gaps`.
    """

    calibration: Calibration | None = None
    lack: str | None = None
    ranking: Ranking | None = None
    least: tuple[tuple[str, float], ...] = ()
    unsettled: int = 0
    gaps: Mapping[str, str] = field(default_factory=dict)


def run(job: Job) -> Summary:
    """Writes the table thresholds: a row for each category with a set threshold or with enough random labels.

    Raises:
        WinnowError: A category has too few random labels, or they do not show that its classifier is better than chance
            or its head was trained on some of these images (thresholds of the others are written); or labelled images
            have no score by the current model.
    """
    categories = job.settings.categories
    if not categories:
        job.progress.note("calibrate: the settings have no category, so there is nothing to calibrate")
        return {}
    for name, settings in sorted(categories.items()):
        if settings.threshold is None:
            require_labels(job, name)
    models = current_models(job)
    job.lake.require_written(tables.SCORES)
    now = job.lake.snapshot()
    heads = [name for name in sorted(categories) if categories[name].model is None]
    leaks = {name: text for name in heads if (text := trained_on.check(job, name))}
    recipe = _recipe(job, models, leaks, now)
    if (before := job.up_to_date(now.made_by(recipe, tables.THRESHOLDS))) is not None:
        for name in sorted(categories):
            _warn_of_gaps(job, name, models[name])
        return _finished(before)
    chosen = [name for name in sorted(categories) if categories[name].threshold is None]
    checks = {name: text for name in chosen if (text := later_labels.check(job, name, models[name], now))}
    outcomes = {
        name: _of_leaked(job, name, categories[name], leaks[name])
        if name in leaks
        else _calibrated(job, name, models[name], categories[name])
        for name in sorted(categories)
    }
    summary = _summary(outcomes, categories)
    summary |= {f"{name}: check of the threshold so far": text for name, text in checks.items()}
    rows = [_row(name, models[name], found, categories[name]) for name, found in outcomes.items() if found.calibration]
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


def _recipe(job: Job, models: Mapping[str, str], leaks: Mapping[str, str], now: Snapshot) -> Recipe:
    targets = {name: config.fingerprint(settings) for name, settings in job.settings.categories.items()}
    labels = config.fingerprint(job.settings.labels)
    settings = {"models": dict(models), "categories": targets, "seed": job.settings.seed, "labels": labels}
    settings["revision"] = _REVISION
    if leaks:  # A head may be trained again with the same result: then they go, and nothing else changes.
        settings["leaks"] = dict(leaks)
    return Recipe("calibrate", now.inputs(tables.LABELS, tables.UNSURE, tables.SCORES), settings)


def _of_leaked(job: Job, category: str, settings: CategorySettings, leaked: str) -> Outcome:
    """Returns the result for a category whose head was trained on images of the random sample."""
    if settings.threshold is None:
        return Outcome(lack=leaked)
    job.progress.warn(f"calibrate: {category}: its threshold is used as it is set, but its recall is unknown: {leaked}")
    return Outcome(bounds_with_unsure(ScoredLabels.none(), settings.threshold, settings.confidence))


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
    rank = ranking_of(found, settings.confidence) if positives and negatives else None
    useless = None
    if rank is None or not rank.better_than_chance:
        remedy = _remedy(category, settings, rank)
        useless = not_better_than_chance(positives, negatives, rank, remedy, settings.confidence)
    if settings.threshold is not None:
        if rank and useless:
            job.progress.warn(f"calibrate: {category}: its threshold is used as it is set, but {useless}")
        bounds = bounds_with_unsure(found, settings.threshold, settings.confidence)
        return Outcome(bounds, ranking=rank, unsettled=unsettled, gaps=gaps)
    target = Target(settings.recall, settings.confidence, settings.dropped_negatives)
    calibration = calibrate_with_unsure(found, target)
    if calibration is None:
        return Outcome(lack=lacking(category, Answers(positives, negatives, _unanswered(job, category)), target))
    if useless:
        return Outcome(lack=useless)
    return Outcome(calibration, ranking=rank, least=found.least(found.positive), unsettled=unsettled, gaps=gaps)


def _remedy(category: str, settings: CategorySettings, rank: Ranking | None) -> str:
    """Returns what to do about a classifier that random labels do not show to be better than chance."""
    better = (
        f"label more images with `winnow label next {category} --strategy seed` and `--strategy recall`, then run "
        f"`winnow train {category}`, `winnow score` and `winnow calibrate`"
        if settings.model is None
        else "use another model"
    )
    best = rank.auc if rank else 1.0
    if best <= 0.5:
        return better
    needed = pairs_needed(best, settings.confidence)
    more = f"label images with `winnow label next {category} --strategy random` until {needed:,} are positive and"
    return f"{more} {needed:,} negative, which is enough if the AUC stays {wording.number(best)}; or {better}"


def _unanswered(job: Job, category: str) -> int:
    """Returns the number of images that can be decoded and that nobody has answered for a category."""
    images, quarantine, signals, labels, unsure = (
        job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS, tables.LABELS, tables.UNSURE)
    )
    answered = [rows.where(F.col("category") == category).select("image_id") for rows in (labels, unsure)]
    out = answered[0].unionByName(answered[1]).unionByName(undecodable(images, quarantine, signals).select("image_id"))
    return images.select("image_id").join(out, "image_id", "left_anti").count()


def _warn_of_gaps(job: Job, category: str, model: str) -> Mapping[str, str]:
    """Warns of gaps in the random sample and returns them; runs each time, because the recipe does not cover gaps."""
    gaps = random_sample.gaps(job, category, model)
    for what, text in gaps.items():
        job.progress.warn(f"calibrate: {category}: {what}: {text}")
    return gaps


def _scored(job: Job, category: str, model: str) -> ScoredLabels:
    given, unsure = job.lake.read(tables.LABELS), job.lake.read(tables.UNSURE)
    labels = sets.random_labels(given, category, job.settings.labels.contradictions)
    labels = labels.unionByName(random_sample.unsettled(given, unsure, category).select("image_id", sets.no_label()))
    rows = calibration_set(labels, job.lake.read(tables.SCORES), category, model)
    chance = F.xxhash64(F.lit(job.settings.seed), F.col("image_id"))
    found = rows.orderBy(chance, "image_id").limit(_MOST_LABELS).select("image_id", "label", "score").toArrow()
    if found["score"].null_count:
        unusable = sets.report_unusable(job, labels, "calibrate", category)
        unusable |= sets.report_without_score(job, labels, category, model)
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


def _row(category: str, model: str, outcome: Outcome, settings: CategorySettings) -> tuple[Any, ...]:
    found = outcome.calibration
    assert found is not None
    bounds = (found.threshold, found.recall_lower, found.confidence)
    counts = (found.positives, found.negatives, found.missed, found.dropped_negatives, outcome.unsettled)
    return category, model, *bounds, *counts, tables.CHOSEN_BY_LABELS if settings.threshold is None else tables.SET


def _summary(outcomes: Mapping[str, Outcome], categories: Mapping[str, CategorySettings]) -> Summary:
    summary: Summary = {}
    for category, outcome in outcomes.items():
        if outcome.calibration:
            figures = _figures(outcome, outcome.calibration, categories[category])
            summary |= {f"{category}: {name}": value for name, value in figures.items()}
    lacks = [f"{category}: {outcome.lack}" for category, outcome in outcomes.items() if outcome.lack]
    if lacks:
        summary[_LACKS] = "; ".join(lacks)
    return summary


def _figures(outcome: Outcome, found: Calibration, settings: CategorySettings) -> Summary:
    """Returns the figures of one category by name."""
    share, low, high = found.precision()
    level = f"{wording.confidence(found.confidence)} confidence"
    known = f"{wording.recall_at_least(found.recall_lower)} ({level})"
    figures: Summary = {
        "threshold": wording.score(found.threshold)
        + (", set in the settings" if settings.threshold is not None else ""),
        "recall at least": known
        if found.recall_lower is not None
        else "unknown (no label of the random sample is positive)",
        "positives of the random sample": f"{found.positives}, {found.missed} missed",
    }
    if outcome.least:
        least = ", ".join(f"{image_id} ({wording.score(score)})" for image_id, score in outcome.least)
        figures["positives of the random sample that score least"] = f"{least}: a wrong label here lowers precision"
    if outcome.ranking:
        figures["ranking of the labels of the random sample"] = auc(outcome.ranking, found.confidence)
    if outcome.unsettled:
        figures["random images answered unsure"] = f"{outcome.unsettled}, each may be a missed positive"
    figures |= outcome.gaps
    figures["negatives of the random sample"] = f"{found.negatives}, {found.dropped_negatives} dropped"
    if found.positives + found.negatives:
        figures["escapes at most"] = f"{found.escaped_upper:.3%} of all images"
    if not math.isnan(share):
        figures["precision about"] = f"{share:.1%} ({low:.1%} to {high:.1%})"
    return figures


def _finished(summary: Summary) -> Summary:
    # Also if everything is up to date: a category without a threshold is an error until it has one.
    if _LACKS in summary:
        raise WinnowError(f"no threshold for {summary[_LACKS]}")
    return summary
