"""The decode pass: decodes each image once for its hashes, embedding and scores of image classifiers."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.scoring.gaps import STAGE
from udfs.inference.scoring import SCORED, Scoring


def finished(signals: DataFrame, scores: DataFrame, encoder_digest: str, digests: Mapping[str, str]) -> DataFrame:
    """Returns the images that have signals of the encoder and a score of every image classifier.

    Args:
        signals: Table signals.
        scores: Table scores.
        encoder_digest: Digest of the current encoder.
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
    """Counts the images of each part with and without scores.

    Args:
        images: Table images.
        done: image_id of each image that needs no scoring.

    Returns:
        part, missing, done.
    """
    marked = images.select("image_id", "part").join(done.withColumn("is_done", F.lit(True)), "image_id", "left")
    is_done = F.col("is_done").isNotNull()
    return marked.groupBy("part").agg(F.count_if(~is_done).alias("missing"), F.count_if(is_done).alias("done"))


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
    """Returns a quarantine row for each image that the decode pass could not decode."""
    failed = results.where(F.col("reason").isNotNull()).select("image_id", "reason", "detail")
    named = images.select("image_id", "source", "key").join(F.broadcast(failed), "image_id")
    return named.select("source", "key", F.lit(STAGE).alias("stage"), "reason", "detail", "image_id")


def outcome_counts() -> tuple[Column, Column]:
    """Returns aggregates that count the decodable and the undecodable images of `scored`: columns good and bad."""
    return F.count_if(F.col("reason").isNull()).alias("good"), F.count("reason").alias("bad")
