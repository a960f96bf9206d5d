"""The importance weights of the kept set, how far the probe behind them can be trusted, and what they cannot do."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs import tables
from jobs.facts.samples import Sample
from jobs.lake import Lake
from models.thresholds import interval

WEIGHT_BINS_PER_DOUBLING = 4
_WEIGHTED = 16
_LOST = 16
_BINS = 400
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class WeightBin:
    """Kept images whose weight lies in [low, high)."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """Images whose predicted chance of being unfiltered lies in [low, high], and how many of them are.

    Attributes:
        low: Lowest prediction.
        high: Highest prediction.
        images: How many.
        predicted: Their mean prediction.
        observed: The share that is unfiltered, where both sides weigh the same.
        interval: Where a share observed among so many images may truly lie, with 95 % confidence.
    """

    low: float
    high: float
    images: int
    predicted: float
    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Lost:
    """A removed image that nothing kept resembles, and the kept one that comes nearest."""

    image_id: str
    nearest_id: str
    similarity: float


@dataclass(frozen=True)
class Weights:
    """The importance weights of the kept set."""

    bins: tuple[WeightBin, ...]
    quality: Row | None
    highest: tuple[Sample, ...]
    lowest: tuple[Sample, ...]
    reliability: tuple[Reliability, ...] = ()
    lost: tuple[Lost, ...] = ()


def weights(lake: Lake) -> Weights:
    """Histogram, quality, reliability curve and samples."""
    rows = lake.read(tables.WEIGHTS)
    number = F.floor(F.log2("weight") * WEIGHT_BINS_PER_DOUBLING).alias("bin")
    counts = rows.where("weight > 0").groupBy(number).count().orderBy("bin").limit(_BINS).collect()
    quality = lake.read(tables.WEIGHT_QUALITY).collect()
    return Weights(
        bins=tuple(WeightBin(_edge(row.bin), _edge(row.bin + 1), row["count"]) for row in counts),
        quality=quality[-1] if quality else None,
        highest=_samples(rows, F.desc("weight")),
        lowest=_samples(rows, F.asc("weight")),
        reliability=_reliability(lake.read(tables.RELIABILITY)),
        lost=_lost(lake.read(tables.BEYOND_REACH)),
    )


def _reliability(bins: DataFrame) -> tuple[Reliability, ...]:
    return tuple(
        Reliability(row.low, row.high, row.images, row.predicted, row.observed, _ends(row))
        for row in bins.orderBy("low").limit(_BINS).collect()
    )


def _ends(row: Row) -> tuple[float, float]:
    return interval(round(row.observed * row.images), row.images, _CONFIDENCE)


def _lost(beyond_reach: DataFrame) -> tuple[Lost, ...]:
    rows = beyond_reach.orderBy("similarity", "image_id").limit(_LOST).collect()
    return tuple(Lost(row.image_id, row.nearest_id, row.similarity) for row in rows)


def _edge(number: int) -> float:
    return float(2.0 ** (number / WEIGHT_BINS_PER_DOUBLING))


def _samples(weights: DataFrame, order: Column) -> tuple[Sample, ...]:
    rows = weights.orderBy(order, F.xxhash64("image_id"), "image_id").limit(_WEIGHTED).collect()
    return tuple(Sample(row.image_id, row.weight) for row in rows)
