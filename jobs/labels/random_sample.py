"""The random sample of a category: what nobody could label of it, and whether it is one of the lake as it is now.

`label next --strategy random` draws from one fixed random order of all images. What was answered is a random sample of
the lake if it is a beginning of that order: nothing before its last image may be left out, neither one that was drawn
and waits, nor one that was not there when it was drawn.
"""

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import random_order
from jobs.labels.unseen import unseen
from jobs.lake import tables


def unsettled(labels: DataFrame, unsure: DataFrame, category: str) -> DataFrame:
    """Images drawn at random that somebody was unsure of and that have no random label: image_id, each once.

    Args:
        labels: Table labels.
        unsure: Table unsure.
        category: Whose.
    """
    asked = unsure.where(_random(F.col("origin"), category)).select("image_id").distinct()
    return asked.join(_labelled(labels, category), "image_id", "left_anti")


def drawn(queue: DataFrame, labels: DataFrame, unsure: DataFrame, category: str, seed: int) -> DataFrame:
    """The images that were queued at random.

    Args:
        queue: Table label_queue.
        labels: Table labels.
        unsure: Table unsure.
        category: Whose.
        seed: Of the random order.

    Returns:
        image_id, turn (structure by which the queue is sorted), place long (in the random order), answered boolean (by
        a random label or as unsure), out_of_order boolean (queued after an image of a later place in the random order).
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
    """Drawn images that wait for an answer though one that comes after them has got it.

    Args:
        sample: As `drawn` gives it.
        by: What they come after each other by, `turn` or `place`.

    Returns:
        Rows of `sample`.
    """
    waiting = sample.where(~F.col("answered")).crossJoin(F.broadcast(_last(sample, by)))
    return waiting.where(F.col(by) < F.col("last")).drop("last")


def ingested_since(images: DataFrame, sample: DataFrame, seed: int) -> DataFrame:
    """Images that come before the last answered one in the random order: were they not drawn, they were not there.

    Args:
        images: image_id of images that could be drawn now.
        sample: As `drawn` gives it, drawn with that seed.
        seed: Of the random order.

    Returns:
        image_id, each once.
    """
    placed = images.select("image_id", random_order.random_sample_place(seed).alias("place")).crossJoin(
        F.broadcast(_last(sample, "place"))
    )
    return placed.where(F.col("place") < F.col("last")).select("image_id").distinct()


def gaps(job: Job, category: str, model: str) -> dict[str, str]:
    """Why what was answered of a category's random sample is no random sample of the lake.

    Args:
        job: The command at work.
        category: Whose.
        model: Digest of its present model: what it has scored is what is filtered.

    Returns:
        By what is amiss a sentence on it; nothing where it is a random sample.
    """
    lake, seed = job.lake, job.settings.seed
    labels, queue, unsure, scores = (
        lake.read(t) for t in (tables.LABELS, tables.LABEL_QUEUE, tables.UNSURE, tables.SCORES)
    )
    sample = drawn(queue, labels, unsure, category, seed)
    answered, out_of_order = sample.agg(F.count_if("answered"), F.count_if("out_of_order")).collect()[0]
    found: dict[str, str] = {}
    if not answered:
        return found
    # By another seed the queue alone tells an order, and nothing of images that are not in it.
    waiting = skipped(sample, "turn" if out_of_order else "place").count()
    if waiting:
        found["random images passed over"] = (
            f"{waiting:,} wait for a label among those that have one; if what is hard was skipped, the bound on recall "
            "does not hold: label them"
        )
    if out_of_order:
        found["another seed"] = (
            f"the random sample was drawn by another than {seed}, so whether images came since cannot be told"
        )
        return found
    own = scores.where((F.col("category") == category) & (F.col("model") == model))
    newer = unseen(ingested_since(own, sample, seed), labels, queue, unsure, category).count()
    if newer:
        found["images that came since"] = (
            f"{newer:,} would be in the random sample, and the bound on recall does not speak of such: `winnow label "
            f"next {category} --strategy random --count {newer}` draws them"
        )
    return found


def _random(how: Column, category: str) -> Column:
    return (F.col("category") == category) & (how == "random")


def _labelled(labels: DataFrame, category: str) -> DataFrame:
    own = labels.where(_random(F.col("origin"), category) & F.col("label").isNotNull())
    return own.select("image_id").distinct()


def _last(sample: DataFrame, by: str) -> DataFrame:
    return sample.where("answered").agg(F.max(by).alias("last"))
