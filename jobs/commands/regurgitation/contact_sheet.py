"""The contact sheet of `regurgitation`: generated images beside the ones they are nearest to, in one HTML file."""

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
from jobs.runtime.config import Settings

FILE = "regurgitation.html"
_PIXELS_PER_POINT = 2  # sharp on screens that show two pixels for one


@dataclass(frozen=True)
class SheetPair:
    """A generated image and an original.

    Attributes:
        facts: A row of the table regurgitation, with key, source and fate of the original.
        generated: Its thumbnail.
        original: The other's.
    """

    facts: Row
    generated: Thumbnail
    original: Thumbnail

    @property
    def veiled(self) -> bool:
        """Whether both are blurred until someone asks to see them: the original was filtered, and they look alike."""
        return bool(self.facts.fate == "filtered")


def pairs_of(
    described: DataFrame, generated: DataFrame, images: DataFrame, settings: Settings
) -> tuple[SheetPair, ...]:
    """The pairs of a sheet with their pictures, copies first, then the most similar.

    Args:
        described: A bounded number of rows of regurgitation with generated_id, and key, source, fate of the original.
        generated: generated_id, image, caption, info (width and height) of the generated images.
        images: Table images.
        settings: For the size of a thumbnail.
    """
    order = (F.desc("copy"), F.desc("similarity"), "generated_id")
    rows = described.orderBy(*order).collect()
    side, budget = settings.report.thumbnail * _PIXELS_PER_POINT, PICTURE_BYTES // 2
    size = (F.col("info.width").alias("width"), F.col("info.height").alias("height"))
    made = generated.select(F.col("generated_id").alias("image_id"), "caption", "image", *size)
    left = thumbnails.fetch(made, [row.generated_id for row in rows], side, budget)
    right = thumbnails.fetch(images, [row.image_id for row in rows], side, budget)
    return tuple(SheetPair(row, left[row.generated_id], right[row.image_id]) for row in rows)


def stored(pairs: tuple[SheetPair, ...], spark: SparkSession) -> DataFrame:
    """The pairs as rows of regurgitation_pairs: the lake keeps no generated image, and the report shows these.

    Args:
        pairs: In the order of the sheet.
        spark: The session.
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
    """Writes the sheet below the lake and returns its address."""
    name = lake.uri.rstrip("/").rpartition("/")[2] or lake.uri
    return lake.write_file(FILE, render(name, pairs, summary).encode("utf-8", "replace"))


def render(name: str, pairs: tuple[SheetPair, ...], summary: Mapping[str, object]) -> str:
    """The sheet as HTML, with its style inside and no script at all.

    Args:
        name: The lake's.
        pairs: Captions and names in them are data: they are escaped.
        summary: What the command found out, by name.
    """
    return template("regurgitation.html.jinja").render(name=name, pairs=pairs, summary=summary, style=style())


def _bytes(uri: str | None) -> bytes | None:
    return None if uri is None else base64.b64decode(uri.partition(",")[2])
