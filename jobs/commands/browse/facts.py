"""The facts about each image that `browse` shows, collected from the tables of a lake."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import BinaryType

from jobs.facts.decisions import DECISION, DROP, KEEP, standing
from jobs.labels import random_sample, sets
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.pages.thumbnails import webp
from udfs.arrays.late import late

SIDE = 256
"""Longest side of the images on the page, in pixels."""

_QUALITY, _METHOD = 75, 2  # of WebP
_STEPS = 1_000_000_000
_CAPTION, _META = 2_000, 8_000  # characters

KEPT, FILTERED, DUPLICATE, UNDECIDED = "kept", "filtered", "duplicate", "undecided"

PENDING = "pending "
"""Before a decision that `filter` has not followed yet."""

WITHDRAW = "withdraw"

READ = (
    tables.IMAGES, tables.SIGNALS, tables.SCORES, tables.THRESHOLDS, tables.DECISIONS, tables.VERDICTS,
    tables.DUPLICATES, tables.WEIGHTS, tables.QUARANTINE, tables.PAIRS, tables.NEAR_MISSES, tables.DEDUP_DISTANCES,
    tables.FEATURES, tables.LABEL_QUEUE, tables.LABELS, tables.UNSURE,
)  # fmt: skip
"""The tables that the page shows."""


def shown(share: float, name: str = "image_id") -> Column:
    """Returns whether an image is in a sample, which depends on its image_id alone.

    Args:
        share: Share of the images in the sample, 0 to 1.
        name: Name of the column that holds the image_id.
    """
    return F.pmod(F.xxhash64(name), F.lit(_STEPS)) < round(share * _STEPS)


def image_facts(lake: Lake, encoder: str, share: float = 1.0) -> DataFrame:
    """Returns a row for each image.

    Args:
        lake: Tables that do not exist yet count as empty.
        encoder: Digest of the perceptual encoder whose signals are shown.
        share: Share of the images that are shown.

    Returns:
        image_id, key, source, caption (its start), width, height, format, meta (null if it is very long), state,
        reasons (joined by newlines), kept_id, distance (bits), weight, sharpness, noise, quality (of PDQ), colour,
        jpeg_quality, unframed, hash, decision, followed, why. `followed` is the decision that the last `filter`
        followed.
    """
    images = (
        lake.read(tables.IMAGES)
        .where(shown(share))
        .select(
            "image_id",
            "key",
            "source",
            F.substring("caption", 1, _CAPTION).alias("caption"),
            "width",
            "height",
            "format",
            F.when(F.length("meta") <= _META, F.col("meta")).alias("meta"),
        )
    )
    verdicts = lake.read(tables.VERDICTS).select(
        "image_id", "kept", F.array_join("reasons", "\n").alias("reasons"), "kept_because"
    )
    is_semantic = F.col("method") == tables.SEMANTIC
    similar = F.when(is_semantic, F.format_string("shows the same: similarity %.3f", "similarity"))
    distance = F.when(~is_semantic, F.col("distance"))
    repeats = lake.read(tables.DUPLICATES).select(
        F.col("removed_id").alias("image_id"), "kept_id", distance.alias("distance"), similar.alias("similar")
    )
    signals = lake.read(tables.SIGNALS).where(F.col("encoder") == encoder)
    measured = signals.select(
        "image_id", "sharpness", "noise", F.col("pdq_quality").alias("quality"), F.col("embedding_hash").alias("hash"),
        "colour", "jpeg_quality", "unframed",
    )  # fmt: skip
    decided = standing(lake.read(tables.DECISIONS)).select("image_id", "decision", "why")
    joined = images
    for frame in (verdicts, repeats, lake.read(tables.WEIGHTS).select("image_id", "weight"), measured, decided):
        joined = joined.join(frame, "image_id", "left")
    state = (
        F.when(F.col("kept").isNull(), UNDECIDED)
        .when(~F.col("kept"), FILTERED)
        .when(F.col("kept_id").isNotNull(), DUPLICATE)
        .otherwise(KEPT)
    )
    whole = joined.withColumns({"state": state, "reasons": F.coalesce("similar", "reasons")})
    # Verdicts of an earlier Winnow have no kept_because.
    as_decided = F.when(F.col("decision") == KEEP, F.col("state") == KEPT).otherwise(F.col("state") == FILTERED)
    dropped = F.startswith(F.col("reasons"), F.lit(f"{DECISION}: "))
    followed = (
        F.when(F.col("decision").isNotNull() & as_decided, F.col("decision"))
        .when(F.col("kept_because").isNotNull(), F.lit(KEEP))
        .when(dropped, F.lit(DROP))
    )
    stands, before = F.col("decision"), F.col("followed")
    decision = (
        F.when(stands.isNull(), F.when(before.isNotNull(), F.lit(f"{PENDING}{WITHDRAW}")))
        .when(stands == before, stands)
        .otherwise(F.concat(F.lit(PENDING), stands))
    )
    return whole.withColumn("followed", followed).select(
        "image_id", "key", "source", "caption", "width", "height", "format", "meta", "state", "reasons", "kept_id",
        "distance", "weight", "sharpness", "noise", "quality", "colour", "jpeg_quality", "unframed", "hash",
        decision.alias("decision"), "followed", "why",
    )  # fmt: skip


def scores(lake: Lake, models: Mapping[str, str], share: float = 1.0) -> DataFrame:
    """Returns the scores by the models in use: category, image_id, score.

    Args:
        lake: The lake.
        models: Digest of the model of each category.
        share: Share of the images that are shown.
    """
    rows = lake.read(tables.SCORES).where(shown(share))
    pairs = lake.spark.createDataFrame(list(models.items()), "category string, model string")
    return rows.join(F.broadcast(pairs), ["category", "model"]).select("category", "image_id", "score")


def queued(lake: Lake, share: float = 1.0) -> DataFrame:
    """Returns the images that are queued for labelling and have no answer yet: image_id, category."""
    rows = lake.read(tables.LABEL_QUEUE).where(shown(share)).select("image_id", "category").distinct()
    for answers in (tables.LABELS, tables.UNSURE):
        rows = rows.join(lake.read(answers).select("image_id", "category"), ["image_id", "category"], "left_anti")
    return rows


def random_labels(lake: Lake, models: Mapping[str, str], by: str) -> DataFrame:
    """Returns the labels of the random samples with their scores: category, score, label (null if answered unsure).

    Args:
        lake: The lake.
        models: Digest of the model of each category.
        by: Which of contradicting labels counts; see `resolved.resolved`.
    """
    labels, unsure, every = (lake.read(one) for one in (tables.LABELS, tables.UNSURE, tables.SCORES))
    found = lake.spark.createDataFrame([], "category string, score float, label boolean")
    for category, model in models.items():
        own = sets.random_labels(labels, category, by)
        both = own.unionByName(random_sample.unsettled(labels, unsure, category).withColumn("label", sets.no_label()))
        scored = every.where((F.col("category") == category) & (F.col("model") == model)).dropDuplicates(["image_id"])
        found = found.unionByName(both.join(scored, "image_id").select("category", "score", "label"))
    return found


def faults(lake: Lake) -> DataFrame:
    """Returns what could not be read: source, key, stage, reason, detail, image_id (null if it is no image)."""
    return lake.read(tables.QUARANTINE).select("source", "key", "stage", "reason", "detail", "image_id")


def thumbnails(lake: Lake, ids: DataFrame | None, share: float = 1.0) -> DataFrame:
    """Returns small images for the page: image_id, thumb (WebP; null if an image cannot be decoded).

    Args:
        lake: The lake.
        ids: image_id of those that are needed; None for all.
        share: Share of the images that are shown.
    """
    images = lake.read(tables.IMAGES).where(shown(share)).select("image_id", "image")
    if ids is not None:
        images = images.join(F.broadcast(ids), "image_id", "left_semi")
    return images.select("image_id", _small("image").alias("thumb"))


@late
def _small() -> Any:
    import pandas as pd

    @pandas_udf(BinaryType())
    def _small(image: pd.Series) -> pd.Series:
        return image.map(lambda data: webp(bytes(data), SIDE, _QUALITY, _METHOD))

    return _small
