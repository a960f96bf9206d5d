"""Images that nobody has been asked about."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables


def unseen(signals: DataFrame, labels: DataFrame, queue: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Signals of images that nobody has labelled, queued or been unsure of for a category.

    Args:
        signals: image_id and more.
        labels: Table labels.
        queue: Table label_queue.
        unsure: Table unsure.
        category: Whose labels.
    """
    own = [rows.where(F.col("category") == category).select("image_id") for rows in (labels, queue, unsure)]
    return signals.join(own[0].unionByName(own[1]).unionByName(own[2]), "image_id", "left_anti")


def seen(job: Job) -> tuple[DataFrame, DataFrame, DataFrame]:
    """The tables that say who has been asked about what, as `unseen` takes them: labels, label_queue, unsure."""
    return tuple(job.lake.read(t) for t in (tables.LABELS, tables.LABEL_QUEUE, tables.UNSURE))
