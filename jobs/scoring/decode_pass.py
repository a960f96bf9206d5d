"""The decode pass: decodes each image once for its hashes, embeddings and scores of image classifiers."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.tables import QUARANTINE
from jobs.scoring.gaps import HASH, STAGE
from udfs.inference.scoring import SCORED, Scoring


def missing_by_part(images: DataFrame, present: Mapping[str, DataFrame], skipped: DataFrame) -> DataFrame:
    """Counts the images of each part that lack results.

    Args:
        images: Table images.
        present: image_id of the images that have a kind of result, by the name of this kind.
        skipped: image_id of images that count as done.

    Returns:
        part, missing (images that lack a result), done (the others), and for each kind the images that lack it.
    """
    marked = images.select("image_id", "part")
    for name, ids in present.items():
        marked = marked.join(_marked(ids, name), "image_id", "left")
    marked = marked.join(_marked(skipped, "_skipped"), "image_id", "left")
    lacks = {name: F.col(name).isNull() & F.col("_skipped").isNull() for name in present}
    missing = reduce(Column.__or__, lacks.values())
    each = [F.count_if(lack).alias(name) for name, lack in lacks.items()]
    return marked.groupBy("part").agg(F.count_if(missing).alias("missing"), F.count_if(~missing).alias("done"), *each)


def todo(images: DataFrame, present: Mapping[str, DataFrame], skipped: DataFrame) -> DataFrame:
    """Returns the images of one part that lack a kind of result.

    Args:
        images: Rows of the table images of one part.
        present: image_id of the images that have a kind of result, by the name of this kind.
        skipped: image_id of images that count as done.
    """
    own = images.select("image_id")
    lacking = [own.join(ids, "image_id", "left_anti") for ids in present.values()]
    ids = reduce(DataFrame.unionByName, lacking).distinct().join(skipped, "image_id", "left_anti")
    # The ids of one part at most are broadcast, so memory does not grow with the lake.
    return images.join(F.broadcast(ids), "image_id", "left_semi")


def _marked(ids: DataFrame, name: str) -> DataFrame:
    return ids.select("image_id").distinct().withColumn(name, F.lit(True))


def scored(images: DataFrame, scoring: Scoring) -> DataFrame:
    """Decodes, hashes, embeds and classifies images.

    Args:
        images: image_id, image.
        scoring: The decode pass to run.

    Returns:
        The columns of `udfs.inference.scoring.SCORED`.
    """
    return images.select("image_id", "image").mapInArrow(scoring, SCORED)


def failures(results: DataFrame, images: DataFrame) -> DataFrame:
    """Returns a quarantine row for each image that the decode pass could not decode, or the encoder could not hash."""
    stage = F.when(F.col("encoder").isNull(), STAGE).otherwise(HASH).alias("stage")
    category = F.lit(None).cast("string").alias("category")
    failed = results.where(F.col("reason").isNotNull()).select(
        "image_id", stage, "reason", "detail", category, F.col("encoder").alias("model")
    )
    return named(failed, images)


def named(failed: DataFrame, images: DataFrame) -> DataFrame:
    """Returns rows of the table quarantine.

    Args:
        failed: image_id, stage, reason, detail, category, model: few rows.
        images: image_id, source, key.
    """
    of_image = images.select("image_id", "source", "key").join(F.broadcast(failed), "image_id")
    return of_image.select(*QUARANTINE.schema.names)


def outcome_counts() -> tuple[Column, Column, Column]:
    """Returns aggregates that count rows of `scored`.

    Returns:
        good: images with results; bad: images that cannot be decoded or hashed; faulty: good images on which another
        model failed.
    """
    faulty = F.count("faults").alias("faulty")
    return F.count_if(F.col("reason").isNull()).alias("good"), F.count("reason").alias("bad"), faulty
