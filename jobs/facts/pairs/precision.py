"""What people say of pairs: the share of removed images that are copies of the kept one, in all and by distance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.pairs.sample import DIFFERENT, ENDS, RANDOM, SAME, UNSURE, other_files, place, removals, sample_seed
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings
from models.stats import thresholds

CONFIDENCE = 0.95
_BIN = 8  # bits; the standard deviation of the distance of two random hashes
_SHOWN = 12


@dataclass(frozen=True)
class PairShare:
    """The answers to pairs at some distances.

    Attributes:
        low: Smallest distance, in bits.
        high: Largest distance, in bits.
        same: Pairs that people call the same image.
        different: Pairs that people call different images.
        unsure: Pairs that people are unsure of.
    """

    low: int
    high: int
    same: int
    different: int
    unsure: int

    @property
    def firm(self) -> int:
        """The number of pairs with a firm answer."""
        return self.same + self.different

    @property
    def measured(self) -> tuple[float, float, float]:
        """The share of the same image with its exact interval; NaN without a firm answer."""
        return thresholds.prevalence(self.same, self.different, self.unsure, CONFIDENCE)


@dataclass(frozen=True)
class PairLabels:
    """What people say of pairs.

    Attributes:
        same: Pairs of the random sample that people call the same image.
        different: Pairs of the random sample that people call different images.
        unsure: Pairs of the random sample that people are unsure of.
        waiting: Pairs of the random sample that are queued and have no answer.
        undrawn: Pairs of the random sample that a later `dedup` made, so that they were never drawn.
        shares: The answers by distance, near pairs first, with those to pairs near the threshold.
        unpaired: Labelled pairs that the last run of `dedup` did not pair, and that count nowhere.
        wrong: removed_id, kept_id, distance of removed images that people call different from the kept one.
    """

    same: int
    different: int
    unsure: int
    waiting: int
    undrawn: int
    shares: tuple[PairShare, ...]
    unpaired: int
    wrong: tuple[Row, ...]

    @property
    def sampled(self) -> int:
        """The number of pairs of the random sample."""
        return self.same + self.different + self.open

    @property
    def open(self) -> int:
        """The number of pairs of the random sample that may be either."""
        return self.unsure + self.waiting + self.undrawn

    @property
    def precision(self) -> tuple[float, float, float]:
        """The share of removed images that are copies, with its exact interval; NaN without a firm answer.

        Each pair without a firm answer may be either: the low end counts none of them as copies, the high end all.
        """
        return thresholds.prevalence(self.same, self.different, self.open, CONFIDENCE)


def pair_labels(lake: Lake, settings: Settings, max_distance: int) -> PairLabels:
    """Returns what people say of pairs of the last run of `dedup`.

    Only the random sample measures the precision; the shares by distance also count pairs near the threshold.

    Args:
        lake: With the tables duplicates and pair_queue; others may be missing.
        settings: Which of several answers counts.
        max_distance: Largest distance of a pair, in bits of 256.
    """
    removed, queue = removals(lake.read(tables.DUPLICATES)), lake.read(tables.PAIR_QUEUE)
    answered = answers(lake.read(tables.PAIR_LABELS), settings.labels.contradictions)
    pairs = removed.select(*ENDS, "distance").unionByName(lake.read(tables.NEAR_MISSES).select(*ENDS, "distance"))
    # People label few pairs: their ids are moved, and not all pairs.
    known = pairs.join(F.broadcast(answered.select(*ENDS)), ENDS, "left_semi")
    counts = answered.join(known, ENDS, "left").groupBy("distance", "answer").count().collect()
    sample = _sample(lake, removed, queue, answered)
    wrong = removed.join(F.broadcast(answered.where(F.col("answer") == DIFFERENT)), ENDS)
    return PairLabels(
        **sample,
        shares=shares(((r.distance, r.answer, r["count"]) for r in counts if r.distance is not None), max_distance),
        unpaired=sum(row["count"] for row in counts if row.distance is None),
        wrong=tuple(
            wrong.select("removed_id", "kept_id", "distance").orderBy("distance", "removed_id").limit(_SHOWN).collect()
        ),
    )


def answers(labels: DataFrame, by: str) -> DataFrame:
    """Returns one answer for each labelled pair: unsure only if nobody gives a firm answer.

    Args:
        labels: Table pair_labels.
        by: `newest`, or `majority`: each person's newest answer is one vote, and the newest answer decides a tie.

    Returns:
        a_id, b_id, answer.
    """
    # Structures compare field by field.
    vote = F.max(F.struct("labelled_at", "answer")).alias("vote")
    votes = labels.groupBy(*ENDS, "annotator").agg(vote).select(*ENDS, "vote.labelled_at", "vote.answer")
    firm = F.col("answer") != UNSURE
    newest = F.max(F.when(firm, F.struct("labelled_at", "answer")))["answer"]
    lead = F.count_if(F.col("answer") == SAME) - F.count_if(F.col("answer") == DIFFERENT)
    majority = F.when(lead > 0, SAME).when(lead < 0, DIFFERENT).otherwise(newest)
    chosen = F.coalesce(majority if by == "majority" else newest, F.lit(UNSURE))
    return votes.groupBy(*ENDS).agg(chosen.alias("answer"))


def shares(counts: Iterable[tuple[int, str, int]], max_distance: int) -> tuple[PairShare, ...]:
    """Returns the answers in steps of eight bits, of which one ends at the largest distance of a pair.

    Args:
        counts: Distance in bits, answer, number of pairs.
        max_distance: Largest distance of a pair, in bits.

    Examples:
        >>> [(s.low, s.high, s.same, s.different) for s in shares([(3, "same", 2), (20, "different", 1)], 19)]
        [(0, 3, 2, 0), (20, 27, 0, 1)]
    """
    bins: dict[int, dict[str, int]] = {}
    for distance, answer, count in counts:
        # Rounded down, so that the first step above the largest distance is -1.
        of_step = bins.setdefault((max_distance - distance) // _BIN, {})
        of_step[answer] = of_step.get(answer, 0) + count
    return tuple(
        PairShare(max(0, max_distance - _BIN * step - _BIN + 1), max_distance - _BIN * step, *_counted(found))
        for step, found in sorted(bins.items(), reverse=True)
    )


def _counted(found: dict[str, int]) -> Sequence[int]:
    return [found.get(answer, 0) for answer in (SAME, DIFFERENT, UNSURE)]


def _sample(lake: Lake, removed: DataFrame, queue: DataFrame, answered: DataFrame) -> dict[str, int]:
    """Counts the answers to the random sample, by name of the attribute of `PairLabels`."""
    own = place(sample_seed(queue, 0)).alias("place")
    drawn = queue.where(F.col("strategy") == RANDOM).select(*ENDS).distinct()
    last = removed.join(F.broadcast(drawn.join(answered, ENDS)), ENDS).agg(F.max(own).alias("last")).collect()[0].last
    none = dict.fromkeys(("same", "different", "unsure", "waiting", "undrawn"), 0)
    if last is None:
        return none
    first = other_files(removed.where(own <= F.lit(last)), lake.read(tables.SIGNALS))
    queued = queue.select(*ENDS, F.lit("waiting").alias("state")).distinct()
    state = F.coalesce("answer", "state", F.lit("undrawn")).alias("state")
    counts = first.join(answered, ENDS, "left").join(queued, ENDS, "left").groupBy(state).count().collect()
    return none | {row.state: row["count"] for row in counts}
