"""Which images scoring has not got to, and which it had to give up."""

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

STAGE = "score"
"""What the table quarantine calls scoring."""


def quarantined(quarantine: DataFrame) -> DataFrame:
    """Images that could not be decoded before; to try them again, delete their rows of the table quarantine.

    Args:
        quarantine: Table quarantine.

    Returns:
        image_id, reason.
    """
    return quarantine.where(F.col("stage") == STAGE).select("image_id", "reason")


def undecodable(images: DataFrame, quarantine: DataFrame, signals: DataFrame) -> DataFrame:
    """Images that scoring could not decode: quarantined by it, and without signals.

    Args:
        images: Table images.
        quarantine: Table quarantine.
        signals: Table signals.

    Returns:
        image_id, reason.
    """
    failed = quarantined(quarantine).groupBy("image_id").agg(F.min("reason").alias("reason"))
    there = failed.join(images.select("image_id"), "image_id", "left_semi")
    return there.join(signals.select("image_id"), "image_id", "left_anti")


def unscored(images: DataFrame, broken: DataFrame, scores: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """How many images lack the score of a category's present model.

    Args:
        images: Table images.
        broken: image_id of images that cannot be scored.
        scores: Table scores.
        models: Digest of each category's present model.

    Returns:
        category, missing: only categories that miss some.
    """
    spark = images.sparkSession
    present = spark.createDataFrame(list(models.items()), "category string, model string")
    wanted = images.select("image_id").join(broken, "image_id", "left_anti").crossJoin(F.broadcast(present))
    done = scores.where(F.col("score").isNotNull()).select("image_id", "category", "model")
    absent = wanted.join(done, ["image_id", "category", "model"], "left_anti")
    return absent.groupBy("category").agg(F.count("*").alias("missing"))
