"""Scores by a head, from the embeddings that the decode pass stored."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def unclassified(features: DataFrame, scores: DataFrame, category: str, model: str) -> DataFrame:
    """Returns the features without a score by the current model of a category: image_id, embedding."""
    every = features.select("image_id", "embedding")
    has = scores.where((F.col("category") == category) & (F.col("model") == model)).select("image_id")
    # After `train`, no image has a score by the new model: then a join would only move all embeddings.
    return every if has.isEmpty() else every.join(has, "image_id", "left_anti")


def classified(features: DataFrame, category: str, model: str, score: Column) -> DataFrame:
    """Returns rows of the table scores: image_id, category, model, score."""
    return features.select(
        "image_id", F.lit(category).alias("category"), F.lit(model).alias("model"), score.alias("score")
    )
