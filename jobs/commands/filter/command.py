"""`filter`: writes a verdict for each image; scores from the threshold on, positive labels and rules remove it.

People's decisions come before these (`decisions`).
"""

from collections.abc import Iterable, Mapping

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.commands.filter import against, decisions, guard, keep_top, sql_rules
from jobs.commands.filter import rules as filter_rules
from jobs.commands.filter.against import OtherSets
from jobs.facts.decisions import DECISION, standing
from jobs.facts.funnel import changes
from jobs.job import Job, Summary
from jobs.labels import resolved
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.models_in_use import current_models
from jobs.origins import superseded
from jobs.origins.superseded import SUPERSEDED
from jobs.prerequisites import CATEGORY_FILTER, EVERY_FILTER
from jobs.runtime import wording
from jobs.runtime.config import CategorySettings
from jobs.scoring.gaps import NO_SCORE, UNDECODABLE, unclassifiable, undecodable, unscored, without_score
from models.errors import LostRowsError, WinnowError


def run(job: Job) -> Summary:
    """Writes the table verdicts: one row for each image.

    Raises:
        WinnowError: A category has no threshold for its current model, or images have no score by it; or classifiers
            remove too many images; or a category or rule of the last run is missing in the settings.
        SettingsError: A rule cannot be applied to the images.
        LostRowsError: There is not exactly one verdict for each image; the table verdicts has been dropped.
    """
    lake, now = job.lake, job.lake.snapshot()
    others = against.other_sets(job)
    models, recipe = _checked(job, now, others)
    made = now.made_by(recipe, tables.VERDICTS)
    if job.up_to_date(made) is None and models:
        _check_scores(job, models)
    removed = _guarded(job, models) if models else {}
    if made is None:
        made = recipe.with_result({"cutoffs": _cutoffs(job)})
        near = against.near(job, now, others, lake.replace) if others else None
        with job.progress.step("filter: judge every image"):
            lake.replace(tables.VERDICTS, _judged(job, models, made.result["cutoffs"], near), made)
        lake.delete_staging(against.STAGING)
    with job.progress.step("filter: count the verdicts"):
        written = lake.read(tables.VERDICTS)
        counts, images = _counts(job, written), lake.read(tables.IMAGES).count()
        if not images == counts["rows"] == counts["images"]:
            lake.drop(tables.VERDICTS)
            raise LostRowsError(
                f"{images} images, but {counts['rows']} verdicts on {counts['images']} of them: run `winnow filter` "
                "again, and report a bug if this happens again"
            )
        return _summary(job, written, counts, made.result.get("cutoffs", {})) | removed


def preview(job: Job) -> Summary:
    """Counts what `run` would write, and what that would change. It writes no table.

    Raises:
        WinnowError: As `run`.
        SettingsError: A rule cannot be applied to the images.
    """
    now = job.lake.snapshot()
    others = against.other_sets(job)
    models, _ = _checked(job, now, others)
    if models:
        _check_scores(job, models)
    removed = _guarded(job, models) if models else {}
    cutoffs = _cutoffs(job)
    near = against.near(job, now, others, lambda *found: None) if others else None
    with job.progress.step("filter: judge every image"), job.lake.scratch("filter") as scratch:
        judged = scratch.keep(_judged(job, models, cutoffs, near))
        summary = _summary(job, judged, _counts(job, judged), cutoffs) | removed
        images, before = job.lake.read(tables.IMAGES), job.lake.read(tables.VERDICTS)
        job.progress.note("filter: this was a dry run, so no table was written")
        changed = changes(images, _removed(before), _removed(judged))
    job.lake.delete_staging(against.STAGING)
    return summary | changed


def _removed(verdicts: DataFrame) -> DataFrame:
    return verdicts.where(~F.col("kept")).select("image_id", F.concat_ws("; ", "reasons").alias("why"))


def _checked(job: Job, now: Snapshot, others: OtherSets | None) -> tuple[Mapping[str, str], Recipe]:
    """Checks the settings against the lake; returns the models in use by category, and the recipe of the verdicts."""
    lake, categories, rules = job.lake, sorted(job.settings.categories), job.settings.filter
    check_forgotten(job, now)
    models = current_models(job) if categories else {}
    for table in (tables.IMAGES, *(CATEGORY_FILTER if models else ())):
        lake.require_written(table)
    filter_rules.check(lake.read(tables.IMAGES), rules)
    if not categories and not rules.names and not others:
        job.progress.note(
            "filter: the settings have no category and no rule: keeps every image that can be decoded, except those "
            "that people drop"
        )
    if models:
        _check_thresholds(lake.read(tables.THRESHOLDS), models, job.settings.categories)
    settings = {"models": models, **rules.kinds, "contradictions": job.settings.labels.contradictions}
    if others:
        settings["against"] = others.digests
    return models, Recipe("filter", now.inputs(*_inputs(categories)), settings)


def check_forgotten(job: Job, now: Snapshot) -> None:
    """Checks that the settings have every category and rule of the last run, or list it in `filter.forget`.

    Raises:
        WinnowError: A category or rule is missing; the message names it.
    """
    before, settings = now.recipe(tables.VERDICTS), job.settings
    if before is None:
        if now.exists(tables.VERDICTS):
            job.progress.warn(
                "filter: the table verdicts does not say which categories and rules made it, so it is written again"
            )
        return
    kinds = ("models", "against", *settings.filter.kinds)
    applied = {name for kind in kinds for name in before.settings.get(kind, {})}
    present = {*settings.categories, *settings.filter.names, *settings.dedup.against}
    missing = sorted(applied - present - {*settings.filter.forget})
    if missing:
        names = ", ".join(f'"{name}"' for name in missing)
        raise WinnowError(
            f"the lake was filtered for {', '.join(missing)}, which these settings do not have: add the --conf, "
            f"--category or --rule that has them, or --set 'filter.forget=[{names}]' to let such images in again"
        )


def verdicts(
    images: DataFrame, broken: DataFrame, scores: DataFrame, thresholds: DataFrame, ruled: DataFrame
) -> DataFrame:
    """Decides whether each image is kept, and gives the reasons if not.

    Args:
        images: Table images.
        broken: image_id, reason: images that cannot be decoded.
        scores: Table scores.
        thresholds: Rows of the table thresholds to apply.
        ruled: image_id, why: other removals, from `labelled`, `rules.removed` and `gaps.without_score`.

    Returns:
        image_id, kept, reasons (sorted; empty when kept): the table verdicts before people's decisions.
    """
    limits = F.broadcast(thresholds.select("category", "model", "threshold"))
    # Compare as double: a threshold between two floats must not be rounded to one of them.
    over = scores.join(limits, ["category", "model"]).where(F.col("score").cast("double") >= F.col("threshold"))
    why = F.format_string(
        "%s: score %.3g >= %.3g", F.col("category"), F.col("score").cast("double"), F.col("threshold")
    )
    fault = F.concat(F.lit(f"{UNDECODABLE}: "), F.col("reason"))
    reasons = over.select("image_id", why.alias("why")).unionByName(broken.select("image_id", fault.alias("why")))
    reasons = reasons.unionByName(ruled)
    by_image = reasons.groupBy("image_id").agg(F.sort_array(F.collect_set("why")).alias("found"))
    judged = images.select("image_id").join(by_image, "image_id", "left")
    none = F.array().cast("array<string>")
    return judged.select("image_id", F.col("found").isNull().alias("kept"), F.coalesce("found", none).alias("reasons"))


def labelled(labels: DataFrame, categories: Iterable[str], by: str) -> DataFrame:
    """Returns the images that people labelled positive; they are removed whatever their score.

    Args:
        labels: Table labels.
        categories: Names of the categories to filter for.
        by: How to resolve contradicting labels; see `jobs.labels.resolved.resolved`.

    Returns:
        image_id, why: a row for each image and category with a positive label.
    """
    why = F.concat("category", F.lit(": labelled")).alias("why")
    return _positive(labels, categories, by).select("image_id", why)


def _positive(labels: DataFrame, categories: Iterable[str], by: str) -> DataFrame:
    """Returns image_id, category of the labels that count and are positive."""
    given = labels.where(F.col("category").isin(*categories) & F.col("label").isNotNull())
    return resolved.resolved(given, by).where("label").select("image_id", "category")


def _inputs(categories: Iterable[str]) -> tuple[tables.Table, ...]:
    return (*EVERY_FILTER, *CATEGORY_FILTER, tables.LABELS) if categories else EVERY_FILTER


def _cutoffs(job: Job) -> dict[str, float]:
    """Returns the lowest value to keep of each field of `filter.keep_top`."""
    shares = job.settings.filter.keep_top
    if not shares:
        return {}
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    with job.progress.step("filter: find the cutoffs of keep_top"), job.lake.scratch("filter") as scratch:
        return keep_top.cutoffs(images, undecodable(images, quarantine, signals), shares, scratch)


def _of_top(job: Job, judged: DataFrame, cutoffs: Mapping[str, float]) -> Summary:
    """Returns the cutoffs and how many images have no value in the fields of `filter.keep_top`; warns of the latter."""
    missing = keep_top.without_value(judged, job.settings.filter.keep_top)
    for name, count in missing.items():
        if count:
            job.progress.warn(
                f"filter: {count:,} images have no number in the field {name}, so filter.keep_top.{name} removed them"
            )
    lines = {f"cutoff of {name}": cutoff for name, cutoff in cutoffs.items()}
    return {**lines, **{f"without a value of {name}": count for name, count in missing.items()}}


def _warn_of_unknown(job: Job, summary: Summary) -> None:
    """Warns of SQL rules that are null for every image, such as a rule on a field that the sources do not have."""
    images = job.lake.read(tables.IMAGES)
    for name, condition in job.settings.filter.rules.items():
        if summary["images"] and not summary[f"filtered, {name}"] and sql_rules.is_unknown(images, condition):
            job.progress.warn(
                f"filter: the rule {name} is null for every image, so it removes none: do the images have the fields "
                "that it reads?"
            )


def _judged(job: Job, models: Mapping[str, str], cutoffs: Mapping[str, float], near: DataFrame | None) -> DataFrame:
    images, quarantine, signals, scores, thresholds = (
        job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS, tables.SCORES, tables.THRESHOLDS)
    )
    broken = undecodable(images, quarantine, signals)
    limits = thresholds.where(F.col("category").isin(*models))
    ruled = filter_rules.removed(images, job.settings.filter, cutoffs)
    if near is not None:
        ruled = ruled.unionByName(against.removed(near))
    gone = superseded.reasons(job.lake.read(tables.SUPERSEDED))
    known = labelled(job.lake.read(tables.LABELS), models, job.settings.labels.contradictions)
    failed = without_score(quarantine, scores, models)
    judged = verdicts(images, broken, scores, limits, ruled.unionByName(known).unionByName(failed).unionByName(gone))
    return decisions.decided(judged, standing(job.lake.read(tables.DECISIONS)))


def _guarded(job: Job, models: Mapping[str, str]) -> Summary:
    """Returns what each category removes by score, in words, after the guard has let it through."""
    settings, lake = job.settings, job.lake
    limits = lake.read(tables.THRESHOLDS).where(F.col("category").isin(*models))
    positives = _positive(lake.read(tables.LABELS), models, settings.labels.contradictions)
    decided = standing(lake.read(tables.DECISIONS)).select("image_id").crossJoin(F.broadcast(limits.select("category")))
    trained = {name: settings.categories[name].threshold is None for name in models}
    with job.progress.step("filter: compare what each category removes with its labels of the random sample"):
        settled = positives.unionByName(decided)
        [counts] = guard.removed_by_score(lake.read(tables.SCORES), limits, settled, trained).collect()
    found = guard.removals(counts, limits.orderBy("category").collect())
    guard.check(found, settings.categories, settings.filter, job.command("filter"))
    return {f"{one.category}: removed by score": one.in_words() for one in found.each}


def _check_thresholds(
    thresholds: DataFrame, models: Mapping[str, str], categories: Mapping[str, CategorySettings]
) -> None:
    rows = thresholds.select("category", "model", "threshold", "chosen_by").collect()
    calibrated = {row["category"]: row["model"] for row in rows}
    taken = {row["category"]: row["threshold"] for row in rows if row["chosen_by"] == tables.SET}
    faults = [f"{name} has no threshold" for name in sorted(models) if name not in calibrated]
    faults += [
        f"the threshold of {name} is for model {calibrated[name]}, but {models[name]} is in use"
        for name in sorted(models)
        if calibrated.get(name, models[name]) != models[name]
    ]
    faults += [
        f"the threshold of {row['category']} was calibrated before classifiers were compared with chance"
        for row in rows
        if row["category"] in models and row["chosen_by"] is None
    ]
    faults += [
        f"the threshold of {name} is not the one in the settings"
        for name in sorted(models)
        if name in calibrated and taken.get(name) != categories[name].threshold
    ]
    if faults:
        raise WinnowError(f"{'; '.join(faults)}: run `winnow calibrate` first")


def _check_scores(job: Job, models: Mapping[str, str]) -> None:
    images, quarantine, signals, scores = (
        job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS, tables.SCORES)
    )
    broken, failed = undecodable(images, quarantine, signals), unclassifiable(quarantine, models)
    missing = unscored(images, broken, failed, scores, models).orderBy("category")
    with job.progress.step("filter: look for images without a score"):
        faults = [f"{row['missing']} images have no score for {row['category']}" for row in missing.collect()]
    if faults:
        used = ", ".join(f"{name} {model}" for name, model in sorted(models.items()))
        raise WinnowError(f"{'; '.join(faults)} (models in use: {used}): run `winnow score` first")


def _removing(job: Job) -> tuple[str, ...]:
    """Returns the names of all that may remove an image."""
    by_people = [DECISION] if job.lake.exists(tables.DECISIONS) else []
    near = [against.REASON] if job.settings.dedup.against else []
    gone = [SUPERSEDED] if job.lake.exists(tables.SUPERSEDED) else []
    own = (*sorted(job.settings.categories), *job.settings.filter.names)
    return (*own, *near, *gone, *by_people, NO_SCORE, UNDECODABLE)


def _counts(job: Job, judged: DataFrame) -> Row:
    [counts] = judged.agg(
        F.count("*").alias("rows"),
        F.count_distinct("image_id").alias("images"),
        F.count_if("kept").alias("kept"),
        F.count("kept_because").alias("kept by decision"),
        *[_with_reason(name).alias(f"reason {name}") for name in _removing(job)],
    ).collect()
    return counts


def _summary(job: Job, judged: DataFrame, counts: Row, cutoffs: Mapping[str, float]) -> Summary:
    """Returns the counts of verdicts by reason, and warns of what looks like a mistake in the settings."""
    by_reason = {name: counts[f"reason {name}"] for name in _removing(job)}
    if not by_reason[NO_SCORE]:
        del by_reason[NO_SCORE]
    images, kept = counts["rows"], counts["kept"]
    _warn_if_most_are_filtered(job, images, kept, by_reason)
    by_people = {"kept by decision": counts["kept by decision"]} if job.lake.exists(tables.DECISIONS) else {}
    filtered = {f"filtered, {name}": count for name, count in by_reason.items()}
    summary = {"images": images, "kept": kept, **by_people, "filtered": images - kept, **filtered}
    summary |= _of_top(job, judged, cutoffs)
    _warn_of_unknown(job, summary)
    return summary


def _warn_if_most_are_filtered(job: Job, images: int, kept: int, reasons: Mapping[str, int]) -> None:
    if 2 * kept >= images:
        return
    by_size = sorted((name for name in reasons if reasons[name]), key=lambda name: (-reasons[name], name))
    why = ", ".join(f"{name} {reasons[name]:,}" for name in by_size)
    job.progress.warn(
        f"filter: keeps only {kept:,} of {images:,} images ({wording.percent(kept / images)}). Removed: {why}"
    )


def _with_reason(name: str) -> Column:
    return F.count_if(F.exists("reasons", lambda reason: reason.startswith(f"{name}: ")))
