"""Categories to filter out: their scores, their thresholds and the images nearest to the thresholds."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.samples import ShownImage, top
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings

SCORE_BINS = 50
_NEAREST = 16
_CANDIDATES = 256  # images near a threshold whose verdicts are looked up, on each side


@dataclass(frozen=True)
class ScoreBin:
    """The numbers of images with a score in [low, high) that are below the threshold (kept) and at or above it."""

    low: float
    high: float
    kept: int
    dropped: int


@dataclass(frozen=True)
class Category:
    """One category of images to filter out.

    Attributes:
        name: Name in the settings.
        definition: Definition in the settings; None if there is none.
        threshold: Row of thresholds; None if there is none.
        bins: Histogram of scores.
        random_positives: Number of positive random labels.
        random_negatives: Number of negative random labels.
        dropped_nearest: The images nearest to the threshold, at or above it, that are filtered.
        kept_nearest: The images nearest to the threshold, below it, that pass the filter.
        own_model: Whether a model in the settings scores it, and not a head that `train` makes.
        escaped: The escape bound of `calibrate` in words; None if it recorded none.
        precision: The precision that `calibrate` estimated, in words; None if it recorded none.
    """

    name: str
    definition: str | None
    threshold: Row | None
    bins: tuple[ScoreBin, ...]
    random_positives: int
    random_negatives: int
    dropped_nearest: tuple[ShownImage, ...]
    kept_nearest: tuple[ShownImage, ...]
    escaped: str | None = None
    precision: str | None = None
    own_model: bool = False

    @property
    def scored(self) -> int:
        """The number of images with a score."""
        return sum(b.kept + b.dropped for b in self.bins)

    @property
    def dropped(self) -> int:
        """The number of images at or above the threshold."""
        return sum(b.dropped for b in self.bins)


def categories(lake: Lake, settings: Settings) -> tuple[Category, ...]:
    """Returns every category that the settings define or that has a score or a threshold."""
    thresholds = {row.category: row for row in lake.read(tables.THRESHOLDS).collect()}
    scores = _judged_scores(lake.read(tables.SCORES), lake.read(tables.THRESHOLDS))
    bins = _score_bins(scores)
    labels = _random_labels(lake.read(tables.LABELS))
    distance = F.abs(F.col("score") - F.col("threshold"))
    judged = scores.where("threshold is not null")
    nearest = top(judged, F.struct("category", "dropped"), [distance, F.col("image_id")], _CANDIDATES)
    rows = nearest.orderBy("rank").select("category", "dropped", "image_id", "score").collect()
    kept = _kept(lake, {row.image_id for row in rows})
    # A label, a rule, another category or a decision may have decided otherwise than the score.
    samples = [row for row in rows if kept.get(row.image_id, not row.dropped) is not row.dropped]
    recipe = lake.snapshot().recipe(tables.THRESHOLDS)
    result = recipe.result if recipe else {}
    names = dict.fromkeys([*settings.categories, *sorted(bins), *sorted(thresholds)])
    return tuple(
        Category(
            name=name,
            definition=settings.categories[name].definition if name in settings.categories else None,
            threshold=thresholds.get(name),
            bins=bins.get(name, ()),
            random_positives=labels.get((name, True), 0),
            random_negatives=labels.get((name, False), 0),
            dropped_nearest=_shown(s for s in samples if s.category == name and s.dropped),
            kept_nearest=_shown(s for s in samples if s.category == name and not s.dropped),
            escaped=result.get(f"{name}: escapes at most"),
            precision=result.get(f"{name}: precision about"),
            own_model=name in settings.categories and settings.categories[name].model is not None,
        )
        for name in names
    )


def _kept(lake: Lake, image_ids: Collection[str]) -> dict[str, bool]:
    """Returns whether each of some images passes the filter; images without a verdict are left out."""
    if not image_ids:
        return {}
    some = lake.spark.createDataFrame([(image_id,) for image_id in sorted(image_ids)], "image_id string")
    rows = lake.read(tables.VERDICTS).join(F.broadcast(some), "image_id").select("image_id", "kept").collect()
    return {row.image_id: row.kept for row in rows}


def _shown(samples: Iterable[Row]) -> tuple[ShownImage, ...]:
    return tuple(ShownImage(row.image_id, row.score) for row in islice(samples, _NEAREST))


def _judged_scores(scores: DataFrame, thresholds: DataFrame) -> DataFrame:
    """Scores with their thresholds; if a category has a threshold, only the scores of the model it was set for."""
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
        score_bin = ScoreBin(row.bin / SCORE_BINS, (row.bin + 1) / SCORE_BINS, row.kept, row.dropped)
        bins.setdefault(row.category, []).append(score_bin)
    return {category: tuple(of_category) for category, of_category in bins.items()}


def _random_labels(labels: DataFrame) -> Mapping[tuple[str, bool], int]:
    """Counts the images by their newest random label, which corrects an older one, by category and label."""
    random = labels.where("origin = 'random' and label is not null")
    newest = random.groupBy("category", "image_id").agg(F.max(F.struct("labelled_at", "label"))["label"].alias("label"))
    counts = newest.groupBy("category", "label").agg(F.count("*").alias("n"))
    return {(row.category, row.label): row.n for row in counts.collect()}
