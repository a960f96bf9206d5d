"""The funnel: how many rows were read, kept and removed; what would change; the reasons for quarantine."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.facts.duplicates import SEMANTIC_REMOVED
from jobs.facts.samples import top
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.origins.readings import counted_once

_REASONS = 30
_EXAMPLES, _CHANGED = 3, 5


@dataclass(frozen=True)
class Funnel:
    """The number of rows or images after each step; None if the command of the step has not run.

    A source that was read several times counts once.
    """

    rows_read: int
    repeats: int
    quarantined: int
    images: int
    judged: int | None
    filtered: int | None
    duplicates: int | None
    weighed: int | None
    filtered_by: Mapping[str, int] = field(default_factory=dict)
    semantic: int = 0
    """Semantic duplicates among the duplicates."""

    @property
    def near_duplicates(self) -> int:
        """The number of images that are near-duplicates of kept ones."""
        return (self.duplicates or 0) - self.semantic

    @property
    def after_filter(self) -> int:
        """The number of images that passed the filter."""
        return self.images - (self.filtered or 0)

    @property
    def kept(self) -> int:
        """The number of images that are neither filtered nor duplicates."""
        return self.after_filter - (self.duplicates or 0)

    @property
    def gaps(self) -> tuple[str, ...]:
        """The counts that do not add up, in words; empty if all do."""
        found = []
        if self.rows_read != self.images + self.repeats + self.quarantined:
            parts = f"{self.images:,} images, {self.repeats:,} repeats and {self.quarantined:,} quarantined"
            found.append(f"{self.rows_read:,} rows were read, but there are {parts}")
        if self.judged not in (None, self.images):
            found.append(f"{self.judged:,} of {self.images:,} images have a verdict; run `winnow filter` again")
        if self.weighed not in (None, self.kept):
            found.append(f"{self.weighed:,} images have a weight, but {self.kept:,} are kept; run `winnow weigh` again")
        return tuple(found)


@dataclass(frozen=True)
class Fault:
    """One reason for quarantine, its number of rows and a few examples (source, key, detail)."""

    stage: str
    reason: str
    count: int
    examples: tuple[tuple[str, str, str], ...]


def funnel(lake: Lake, rows: Mapping[str, int]) -> Funnel | None:
    """Returns the funnel, from the number of rows of each table of the lake; None without the table images."""
    if tables.IMAGES.name not in rows:
        return None
    sources = lake.read(tables.SOURCES)
    once = counted_once(sources, lake.read(tables.SUPERSEDED))
    total, each = (
        frame.agg(*[F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in names]).first()
        for frame, names in (
            (sources, ("rows_read",)),
            (once, ("repeats", "quarantined", "again", "again_quarantined")),
        )
    )
    assert total is not None and each is not None  # an aggregate of no rows is one row
    judged = rows.get(tables.VERDICTS.name)
    compared = lake.snapshot().recipe(tables.DUPLICATES)
    return Funnel(
        rows_read=total.rows_read - each.again - each.again_quarantined,
        repeats=each.repeats,
        quarantined=each.quarantined,
        images=rows[tables.IMAGES.name],
        judged=judged,
        filtered=lake.read(tables.VERDICTS).where("not kept").count() if judged is not None else None,
        duplicates=rows.get(tables.DUPLICATES.name),
        weighed=rows.get(tables.WEIGHTS.name),
        filtered_by=filtered_by(lake.read(tables.VERDICTS)),
        semantic=compared.result.get(SEMANTIC_REMOVED, 0) if compared else 0,
    )


def filtered_by(verdicts: DataFrame) -> dict[str, int]:
    """Returns the number of images that each category, rule or fault removed, largest first; they may overlap."""
    # Count an image once per category: it may have a high score and a positive label.
    names = F.array_distinct(F.transform("reasons", lambda why: F.substring_index(why, ": ", 1)))
    named = verdicts.select(F.explode(names).alias("by"))
    counts = named.groupBy("by").count().orderBy(F.desc("count"), "by").limit(_REASONS)
    return {row["by"]: row["count"] for row in counts.collect()}


def faults(quarantine: DataFrame) -> tuple[Fault, ...]:
    """Returns the reasons for quarantine, the most frequent first, each with a few examples."""
    counts = quarantine.groupBy("stage", "reason").count().orderBy(F.desc("count"), "stage", "reason").limit(_REASONS)
    most = counts.collect()
    common = quarantine.join(F.broadcast(counts.select("stage", "reason")), ["stage", "reason"], "left_semi")
    short = [F.substring(name, 1, 200).alias(name) for name in ("source", "key", "detail")]
    order = [F.xxhash64("source", "key"), F.col("source"), F.col("key"), F.col("detail")]
    chosen = top(common, F.struct("stage", "reason"), order, _EXAMPLES).select("stage", "reason", "rank", *short)
    shown = sorted(chosen.collect(), key=lambda row: row["rank"])
    return tuple(
        Fault(
            row.stage,
            row.reason,
            row["count"],
            tuple((e.source, e.key, e.detail) for e in shown if (e.stage, e.reason) == (row.stage, row.reason)),
        )
        for row in most
    )


def changes(images: DataFrame, before: DataFrame, after: DataFrame) -> dict[str, int | float | str]:
    """Returns how many images a command would newly remove or bring back, and some of each, for its summary.

    Args:
        images: Table images.
        before: image_id, why: the images that are removed now.
        after: image_id, why: the images that would be removed.
    """
    removed, back = (_without(*pair) for pair in ((after, before), (before, after)))
    return _named(images, "newly removed", removed) | _named(images, "brought back", back)


def _without(rows: DataFrame, others: DataFrame) -> DataFrame:
    return rows.join(others.select("image_id"), "image_id", "left_anti")


def _named(images: DataFrame, title: str, changed: DataFrame) -> dict[str, int | float | str]:
    few = changed.orderBy("image_id").limit(_CHANGED)
    named = images.select("image_id", "key").join(F.broadcast(few), "image_id").orderBy("image_id").collect()
    examples = {f"{title}, {i}.": f"{row.key} ({row.image_id}): {row.why}" for i, row in enumerate(named, start=1)}
    return {title: changed.count(), **examples}
