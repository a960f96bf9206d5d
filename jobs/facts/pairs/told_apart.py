"""What people say of pairs whose thumbnails show different images: how many copies `dedup` does not find by them."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.decisions import DROP, standing
from jobs.facts.pairs.sample import ENDS, SAME, TOLD_APART
from jobs.facts.pairs.sample_answers import SampleAnswers, sample_answers
from jobs.lake import tables
from jobs.lake.lake import Lake

_SHOWN = 12


@dataclass(frozen=True)
class ToldApart(SampleAnswers):
    """The pairs whose thumbnails show different images and of which both images are kept, and their random sample.

    Attributes:
        count: Number of all such pairs, with those of which people dropped an image since they were drawn.
        dropped: Pairs of the random sample that people call the same and of which they dropped an image.
        copies: a_id, b_id, distance of pairs that people call the same image, both kept; nearest first.
    """

    count: int
    dropped: int
    copies: tuple[Row, ...]

    @property
    def stayed(self) -> tuple[float, float, float]:
        """The estimated number of pairs of copies that stay, with its interval; NaN without a firm answer."""
        share, low, high = (self.count * one - self.dropped for one in self.share_same)
        return (share if share != share else max(share, 0.0)), max(low, 0.0), max(high, 0.0)


def drawable(lake: Lake) -> DataFrame:
    """Returns the pairs told apart that people can label, or labelled before they dropped an image of the pair.

    A pair that leaves the table because people dropped one of its images still belongs to the sample: if it did not,
    the share of copies would fall to 0 once people dropped those that they found.

    Returns:
        a_id, b_id, distance, stored (whether the pair is in the table told_apart), dropped (whether people drop one of
        its images).
    """
    stored = lake.read(tables.TOLD_APART).select(*ENDS, "distance", F.lit(True).alias("stored"))
    queue = lake.read(tables.PAIR_QUEUE).where(F.col("strategy") == TOLD_APART)
    queued = queue.groupBy(*ENDS).agg(F.max("distance").alias("distance")).join(stored, ENDS, "left_anti")
    pairs = stored.unionByName(queued.withColumn("stored", F.lit(False)))
    # Both are few: at most 2,000 pairs, and those that people labelled.
    ids = F.broadcast(pairs.select(F.explode(F.array(*ENDS)).alias("image_id")).distinct())
    lost = standing(lake.read(tables.DECISIONS).join(ids, "image_id", "left_semi")).where(F.col("decision") == DROP)
    for end in ENDS:
        is_lost = lost.select(F.col("image_id").alias(end), F.lit(True).alias(f"lost_{end}"))
        pairs = pairs.join(is_lost, end, "left")
    dropped = (F.col("lost_a_id").isNotNull() | F.col("lost_b_id").isNotNull()).alias("dropped")
    return pairs.select(*ENDS, "distance", "stored", dropped).where(F.col("stored") | F.col("dropped"))


def told_apart(lake: Lake, count: int | None, answered: DataFrame) -> ToldApart | None:
    """Returns what people say of pairs told apart.

    Args:
        lake: The table told_apart may be missing, as in lakes of an earlier version.
        count: `dedup_quality.told_apart_kept`.
        answered: a_id, b_id, answer: all labelled pairs.

    Returns:
        The answers; None if no such pair is stored.
    """
    if not count:
        return None
    pairs = drawable(lake)
    gone = pairs.where("not stored").count()
    found = pairs.join(F.broadcast(answered.where(F.col("answer") == SAME)), ENDS)
    sampled = sample_answers(lake, pairs.select(*ENDS, "distance"), TOLD_APART, answered)
    copies = found.where("not dropped").orderBy("distance", *ENDS).limit(_SHOWN)
    return ToldApart(
        **sampled,
        count=count + gone,
        dropped=found.where("dropped").count(),
        copies=tuple(copies.select(*ENDS, "distance").collect()),
    )
