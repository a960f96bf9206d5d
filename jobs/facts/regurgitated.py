"""The facts about generated images that copy images of the lake."""

import base64
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings
from models.stats.thresholds import upper_bound

_COPIES = 16
_OTHERS = 12


@dataclass(frozen=True)
class Trials:
    """The independent trials behind the bound on the rate of copies.

    Images of one prompt are not independent: a memorised prompt gives its copy again and again.

    Attributes:
        number: Number of trials: prompts if any prompt gave several images, otherwise generated images.
        copies: Number of trials with a copy.
        are_prompts: Whether the trials are prompts. An image with an unknown prompt then counts as a prompt of its own.
    """

    number: int
    copies: int
    are_prompts: bool

    def bound(self, confidence: float) -> float:
        """Returns an upper bound on the share of trials with a copy.

        Args:
            confidence: Confidence level of the bound, in (0, 1).
        """
        return upper_bound(self.copies, self.number, confidence)


@dataclass(frozen=True)
class Nearest:
    """Generated images by the distance of their nearest image of the lake.

    Attributes:
        distance: Bits of 256.
        copies: Number of generated images that are copies of an image at this distance.
        others: Number of generated images that are not copies and whose nearest image is at this distance.
    """

    distance: int
    copies: int
    others: int


@dataclass(frozen=True)
class CopyPair:
    """A generated image beside an image of the lake.

    Attributes:
        row: A row of the table regurgitation_pairs.
        picture: Thumbnail of the generated image as a `data:` URI; None if there is none.
    """

    row: Row
    picture: str | None


@dataclass(frozen=True)
class Regurgitation:
    """The comparison of generated images with every image of the lake.

    Attributes:
        compared: Number of generated images that were compared.
        undecodable: Number of generated images that could not be decoded.
        copies: Number of generated images that are copies.
        own: Number of copies of the image whose caption was the prompt.
        trials: The trials behind the bound: generated images, or their prompts if prompts repeat.
        bound: Upper bound on the rate of copies for prompts like these.
        confidence: Confidence level of the bound.
        within: The rule for copies in words; None if the table does not record it.
        max_distance: Largest distance of a copy in bits of 256; None if the table does not record it.
        nearest: Counts by distance.
        shown_copies: Copies to show, the most similar first.
        shown_others: The most similar pairs that are not copies.
    """

    compared: int
    undecodable: int
    copies: int
    own: int
    trials: Trials
    bound: float
    confidence: float
    within: str | None
    max_distance: int | None
    nearest: tuple[Nearest, ...]
    shown_copies: tuple[CopyPair, ...]
    shown_others: tuple[CopyPair, ...]


def regurgitation(lake: Lake, settings: Settings) -> Regurgitation:
    """Returns the counts of the table regurgitation and the pairs to show.

    Args:
        lake: A lake with the table regurgitation.
        settings: For the confidence, if the table does not record it.
    """
    recipe = lake.snapshot().recipe(tables.REGURGITATION)
    confidence = float(recipe.settings.get("confidence", 0) if recipe else 0) or settings.regurgitation.confidence
    best = _best(lake.read(tables.REGURGITATION))
    counts = best.groupBy("distance").agg(
        F.count_if("copy").alias("copies"), F.count_if(~F.col("copy")).alias("others"), F.count_if("own").alias("own")
    )
    rows = counts.orderBy("distance").collect()  # at most 257
    copies, others = sum(row.copies for row in rows), sum(row.others for row in rows)
    counted = trials(best)
    pairs = lake.read(tables.REGURGITATION_PAIRS).orderBy("place")
    return Regurgitation(
        compared=copies + others,
        undecodable=lake.read(tables.REGURGITATION_FAULTS).count(),
        copies=copies,
        own=sum(row.own for row in rows),
        trials=counted,
        bound=counted.bound(confidence),
        confidence=confidence,
        within=str(recipe.result["a copy is within"]) if recipe and "a copy is within" in recipe.result else None,
        max_distance=recipe.settings.get("max_distance") if recipe else None,
        nearest=tuple(Nearest(row.distance, row.copies, row.others) for row in rows),
        shown_copies=_pairs(pairs.where("copy").limit(_COPIES)),
        shown_others=_pairs(pairs.where("not copy").limit(_OTHERS)),
    )


def trials(each: DataFrame) -> Trials:
    """Returns the independent trials among generated images.

    Args:
        each: One row per generated image: prompt_id (null or blank if unknown), copy.
    """
    prompt = F.when(F.trim("prompt_id") != "", F.col("prompt_id")).alias("prompt")
    prompts = each.groupBy(prompt).agg(F.count("*").alias("images"), F.count_if("copy").alias("copies"))
    alone = F.col("prompt").isNull()
    draws = F.when(alone, F.col("images")).otherwise(1)
    with_copy = F.when(alone, F.col("copies")).otherwise(F.least("copies", F.lit(1)))
    counted = prompts.agg(*[F.coalesce(F.sum(one), F.lit(0)) for one in ("images", draws, with_copy)])
    images, number, copies = counted.collect()[0]
    return Trials(number, copies, are_prompts=number < images)


def _best(pairs: DataFrame) -> DataFrame:
    """distance, copy, own, prompt_id of each generated image: of its copy, or else of the nearest image by hash."""
    own = F.col("copy") & F.coalesce(F.col("prompt_id") == F.col("image_id"), F.lit(False))
    nearest = F.min(F.struct((~F.col("copy")).alias("other"), "distance")).alias("best")
    best = pairs.groupBy("generated_source", "generated_key").agg(
        nearest, F.max(own).alias("own"), F.max("prompt_id").alias("prompt_id")
    )
    return best.select("best.distance", (~F.col("best.other")).alias("copy"), "own", "prompt_id")


def _pairs(rows: DataFrame) -> tuple[CopyPair, ...]:
    return tuple(CopyPair(row, _uri(row.thumbnail)) for row in rows.collect())


def _uri(thumbnail: bytes | None) -> str | None:
    return None if thumbnail is None else "data:image/webp;base64," + base64.b64encode(thumbnail).decode("ascii")
