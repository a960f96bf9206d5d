"""The decode pass: decodes each image once for its hashes, embeddings and scores of image classifiers."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial, reduce

import pyarrow as pa
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.tables import QUARANTINE
from jobs.scoring import image_bytes
from jobs.scoring.gaps import HASH, STAGE
from udfs.inference.scoring import SCORED, Scoring

NO_PART = -1
"""The part of all images of a lake that Winnow 0.1.0 made without parts."""


def lacks(kind: str) -> str:
    """Returns the name of the column that says whether an image lacks a kind of result."""
    return f"lacks_{kind}"


def lacking(images: DataFrame, present: Mapping[str, DataFrame], skipped: DataFrame) -> DataFrame:
    """Returns which kinds of results each image lacks.

    Args:
        images: image_id, part.
        present: image_id of the images that have a kind of result, by the name of this kind.
        skipped: image_id of images that count as done.

    Returns:
        image_id, part, and the column `lacks(kind)` for each kind.
    """
    marked = images.select("image_id", "part")
    for kind, ids in present.items():
        marked = marked.join(_marked(ids, kind), "image_id", "left")
    marked = marked.join(_marked(skipped, "_skipped"), "image_id", "left")
    each = [(F.col(kind).isNull() & F.col("_skipped").isNull()).alias(lacks(kind)) for kind in present]
    return marked.select("image_id", "part", *each)


def lacks_any(kinds: Iterable[str]) -> Column:
    """Returns whether an image lacks one of these kinds of results."""
    return reduce(Column.__or__, (F.col(lacks(kind)) for kind in kinds))


def counted(lacking: DataFrame, kinds: Collection[str]) -> DataFrame:
    """Counts the images of each part.

    Args:
        lacking: From the function of this name.
        kinds: The kinds of results.

    Returns:
        part, images, missing (images that lack a result), and `lacks(kind)` (images that lack this kind). Only parts
        that lack a result.
    """
    each = [F.count_if(F.col(lacks(kind))).alias(lacks(kind)) for kind in kinds]
    missing = F.count_if(lacks_any(kinds)).alias("missing")
    return lacking.groupBy("part").agg(F.count("*").alias("images"), missing, *each).where("missing > 0")


def _marked(ids: DataFrame, name: str) -> DataFrame:
    return ids.select("image_id").distinct().withColumn(name, F.lit(True))


def scored(images: DataFrame, scoring: Scoring) -> DataFrame:
    """Decodes, hashes, embeds and classifies images.

    Args:
        images: image_id, part, image.
        scoring: The decode pass to run.

    Returns:
        The columns of `udfs.inference.scoring.SCORED`.
    """
    return images.select("image_id", "part", "image").mapInArrow(scoring, SCORED)


def scored_in_place(images: DataFrame, scoring: Scoring) -> DataFrame:
    """Does the same as `scored`, but the tasks read the bytes of images themselves.

    Args:
        images: Rows from `jobs.scoring.image_bytes.with_places`, for which `can_read` of that module is true.
        scoring: The decode pass to run.
    """
    located = images.select("image_id", "part", "file", "row")
    return located.mapInArrow(partial(_read_and_score, scoring), SCORED)


def _read_and_score(scoring: Scoring, located: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    return scoring(image_bytes.read(located))


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
