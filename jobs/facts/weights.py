"""The importance weights of the kept images, the calibration of the probe, and the images beyond reach."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, isfinite, log, sqrt

import scipy
from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts.samples import ShownImage
from jobs.lake import tables
from jobs.lake.lake import Lake
from models.stats.probe import WITHIN_REACH, beyond_chance
from models.stats.thresholds import interval

WEIGHT_BINS_PER_DOUBLING = 4
_WEIGHTED = 16
_LOST = 16
_BINS = 400
_CONFIDENCE = 0.95
_REACH_SAMPLE = 1000  # for lakes that do not record it


@dataclass(frozen=True)
class WeightBin:
    """Kept images whose weight lies in [low, high)."""

    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Reliability:
    """One bin of the reliability curve: images whose predicted probability of being unfiltered lies in [low, high].

    Attributes:
        low: Lowest prediction.
        high: Highest prediction.
        images: Number of images.
        predicted: Mean prediction.
        observed: Observed unfiltered share, with both sides weighted equally.
        interval: 95 % interval of the observed share.
    """

    low: float
    high: float
    images: int
    predicted: float
    observed: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Reach:
    """The share of filtered images beyond reach, compared with the share that chance gives.

    Attributes:
        share: Share of the filtered images.
        excess: The share minus by_chance; may be negative.
        low: Lower end of the 95 % interval of the excess.
        high: Upper end of the 95 % interval of the excess.
        by_chance: The share if the filter removed images at random: 5 % by the definition of reach.
    """

    share: float
    excess: float
    low: float
    high: float
    by_chance: float = 1.0 - WITHIN_REACH


@dataclass(frozen=True)
class Lost:
    """A filtered image beyond reach, and the nearest kept image."""

    image_id: str
    nearest_id: str
    similarity: float


@dataclass(frozen=True)
class Weights:
    """The importance weights of the kept images."""

    bins: tuple[WeightBin, ...]
    quality: Row | None
    highest: tuple[ShownImage, ...]
    lowest: tuple[ShownImage, ...]
    reliability: tuple[Reliability, ...] = ()
    lost: tuple[Lost, ...] = ()
    reach: Reach | None = None

    @property
    def alike(self) -> bool:
        """Whether all images have the same weight, so that there is no distribution to show."""
        return bool(self.highest) and self.highest[0].value == self.lowest[0].value


def weights(lake: Lake) -> Weights:
    """Returns histogram, quality, reliability curve and samples."""
    rows = lake.read(tables.WEIGHTS)
    number = F.floor(F.log2("weight") * WEIGHT_BINS_PER_DOUBLING).alias("bin")
    counts = rows.where("weight > 0").groupBy(number).count().orderBy("bin").limit(_BINS).collect()
    qualities = lake.read(tables.WEIGHT_QUALITY).collect()
    quality = qualities[-1] if qualities else None
    return Weights(
        bins=tuple(WeightBin(_edge(row.bin), _edge(row.bin + 1), row["count"]) for row in counts),
        quality=quality,
        highest=_samples(rows, F.desc("weight")),
        lowest=_samples(rows, F.asc("weight")),
        reliability=reliability(lake.read(tables.RELIABILITY).orderBy("low").limit(_BINS).collect(), quality),
        lost=_lost(lake.read(tables.BEYOND_REACH)),
        reach=reach(lake, quality),
    )


def reach(lake: Lake, quality: Row | None) -> Reach | None:
    """Returns the share beyond reach; None if `weigh` did not measure it or had nothing to compare.

    Args:
        lake: The recipe of its table weight_quality holds the size of the samples.
        quality: The row of that table.
    """
    if quality is None:
        return None
    recipe = lake.snapshot().recipe(tables.WEIGHT_QUALITY)
    return reach_of(quality, int(recipe.settings.get("reach_sample", _REACH_SAMPLE)) if recipe else _REACH_SAMPLE)


def reach_of(quality: Row, sample: int) -> Reach | None:
    """Returns the share beyond reach; None if `weigh` did not measure it or had nothing to compare.

    Args:
        quality: A row of weight_quality with beyond_reach, reference and kept.
        sample: Largest number of images that were compared on each side.
    """
    if quality.beyond_reach is None or not isfinite(quality.beyond_reach):
        return None
    removed, kept = (min(sample, count) for count in (quality.reference - quality.kept, quality.kept))
    return Reach(quality.beyond_reach, *beyond_chance(quality.beyond_reach, removed, kept, _CONFIDENCE))


def reliability(bins: Sequence[Row], quality: Row | None) -> tuple[Reliability, ...]:
    """Returns the reliability curve with an interval for each bin.

    Args:
        bins: Rows of the table reliability.
        quality: The row of weight_quality, for the numbers of kept images and of images in the reference.
    """
    images = sum(row.images for row in bins)
    sides = _sides(images, quality)
    return tuple(
        Reliability(row.low, row.high, row.images, row.predicted, row.observed, _ends(row, sides)) for row in bins
    )


@dataclass(frozen=True)
class _Sides:
    """The two sides that the probe compared.

    Attributes:
        unfiltered: Number of images on the unfiltered side.
        filtered: Number of images on the filtered side: kept images only.
        both: Share of the filtered side that is on the unfiltered side too.
    """

    unfiltered: float
    filtered: float
    both: float


def _sides(images: int, quality: Row | None) -> _Sides | None:
    """The two sides, from their total size: `weigh` takes all of a side, or a sample of the same size from each."""
    if images == 0 or quality is None or not 0 < quality.kept <= quality.reference:
        return None
    filtered = min(quality.kept, images / 2)
    unfiltered = min(quality.reference, images - filtered)
    # Both samples take the first images by the same hash, so the smaller sample lies within the larger one.
    return _Sides(unfiltered, filtered, min(1.0, unfiltered / quality.reference * quality.kept / filtered))


def _ends(row: Row, sides: _Sides | None) -> tuple[float, float]:
    """The ends of the 95 % interval of a bin's observed share.

    A kept image is in the bin twice, once on each side, with the same prediction. These two do not vary independently.
    Two things vary: how many of the bin's unfiltered images were removed, and, if the sides were sampled, which kept
    images are on the filtered side only. The first has an exact interval, which holds for few images too.
    """
    as_if_apart = interval(round(row.observed * row.images), row.images, _CONFIDENCE)
    if sides is None or not 0.0 < row.observed < 1.0:
        return as_if_apart
    odds = row.observed / (1.0 - row.observed)
    ratio = odds * sides.unfiltered / sides.filtered
    unfiltered = max(1, round(row.images * ratio / (1.0 + ratio)))
    filtered = max(1, row.images - unfiltered)
    twice = min(unfiltered, round(sides.both * filtered))
    return _mapped(log(odds), unfiltered, filtered, twice) if twice else as_if_apart


def _mapped(log_odds: float, unfiltered: int, filtered: int, twice: int) -> tuple[float, float]:
    """The interval of the observed share, from the images of each side in a bin and the number that is in it twice.

    The log-odds are a constant + log(unfiltered / filtered). If the two counts share `twice` images, their variance is
    the one below (delta method). The part that the removed images do not explain is added as a normal distribution.
    """
    stayed, (least, most) = twice / unfiltered, interval(twice, unfiltered, _CONFIDENCE)
    variance = 1 / unfiltered + 1 / filtered - 2 * twice / (unfiltered * filtered)
    rest = max(0.0, variance - (1 / twice - 1 / unfiltered))
    spread = sqrt(rest) * float(scipy.stats.norm.ppf((1 + _CONFIDENCE) / 2))
    low, high = log_odds - hypot(log(most / stayed), spread), log_odds + hypot(log(stayed / least), spread)
    return 1.0 / (1.0 + exp(-low)), 1.0 / (1.0 + exp(-high))


def _lost(beyond_reach: DataFrame) -> tuple[Lost, ...]:
    rows = beyond_reach.orderBy("similarity", "image_id").limit(_LOST).collect()
    return tuple(Lost(row.image_id, row.nearest_id, row.similarity) for row in rows)


def _edge(number: int) -> float:
    return float(2.0 ** (number / WEIGHT_BINS_PER_DOUBLING))


def _samples(weights: DataFrame, order: Column) -> tuple[ShownImage, ...]:
    rows = weights.orderBy(order, F.xxhash64("image_id"), "image_id").limit(_WEIGHTED).collect()
    return tuple(ShownImage(row.image_id, row.weight) for row in rows)
