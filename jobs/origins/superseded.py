"""Superseded images: those that no source holds any more with this caption."""

from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.origins.readings import readings
from jobs.runtime.scratch import Scratch
from jobs.sources.inspect import DECODE_STAGE
from jobs.sources.rows import READ_STAGE

SUPERSEDED = "superseded"
"""The name of the reason of a superseded image in the table verdicts."""


_LISTED = 50
_TEXT = 200  # characters of a caption


@dataclass(frozen=True)
class Superseded:
    """The superseded images.

    Attributes:
        total: Their number.
        first: image_id, source, key and the beginning of the caption of the first ones by source and key.
    """

    total: int
    first: tuple[Row, ...]


@dataclass(frozen=True)
class Changes:
    """How the table superseded changed.

    Attributes:
        newly: Images that were added to it.
        back: Images that a source holds again, or that it holds after all.
        total: Images in it.
    """

    newly: int
    back: int
    total: int


def update(lake: Lake) -> Changes:
    """Brings the table superseded up to date with the readings. It writes nothing if nothing changed."""
    before, every = lake.read(tables.SUPERSEDED), readings(lake.read(tables.SOURCES))
    if every.where(~F.col("is_current")).isEmpty() and not lake.exists(tables.SUPERSEDED):
        return Changes(0, 0, 0)
    with lake.scratch(SUPERSEDED) as scratch:
        found = superseded(lake.read(tables.ORIGINS), every, lake.read(tables.QUARANTINE), scratch)
        found = scratch.stage("found", found)
        newly, back = (a.join(b, ["image_id"], "left_anti").count() for a, b in ((found, before), (before, found)))
        if newly or back:
            # Without inputs: the table stays current while its inputs change and it does not.
            lake.replace(tables.SUPERSEDED, found, Recipe("ingest"))
        return Changes(newly, back, found.count())


def superseded(origins: DataFrame, every: DataFrame, quarantine: DataFrame, scratch: Scratch) -> DataFrame:
    """Returns the images that were found only by readings that no longer count.

    A row that is now in quarantine may be any image that its source gave under this key, so these images are not
    superseded. Images without origins, which an earlier version ingested, are not either.

    Args:
        origins: Table origins.
        every: From `readings`.
        quarantine: Table quarantine.
        scratch: Keeps the rows of readings that no longer count: few if little was read again.

    Returns:
        Table superseded.
    """
    by_reading = origins.join(every, ["source", "run"])
    old = scratch.stage("old", by_reading.where(~F.col("is_current")).select("image_id", "source", "key", "is_image"))
    ids = old.select("image_id").distinct()
    held = by_reading.where("is_current").select("image_id").join(ids, "image_id", "left_semi")
    faulty = quarantine.where(F.col("stage").isin(READ_STAGE, DECODE_STAGE)).select("source", "key").distinct()
    unsure = old.join(faulty, ["source", "key"], "left_semi").select("image_id")
    added = old.where("is_image").select("image_id", "source", "key")
    return added.join(held.unionByName(unsure), "image_id", "left_anti")


def listed(lake: Lake) -> Superseded | None:
    """Returns the superseded images for the report; None if there are none."""
    found = lake.read(tables.SUPERSEDED)
    if found.isEmpty():
        return None
    few = found.orderBy("source", "key", "image_id").limit(_LISTED)
    captions = lake.read(tables.IMAGES).select("image_id", F.substring("caption", 1, _TEXT).alias("caption"))
    shown = captions.join(F.broadcast(few), "image_id").orderBy("source", "key", "image_id").collect()
    return Superseded(found.count(), tuple(shown))


def reasons(found: DataFrame) -> DataFrame:
    """Returns image_id, why: the reason for which `filter` removes each superseded image.

    Args:
        found: Table superseded.
    """
    why = F.concat(F.lit(f"{SUPERSEDED}: no longer in "), "source")
    return found.select("image_id", why.alias("why"))


def is_superseded() -> Column:
    """Returns whether a reason of a row of the table verdicts says that its image is superseded."""
    return F.exists("reasons", lambda reason: reason.startswith(f"{SUPERSEDED}: "))
