"""The labels that a category is trained on, those that it is calibrated on, and those that cannot be used."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import resolved
from jobs.lake import tables
from jobs.scoring.gaps import undecodable

_EXAMPLES = 3


def training_labels(labels: DataFrame, queue: DataFrame, category: str, by: str = "newest") -> DataFrame:
    """What a category may be trained on: one label for each image that is in no random sample for it.

    An image is set apart by a label of origin `random`, and also by having been queued as random, so that a label which
    comes back another way is not trained on either.

    Args:
        labels: Table labels.
        queue: Table label_queue.
        category: Whose labels.
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
    """What a category is calibrated on: image_id, label, for each image with a label of origin `random`."""
    own = labels.where((F.col("category") == category) & (F.col("origin") == "random") & F.col("label").isNotNull())
    return resolved.resolved(own, by).select("image_id", "label")


def unusable(labels: DataFrame, images: DataFrame, broken: DataFrame) -> DataFrame:
    """Labels of images that will never have an embedding or a score.

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
    """Ids of labelled images that cannot be used, told with examples; the labels stay in their table.

    Args:
        job: The command at work.
        labels: image_id of labelled images, as many as one process takes.
        command: Its name.
        category: Whose labels.
    """
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    found = unusable(labels, images, undecodable(images, quarantine, signals)).orderBy("image_id").collect()
    for why in sorted({row.why for row in found}):
        ids = [row.image_id for row in found if row.why == why]
        some = ", ".join(ids[:_EXAMPLES])
        job.progress.warn(f"{command}: {len(ids)} labels for {category} are of images {why} and do not count: {some}")
    return {row.image_id for row in found}


def report_contradictions(job: Job, labels: DataFrame, command: str, category: str) -> None:
    """Says how many images of a category have labels of both kinds, and which of them counts."""
    own = labels.where((F.col("category") == category) & F.col("label").isNotNull())
    both = resolved.resolved(own).where("contradicted").select("image_id").orderBy("image_id")
    count = both.count()
    if count:
        some = ", ".join(row.image_id for row in both.limit(_EXAMPLES).collect())
        job.progress.warn(
            f"{command}: {count} images have both labels for {category}, "
            f"the {job.settings.labels.contradictions} counts: {some}"
        )
