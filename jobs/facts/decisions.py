"""People's decisions on images: which one counts, how many there are, and the newest."""

from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake

KEEP, DROP, WITHDRAWN = "keep", "drop", "withdrawn"
DECISION = "decision"
"""The name of the reason of an image that a person drops, as that of a category or rule."""

_NEWEST = 24


@dataclass(frozen=True)
class Decisions:
    """The decisions that count.

    Attributes:
        kept: Number of images that people keep.
        dropped: Number of images that people drop.
        newest: The newest of these decisions: image_id, decision, decided_by, why, time (UTC, text).
    """

    kept: int
    dropped: int
    newest: tuple[Row, ...]


def standing(decisions: DataFrame) -> DataFrame:
    """Returns the decision that counts for each image: the newest, unless it withdraws the one before.

    At equal times, a withdrawal counts before a keep, and a keep before a drop: then nobody loses an image by chance.

    Args:
        decisions: Table decisions.

    Returns:
        image_id, decided_at, decision (keep or drop), decided_by, why: a row for each image with a decision.
    """
    # Structures compare field by field. The order of the words is that of the alphabet.
    row = F.max(F.struct("decided_at", "decision", "decided_by", "why")).alias("newest")
    newest = decisions.groupBy("image_id").agg(row).select("image_id", "newest.*")
    return newest.where(F.col("decision").isin(KEEP, DROP))


def decisions(lake: Lake) -> Decisions:
    """Returns how many images people keep and drop, and the newest decisions."""
    found = standing(lake.read(tables.DECISIONS))
    kept, dropped = (F.count_if(F.col("decision") == kind) for kind in (KEEP, DROP))
    row = found.agg(kept.alias("kept"), dropped.alias("dropped")).first()
    assert row is not None  # an aggregate of no rows is one row
    newest = found.orderBy(F.desc("decided_at"), "image_id").limit(_NEWEST)
    time = F.date_format("decided_at", "yyyy-MM-dd HH:mm").alias("time")
    shown = newest.select("image_id", "decision", "decided_by", "why", time).collect()
    return Decisions(row.kept, row.dropped, tuple(shown))
