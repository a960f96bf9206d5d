"""The results of deduplication."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.pairs.precision import PairLabels, answers, pair_labels
from jobs.facts.pairs.told_apart import ToldApart, told_apart
from jobs.facts.samples import top
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings

NEAR_REMOVED, SEMANTIC_REMOVED, SEMANTIC_SHARE = (
    "duplicates removed", "semantic duplicates removed", "kept by dedup.semantic",
)  # fmt: skip
"""Names of figures in the summary of `dedup`."""

_MEMBERS = 7
_MISSES = 12


@dataclass(frozen=True)
class Group:
    """A kept image and some of its removed duplicates: (image_id, distance in bits), the farthest first."""

    kept_id: str
    size: int
    farthest: int
    members: tuple[tuple[str, int], ...]

    @property
    def hidden(self) -> int:
        """The number of duplicates that are not among the members."""
        return self.size - len(self.members)


@dataclass(frozen=True)
class ChosenDistances:
    """The distances of copies that follow from the lake's own images.

    Attributes:
        size: Number of images up to which they hold.
        safe: Largest distance, in bits, at which a pair counts unseen.
        outer: Largest distance at which a pair counts if its thumbnails agree.
        next_safe: The same for twice as many images.
        next_outer: The same for twice as many images.
        sampled: Hashes that were compared with all others.
        hub: Share of the nearest different pairs that one of these images has.
    """

    size: int
    safe: int
    outer: int
    next_safe: int
    next_outer: int
    sampled: int
    hub: float


@dataclass(frozen=True)
class SemanticDuplicates:
    """Different images removed because they show the same as a kept one.

    Attributes:
        removed: Their number.
        kept: The share of the images without near-duplicates that is kept, in words.
        least: `dedup.semantic`: the smallest cosine similarity of two of them.
        farthest: Rows of duplicates with the smallest similarity.
    """

    removed: int
    kept: str
    least: float
    farthest: tuple[Row, ...]


@dataclass(frozen=True)
class Duplicates:
    """The results of deduplication.

    Attributes:
        removed: Number of images removed as near-duplicates.
        groups: Number of kept images that have removed duplicates.
        largest: Groups with most duplicates.
        random: A reproducible random sample of groups.
        farthest: Groups with the farthest duplicates.
        pair_distances: Distance in bits and number of found pairs.
        quality: Row of dedup_quality for the whole search; None if there is none.
        sampled: Rows of dedup_distances: pairs of sampled hashes, found or not, to some bits above the threshold.
        misses: Rows of near_misses: the nearest pairs above the threshold of which both images are kept.
        united: Rows of dedup_quality for the first clustering, the first two, …; empty without clusterings.
        strangers: Rows of strangers: different images near an image, by distance; empty if they were not measured.
        chosen: The distances that follow from them; None without them.
        labelled: What people say of pairs; None if no pair is labelled.
        told_apart: The pairs whose thumbnails show different images, and what people say; None if there are none.
        semantic: The images removed because they show the same as others; None without `dedup.semantic`.
    """

    removed: int
    groups: int
    largest: tuple[Group, ...]
    random: tuple[Group, ...]
    farthest: tuple[Group, ...]
    pair_distances: tuple[tuple[int, int], ...]
    quality: Row | None
    sampled: tuple[Row, ...] = ()
    misses: tuple[Row, ...] = ()
    united: tuple[Row, ...] = ()
    strangers: tuple[Row, ...] = ()
    chosen: ChosenDistances | None = None
    labelled: PairLabels | None = None
    told_apart: ToldApart | None = None
    semantic: SemanticDuplicates | None = None


def duplicates(lake: Lake, settings: Settings) -> Duplicates:
    """Returns the counts and three samples of groups: the farthest, the largest and random ones."""
    every = lake.read(tables.DUPLICATES)
    is_semantic = F.col("method") == tables.SEMANTIC
    removed = every.where(~is_semantic)
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
    searches = lake.read(tables.DEDUP_QUALITY)
    quality = whole_search(searches).collect()
    chosen = _chosen(lake, quality)
    labelled = bool(quality) and lake.exists(tables.PAIR_LABELS)
    answered = answers(lake.read(tables.PAIR_LABELS), settings.labels.contradictions)
    return Duplicates(
        removed=totals[1],
        groups=totals[0],
        largest=_groups(largest, members),
        random=_groups(random, members),
        farthest=_groups(farthest, members),
        pair_distances=_pair_distances(lake.read(tables.PAIRS)),
        quality=quality[-1] if quality else None,
        sampled=tuple(lake.read(tables.DEDUP_DISTANCES).orderBy("distance").limit(257).collect()),
        misses=tuple(lake.read(tables.NEAR_MISSES).orderBy("distance", "a_id", "b_id").limit(_MISSES).collect()),
        united=tuple(measured_recall(searches).where("not whole").orderBy("clusterings").collect()),
        strangers=tuple(lake.read(tables.STRANGERS).orderBy("distance").limit(257).collect()) if chosen else (),
        chosen=chosen,
        labelled=pair_labels(lake, answered, quality[-1].max_distance) if labelled else None,
        told_apart=told_apart(lake, quality[-1].told_apart_kept, answered) if quality else None,
        semantic=_semantic(lake, every.where(is_semantic)),
    )


def _semantic(lake: Lake, removed: DataFrame) -> SemanticDuplicates | None:
    recipe = lake.snapshot().recipe(tables.DUPLICATES)
    if recipe is None or SEMANTIC_REMOVED not in recipe.result:
        return None
    examples = removed.orderBy("similarity", "removed_id").limit(_MISSES).collect()
    count, share = recipe.result[SEMANTIC_REMOVED], recipe.result[SEMANTIC_SHARE]
    return SemanticDuplicates(count, share, recipe.settings["semantic"], tuple(examples))


def _chosen(lake: Lake, quality: Sequence[Row]) -> ChosenDistances | None:
    """Returns the distances that the last run chose from the table strangers; None if others were used."""
    recipe = lake.snapshot().recipe(tables.STRANGERS)
    found = recipe.result if recipe else {}
    if not quality or found.get("safe") is None or quality[-1].safe_distance != found["safe"]:
        return None
    return ChosenDistances(**{name: found[name] for name in ChosenDistances.__dataclass_fields__})


def _distinct_groups(sizes: DataFrame, orders: Sequence[Sequence[Column]], share: int) -> list[list[Row]]:
    """The first groups in each order; no group is in two of them."""
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
    # At most 257 rows, one for each distance from 0 to 256 bits.
    return tuple(
        (row.distance, row["count"]) for row in pairs.groupBy("distance").count().orderBy("distance").collect()
    )


def whole_search(quality: DataFrame) -> DataFrame:
    """Returns the row of dedup_quality for the whole search; earlier versions wrote only this row."""
    return measured_recall(quality.where(F.coalesce("whole", F.lit(True))))


def measured_recall(quality: DataFrame) -> DataFrame:
    """Returns dedup_quality with a null recall if there was no pair to find; earlier versions wrote 1."""
    return quality.withColumn("recall", F.when(F.col("exhaustive_pairs") > 0, F.col("recall")))
