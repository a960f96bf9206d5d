"""What people say of a random sample of pairs."""

from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.facts.pairs.sample import ENDS, other_files, place, sample_seed
from jobs.lake import tables
from jobs.lake.lake import Lake
from models.stats import thresholds

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SampleAnswers:
    """The answers to a random sample of pairs.

    Attributes:
        same: Pairs that people call the same image.
        different: Pairs that people call different images.
        unsure: Pairs that people are unsure of.
        waiting: Pairs that are queued and have no answer.
        undrawn: Pairs that a later `dedup` made, so that they were never drawn.
    """

    same: int
    different: int
    unsure: int
    waiting: int
    undrawn: int

    @property
    def sampled(self) -> int:
        """The number of pairs of the random sample."""
        return self.same + self.different + self.open

    @property
    def open(self) -> int:
        """The number of pairs of the random sample that may be either."""
        return self.unsure + self.waiting + self.undrawn

    @property
    def share_same(self) -> tuple[float, float, float]:
        """The share of all pairs that show the same image, with its exact interval; NaN without a firm answer.

        Each pair without a firm answer may be either: the low end counts none of them as the same, the high end all.
        """
        return thresholds.prevalence(self.same, self.different, self.open, CONFIDENCE)


def sample_answers(lake: Lake, pairs: DataFrame, strategy: str, answered: DataFrame) -> dict[str, int]:
    """Counts the answers to the random sample of pairs: the random order up to the last answered pair.

    Args:
        lake: With the table pair_queue; signals may be missing.
        pairs: a_id, b_id, distance: all pairs that can be drawn.
        strategy: The strategy that draws them.
        answered: a_id, b_id, answer.

    Returns:
        The attributes of `SampleAnswers`, by name.
    """
    queue = lake.read(tables.PAIR_QUEUE)
    own = place(sample_seed(queue, 0, strategy)).alias("place")
    drawn = queue.where(F.col("strategy") == strategy).select(*ENDS).distinct()
    last = pairs.join(F.broadcast(drawn.join(answered, ENDS)), ENDS).agg(F.max(own).alias("last")).collect()[0].last
    none = dict.fromkeys(("same", "different", "unsure", "waiting", "undrawn"), 0)
    if last is None:
        return none
    first = other_files(pairs.where(own <= F.lit(last)), lake.read(tables.SIGNALS))
    queued = queue.select(*ENDS, F.lit("waiting").alias("state")).distinct()
    state = F.coalesce("answer", "state", F.lit("undrawn")).alias("state")
    counts = first.join(answered, ENDS, "left").join(queued, ENDS, "left").groupBy(state).count().collect()
    return none | {row.state: row["count"] for row in counts}
