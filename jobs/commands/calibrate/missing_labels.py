"""What a category lacks before random labels can choose its threshold, and what its labels support instead."""

import math
from dataclasses import dataclass

from jobs.runtime import wording
from models.stats import thresholds
from models.stats.ranking import Ranking
from models.stats.thresholds import Target

_RANDOM = "`winnow label next --strategy random`"


@dataclass(frozen=True)
class Answers:
    """The random labels of a category, and the images that could still get one.

    Attributes:
        positives: Number of random positives.
        negatives: Number of random negatives.
        unanswered: Number of images of the lake that nobody has answered for the category.
    """

    positives: int
    negatives: int
    unanswered: int


def lacking(category: str, have: Answers, target: Target) -> str:
    """Returns how many random labels a category still needs before it can be calibrated, as the end of a sentence.

    No other sample needs fewer labels. With prevalence p and target recall r, a share (1 - r) p of the images may
    escape, and the sample must show if more do. A uniform sample of n images contains none of them with probability
    (1 - (1 - r) p)^n, so n must be at least ln(1 / (1 - confidence)) / ((1 - r) p). Sampling high scores more often
    helps only if the escaping images have high scores, which nobody knows. The number given here,
    `thresholds.needed` / p, equals this n up to terms of second order.

    It never asks for more labels than there are images: if the lake is too small for the recall, it says which recall
    the labels of all its images can prove. It also says which recall the labels support as they are.

    Args:
        category: Name of the category.
        have: The random labels, and the images without an answer.
        target: The recall and confidence to reach.

    Examples:
        >>> target = Target(recall=0.95, confidence=0.95)
        >>> needs, instead = lacking("cats", Answers(35, 965, 50_000), target).split("; or ")
        >>> needs
        '35 of 1,000 labels of the random sample are positive, 59 are needed: 24 more, so label about 686 more \
images at random'
        >>> instead
        'set categories.cats.recall=0.917, because 35 positives support a recall of 91.7 %'
        >>> lacking("cats", Answers(0, 0, 50_000), target).partition(" picks")[0]
        'no labels of a random sample, 59 positive ones are needed: `winnow label next --strategy random`'
    """
    labels, needed = have.positives + have.negatives, thresholds.needed(target.recall, target.confidence)
    missing = needed - have.positives
    # Without a positive there is only an upper bound on the share of positives, so the number is a lower bound.
    share = have.positives / labels if have.positives else thresholds.upper_bound(0, labels, target.confidence)
    more = math.ceil(missing / share)
    count = f"{have.positives:,} of {labels:,} labels of the random sample are positive, {needed:,} are needed"
    if not labels:
        count = f"no labels of a random sample, {needed:,} positive ones are needed"
    instead = _instead(category, have.positives, target.confidence)
    if more > have.unanswered:
        return f"{count}: {_too_small(have, math.floor(share * have.unanswered), target)}; {instead}"
    if not labels:
        return f"{count}: {_RANDOM} picks images to label; {instead}"
    about = "about" if have.positives else "at least"
    return f"{count}: {missing:,} more, so label {about} {more:,} more images at random; {instead}"


def not_better_than_chance(
    positives: int, negatives: int, found: Ranking | None, remedy: str, confidence: float
) -> str:
    """Returns that random labels do not show a classifier to be better than chance, as the end of a sentence.

    Args:
        positives: Number of random positives.
        negatives: Number of random negatives.
        found: The AUC of the scores on these labels; None without labels of both kinds.
        remedy: What to do, as a clause.
        confidence: Confidence of the bound on the AUC.
    """
    counts = f"{positives:,} positive and {negatives:,} negative labels of the random sample"
    figures = f" ({auc(found, confidence)}; 0.5 is chance)" if found else ""
    return f"{counts} do not show that its classifier is better than chance{figures}: {remedy}"


def auc(found: Ranking, confidence: float) -> str:
    """Returns the AUC of scores with its lower bound, in words.

    Examples:
        >>> auc(Ranking(0.9312, 0.8479), 0.95)
        'AUC 0.931, at least 0.84 with 95 % confidence'
    """
    lowest = math.floor(100 * found.lower) / 100
    return f"AUC {wording.number(found.auc)}, at least {lowest:.2f} with {wording.confidence(confidence)} confidence"


def _too_small(have: Answers, more: int, target: Target) -> str:
    """Returns that the lake is too small for a recall, and which one all its labels can prove."""
    recall = f"{100 * target.recall:g} %"
    left = f"the lake is too small for a recall of {recall}: it has {have.unanswered:,} more images to label"
    total = have.positives + more
    about = "about" if have.positives else "at most"
    most = _supported(total, target.confidence)
    support = f"support a recall of {wording.rounded_down(most)}" if most else "are too few for any threshold"
    return f"{left}, and {about} {total:,} positives of the random sample in all {support}"


def _instead(category: str, positives: int, confidence: float) -> str:
    """Returns what to set if there are to be no more labels."""
    recall = _supported(positives, confidence)
    if not recall:
        return f"or set categories.{category}.threshold, which needs no label but leaves the recall unknown"
    support = f"{wording.plural(positives, 'positive supports', 'positives support')} a recall of"
    return f"or set categories.{category}.recall={recall:.3f}, because {support} {wording.rounded_down(recall)}"


def _supported(positives: int, confidence: float) -> float:
    """Returns the recall that positives prove if none of them is missed, rounded down so that it can be set.

    It is 0 if so few positives cannot show that a classifier is better than chance: even a perfect AUC of k pairs has
    this same number as its bound (`models.stats.ranking`), and the bound must exceed 0.5.
    """
    recall = math.floor(1000 * thresholds.lower_bound(positives, positives, confidence)) / 1000
    return recall if recall > 0.5 else 0.0
