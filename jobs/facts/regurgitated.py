"""What a model gave back of its training set."""

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
    """The independent draws that a bound on the rate of copies rests on.

    Images of one prompt are none: a prompt that a model knows by heart gives its copy again and again.

    Attributes:
        number: Of the draws: prompts where one of them gave several images, else generated images.
        copies: Of the draws, those with a copy.
        are_prompts: Whether prompts were counted. An image whose prompt is not known then counts as one of its own.
    """

    number: int
    copies: int
    are_prompts: bool

    def bound(self, confidence: float) -> float:
        """The share of draws with a copy is at most this.

        Args:
            confidence: Probability with which that holds, in (0, 1).
        """
        return upper_bound(self.copies, self.number, confidence)


@dataclass(frozen=True)
class Nearest:
    """Generated images whose nearest image of the lake lies at one distance: copies and others.

    Attributes:
        distance: Bits of 256.
        copies: Generated images that are copies of an image at this distance.
        others: Generated images that are no copies and have nothing nearer.
    """

    distance: int
    copies: int
    others: int


@dataclass(frozen=True)
class CopyPair:
    """A generated image beside an image of the lake.

    Attributes:
        row: A row of the table regurgitation_pairs.
        picture: The generated image, small, as a `data:` URI; None where there is none.
    """

    row: Row
    picture: str | None


@dataclass(frozen=True)
class Regurgitation:
    """Generated images against every image of the lake.

    Attributes:
        compared: Generated images that could be compared.
        undecodable: Those that could not.
        copies: Those that are copies.
        own: Those that are copies of the very image whose caption was their prompt.
        trials: What the bound rests on: generated images, or their prompts where these repeat.
        bound: For prompts like these the rate of what is called a copy is at most this ...
        confidence: ... with this confidence.
        within: What makes a copy, in words; None where the table does not say.
        max_distance: Bits of 256 within which an image can be a copy at all; None where the table does not say.
        nearest: By distance.
        shown_copies: Pairs to show, the most similar first.
        shown_others: Pairs that come nearest without being copies.
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
    """Counts of the table regurgitation, and the pairs to show.

    Args:
        lake: Holds the table.
        settings: For the confidence, where the table does not say it.
    """
    recipe = lake.snapshot().recipe(tables.REGURGITATION)
    confidence = float(recipe.settings.get("confidence", 0) if recipe else 0) or settings.regurgitation.confidence
    best = _best(lake.read(tables.REGURGITATION))
    counts = best.groupBy("distance").agg(
        F.count_if("copy").alias("copies"), F.count_if(~F.col("copy")).alias("others"), F.count_if("own").alias("own")
    )
    rows = counts.orderBy("distance").collect()  # at most 257
    copies, others = sum(row.copies for row in rows), sum(row.others for row in rows)
    draws = trials(best)
    pairs = lake.read(tables.REGURGITATION_PAIRS).orderBy("place")
    return Regurgitation(
        compared=copies + others,
        undecodable=lake.read(tables.REGURGITATION_FAULTS).count(),
        copies=copies,
        own=sum(row.own for row in rows),
        trials=draws,
        bound=draws.bound(confidence),
        confidence=confidence,
        within=str(recipe.result["a copy is within"]) if recipe and "a copy is within" in recipe.result else None,
        max_distance=recipe.settings.get("max_distance") if recipe else None,
        nearest=tuple(Nearest(row.distance, row.copies, row.others) for row in rows),
        shown_copies=_pairs(pairs.where("copy").limit(_COPIES)),
        shown_others=_pairs(pairs.where("not copy").limit(_OTHERS)),
    )


def trials(each: DataFrame) -> Trials:
    """Counts the independent draws among generated images.

    Args:
        each: A row for each generated image: prompt_id (null or blank where it is not known), copy.
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
    """distance, copy, own, prompt_id: of each generated image its copy, or else the image that is nearest by hash."""
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
