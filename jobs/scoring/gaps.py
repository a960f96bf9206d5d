"""Images without scores: not scored yet, not decodable, or a model failed on them."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

STAGE, HASH, EMBED, CLASSIFY = "score", "hash", "embed", "classify"
"""The stages of `score` in the table quarantine: the decode, the perceptual encoder, the semantic one, a classifier."""

UNDECODABLE, NO_SCORE = "not decodable", "no score"
"""Names of reasons in the table verdicts: an image that cannot be decoded or hashed, or that a classifier failed on."""


def quarantined(quarantine: DataFrame, encoder: str | None = None) -> DataFrame:
    """Returns the images that `score` does not try again; delete their rows of the table quarantine to try them again.

    Args:
        quarantine: Table quarantine.
        encoder: Digest of the perceptual encoder. Images on which it failed count too; with another one they do not.

    Returns:
        image_id, reason.
    """
    unhashed = (F.col("stage") == HASH) & (F.col("model") == encoder)
    return quarantine.where((F.col("stage") == STAGE) | unhashed).select("image_id", "reason")


def unembedded(quarantine: DataFrame, encoder: str) -> DataFrame:
    """Returns image_id of the images on which a semantic encoder failed.

    Args:
        quarantine: Table quarantine.
        encoder: Its digest.
    """
    return quarantine.where((F.col("stage") == EMBED) & (F.col("model") == encoder)).select("image_id")


def unclassifiable(quarantine: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """Returns the images for which the current models have no score, because they failed on them.

    Args:
        quarantine: Table quarantine.
        models: Digest of the current model of each category.

    Returns:
        image_id, category, model, reason: one row for each image and category.
    """
    key = ["image_id", "category", "model"]
    current = [(F.col("category") == category) & (F.col("model") == model) for category, model in models.items()]
    own = quarantine.where((F.col("stage") == CLASSIFY) & reduce(Column.__or__, current, F.lit(False)))
    return own.groupBy(*key).agg(F.min("reason").alias("reason"))


def undecodable(images: DataFrame, quarantine: DataFrame, signals: DataFrame) -> DataFrame:
    """Returns the images that `score` could not decode or hash: quarantined by it and without signals.

    Args:
        images: Table images.
        quarantine: Table quarantine.
        signals: Table signals.

    Returns:
        image_id, reason.
    """
    failed = quarantine.where(F.col("stage").isin(STAGE, HASH)).groupBy("image_id")
    named = failed.agg(F.min("reason").alias("reason"))
    in_lake = named.join(images.select("image_id"), "image_id", "left_semi")
    return in_lake.join(signals.select("image_id"), "image_id", "left_anti")


def is_decodable() -> Column:
    """Returns whether no reason of a row of the table verdicts says that its image cannot be decoded."""
    return F.forall("reasons", lambda reason: ~reason.startswith(f"{UNDECODABLE}: "))


def without_score(quarantine: DataFrame, scores: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """Returns the images that `filter` removes because a classifier failed on them.

    Args:
        quarantine: Table quarantine.
        scores: Table scores. An image that has a score by the model after all is not among them.
        models: Digest of the current model of each category.

    Returns:
        image_id, why: a row for each image and category.
    """
    key = ["image_id", "category", "model"]
    failed = unclassifiable(quarantine, models).join(scores.select(*key), key, "left_anti")
    return failed.select("image_id", F.format_string(f"{NO_SCORE}: %s, %s", "category", "reason").alias("why"))


def unscored(
    images: DataFrame, broken: DataFrame, failed: DataFrame, scores: DataFrame, models: Mapping[str, str]
) -> DataFrame:
    """Counts the images without a score by the current model of each category that `score` has not tried.

    Args:
        images: Table images.
        broken: image_id of images that cannot be scored.
        failed: image_id, category, model: what `score` has tried in vain.
        scores: Table scores.
        models: Digest of the current model of each category.

    Returns:
        category, missing: only categories with missing scores.
    """
    spark = images.sparkSession
    current = spark.createDataFrame(list(models.items()), "category string, model string")
    expected = images.select("image_id").join(broken, "image_id", "left_anti").crossJoin(F.broadcast(current))
    done = scores.where(F.col("score").isNotNull()).select("image_id", "category", "model")
    tried = done.unionByName(failed.select("image_id", "category", "model"))
    absent = expected.join(tried, ["image_id", "category", "model"], "left_anti")
    return absent.groupBy("category").agg(F.count("*").alias("missing"))
