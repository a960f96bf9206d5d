"""Scores of a category's head, from embeddings that the decode pass stored."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F


def unclassified(signals: DataFrame, scores: DataFrame, category: str, model: str) -> DataFrame:
    """Signals without a score of a category's present model: image_id, embedding."""
    has = (F.col("category") == category) & (F.col("model") == model)
    return signals.select("image_id", "embedding").join(scores.where(has).select("image_id"), "image_id", "left_anti")


def classified(signals: DataFrame, category: str, model: str, score: Column) -> DataFrame:
    """Rows of the table scores: image_id, category, model, score."""
    return signals.select(
        "image_id", F.lit(category).alias("category"), F.lit(model).alias("model"), score.alias("score")
    )
