"""The labels for training, the labels for calibration, and unusable labels."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import resolved
from jobs.lake import tables
from jobs.scoring.gaps import unclassifiable, undecodable

_EXAMPLES = 3


def training_labels(labels: DataFrame, queue: DataFrame, category: str, by: str = "newest") -> DataFrame:
    """Returns the training labels of a category: one for each image outside its random sample.

    An image is in the random sample if it has a label of origin `random`, or if it was queued as random. So the label
    of a queued random image is never trained on, even if it is imported with another origin.

    Args:
        labels: Table labels.
        queue: Table label_queue.
        category: Name of the category.
        by: Which of contradicting labels counts; see `resolved.resolved`.

    Returns:
        image_id, label boolean, labelled_at timestamp.
    """
    own = labels.where((F.col("category") == category) & F.col("label").isNotNull())
    random = own.where(F.col("origin") == "random").select("image_id")
    queued = queue.where((F.col("category") == category) & (F.col("strategy") == "random")).select("image_id")
    usable = own.join(random.unionByName(queued), "image_id", "left_anti")
    when = usable.groupBy("image_id").agg(F.max("labelled_at").alias("labelled_at"))
    return resolved.resolved(usable, by).select("image_id", "label").join(when, "image_id")


def random_labels(labels: DataFrame, category: str, by: str = "newest") -> DataFrame:
    """Returns the calibration labels of a category: image_id, label of each image with a label of origin `random`."""
    own = labels.where((F.col("category") == category) & (F.col("origin") == "random") & F.col("label").isNotNull())
    return resolved.resolved(own, by).select("image_id", "label")


def no_label() -> Column:
    """Returns the column `label` of images that were answered unsure: null."""
    return F.lit(None).cast("boolean").alias("label")


def unusable(labels: DataFrame, images: DataFrame, broken: DataFrame) -> DataFrame:
    """Returns labels of images that will never have an embedding or a score.

    Args:
        labels: image_id of labelled images.
        images: Table images.
        broken: image_id of images that cannot be decoded.

    Returns:
        image_id, why.
    """
    unknown = labels.select("image_id").join(images.select("image_id"), "image_id", "left_anti")
    undecoded = labels.select("image_id").join(broken.select("image_id"), "image_id", "left_semi")
    return unknown.select("image_id", F.lit("not in the table images").alias("why")).unionByName(
        undecoded.select("image_id", F.lit("not decodable").alias("why"))
    )


def report_unusable(job: Job, labels: DataFrame, command: str, category: str) -> set[str]:
    """Warns about labels of images that cannot be used, and returns the ids of these images.

    The labels stay in their table.

    Args:
        job: The running command.
        labels: image_id of labelled images; few enough for one process.
        command: Name of the command, for messages.
        category: Name of the category.
    """
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    found = unusable(labels, images, undecodable(images, quarantine, signals)).orderBy("image_id").collect()
    for why in sorted({row.why for row in found}):
        ids = [row.image_id for row in found if row.why == why]
        some = ", ".join(ids[:_EXAMPLES])
        job.progress.warn(f"{command}: ignored {len(ids)} labels for {category}, whose images are {why}: {some}")
    return {row.image_id for row in found}


def report_without_score(job: Job, labels: DataFrame, category: str, model: str) -> set[str]:
    """Warns about labels of images on which the classifier failed, and returns the ids of these images.

    `filter` removes them whatever the threshold, so they say nothing of it.

    Args:
        job: The running command.
        labels: image_id of labelled images; few enough for one process.
        category: Name of the category.
        model: Digest of its current model.
    """
    failed = unclassifiable(job.lake.read(tables.QUARANTINE), {category: model}).select("image_id")
    ids = [row.image_id for row in labels.join(failed, "image_id", "left_semi").select("image_id").distinct().collect()]
    if ids:
        some = ", ".join(sorted(ids)[:_EXAMPLES])
        job.progress.warn(f"calibrate: ignored {len(ids)} labels for {category}, whose images have no score: {some}")
    return set(ids)


def report_contradictions(job: Job, labels: DataFrame, command: str, category: str) -> None:
    """Warns about images of a category that have both labels, and says which label counts."""
    own = labels.where((F.col("category") == category) & F.col("label").isNotNull())
    both = resolved.resolved(own).where("contradicted").select("image_id").orderBy("image_id")
    count = both.count()
    if count:
        some = ", ".join(row.image_id for row in both.limit(_EXAMPLES).collect())
        job.progress.warn(
            f"{command}: {count} images are labelled both yes and no for {category}; labels.contradictions = "
            f'"{job.settings.labels.contradictions}" decides: {some}'
        )
