"""Images that are not labelled, queued or answered unsure for a category."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables


def unseen(signals: DataFrame, labels: DataFrame, queue: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Returns the signals of images that are not labelled, queued or answered unsure for a category.

    Args:
        signals: image_id and other columns.
        labels: Table labels.
        queue: Table label_queue.
        unsure: Table unsure.
        category: Name of the category.
    """
    own = [rows.where(F.col("category") == category).select("image_id") for rows in (labels, queue, unsure)]
    return signals.join(own[0].unionByName(own[1]).unionByName(own[2]), "image_id", "left_anti")


def seen(job: Job) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Returns the tables labels, label_queue and unsure, in the order in which `unseen` takes them."""
    return tuple(job.lake.read(t) for t in (tables.LABELS, tables.LABEL_QUEUE, tables.UNSURE))
