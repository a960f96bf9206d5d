"""Images without scores: not scored yet, or not decodable."""

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

STAGE = "score"
"""The stage of `score` in the table quarantine."""

UNDECODABLE = "not decodable"
"""The name of the reason in the table verdicts of an image that cannot be decoded."""


def quarantined(quarantine: DataFrame) -> DataFrame:
    """Returns the images that `score` quarantined; delete their rows of the table quarantine to try them again.

    Args:
        quarantine: Table quarantine.

    Returns:
        image_id, reason.
    """
    return quarantine.where(F.col("stage") == STAGE).select("image_id", "reason")


def undecodable(images: DataFrame, quarantine: DataFrame, signals: DataFrame) -> DataFrame:
    """Returns the images that `score` could not decode: quarantined by it and without signals.

    Args:
        images: Table images.
        quarantine: Table quarantine.
        signals: Table signals.

    Returns:
        image_id, reason.
    """
    failed = quarantined(quarantine).groupBy("image_id").agg(F.min("reason").alias("reason"))
    in_lake = failed.join(images.select("image_id"), "image_id", "left_semi")
    return in_lake.join(signals.select("image_id"), "image_id", "left_anti")


def is_decodable() -> Column:
    """Returns whether no reason of a row of the table verdicts says that its image cannot be decoded."""
    return F.forall("reasons", lambda reason: ~reason.startswith(f"{UNDECODABLE}: "))


def unscored(images: DataFrame, broken: DataFrame, scores: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """Counts the images without a score by the current model of each category.

    Args:
        images: Table images.
        broken: image_id of images that cannot be scored.
        scores: Table scores.
        models: Digest of the current model of each category.

    Returns:
        category, missing: only categories with missing scores.
    """
    spark = images.sparkSession
    current = spark.createDataFrame(list(models.items()), "category string, model string")
    expected = images.select("image_id").join(broken, "image_id", "left_anti").crossJoin(F.broadcast(current))
    done = scores.where(F.col("score").isNotNull()).select("image_id", "category", "model")
    absent = expected.join(done, ["image_id", "category", "model"], "left_anti")
    return absent.groupBy("category").agg(F.count("*").alias("missing"))
