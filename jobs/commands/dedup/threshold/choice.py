"""Chooses the distances within which two images count as copies, and records what they follow from."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.threshold.near_pairs import SAMPLE, comparable, sampled_pairs
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.lake.table import Table
from jobs.matching.rule import Rule
from jobs.models_in_use import current_encoder
from jobs.runtime.config import DedupSettings
from jobs.runtime.scratch import Scratch
from models.stats.strangers import FARTHEST, Limits, limits, shares, upper_shares
from udfs.hashes.minhash import affordable_distance
from udfs.images.agreement import FALSE_ACCEPTS

UNSEEN, LOOKED_AT = "largest distance, without comparing thumbnails", "largest distance, if thumbnails agree"
"""The names of both distances in the summary of `dedup`, in bits of 256; `jobs.lake.recipe` has their earlier names."""

FEWEST = 1_000
"""Images of a lake whose own distances decide. With fewer, the curve of the encoder's model card is used."""

Store: TypeAlias = Callable[[Table, DataFrame, Recipe], None]
"""A function that stores the rows of a table."""

_CONFIDENCE = 0.95
_REVISION = 2


@dataclass(frozen=True)
class _Images:
    """The images of a lake that can be compared.

    Attributes:
        count: Their number.
        size: The next power of two. The distances hold up to this number, so that a lake that grows keeps them.
        without_thumbnail: Number of those that cannot be looked at.
    """

    count: int
    without_thumbnail: int

    @property
    def size(self) -> int:
        return 1 << max(self.count - 1, 1).bit_length()


def chosen(job: Job, now: Snapshot, rule: Rule, store: Store, scratch: Scratch) -> tuple[Rule, Summary]:
    """Returns the rule with the distances for this lake, and lines about them for the summary.

    `dedup.max_distance`, PDQ and strict mode have distances of their own: then the rule is returned as it is.

    Args:
        job: The running command.
        now: The current versions of the lake's tables.
        rule: The rule by the settings and the encoder's model card.
        store: Stores the rows of the table `strangers` if they are measured.
        scratch: Keeps intermediate results.
    """
    settings = job.settings.dedup
    if settings.max_distance is not None or rule.hash != "embedding" or rule.strict:
        return rule, {}
    images = _images(job, rule)
    found = None
    if images.count >= FEWEST and not images.without_thumbnail:
        found = _of_lake(job, now, rule, images, store, scratch)
    if found is None:
        card = current_encoder(job).stranger_shares
        if card is None:
            return rule, {}
        # Three chances: two own hashes, and each of them with the mirror image of the other.
        found = _limits(3 * card if settings.mirrored else card, images.size, settings)
    if images.without_thumbnail:
        job.progress.note(
            f"dedup: {images.without_thumbnail:,} images have no thumbnail to look at, so their pairs count only "
            f"within {found.safe} bits: `winnow score` stores thumbnails in new rows of the table signals"
        )
        if images.without_thumbnail == images.count:
            found = Limits(found.safe, found.safe)
    job.progress.note(_in_words(found, images.size))
    chosen_rule = replace(rule, max_distance=found.outer, safe_distance=found.safe)
    return chosen_rule, {UNSEEN: found.safe, LOOKED_AT: found.outer}


def _images(job: Job, rule: Rule) -> _Images:
    own = comparable(job.lake.read(tables.SIGNALS), rule)
    [row] = own.agg(F.count("*").alias("all"), F.count_if(F.col("thumbnail").isNull()).alias("bare")).collect()
    return _Images(row["all"], row.bare)


def _in_words(found: Limits, size: int) -> str:
    unseen = f"dedup: pairs within {found.safe} bits count as copies"
    looked = f", and pairs within {found.outer} bits if their thumbnails agree" if found.outer > found.safe else ""
    return f"{unseen}{looked}; this holds for up to {size:,} images"


def _limits(share: NDArray[np.float64], size: int, settings: DedupSettings) -> Limits:
    found = limits(share, size, settings.strangers, settings.looks, FALSE_ACCEPTS)
    if settings.method == "clusters":  # their cost does not depend on the distance
        return found
    hashes = 2 * size if settings.mirrored else size
    return Limits(found.safe, max(found.safe, min(found.outer, affordable_distance(hashes, settings.recall))))


def _of_lake(job: Job, now: Snapshot, rule: Rule, images: _Images, store: Store, scratch: Scratch) -> Limits | None:
    """Returns the distances that the lake's own pairs give, from the table `strangers` if it holds for this size."""
    settings = job.settings.dedup
    version = now.inputs(tables.SIGNALS)[tables.SIGNALS.name]
    parameters = {
        "encoder": rule.encoder, "min_quality": rule.min_quality, "size": images.size, "strangers": settings.strangers,
        "looks": settings.looks, "recall": settings.recall, "method": settings.method, "seed": job.settings.seed,
        "signals": version["id"] if version else None, "revision": _REVISION,
    }  # fmt: skip
    if settings.mirrored:
        parameters["mirrored"] = True
    recipe = Recipe("dedup", {}, parameters)
    before = now.made_by(recipe, tables.STRANGERS)
    if before is None:
        with job.progress.step(f"dedup: compare {SAMPLE:,} images with all others to choose the distances"):
            before = _measured(job, rule, images.size, recipe, store, scratch)
    result = before.result
    return None if result.get("safe") is None else Limits(result["safe"], result["outer"])


def _measured(job: Job, rule: Rule, size: int, recipe: Recipe, store: Store, scratch: Scratch) -> Recipe:
    mirrored = job.lake.read(tables.MIRRORED) if job.settings.dedup.mirrored else None
    sampled = sampled_pairs(job.lake.read(tables.SIGNALS), rule, scratch, mirrored)
    estimate, upper = shares(sampled.strangers(), sampled.pairs), upper_shares(sampled, job.settings.seed, _CONFIDENCE)
    if estimate is None or upper is None:  # no two images are near each other, as if all were random
        recipe = recipe.with_result({"safe": None})
        store(tables.STRANGERS, job.lake.spark.createDataFrame([], tables.STRANGERS.schema), recipe)
        return recipe
    settings = job.settings.dedup
    found, later = (_limits(upper, images, settings) for images in (size, 2 * size))
    hub = sampled.hub_share()
    result = {
        "size": size, "safe": found.safe, "outer": found.outer, "next_safe": later.safe, "next_outer": later.outer,
        "sampled": len(sampled.near), "hub": hub,
    }  # fmt: skip
    rows = [
        (distance, int(pairs), float(size * low), float(size * high))
        for distance, (pairs, low, high) in enumerate(zip(sampled.near.sum(axis=0), estimate, upper, strict=True))
    ]
    assert len(rows) == FARTHEST + 1
    recipe = recipe.with_result(result)
    store(tables.STRANGERS, job.lake.spark.createDataFrame(rows, tables.STRANGERS.schema), recipe)
    return recipe
