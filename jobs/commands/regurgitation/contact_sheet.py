"""The contact sheet of `regurgitation`: generated images beside the nearest images of the lake, in one HTML file."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.job import Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.pages import thumbnails
from jobs.pages.template import PICTURE_BYTES, style, template
from jobs.pages.thumbnails import Thumbnail
from jobs.runtime import wording
from jobs.runtime.config import Settings

FILE = "regurgitation.html"
_PIXELS_PER_POINT = 2  # sharp on high-density screens


@dataclass(frozen=True)
class SheetPair:
    """A generated image and an image of the lake.

    Attributes:
        facts: A row of the table regurgitation, with key, source and fate of the image of the lake.
        generated: Thumbnail of the generated image.
        original: Thumbnail of the image of the lake.
    """

    facts: Row
    generated: Thumbnail
    original: Thumbnail

    @property
    def veiled(self) -> bool:
        """Whether both images are blurred at first: the image of the lake was filtered, and the other looks like it."""
        return bool(self.facts.fate == "filtered")


def pairs_of(
    described: DataFrame, generated: DataFrame, images: DataFrame, settings: Settings
) -> tuple[SheetPair, ...]:
    """Returns the pairs of a sheet with their thumbnails: copies first, then the most similar.

    Args:
        described: A bounded number of rows of regurgitation, with generated_id and key, source, fate of the image.
        generated: generated_id, key, image, caption, info (width and height in pixels).
        images: Table images.
        settings: For the size of the thumbnails.
    """
    order = (F.desc("copy"), F.desc("similarity"), "generated_id")
    rows = described.orderBy(*order).collect()
    side, budget = settings.report.thumbnail * _PIXELS_PER_POINT, PICTURE_BYTES // 2
    size = (F.col("info.width").alias("width"), F.col("info.height").alias("height"))
    made = generated.select(F.col("generated_id").alias("image_id"), "key", "caption", "image", *size)
    left = thumbnails.fetch(made, [row.generated_id for row in rows], side, budget)
    right = thumbnails.fetch(images, [row.image_id for row in rows], side, budget)
    return tuple(SheetPair(row, left[row.generated_id], right[row.image_id]) for row in rows)


def stored(pairs: tuple[SheetPair, ...], spark: SparkSession) -> DataFrame:
    """Returns the pairs as rows of regurgitation_pairs, for the report: the lake stores no generated image.

    Args:
        pairs: In the order of the sheet.
        spark: The Spark session.
    """
    own = ("place", "generated_caption", "thumbnail")
    names = [name for name in tables.REGURGITATION_PAIRS.schema.names if name not in own]
    rows = [
        {
            "place": place,
            "generated_caption": pair.generated.caption,
            "thumbnail": _bytes(pair.generated.uri),
            **{name: pair.facts[name] for name in names},
        }
        for place, pair in enumerate(pairs)
    ]
    return spark.createDataFrame(rows, tables.REGURGITATION_PAIRS.schema)


def write(lake: Lake, pairs: tuple[SheetPair, ...], summary: Summary) -> str:
    """Writes the sheet into the folder of the lake and returns its address."""
    name = lake.uri.rstrip("/").rpartition("/")[2] or lake.uri
    return lake.write_file(FILE, render(name, pairs, summary).encode("utf-8", "replace"))


def render(name: str, pairs: tuple[SheetPair, ...], summary: Mapping[str, object]) -> str:
    """Returns the sheet as one HTML file with its style sheet, without scripts.

    Args:
        name: Name of the lake.
        pairs: Captions and keys are escaped.
        summary: The summary of the command.
    """
    page = template("regurgitation.html.jinja")
    return page.render(name=name, pairs=pairs, summary=summary, style=style(), wording=wording)


def _bytes(uri: str | None) -> bytes | None:
    return None if uri is None else base64.b64decode(uri.partition(",")[2])
