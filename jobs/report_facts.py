"""What the report tells, gathered from the tables: counts and histograms made in Spark, samples of fixed size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs import pair_search, tables
from jobs.config import Settings
from jobs.lake import Lake
from jobs.tables import Table

SCORE_BINS = 50
WEIGHT_BINS_PER_DOUBLING = 4
_REASONS = 30
_EXAMPLES = 3
_NEAREST = 16
_MEMBERS = 7
_WEIGHTED = 16
_KEYWORDS = 80
_MODELS = 40


@dataclass(frozen=True)
class Funnel:
    """What came in and what became of it; None where the command that decides has not run."""

    rows_read: int
    repeats: int
    quarantined: int
    images: int
    judged: int | None
    filtered: int | None
    duplicates: int | None
    weighed: int | None

    @property
    def after_filter(self) -> int:
        """Images that the filter left."""
        return self.images - (self.filtered or 0)

    @property
    def kept(self) -> int:
        """Images that are left in the end."""
        return self.after_filter - (self.duplicates or 0)

    @property
    def gaps(self) -> tuple[str, ...]:
        """What does not add up, in words; empty when all does."""
        found = []
        if self.rows_read != self.images + self.repeats + self.quarantined:
            parts = f"{self.images:,} images, {self.repeats:,} repeats and {self.quarantined:,} quarantined"
            found.append(f"{self.rows_read:,} rows were read, but there are {parts}")
        if self.judged not in (None, self.images):
            found.append(f"{self.judged:,} of {self.images:,} images have a verdict: run `winnow filter` again")
        if self.weighed not in (None, self.kept):
            found.append(f"{self.weighed:,} images have a weight, but {self.kept:,} are kept: run `winnow weigh` again")
        return tuple(found)


@dataclass(frozen=True)
class Fault:
    """One reason for quarantine, how often it came and a few examples (source, key, detail)."""

    stage: str
    reason: str
    count: int
    examples: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True)
class ScoreBin:
    """Images whose score lies in [low, high): how many are below the threshold, and how many at or above it."""

    low: float
    high: float
    kept: int
    dropped: int


@dataclass(frozen=True)
class Sample:
    """An image to show, with the number that stands under it (a score, a weight)."""

    image_id: str
    value: float


@dataclass(frozen=True)
class Category:
    """One category of images to filter out."""

    name: str
    definition: str | None
    threshold: Row | None
    bins: tuple[ScoreBin, ...]
    random_positives: int
    random_negatives: int
    dropped_nearest: tuple[Sample, ...]
    kept_nearest: tuple[Sample, ...]

    @property
    def scored(self) -> int:
        """Images with a score."""
        return sum(b.kept + b.dropped for b in self.bins)

    @property
    def dropped(self) -> int:
        """Images at or above the threshold."""
        return sum(b.dropped for b in self.bins)


@dataclass(frozen=True)
class Group:
    """A kept image and some of the duplicates it stands for: (image_id, distance in bits), the farthest first."""

    kept_id: str
    size: int
    farthest: int
    members: tuple[tuple[str, int], ...]

    @property
    def hidden(self) -> int:
        """Duplicates that are not among the members."""
        return self.size - len(self.members)


@dataclass(frozen=True)
class Duplicates:
    """What deduplication found."""

    removed: int
    groups: int
    largest: tuple[Group, ...]
    random: tuple[Group, ...]
    farthest: tuple[Group, ...]
    pair_distances: tuple[tuple[int, int], ...]
    quality: Row | None


@dataclass(frozen=True)
class WeightBin:
    """Kept images whose weight lies in [low, high)."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Weights:
    """The importance weights of the kept set."""

    bins: tuple[WeightBin, ...]
    quality: Row | None
    highest: tuple[Sample, ...]
    lowest: tuple[Sample, ...]


@dataclass(frozen=True)
class Provenance:
    """One table: which command made which version of it, and when."""

    table: str
    command: str
    version: int
    rows: int
    written_at: datetime
    inputs: Mapping[str, int | None]


@dataclass(frozen=True)
class Facts:
    """All that the report tells; None for what no command has made yet."""

    funnel: Funnel | None
    faults: tuple[Fault, ...]
    categories: tuple[Category, ...]
    duplicates: Duplicates | None
    keywords: tuple[Row, ...] | None
    weights: Weights | None
    encoders: tuple[Row, ...]
    classifiers: tuple[Row, ...]
    provenance: tuple[Provenance, ...]


def gather(lake: Lake, settings: Settings) -> Facts:
    """Reads the lake's tables for the report; a bounded amount reaches the driver.

    Args:
        lake: Any of its tables may be missing or empty.
        settings: The definitions of the categories, the number of groups and the seed.
    """
    provenance = tuple(one for table in tables.ALL if (one := _provenance(lake, table)))
    rows = {one.table: one.rows for one in provenance}
    return Facts(
        funnel=funnel(lake, rows),
        faults=_faults(lake.read(tables.QUARANTINE)) if rows.get(tables.QUARANTINE.name) else (),
        categories=_categories(lake, settings),
        duplicates=_duplicates(lake, settings) if tables.DUPLICATES.name in rows else None,
        keywords=_keywords(lake) if tables.KEYWORD_SHIFT.name in rows else None,
        weights=_weights(lake) if tables.WEIGHTS.name in rows else None,
        encoders=_counted(lake.read(tables.SIGNALS), "encoder") if rows.get(tables.SIGNALS.name) else (),
        classifiers=_counted(lake.read(tables.SCORES), "category", "model") if rows.get(tables.SCORES.name) else (),
        provenance=provenance,
    )


def top(rows: DataFrame, by: Column, order: Sequence[Column], count: int) -> DataFrame:
    """The first rows of each group, in order.

    Args:
        rows: Any rows.
        by: What makes a group.
        order: What comes first in it; must leave no ties, so that the same rows come every time.
        count: Rows of each group.
    """
    ranked = rows.withColumn("rank", F.row_number().over(Window.partitionBy(by).orderBy(*order)))
    return ranked.where(F.col("rank") <= count)


def funnel(lake: Lake, rows: Mapping[str, int]) -> Funnel | None:
    """What came in and what became of it, from the number of rows of each table that is there."""
    if tables.IMAGES.name not in rows:
        return None
    names = ("rows_read", "repeats", "quarantined")
    read = lake.read(tables.SOURCES).agg(*[F.coalesce(F.sum(n), F.lit(0)).alias(n) for n in names]).first()
    assert read is not None  # an aggregate of no rows is one row
    judged = rows.get(tables.VERDICTS.name)
    return Funnel(
        rows_read=read.rows_read,
        repeats=read.repeats,
        quarantined=read.quarantined,
        images=rows[tables.IMAGES.name],
        judged=judged,
        filtered=lake.read(tables.VERDICTS).where("not kept").count() if judged is not None else None,
        duplicates=rows.get(tables.DUPLICATES.name),
        weighed=rows.get(tables.WEIGHTS.name),
    )


def _faults(quarantine: DataFrame) -> tuple[Fault, ...]:
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


def _categories(lake: Lake, settings: Settings) -> tuple[Category, ...]:
    thresholds = {row.category: row for row in lake.read(tables.THRESHOLDS).collect()}
    scores = _judged_scores(lake.read(tables.SCORES), lake.read(tables.THRESHOLDS))
    bins = _score_bins(scores)
    labels = _random_labels(lake.read(tables.LABELS))
    distance = F.abs(F.col("score") - F.col("threshold"))
    judged = scores.where("threshold is not null")
    nearest = top(judged, F.struct("category", "dropped"), [distance, F.col("image_id")], _NEAREST)
    samples = nearest.orderBy("rank").select("category", "dropped", "image_id", "score").collect()
    names = dict.fromkeys([*settings.categories, *sorted(bins), *sorted(thresholds)])
    return tuple(
        Category(
            name=name,
            definition=settings.categories[name].definition if name in settings.categories else None,
            threshold=thresholds.get(name),
            bins=bins.get(name, ()),
            random_positives=labels.get((name, True), 0),
            random_negatives=labels.get((name, False), 0),
            dropped_nearest=tuple(Sample(s.image_id, s.score) for s in samples if s.category == name and s.dropped),
            kept_nearest=tuple(Sample(s.image_id, s.score) for s in samples if s.category == name and not s.dropped),
        )
        for name in names
    )


def _judged_scores(scores: DataFrame, thresholds: DataFrame) -> DataFrame:
    """Scores beside their thresholds; where a category has a threshold, only those of the model it was set for."""
    limits = thresholds.select("category", F.col("model").alias("judge"), "threshold")
    joined = scores.join(F.broadcast(limits), "category", "left").where("judge is null or judge = model")
    dropped = F.coalesce(F.col("score") >= F.col("threshold"), F.lit(False)).alias("dropped")
    return joined.select("image_id", "category", "score", "threshold", dropped)


def _score_bins(scores: DataFrame) -> Mapping[str, tuple[ScoreBin, ...]]:
    number = F.least(F.floor(F.col("score") * SCORE_BINS), F.lit(SCORE_BINS - 1)).alias("bin")
    counts = scores.groupBy("category", number).agg(
        F.count_if(~F.col("dropped")).alias("kept"), F.count_if("dropped").alias("dropped")
    )
    bins: dict[str, list[ScoreBin]] = {}
    for row in counts.where("bin is not null").orderBy("category", "bin").collect():
        made = ScoreBin(row.bin / SCORE_BINS, (row.bin + 1) / SCORE_BINS, row.kept, row.dropped)
        bins.setdefault(row.category, []).append(made)
    return {category: tuple(made) for category, made in bins.items()}


def _random_labels(labels: DataFrame) -> Mapping[tuple[str, bool], int]:
    counts = labels.where("origin = 'random'").groupBy("category", "label").agg(F.countDistinct("image_id").alias("n"))
    return {(row.category, row.label): row.n for row in counts.collect()}


def _duplicates(lake: Lake, settings: Settings) -> Duplicates:
    removed = lake.read(tables.DUPLICATES)
    sizes = removed.groupBy("kept_id").agg(F.count("*").alias("size"), F.max("distance").alias("farthest"))
    totals = sizes.agg(F.count("*"), F.coalesce(F.sum("size"), F.lit(0))).first()
    assert totals is not None  # an aggregate of no rows is one row
    share = -(-settings.report.groups // 3)
    orders = (
        (F.desc("farthest"), F.col("kept_id")),
        (F.desc("size"), F.col("kept_id")),
        (F.xxhash64(F.lit(settings.seed), "kept_id"), F.col("kept_id")),
    )
    farthest, largest, random = _distinct_groups(sizes, orders, share)
    members = _members(removed, [row.kept_id for row in (*largest, *random, *farthest)])
    quality = pair_search.whole_search(lake.read(tables.DEDUP_QUALITY)).collect()
    return Duplicates(
        removed=totals[1],
        groups=totals[0],
        largest=_groups(largest, members),
        random=_groups(random, members),
        farthest=_groups(farthest, members),
        pair_distances=_pair_distances(lake.read(tables.PAIRS)),
        quality=quality[-1] if quality else None,
    )


def _distinct_groups(sizes: DataFrame, orders: Sequence[Sequence[Column]], share: int) -> list[list[Row]]:
    """The first groups in each order; one that an earlier order has shown already gives its place to the next."""
    seen: set[str] = set()
    chosen = []
    for order in orders:
        rows = sizes.orderBy(*order).limit(share + len(seen)).collect()
        chosen.append([row for row in rows if row.kept_id not in seen][:share])
        seen.update(row.kept_id for row in chosen[-1])
    return chosen


def _members(removed: DataFrame, kept_ids: Sequence[str]) -> Mapping[str, tuple[tuple[str, int], ...]]:
    chosen = removed.where(F.col("kept_id").isin(*sorted(set(kept_ids)))) if kept_ids else removed.limit(0)
    ranked = top(chosen, F.col("kept_id"), [F.desc("distance"), F.col("removed_id")], _MEMBERS)
    members: dict[str, list[tuple[str, int]]] = {}
    for row in ranked.orderBy("kept_id", "rank").select("kept_id", "removed_id", "distance").collect():
        members.setdefault(row.kept_id, []).append((row.removed_id, row.distance))
    return {kept_id: tuple(rows) for kept_id, rows in members.items()}


def _groups(rows: Sequence[Row], members: Mapping[str, tuple[tuple[str, int], ...]]) -> tuple[Group, ...]:
    return tuple(Group(row.kept_id, row.size, row.farthest, members[row.kept_id]) for row in rows)


def _pair_distances(pairs: DataFrame) -> tuple[tuple[int, int], ...]:
    # At most 257 rows: a distance is a number of bits of 256.
    return tuple(
        (row.distance, row["count"]) for row in pairs.groupBy("distance").count().orderBy("distance").collect()
    )


def _keywords(lake: Lake) -> tuple[Row, ...]:
    shifts = lake.read(tables.KEYWORD_SHIFT)
    order = (F.desc_nulls_last(F.abs(F.col("shift"))), F.col("keyword"))
    return tuple(shifts.orderBy(*order).limit(_KEYWORDS).collect())


def _weights(lake: Lake) -> Weights:
    weights = lake.read(tables.WEIGHTS)
    number = F.floor(F.log2("weight") * WEIGHT_BINS_PER_DOUBLING).alias("bin")
    counts = weights.where("weight > 0").groupBy(number).count().orderBy("bin").limit(400).collect()
    quality = lake.read(tables.WEIGHT_QUALITY).collect()
    return Weights(
        bins=tuple(WeightBin(_edge(row.bin), _edge(row.bin + 1), row["count"]) for row in counts),
        quality=quality[-1] if quality else None,
        highest=_samples(weights, F.desc("weight")),
        lowest=_samples(weights, F.asc("weight")),
    )


def _edge(number: int) -> float:
    return float(2.0 ** (number / WEIGHT_BINS_PER_DOUBLING))


def _samples(weights: DataFrame, order: Column) -> tuple[Sample, ...]:
    rows = weights.orderBy(order, F.xxhash64("image_id"), "image_id").limit(_WEIGHTED).collect()
    return tuple(Sample(row.image_id, row.weight) for row in rows)


def _counted(rows: DataFrame, *columns: str) -> tuple[Row, ...]:
    counts = rows.groupBy(*columns).agg(F.count("*").alias("images"))
    return tuple(counts.orderBy(F.desc("images"), *columns).limit(_MODELS).collect())


def _provenance(lake: Lake, table: Table) -> Provenance | None:
    commit = lake.commit(table)
    if commit is None:
        return None
    return Provenance(
        table=table.name,
        command=commit.recipe.command if commit.recipe else "",
        version=commit.version,
        rows=lake.read(table).count(),
        written_at=commit.written_at,
        inputs=commit.recipe.inputs if commit.recipe else {},
    )
