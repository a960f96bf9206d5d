"""`label export`: writes labels to a file that `label import` reads."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.labels import files
from jobs.labels.files import COLUMNS
from jobs.lake import tables
from jobs.runtime.config import PAIRS
from models.errors import WinnowError


def export_labels(job: Job, file: str, category: str | None = None) -> Summary:
    """Writes labels to a local file that `import_labels` reads.

    Args:
        job: The running command.
        file: Local path, as for `jobs.labels.files.write`.
        category: Category whose labels are written; None means all.

    Raises:
        WinnowError: There are no labels, pairs are asked for, or the file cannot be written.
    """
    if category == PAIRS:
        raise WinnowError(f"label export does not write pairs of {PAIRS}: read the table pair_labels of the lake")
    files.require_writable(file)
    labels = job.lake.require(tables.LABELS)
    if category is not None:
        labels = labels.where(F.col("category") == category)
    rows = exported(labels, job.lake.read(tables.IMAGES))
    with job.progress.step(f"label: export to {file}"):
        # One partition at a time, so that the driver never holds all labels.
        files.write((row.asDict() for row in rows.toLocalIterator()), file)
    return {"labels exported": labels.count(), "file": file}


def exported(labels: DataFrame, images: DataFrame) -> DataFrame:
    """Returns labels with the keys of their images and times as text in UTC, in a fixed order.

    Args:
        labels: Table labels.
        images: Table images.

    Returns:
        `jobs.labels.files.COLUMNS`.
    """
    utc = F.to_utc_timestamp("labelled_at", F.current_timezone())
    named = labels.join(images.select("image_id", "key"), "image_id", "left")
    timed = named.withColumn("labelled_at", F.date_format(utc, "yyyy-MM-dd'T'HH:mm:ss.SSSSSS'Z'"))
    return timed.select(*COLUMNS).orderBy("category", "image_id", "labelled_at", "origin", "annotator", "label")
