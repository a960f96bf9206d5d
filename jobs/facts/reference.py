"""The unfiltered reference, with which `weigh` and `audit` compare the kept images."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.origins.superseded import is_superseded
from udfs.text.captions import caption_words

REFERENCE = (tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES)
"""The tables behind the unfiltered reference."""


def read_reference(lake: Lake) -> DataFrame:
    """Returns the unfiltered reference of a lake, as `reference_of` does."""
    return reference_of(*(lake.read(table) for table in REFERENCE))


def reference_of(
    images: DataFrame, verdicts: DataFrame, duplicates: DataFrame, filtered_duplicates: DataFrame
) -> DataFrame:
    """Returns the unfiltered data without duplicates and superseded images: an image with a hundred copies counts once.

    Returns:
        image_id, caption, kept (whether it passed the filter).
    """
    removed = duplicates.select("removed_id").unionAll(filtered_duplicates.select("removed_id"))
    left = images.select("image_id", "caption").join(
        removed.withColumnRenamed("removed_id", "image_id"), "image_id", "left_anti"
    )
    judged = left.join(verdicts.select("image_id", "kept", is_superseded().alias("gone")), "image_id", "left")
    held = judged.where(~F.coalesce("gone", F.lit(False)))
    return held.select("image_id", "caption", F.coalesce("kept", F.lit(True)).alias("kept"))


def with_words(reference: DataFrame) -> DataFrame:
    """Returns image_id, kept, words (the distinct words of the caption)."""
    return reference.select("image_id", "kept", caption_words(F.col("caption")).alias("words"))
