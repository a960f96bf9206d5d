"""`label import`: reads labels from a file into the table labels."""

from collections.abc import Iterable
from datetime import UTC, datetime

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.labels import files
from jobs.labels.files import UNREADABLE
from jobs.labels.resolved import ORIGINS, resolved
from jobs.lake import tables
from jobs.lake.recipe import Recipe

_LABEL = tuple(tables.LABELS.schema.names)
_FAULT = tuple(tables.LABEL_FAULTS.schema.names)
# A column of floats turns whole numbers into 1.0 and 0.0.
_YES, _NO = ("true", "yes", "1", "1.0"), ("false", "no", "0", "0.0")
_EXAMPLES = 3


def import_labels(job: Job, file: str) -> Summary:
    """Adds the labels of a file to the table labels, and skips those that it already holds.

    Unusable rows go to the table label_faults with a reason, and are reported with examples.

    Args:
        job: The running command.
        file: Path or address, as for `jobs.labels.files.read`.

    Raises:
        WinnowError: The file cannot be read, or the lake has no images.
    """
    files.paths_of(file)
    images = job.lake.require(tables.IMAGES).select("image_id", "key")
    rows = files.read(job.lake.spark, file)
    # All labels without a time of their own get the same time.
    now = datetime.now(UTC)
    recipe = Recipe("label", settings={"file": file})
    with job.lake.scratch("label") as scratch, job.progress.step(f"label: import {file}"):
        checked = scratch.keep(checked_labels(rows, images, job.settings.categories))
        good = checked.where(F.col("reason").isNull())
        read, usable = checked.agg(F.count("*"), F.count_if(F.col("reason").isNull())).collect()[0]
        added = _append(job, tables.LABELS, new_labels(good, job.lake.read(tables.LABELS), now), recipe)
        faults = _keep_faults(job, checked, file, recipe)
    contradicted = _report_contradictions(job)
    counts = {"labels read": read, "labels added": added, "already there": usable - added}
    return {**counts, **faults, "contradicted images": contradicted}


def checked_labels(rows: DataFrame, images: DataFrame, categories: Iterable[str]) -> DataFrame:
    """Interprets the rows of a label file, and says why a row cannot be used.

    Args:
        rows: `jobs.labels.files.COLUMNS` and `UNREADABLE`, all string.
        images: image_id, key.
        categories: Names of the categories.

    Returns:
        The same rows and columns (origin filled in), with found_id string, value boolean, at timestamp (null if the row
        has no time) and reason string (null if the row can be used).
    """
    word, category, time = F.lower(F.trim("label")), F.trim("category"), F.try_to_timestamp("labelled_at")
    read = rows.select(
        *("key", "image_id", category.alias("category"), "label", "annotator", "labelled_at", UNREADABLE),
        F.coalesce(F.lower(F.trim("origin")), F.lit("import")).alias("origin"),
        F.when(word.isin(*_YES), True).when(word.isin(*_NO), False).alias("value"),
        time.alias("at"),
    )
    return _with_images(read, images).withColumn("reason", _reason(categories)).drop("namesakes")


def new_labels(good: DataFrame, existing: DataFrame, now: datetime) -> DataFrame:
    """Returns the labels that the table does not hold yet, each once.

    A label with a time is known if the table holds it with that time. A label without a time is known if it equals the
    newest label of the same image, category, origin and annotator. So importing a corrected file changes its labels,
    and importing the same file again changes nothing.

    Args:
        good: Rows of `checked_labels` without a reason.
        existing: Table labels.
        now: Time given to labels without one.

    Returns:
        Rows of the table labels.
    """
    named = {"image_id": F.col("found_id"), "label": F.col("value"), "labelled_at": F.col("at")}
    labels = good.select(*[named.get(name, F.col(name)).alias(name) for name in _LABEL])
    timed = labels.where(F.col("labelled_at").isNotNull()).subtract(existing.select(*_LABEL))
    untimed = [name for name in _LABEL if name != "labelled_at"]
    same = Window.partitionBy("image_id", "category", "origin", "annotator").orderBy(F.desc("labelled_at"))
    newest = existing.withColumn("age", F.rank().over(same)).where(F.col("age") == 1)
    fresh = labels.where(F.col("labelled_at").isNull()).select(*untimed).subtract(newest.select(*untimed))
    return timed.unionByName(fresh.withColumn("labelled_at", F.lit(now)))


def _with_images(rows: DataFrame, images: DataFrame) -> DataFrame:
    """Adds found_id (by image_id, else by key) and namesakes (number of images with that key)."""
    keys = rows.where(F.col("image_id").isNull()).select("key").distinct()
    by_key = images.join(keys, "key", "left_semi").groupBy("key")
    named = by_key.agg(F.min("image_id").alias("id_of_key"), F.count("*").alias("namesakes"))
    known = images.select(F.col("image_id").alias("known_id"))
    found = F.when(F.col("image_id").isNull(), F.col("id_of_key")).otherwise(F.col("known_id"))
    joined = rows.join(known, rows["image_id"] == known["known_id"], "left").join(named, "key", "left")
    return joined.withColumn("found_id", found).drop("id_of_key", "known_id")


def _reason(categories: Iterable[str]) -> Column:
    by_key = F.col("image_id").isNull()
    faults = [
        (F.col(UNREADABLE).isNotNull(), "unreadable line"),
        (by_key & F.col("key").isNull(), "names no image"),
        (~F.coalesce(F.col("category").isin(*categories), F.lit(False)), "unknown category"),
        (F.col("value").isNull(), "unreadable label"),
        (~F.col("origin").isin(*ORIGINS), "unknown origin"),
        (F.col("labelled_at").isNotNull() & F.col("at").isNull(), "unreadable time"),
        (F.col("found_id").isNull(), "unknown image"),
        (by_key & (F.col("namesakes") > 1), "key of several images"),
    ]
    # The first condition that is true gives the reason.
    return F.coalesce(*[F.when(condition, F.lit(reason)) for condition, reason in faults])


def _append(job: Job, table: tables.Table, rows: DataFrame, recipe: Recipe) -> int:
    count: int = rows.count()
    if count:
        job.lake.append(table, rows, recipe)
    return count


def _keep_faults(job: Job, checked: DataFrame, file: str, recipe: Recipe) -> dict[str, int]:
    bad = checked.where(F.col("reason").isNotNull())
    rows = bad.withColumn("file", F.lit(file)).withColumn("label", F.coalesce(UNREADABLE, "label")).select(*_FAULT)
    existing = job.lake.read(tables.LABEL_FAULTS).select(*_FAULT)
    _append(job, tables.LABEL_FAULTS, rows.subtract(existing), recipe)
    counts = {row["reason"]: row["rows"] for row in rows.groupBy("reason").agg(F.count("*").alias("rows")).collect()}
    for reason in sorted(counts):
        name = F.coalesce("image_id", "key", F.lit("?"))
        example = F.format_string("%s %s=%s", name, F.col("category"), F.col("label"))
        examples = _examples(rows.where(F.col("reason") == reason).select(example.alias("example")))
        job.progress.warn(
            f"label import: skipped {counts[reason]} labels ({reason}): {examples}; see the table label_faults"
        )
    return {f"not imported, {reason}": counts[reason] for reason in sorted(counts)}


def _report_contradictions(job: Job) -> int:
    both = resolved(job.lake.read(tables.LABELS)).where("contradicted")
    count: int = both.count()
    if count:
        examples = _examples(both.select(F.format_string("%s %s", "image_id", "category").alias("example")))
        job.progress.warn(
            f"label import: {count} images are labelled both yes and no; labels.contradictions = "
            f'"{job.settings.labels.contradictions}" decides: {examples}'
        )
    return count


def _examples(rows: DataFrame) -> str:
    some = rows.distinct().orderBy("example").limit(_EXAMPLES).collect()
    return ", ".join(row["example"] for row in some)
