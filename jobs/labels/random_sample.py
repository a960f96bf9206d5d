"""The random sample of a category: its unsure images, and whether it is a random sample of the current lake.

`label next --strategy random` draws from one fixed random order of all images. The answered images are a random sample
of the lake if they are the beginning of that order. So no image before the last answered one may be missing: neither an
image that was drawn and is not answered, nor an image that was ingested after the draw.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import random_order
from jobs.labels.unseen import unseen
from jobs.lake import tables


def unsettled(labels: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Returns the image_id, each once, of random images that were answered *unsure* and have no random label.

    Args:
        labels: Table labels.
        unsure: Table unsure.
        category: Name of the category.
    """
    unsure_images = unsure.where(_random(F.col("origin"), category)).select("image_id").distinct()
    return unsure_images.join(_labelled(labels, category), "image_id", "left_anti")


def drawn(queue: DataFrame, labels: DataFrame, unsure: DataFrame, category: str, seed: int) -> DataFrame:
    """Returns the images that were queued by the strategy `random`.

    Args:
        queue: Table label_queue.
        labels: Table labels.
        unsure: Table unsure.
        category: Name of the category.
        seed: Seed of the random order.

    Returns:
        image_id, turn (structure by which the queue is sorted), place long (in the random order), answered boolean (has
        a random label or an unsure answer), out_of_order boolean (queued after an image with a later place).
    """
    turn = F.min(F.struct("queued_at", "batch", F.col("place").alias("number"))).alias("turn")
    queued = queue.where(_random(F.col("strategy"), category)).groupBy("image_id").agg(turn)
    known = _labelled(labels, category).unionByName(unsettled(labels, unsure, category))
    before = F.lag("place").over(Window.partitionBy("turn.batch").orderBy("turn"))
    marked = queued.join(known.withColumn("known", F.lit(True)), "image_id", "left")
    return marked.select(
        "image_id",
        "turn",
        random_order.random_sample_place(seed).alias("place"),
        F.col("known").isNotNull().alias("answered"),
    ).withColumn("out_of_order", F.coalesce(before > F.col("place"), F.lit(False)))


def skipped(sample: DataFrame, by: str) -> DataFrame:
    """Returns drawn images that have no answer although a later image has one.

    Args:
        sample: Rows of `drawn`.
        by: Column of their order, `turn` or `place`.

    Returns:
        Rows of `sample`.
    """
    waiting = sample.where(~F.col("answered")).crossJoin(F.broadcast(_last(sample, by)))
    return waiting.where(F.col(by) < F.col("last")).drop("last")


def ingested_since(images: DataFrame, sample: DataFrame, seed: int) -> DataFrame:
    """Returns images before the last answered one in the random order; those never drawn were ingested later.

    Args:
        images: image_id of images that could be drawn now.
        sample: Rows of `drawn` with the same seed.
        seed: Seed of the random order.

    Returns:
        image_id, each once.
    """
    placed = images.select("image_id", random_order.random_sample_place(seed).alias("place")).crossJoin(
        F.broadcast(_last(sample, "place"))
    )
    return placed.where(F.col("place") < F.col("last")).select("image_id").distinct()


def gaps(job: Job, category: str, model: str) -> dict[str, str]:
    """Says why the answered images of a category's random sample are not a random sample of the lake.

    Args:
        job: The running command.
        category: Name of the category.
        model: Digest of its current model. The images with a score of this model are those that are filtered.

    Returns:
        A sentence for each problem, by its name; empty if the images are a random sample.
    """
    lake, seed = job.lake, job.settings.seed
    labels, queue, unsure, scores = (
        lake.read(t) for t in (tables.LABELS, tables.LABEL_QUEUE, tables.UNSURE, tables.SCORES)
    )
    sample = drawn(queue, labels, unsure, category, seed)
    answered, out_of_order = sample.agg(F.count_if("answered"), F.count_if("out_of_order")).collect()[0]
    problems: dict[str, str] = {}
    if not answered:
        return problems
    # With another seed, only the order of the queue is known, and nothing about images outside it.
    waiting = skipped(sample, "turn" if out_of_order else "place").count()
    if waiting:
        problems["random images passed over"] = (
            f"{waiting:,} have no label although later images have one; if hard images were skipped, the bound on "
            f"recall does not hold: label them with `winnow label serve {category}`"
        )
    if out_of_order:
        problems["another seed"] = (
            f"the random sample was not drawn with seed {seed}, so Winnow cannot check whether images came since then"
        )
        return problems
    own = scores.where((F.col("category") == category) & (F.col("model") == model))
    newer = unseen(ingested_since(own, sample, seed), labels, queue, unsure, category).count()
    if newer:
        problems["images that came since"] = (
            f"{newer:,} belong in the random sample, and the bound on recall does not cover such images: run `winnow "
            f"label next {category} --strategy random --count {newer}` and label them"
        )
    return problems


def _random(origin: Column, category: str) -> Column:
    return (F.col("category") == category) & (origin == "random")


def _labelled(labels: DataFrame, category: str) -> DataFrame:
    own = labels.where(_random(F.col("origin"), category) & F.col("label").isNotNull())
    return own.select("image_id").distinct()


def _last(sample: DataFrame, by: str) -> DataFrame:
    return sample.where("answered").agg(F.max(by).alias("last"))
