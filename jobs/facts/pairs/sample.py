"""The pairs that people can label: each removed image with the kept one, in a fixed random order.

`label next duplicates` draws from the beginning of this order, so all pairs up to the last answered one are a random
sample of the removed images whose files differ from the kept ones'. Pairs near the threshold do not extend the sample.
Pairs that thumbnails told apart have the same order, and a random sample of their own.
"""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.lake.tables import SEMANTIC

SAME, DIFFERENT, UNSURE = "same", "different", "unsure"
"""Values of `pair_labels.answer`."""

RANDOM, THRESHOLD, TOLD_APART = "random", "threshold", "told-apart"
"""Values of `pair_queue.strategy`."""

ENDS = ["a_id", "b_id"]


def removals(duplicates: DataFrame) -> DataFrame:
    """Returns each image removed as a copy with the kept one, as a pair. Semantic duplicates are no copies.

    Args:
        duplicates: Table duplicates.

    Returns:
        a_id, b_id (a_id < b_id), distance, removed_id, kept_id.
    """
    ends = F.least("removed_id", "kept_id").alias("a_id"), F.greatest("removed_id", "kept_id").alias("b_id")
    copies = duplicates.where(F.col("method") != SEMANTIC)
    return copies.select(*ends, "distance", "removed_id", "kept_id")


def place(seed: int) -> Column:
    """Returns the place of a pair (a_id, b_id) in the random order of pairs, long."""
    return F.xxhash64(F.lit(f"{seed} pairs"), "a_id", "b_id")


def sample_seed(queue: DataFrame, seed: int, strategy: str = RANDOM) -> int:
    """Returns the seed of the random order: that of the first draw, so that later draws continue the same sample.

    Args:
        queue: Table pair_queue.
        seed: The seed of the settings, which counts if nothing was drawn.
        strategy: The strategy that draws from the order.
    """
    first = queue.where(F.col("strategy") == strategy).agg(F.min_by("seed", "queued_at").alias("seed")).collect()
    return first[0].seed if first[0].seed is not None else seed


def other_files(pairs: DataFrame, signals: DataFrame) -> DataFrame:
    """Returns the pairs whose two files differ. That two equal files show the same image needs no label.

    Args:
        pairs: a_id, b_id, distance and further columns.
        signals: Table signals.
    """
    equal = pairs.where("distance = 0").select(*ENDS)
    for end in ENDS:
        content = signals.select(F.col("image_id").alias(end), F.col("content").alias(f"content_{end}"))
        equal = equal.join(content, end)
    return pairs.join(equal.where("content_a_id = content_b_id").select(*ENDS), ENDS, "left_anti")
