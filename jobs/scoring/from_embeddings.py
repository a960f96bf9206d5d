"""Scores by a head, from the embeddings that the decode pass stored."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.scoring.decode_pass import named
from jobs.scoring.gaps import CLASSIFY
from jobs.scoring.model_faults import detail
from models.inference.encoder import FAILED


def unclassified(features: DataFrame, tried: DataFrame) -> DataFrame:
    """Returns the features that a model has not tried to score: image_id, part, embedding.

    Args:
        features: image_id, part, embedding.
        tried: image_id of images that have a score by the model, or on which it failed.
    """
    every = features.select("image_id", "part", "embedding")
    # After `train`, no image has a score by the new model: then a join would only move all embeddings.
    return every if tried.isEmpty() else every.join(tried, "image_id", "left_anti")


def classified(features: DataFrame, category: str, model: str, result: Column) -> DataFrame:
    """Returns the results of a head.

    Args:
        features: image_id, part, embedding.
        category: Name of the category.
        model: Digest of its model.
        result: score, reason, detail, as `udfs.inference.classify.head_results` returns them.

    Returns:
        image_id, part, category, model, score (null if the head failed), reason, detail (null if it did not).
    """
    tried = features.select("image_id", "part", result.alias("result"))
    return tried.select("image_id", "part", F.lit(category).alias("category"), F.lit(model).alias("model"), "result.*")


def without_features(lost: DataFrame, tried: DataFrame, category: str, model: str) -> DataFrame:
    """Returns rows as `classified` does, for images on which the semantic encoder failed.

    Args:
        lost: image_id.
        tried: As for `unclassified`.
        category: Name of the category.
        model: Digest of its model.
    """
    return lost.join(tried, "image_id", "left_anti").select(
        "image_id",
        F.lit(None).cast("int").alias("part"),
        F.lit(category).alias("category"),
        F.lit(model).alias("model"),
        F.lit(None).cast("float").alias("score"),
        F.lit(FAILED).alias("reason"),
        F.lit("the head reads an embedding, and the image has none").alias("detail"),
    )


def head_failures(results: DataFrame, images: DataFrame) -> DataFrame:
    """Returns rows of the table quarantine for the results without a score.

    Args:
        results: image_id, category, model, score, reason, detail.
        images: image_id, source, key.
    """
    text = detail(F.col("category"), F.col("model"), F.col("detail")).alias("detail")
    failed = results.where(F.col("score").isNull())
    stage = F.lit(CLASSIFY).alias("stage")
    return named(failed.select("image_id", stage, "reason", text, "category", "model"), images)
