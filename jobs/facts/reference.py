"""The unfiltered reference: what weighing and auditing compare the kept images with."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from udfs.text.captions import caption_words

REFERENCE = (tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.FILTERED_DUPLICATES)
"""The tables that the unfiltered reference is made from."""


def read_reference(lake: Lake) -> DataFrame:
    """The unfiltered reference of a lake, as `reference_of` returns it."""
    return reference_of(*(lake.read(table) for table in REFERENCE))


def reference_of(
    images: DataFrame, verdicts: DataFrame, duplicates: DataFrame, filtered_duplicates: DataFrame
) -> DataFrame:
    """The unfiltered data, deduplicated, so that a picture which is there a hundred times counts once.

    Returns:
        image_id, caption, kept (whether it passed the filter).
    """
    gone = duplicates.select("removed_id").unionAll(filtered_duplicates.select("removed_id"))
    left = images.select("image_id", "caption").join(
        gone.withColumnRenamed("removed_id", "image_id"), "image_id", "left_anti"
    )
    judged = left.join(verdicts.select("image_id", "kept"), "image_id", "left")
    return judged.select("image_id", "caption", F.coalesce("kept", F.lit(True)).alias("kept"))


def with_words(reference: DataFrame) -> DataFrame:
    """image_id, kept, words (of the caption, each once)."""
    return reference.select("image_id", "kept", caption_words(F.col("caption")).alias("words"))
