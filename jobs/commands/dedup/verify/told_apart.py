"""A sample of the pairs whose thumbnails show different images, so that people can see what a look refuses.

The sample is the beginning of one random order of pairs, which is also the order in which people label them. So the
sample of a lake that grows is that of the earlier run, as far as it still holds, and the new pairs that come before its
end.
"""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.facts.pairs.sample import ENDS, place
from jobs.lake import tables

MOST = 2_000
"""Pairs that are stored. Of 2,000 labelled pairs without a copy, the share of copies is at most 0.2 %."""


@dataclass(frozen=True)
class ToldApart:
    """The pairs told apart of which both images are kept.

    Attributes:
        sample: Rows of the table told_apart.
        count: Number of all such pairs; an estimate if an earlier run did not store all of its pairs.
    """

    sample: DataFrame
    count: int


def without_removed(pairs: DataFrame, removed: DataFrame) -> DataFrame:
    """Returns the pairs of which neither image is removed.

    Args:
        pairs: a_id, b_id and further columns.
        removed: removed_id.
    """
    for end in ENDS:
        pairs = pairs.join(removed.select(F.col("removed_id").alias(end)), end, "left_anti")
    return pairs


def sampled(pairs: DataFrame, earlier: ToldApart | None, seed: int, most: int = MOST) -> ToldApart:
    """Draws the sample, and counts the pairs.

    Args:
        pairs: a_id, b_id, distance, mirrored, known: all pairs told apart by this run and, with `known`, those of the
            earlier sample that still hold.
        earlier: The sample of the earlier run; None without one.
        seed: Seed of the random order.
        most: Pairs to store.
    """
    own = place(seed)
    drawn = pairs
    before = earlier.sample.count() if earlier else 0
    all_stored = earlier is None or earlier.count <= before
    if earlier and not all_stored:
        last = earlier.sample.agg(F.max(own).alias("last")).collect()[0].last
        # Without any pair of the earlier sample, nothing is known about where it ended.
        drawn = pairs.where(own <= F.lit(last)) if last is not None else pairs
    columns = tables.TOLD_APART.schema.names
    rows = drawn.orderBy(own, *ENDS).limit(most).select(*columns, "known").collect()
    if all_stored and len(rows) < most:
        count = len(rows)
    else:
        fresh, held = pairs.agg(F.count_if(~F.col("known")), F.count_if("known")).collect()[0]
        # As many of the pairs that are not stored still hold as of those that are.
        count = fresh + (held if all_stored or earlier is None else round(earlier.count * held / max(before, 1)))
    sample = pairs.sparkSession.createDataFrame([row[:-1] for row in rows], tables.TOLD_APART.schema)
    return ToldApart(sample, count)
