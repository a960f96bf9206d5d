"""A check of the current threshold of a category by random labels that were given after it was chosen."""

from datetime import datetime

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import resolved, sets
from jobs.lake import tables
from jobs.lake.snapshot import Snapshot
from models.stats import thresholds


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
    answers = given.unionByName(unsure_answers.select(*image, sets.no_label(), "annotator", "labelled_at"))
    # The threshold was computed from images that were answered earlier, so they cannot check it.
    earlier = answers.where(~(F.col("labelled_at") > F.lit(since)))
    later = answers.where(F.col("labelled_at") > F.lit(since)).join(earlier, image, "left_anti")
    settled = resolved.resolved(later.where(F.col("label").isNotNull())).select(*image, "label")
    unsettled = later.select(*image).distinct().join(settled, image, "left_anti").withColumn("label", F.lit(True))
    scored = settled.unionByName(unsettled).join(scores, image).join(threshold, ["category", "model"])
    below = scored.where(F.col("score").cast("double") < F.col("threshold")).dropDuplicates(["image_id"])
    return below.agg(F.count("*").alias("kept"), F.count_if("label").alias("positives"))


def check(job: Job, category: str, model: str, now: Snapshot) -> str | None:
    """Returns what newer random labels say about the current threshold; None if there are none below it.

    Args:
        job: The running command.
        category: Name of the category.
        model: Digest of its current model.
        now: The current versions of the tables.
    """
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
