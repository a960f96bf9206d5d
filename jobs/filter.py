"""`filter`: scores at or above their category's threshold take an image out; every image gets a verdict."""

from collections.abc import Iterable, Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import tables
from jobs.job import Job, Summary
from jobs.lake import Recipe
from jobs.score import current_models
from models.errors import LostRowsError, WinnowError

_UNDECODABLE = "not decodable"


def run(job: Job) -> Summary:
    """Writes the table verdicts: one row for each image.

    Raises:
        WinnowError: A category has no threshold for its present model, or images have not been scored by it.
        LostRowsError: There is not exactly one verdict for each image; the table has been taken away again.
    """
    lake, categories = job.lake, sorted(job.settings.categories)
    lake.require(tables.IMAGES)
    models = current_models(job) if categories else {}
    recipe = Recipe("filter", lake.inputs(*_inputs(categories)), {"models": models})
    if not categories:
        job.progress.note("filter: no category is configured, so every image that can be decoded is kept")
    if recipe.makes_the_same(lake.recipe(tables.VERDICTS)):
        job.progress.note("filter: the table verdicts is up to date")
    else:
        with job.progress.step("filter: judge every image"):
            lake.replace(tables.VERDICTS, _judged(job, models), recipe)
    with job.progress.step("filter: count the verdicts"):
        return _counted(job, categories)


def undecodable(images: DataFrame, quarantine: DataFrame, signals: DataFrame) -> DataFrame:
    """Images that scoring could not decode: quarantined by it, and without signals.

    Args:
        images: Table images.
        quarantine: Table quarantine.
        signals: Table signals.

    Returns:
        image_id, reason.
    """
    failed = quarantine.where(F.col("stage") == "score").groupBy("source", "key").agg(F.min("reason").alias("reason"))
    named = images.select("image_id", "source", "key").join(failed, ["source", "key"])
    return named.join(signals.select("image_id"), "image_id", "left_anti").select("image_id", "reason")


def unscored(images: DataFrame, broken: DataFrame, scores: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """How many images lack the score of a category's present model.

    Args:
        images: Table images.
        broken: image_id of images that cannot be scored.
        scores: Table scores.
        models: Digest of each category's present model.

    Returns:
        category, missing: only categories that miss some.
    """
    spark = images.sparkSession
    present = spark.createDataFrame(list(models.items()), "category string, model string")
    wanted = images.select("image_id").join(broken, "image_id", "left_anti").crossJoin(F.broadcast(present))
    done = scores.where(F.col("score").isNotNull()).select("image_id", "category", "model")
    absent = wanted.join(done, ["image_id", "category", "model"], "left_anti")
    return absent.groupBy("category").agg(F.count("*").alias("missing"))


def verdicts(images: DataFrame, broken: DataFrame, scores: DataFrame, thresholds: DataFrame) -> DataFrame:
    """Whether each image is kept, and if not, why.

    Args:
        images: Table images.
        broken: image_id, reason: images that cannot be decoded.
        scores: Table scores.
        thresholds: Table thresholds, only the rows that count.

    Returns:
        Table verdicts: image_id, kept, reasons (sorted; empty when kept).
    """
    limits = F.broadcast(thresholds.select("category", "model", "threshold"))
    # In double: a threshold that lies between two floats must not be rounded onto one of them.
    over = scores.join(limits, ["category", "model"]).where(F.col("score").cast("double") >= F.col("threshold"))
    why = F.format_string(
        "%s: score %.3g >= %.3g", F.col("category"), F.col("score").cast("double"), F.col("threshold")
    )
    fault = F.concat(F.lit(f"{_UNDECODABLE}: "), F.col("reason"))
    reasons = over.select("image_id", why.alias("why")).unionByName(broken.select("image_id", fault.alias("why")))
    by_image = reasons.groupBy("image_id").agg(F.sort_array(F.collect_set("why")).alias("found"))
    judged = images.select("image_id").join(by_image, "image_id", "left")
    none = F.array().cast("array<string>")
    return judged.select("image_id", F.col("found").isNull().alias("kept"), F.coalesce("found", none).alias("reasons"))


def _inputs(categories: Iterable[str]) -> tuple[tables.Table, ...]:
    always = (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS)
    return (*always, tables.SCORES, tables.THRESHOLDS) if categories else always


def _judged(job: Job, models: Mapping[str, str]) -> DataFrame:
    images, quarantine, signals, scores, thresholds = (
        job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS, tables.SCORES, tables.THRESHOLDS)
    )
    broken = undecodable(images, quarantine, signals)
    if models:
        _check_thresholds(thresholds, models)
        _check_scores(unscored(images, broken, scores, models), models)
    return verdicts(images, broken, scores, thresholds.where(F.col("category").isin(*models)))


def _check_thresholds(thresholds: DataFrame, models: Mapping[str, str]) -> None:
    calibrated = {row["category"]: row["model"] for row in thresholds.select("category", "model").collect()}
    faults = [f"{name} has no threshold" for name in sorted(models) if name not in calibrated]
    faults += [
        f"the threshold of {name} is for model {calibrated[name]}, but {models[name]} is in use"
        for name in sorted(models)
        if calibrated.get(name, models[name]) != models[name]
    ]
    if faults:
        raise WinnowError(f"{'; '.join(faults)}: run `winnow calibrate` first")


def _check_scores(missing: DataFrame, models: Mapping[str, str]) -> None:
    faults = [
        f"{row['missing']} images have no score for {row['category']}" for row in missing.orderBy("category").collect()
    ]
    if faults:
        used = ", ".join(f"{name} {model}" for name, model in sorted(models.items()))
        raise WinnowError(f"{'; '.join(faults)} (models in use: {used}): run `winnow score` first")


def _counted(job: Job, categories: Iterable[str]) -> Summary:
    """Counts the verdicts, and makes sure that there is one for each image."""
    images = job.lake.read(tables.IMAGES).count()
    made = job.lake.read(tables.VERDICTS)
    counts = made.agg(
        F.count("*").alias("rows"),
        F.count_distinct("image_id").alias("images"),
        F.count_if("kept").alias("kept"),
        *[_with_reason(name).alias(f"reason {name}") for name in (*categories, _UNDECODABLE)],
    ).collect()[0]
    if not images == counts["rows"] == counts["images"]:
        job.lake.delete(tables.VERDICTS.name)
        raise LostRowsError(f"{images} images, but {counts['rows']} verdicts on {counts['images']} of them")
    by_reason = {f"filtered, {name}": counts[f"reason {name}"] for name in (*categories, _UNDECODABLE)}
    return {"images": images, "kept": counts["kept"], "filtered": images - counts["kept"], **by_reason}


def _with_reason(name: str) -> Column:
    return F.count_if(F.exists("reasons", lambda reason: reason.startswith(f"{name}: ")))
