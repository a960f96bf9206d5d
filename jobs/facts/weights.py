"""The importance weights of the kept set, how far the probe behind them can be trusted, and what they cannot do."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, isfinite, log, sqrt

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from scipy import stats

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
_REACH_SAMPLE = 1000  # of lakes that do not say


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
class Reach:
    """Removed images that nothing kept resembles, and how many more they are than by chance.

    Attributes:
        share: Of the removed images.
        excess: Over the share that a filter which takes images by chance would give; may be below 0.
        low: Lower end of its interval, with 95 % confidence.
        high: Upper end.
        by_chance: That share, by construction: what is near is set so that it is 5 % of the kept images.
    """

    share: float
    excess: float
    low: float
    high: float
    by_chance: float = 1.0 - WITHIN_REACH


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
    highest: tuple[ShownImage, ...]
    lowest: tuple[ShownImage, ...]
    reliability: tuple[Reliability, ...] = ()
    lost: tuple[Lost, ...] = ()
    reach: Reach | None = None

    @property
    def alike(self) -> bool:
        """Whether all images weigh the same, so that there is no distribution to show."""
        return bool(self.highest) and self.highest[0].value == self.lowest[0].value


def weights(lake: Lake) -> Weights:
    """Histogram, quality, reliability curve and samples."""
    rows = lake.read(tables.WEIGHTS)
    number = F.floor(F.log2("weight") * WEIGHT_BINS_PER_DOUBLING).alias("bin")
    counts = rows.where("weight > 0").groupBy(number).count().orderBy("bin").limit(_BINS).collect()
    found = lake.read(tables.WEIGHT_QUALITY).collect()
    quality = found[-1] if found else None
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
    """What is beyond reach, against chance; None where `weigh` did not look, or had nothing to compare.

    Args:
        lake: Its table weight_quality tells in its recipe how many images were sampled.
        quality: The row of that table.
    """
    if quality is None:
        return None
    recipe = lake.snapshot().recipe(tables.WEIGHT_QUALITY)
    return reach_of(quality, int(recipe.settings.get("reach_sample", _REACH_SAMPLE)) if recipe else _REACH_SAMPLE)


def reach_of(quality: Row, sample: int) -> Reach | None:
    """What is beyond reach, against chance; None where `weigh` did not look, or had nothing to compare.

    Args:
        quality: beyond_reach, reference and kept, as a row of weight_quality has them.
        sample: Images of each side that were compared at most.
    """
    if quality.beyond_reach is None or not isfinite(quality.beyond_reach):
        return None
    removed, kept = (min(sample, count) for count in (quality.reference - quality.kept, quality.kept))
    return Reach(quality.beyond_reach, *beyond_chance(quality.beyond_reach, removed, kept, _CONFIDENCE))


def reliability(bins: Sequence[Row], quality: Row | None) -> tuple[Reliability, ...]:
    """The reliability curve, with the interval of chance of each bin.

    Args:
        bins: Rows of the table reliability.
        quality: The row of weight_quality: how many images were kept, and of how many.
    """
    images = sum(row.images for row in bins)
    sides = _sides(images, quality)
    return tuple(
        Reliability(row.low, row.high, row.images, row.predicted, row.observed, _ends(row, sides)) for row in bins
    )


@dataclass(frozen=True)
class _Sides:
    """What the probe compared.

    Attributes:
        unfiltered: Images of the unfiltered side.
        filtered: Images of the filtered side: kept ones alone.
        both: The share of these that are on the unfiltered side too.
    """

    unfiltered: float
    filtered: float
    both: float


def _sides(images: int, quality: Row | None) -> _Sides | None:
    """From the number of images of both sides: `weigh` takes all of a side, or a sample of the same size from each."""
    if images == 0 or quality is None or not 0 < quality.kept <= quality.reference:
        return None
    filtered = min(quality.kept, images / 2)
    unfiltered = min(quality.reference, images - filtered)
    # The samples are the first by one and the same hash: the smaller share of the images lies within the larger.
    return _Sides(unfiltered, filtered, min(1.0, unfiltered / quality.reference * quality.kept / filtered))


def _ends(row: Row, sides: _Sides | None) -> tuple[float, float]:
    """Where chance may put the observed share of a bin.

    A kept image is in the bin twice, once on each side with the same prediction, and these two do not vary against each
    other. What varies is how many of the bin's unfiltered images were removed, and, where the sides were sampled, which
    kept images are on the filtered side alone. The first has the exact interval, which holds for few images too.
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
    """An interval of the observed share, from images of each side in a bin and those of them that are in it twice.

    Its log-odds are a constant + log(unfiltered / filtered). Of counts that meet in `twice` images this has the
    variance below (the delta method); what the removed images leave of it is added as that of a normal distribution.
    """
    stayed, (least, most) = twice / unfiltered, interval(twice, unfiltered, _CONFIDENCE)
    variance = 1 / unfiltered + 1 / filtered - 2 * twice / (unfiltered * filtered)
    rest = max(0.0, variance - (1 / twice - 1 / unfiltered))
    spread = sqrt(rest) * float(stats.norm.ppf((1 + _CONFIDENCE) / 2))
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
