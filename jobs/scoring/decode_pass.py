"""The decode pass: each image decoded once for its hashes, its embedding and the scores of image classifiers."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.scoring.gaps import STAGE
from udfs.inference.scoring import SCORED, Scoring


def finished(signals: DataFrame, scores: DataFrame, encoder_digest: str, digests: Mapping[str, str]) -> DataFrame:
    """Images that have a signal of the encoder and a score of every image classifier.

    Args:
        signals: Table signals.
        scores: Table scores.
        encoder_digest: The current encoder.
        digests: Digest of each category's image classifier.

    Returns:
        image_id.
    """
    done = signals.where(F.col("encoder") == encoder_digest).select("image_id")
    for category, model in digests.items():
        has = (F.col("category") == category) & (F.col("model") == model)
        done = done.join(scores.where(has).select("image_id"), "image_id", "left_semi")
    return done


def missing_by_part(images: DataFrame, done: DataFrame) -> DataFrame:
    """How many images of each part are scored and how many are not.

    Args:
        images: Table images.
        done: image_id.

    Returns:
        part, missing, done.
    """
    marked = images.select("image_id", "part").join(done.withColumn("is_done", F.lit(True)), "image_id", "left")
    is_done = F.col("is_done").isNotNull()
    return marked.groupBy("part").agg(F.count_if(~is_done).alias("missing"), F.count_if(is_done).alias("done"))


def scored(images: DataFrame, scoring: Scoring) -> DataFrame:
    """Images decoded, hashed, embedded and classified.

    Args:
        images: image_id, image.
        scoring: What to run.

    Returns:
        The columns of `udfs.inference.scoring.SCORED`.
    """
    return images.select("image_id", "image").mapInArrow(scoring, SCORED)


def failures(results: DataFrame, images: DataFrame) -> DataFrame:
    """A quarantine row for each image that could not be decoded after all."""
    failed = results.where(F.col("reason").isNotNull()).select("image_id", "reason", "detail")
    named = images.select("image_id", "source", "key").join(F.broadcast(failed), "image_id")
    return named.select("source", "key", F.lit(STAGE).alias("stage"), "reason", "detail", "image_id")


def outcome_counts() -> tuple[Column, Column]:
    """How many images of `scored` could be decoded and how many could not: columns good and bad."""
    return F.count_if(F.col("reason").isNull()).alias("good"), F.count("reason").alias("bad")
