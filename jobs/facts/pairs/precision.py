"""What people say of pairs: the share of removed images that are copies of the kept one, in all and by distance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.pairs import told_apart
from jobs.facts.pairs.sample import DIFFERENT, ENDS, RANDOM, SAME, UNSURE, removals
from jobs.facts.pairs.sample_answers import CONFIDENCE, SampleAnswers, sample_answers
from jobs.lake import tables
from jobs.lake.lake import Lake
from models.stats import thresholds

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
class PairLabels(SampleAnswers):
    """What people say of pairs: of a random sample of the removed images with the kept ones, and of others.

    Attributes:
        shares: The answers by distance, near pairs first, with those to pairs near the threshold.
        unpaired: Labelled pairs that the last run of `dedup` did not pair, and that count nowhere.
        wrong: removed_id, kept_id, distance of removed images that people call different from the kept one.
    """

    shares: tuple[PairShare, ...]
    unpaired: int
    wrong: tuple[Row, ...]

    @property
    def precision(self) -> tuple[float, float, float]:
        """The share of removed images that are copies, with its exact interval; NaN without a firm answer."""
        return self.share_same


def pair_labels(lake: Lake, answered: DataFrame, max_distance: int) -> PairLabels:
    """Returns what people say of pairs of the last run of `dedup`.

    Only the random sample measures the precision; the shares by distance also count pairs near the threshold. Pairs
    that thumbnails told apart count in neither.

    Args:
        lake: With the tables duplicates and pair_queue; others may be missing.
        answered: As `answers` returns them.
        max_distance: Largest distance of a pair, in bits of 256.
    """
    removed = removals(lake.read(tables.DUPLICATES))
    pairs = removed.select(*ENDS, "distance").unionByName(lake.read(tables.NEAR_MISSES).select(*ENDS, "distance"))
    apart = told_apart.drawable(lake).select(*ENDS)
    # People label few pairs: their ids are moved, and not all pairs.
    known = pairs.join(F.broadcast(answered.select(*ENDS)), ENDS, "left_semi")
    others = answered.join(apart, ENDS, "left_anti")
    counts = others.join(known, ENDS, "left").groupBy("distance", "answer").count().collect()
    wrong = removed.join(F.broadcast(answered.where(F.col("answer") == DIFFERENT)), ENDS)
    return PairLabels(
        **sample_answers(lake, removed, RANDOM, answered),
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
