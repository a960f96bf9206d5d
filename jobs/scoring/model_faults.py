"""Images on which a model of the decode pass failed: their rows in the table quarantine."""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.scoring.decode_pass import named
from jobs.scoring.gaps import CLASSIFY, EMBED


def model_failures(
    results: DataFrame, images: DataFrame, classifiers: Sequence[tuple[str, str]], semantic: str | None
) -> DataFrame:
    """Returns a quarantine row for each image and model that failed on it, without the perceptual encoder.

    Args:
        results: What `decode_pass.scored` returns.
        images: image_id, source, key.
        classifiers: Category and digest of each classifier, in the order of the decode pass.
        semantic: Digest of the semantic encoder; None if there is none.
    """
    each = results.select("image_id", F.explode("faults").alias("fault"))
    category = _at_place([name for name, _ in classifiers])
    model = F.coalesce(_at_place([digest for _, digest in classifiers]), F.lit(semantic))
    failed = each.select(
        "image_id",
        F.when(category.isNull(), EMBED).otherwise(CLASSIFY).alias("stage"),
        F.col("fault.reason").alias("reason"),
        detail(category, model, F.col("fault.detail")).alias("detail"),
        category.alias("category"),
        model.alias("model"),
    )
    return named(failed, images)


def detail(category: Column, model: Column, found: Column) -> Column:
    """Returns the text for the column `detail`: category, digest of the model, and what was found."""
    return F.concat(F.coalesce(F.concat(category, F.lit(", model ")), F.lit("encoder ")), model, F.lit(": "), found)


def fresh(failed: DataFrame, quarantine: DataFrame) -> DataFrame:
    """Returns quarantine rows of models without those that the table has for the same image and model.

    An image that lacks the scores of one classifier is scored by all of them again.

    Args:
        failed: Rows of the table quarantine.
        quarantine: The table.
    """
    known = quarantine.select("stage", "image_id", "category", "model")
    pairs = [failed[name].eqNullSafe(known[name]) for name in known.columns]
    return failed.join(known, pairs, "left_anti")


def failed_counts(results: DataFrame) -> dict[int | None, int]:
    """Returns the number of images on which each classifier failed, by its place; None is the semantic encoder."""
    places = results.select(F.explode("faults.place").alias("place")).groupBy("place").count()
    return {row["place"]: row["count"] for row in places.collect()}


def _at_place(texts: Sequence[str]) -> Column:
    """Returns the text of the classifier at the fault's place; null for the semantic encoder."""
    return F.get(F.array(*map(F.lit, texts)).cast("array<string>"), F.col("fault.place"))
