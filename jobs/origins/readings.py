"""The readings of sources: which of them count, and each source counted once."""

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

_WAY = ("source", "format", "read_as")


def readings(sources: DataFrame) -> DataFrame:
    """Returns the readings of sources, and whether a source still holds what a reading found.

    Of the readings of one source in one way (`format`, `read_as`), those before the newest whole one no longer count.
    A reading that was not whole replaces none: what it lacks may only be unread.

    Args:
        sources: Table sources. Rows of earlier versions are not whole.

    Returns:
        source, run, is_current: a row for each reading.
    """
    newest = F.max(F.when(F.col("whole"), F.col("ingested_at"))).over(Window.partitionBy(*_WAY))
    is_current = newest.isNull() | (F.col("ingested_at") >= newest)
    return sources.select("source", "run", is_current.alias("is_current"))


def counted_once(sources: DataFrame, superseded: DataFrame) -> DataFrame:
    """Returns the counts of each source, however often it was read.

    An image that several readings of a source found counts in the reading that added it. So its repeats in later
    readings do not count, and of quarantined rows, only those of the newest reading do.

    Args:
        sources: Table sources.
        superseded: Table superseded.

    Returns:
        source, format, rows (of the newest reading), images (that the source added), repeats, quarantined,
        again: the repeats, and again_quarantined: the quarantined rows, that do not count.
    """
    order = Window.partitionBy("source").orderBy(F.desc("ingested_at"), "run")
    ranked = sources.withColumn("is_newest", F.row_number().over(order) == 1)
    gone = superseded.groupBy("source").agg(F.count("*").alias("gone"))
    names = ("images", "repeats", "quarantined")
    sums = [F.sum(name).alias(name) for name in names]
    last = [F.sum(F.when(F.col("is_newest"), F.col(name))).alias(f"last_{name}") for name in ("rows_read", *names)]
    each = ranked.groupBy("source").agg(F.max_by("format", "ingested_at").alias("format"), *sums, *last)
    each = each.join(gone, "source", "left")
    still_held = F.col("images") - F.col("last_images") - F.coalesce("gone", F.lit(0))
    repeats = F.greatest(F.col("last_repeats") - F.greatest(still_held, F.lit(0)), F.lit(0))
    return each.select(
        "source",
        "format",
        F.col("last_rows_read").alias("rows"),
        "images",
        repeats.alias("repeats"),
        F.col("last_quarantined").alias("quarantined"),
        (F.col("repeats") - repeats).alias("again"),
        (F.col("quarantined") - F.col("last_quarantined")).alias("again_quarantined"),
    )
