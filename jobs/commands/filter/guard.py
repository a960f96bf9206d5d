"""A guard against silent loss: stops `filter` if classifiers remove far more images than belong to their categories.

A threshold chosen for its recall says nothing of what else it removes. With a classifier that does not know its
category, the bound on recall puts the threshold near 0, and the filter removes nearly everything.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.runtime import wording
from jobs.runtime.config import CategorySettings, FilterSettings
from models.errors import WinnowError
from models.stats import thresholds


@dataclass(frozen=True)
class Removal:
    """What a classifier removes by its score, and how many random labels say that its category has that many images.

    Attributes:
        category: Name of the category.
        images: Number of images with a score, without those that people labelled positive or decided on.
        removed: Number of these at or above the threshold.
        positives: Number of positive random labels.
        negatives: Number of negative random labels.
        unsure: Number of random images that were answered unsure and have no label.
        confidence: Confidence of the interval of the category's share.
    """

    category: str
    images: int
    removed: int
    positives: int
    negatives: int
    unsure: int
    confidence: float

    @property
    def share(self) -> float:
        """Returns the share of the images that the classifier removes."""
        return self.removed / self.images if self.images else 0.0

    @property
    def prevalence(self) -> tuple[float, float, float]:
        """Returns the share of the images that belong to the category: estimate, low and high end."""
        return thresholds.prevalence(self.positives, self.negatives, self.unsure, self.confidence)

    def in_words(self) -> str:
        """Returns what is removed beside what belongs to the category.

        Examples:
            >>> Removal("dogs", 500, 495, 38, 212, 0, 0.95).in_words()
            '495 of 500 undecided images (99.0 %); 15.2 % [11.0, 20.3] belong to it, by 250 labels of the random sample'
        """
        images = wording.plural(self.images, "undecided image")
        removed = f"{self.removed:,} of {images} ({wording.percent(self.share)})"
        labels = self.positives + self.negatives
        if not labels:
            return f"{removed}; how many belong to it is unknown without labels of the random sample"
        return (
            f"{removed}; {wording.measured(*self.prevalence)} belong to it, by {labels:,} labels of the random sample"
        )


@dataclass(frozen=True)
class Removals:
    """What all classifiers remove by their scores.

    Attributes:
        each: One for each category.
        images: Number of images with a score of a category whose threshold was chosen from labels.
        removed: Number of these that at least one such category removes.
    """

    each: tuple[Removal, ...]
    images: int
    removed: int

    @property
    def share(self) -> float:
        """Returns the share of the images that these categories remove together."""
        return self.removed / self.images if self.images else 0.0


def removed_by_score(
    scores: DataFrame, limits: DataFrame, settled: DataFrame, trained: Mapping[str, bool]
) -> DataFrame:
    """Counts the images that each category removes by its score.

    Only undecided images count: without a positive label for the category, which removes an image anyway, and without
    a decision. Where people search for positives, these are many more than in a random sample of the other images.

    Args:
        scores: Table scores.
        limits: Rows of the table thresholds to apply.
        settled: image_id, category: positive labels, and decisions for each category.
        trained: Each category of `limits`, and whether its threshold was chosen from labels.

    Returns:
        One row: `images NAME` and `removed NAME` for each category NAME; `images` and `removed` for all those whose
        threshold was chosen from labels.
    """
    judged = scores.join(F.broadcast(limits.select("category", "model", "threshold")), ["category", "model"])
    judged = judged.join(settled, ["image_id", "category"], "left_anti")
    over = F.col("score").cast("double") >= F.col("threshold")
    # An image may be scored twice. A category has no value for an image that it did not score.
    each = [F.max(F.when(F.col("category") == name, over)).alias(f"over {name}") for name in trained]
    by_image = judged.groupBy("image_id").agg(*each)
    chosen = [F.col(f"over {name}") for name in trained if trained[name]]
    together = F.array_max(F.array(*chosen).cast("array<boolean>"))
    columns = {"": together, **{f" {name}": F.col(f"over {name}") for name in trained}}
    images = [F.count(removed).alias(f"images{of}") for of, removed in columns.items()]
    return by_image.agg(*images, *[F.count_if(removed).alias(f"removed{of}") for of, removed in columns.items()])


def removals(counts: Row, limits: Iterable[Row]) -> Removals:
    """Returns what the classifiers remove, from the row of `removed_by_score` and the rows of the table thresholds."""
    each = [
        Removal(
            category=limit.category,
            images=counts[f"images {limit.category}"],
            removed=counts[f"removed {limit.category}"],
            positives=limit.positives or 0,
            negatives=limit.negatives or 0,
            unsure=limit.unsure or 0,
            confidence=limit.confidence,
        )
        for limit in limits
    ]
    return Removals(tuple(each), counts["images"], counts["removed"])


def check(found: Removals, categories: Mapping[str, CategorySettings], limits: FilterSettings, command: str) -> None:
    """Checks that no classifier removes far more images than belong to its category, nor all together too many.

    Categories with a set threshold are not checked.

    Args:
        found: What the classifiers remove.
        categories: Settings of the categories.
        limits: `max_dropped_ratio` and `max_dropped`.
        command: The command line of this `filter`; the message tells how to run it again.

    Raises:
        WinnowError: A limit is exceeded; the message says by how much, and what to do.
    """
    trained = [one for one in found.each if categories[one.category].threshold is None]
    over = [one for one in trained if one.share > limits.max_dropped_ratio * one.prevalence[2]]
    faults, allow = [_ratio_fault(one, limits.max_dropped_ratio) for one in over], []
    if over:
        allow.append(f"--set filter.max_dropped_ratio={math.ceil(max(one.share / one.prevalence[2] for one in over))}")
    if found.share > limits.max_dropped:
        faults.append(_share_fault(found, trained, limits.max_dropped))
        allow.append(f"--set filter.max_dropped={math.ceil(1000 * found.share) / 1000:g}")
    if faults:
        most = max(over or trained, key=lambda one: one.share).category
        raise WinnowError(
            f"{'; '.join(faults)}: {_remedy(most, categories[most])}, or let it through with `{command} "
            f"{' '.join(allow)}`"
        )


def _ratio_fault(one: Removal, ratio: float) -> str:
    removed = f"{one.removed:,} of {one.images:,} undecided images ({wording.percent(one.share)})"
    count, sure = one.positives + one.negatives, wording.confidence(one.confidence)
    labels = f"{count:,} labels of the random sample ({sure} confidence)"
    return (
        f"{one.category} would remove {removed} by score, but at most {wording.rounded_up(one.prevalence[2])} of the "
        f"images belong to it by {labels}, and filter.max_dropped_ratio = {ratio:g} allows {ratio:g} times as many"
    )


def _share_fault(found: Removals, trained: Iterable[Removal], limit: float) -> str:
    names = ", ".join(one.category for one in trained)
    removed = f"{found.removed:,} of {found.images:,} undecided images ({wording.percent(found.share)})"
    return f"{names} would remove {removed} by score in all, and filter.max_dropped = {limit:g} allows {limit:.0%}"


def _remedy(category: str, settings: CategorySettings) -> str:
    """Returns what to do so that a classifier removes less."""
    recall = f"lower categories.{category}.recall and run `winnow calibrate`"
    if settings.model is not None:
        return f"use a better model for {category}, or {recall}"
    label = f"label more images with `winnow label next {category} --strategy precision`"
    return f"{label}, then run `winnow train {category}`, `winnow score` and `winnow calibrate`; or {recall}"
