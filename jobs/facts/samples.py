"""Bounded samples of tables, for thumbnails and examples; what the report opens with."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings

_OPENING = 12
KEPT, FILTERED, DUPLICATE = "kept", "filtered", "duplicate"


@dataclass(frozen=True)
class ShownImage:
    """An image to show, with the number below it (a score, a weight)."""

    image_id: str
    value: float


def top(rows: DataFrame, by: Column, order: Sequence[Column], count: int) -> DataFrame:
    """Returns the first rows of each group, with their rank.

    Args:
        rows: Any rows.
        by: The column that defines the groups.
        order: Order within a group, without ties, so that the result is reproducible.
        count: Number of rows per group.
    """
    ranked = rows.withColumn("rank", F.row_number().over(Window.partitionBy(by).orderBy(*order)))
    return ranked.where(F.col("rank") <= count)


@dataclass(frozen=True)
class Opening:
    """The name of the set, and reproducible random samples of its images.

    Attributes:
        name: Name of the set.
        before: Images of the lake with their results (kept, filtered, duplicate; empty without a verdict).
        after: Kept images; empty if `filter` has not run.
    """

    name: str = "Data set"
    before: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()


def opening(lake: Lake, settings: Settings) -> Opening:
    """Returns the name of the set, and two samples: of all images, and of the kept ones.

    Args:
        lake: Any table may be missing.
        settings: The name of the set, and the seed.
    """
    name = settings.export.card.name or name_of_sources(lake.read(tables.SOURCES)) or Opening.name
    verdicts = lake.read(tables.VERDICTS).select("image_id", "kept")
    removed = lake.read(tables.DUPLICATES).select(F.col("removed_id").alias("image_id"))
    before = _sample(lake.read(tables.IMAGES).select("image_id"), settings.seed)
    after = verdicts.where("kept").join(removed, "image_id", "left_anti").select("image_id")
    few = lake.spark.createDataFrame([(one,) for one in before], "image_id string")
    results = {row.image_id: row.kept for row in verdicts.join(F.broadcast(few), "image_id").collect()}
    copies = {row.image_id for row in removed.join(F.broadcast(few), "image_id").collect()}
    return Opening(
        name,
        tuple((one, _result(results.get(one), one in copies)) for one in before),
        tuple(_sample(after, settings.seed)),
    )


def _sample(images: DataFrame, seed: int) -> list[str]:
    # The same order for both samples: an image that stays is at the beginning of both.
    order = F.xxhash64(F.lit(seed), F.lit("report"), "image_id")
    return [row.image_id for row in images.orderBy(order, "image_id").limit(_OPENING).collect()]


def _result(kept: bool | None, is_copy: bool) -> str:
    if kept is None:
        return ""
    return (DUPLICATE if is_copy else KEPT) if kept else FILTERED


def name_of_sources(sources: DataFrame) -> str:
    """Returns a name from the addresses of the sources; empty if they have nothing in common.

    Args:
        sources: Table sources.
    """
    # What the first and the last address in alphabetical order share, all share.
    ends = sources.agg(F.min("source").alias("first"), F.max("source").alias("last")).first()
    return "" if ends is None or ends["first"] is None else common_name(ends["first"], ends["last"])


def common_name(first: str, last: str) -> str:
    """Returns the name of a file without its ending, or of the folder that holds two files.

    Examples:
        >>> common_name("file:/data/flowers.tar", "file:/data/flowers.tar")
        'flowers'
        >>> common_name("s3a://bucket/birds/00000.tar", "s3a://bucket/birds/00412.tar")
        'birds'
        >>> common_name("file:/a/x.tar", "hdfs://b/x.tar")
        ''
    """
    if first == last:
        whole = posixpath.basename(first.rstrip("/"))
        return whole.split(".")[0] or whole
    shared = posixpath.commonprefix([first, last]).rpartition("/")[0]
    return "" if shared.endswith((":", ":/")) else posixpath.basename(shared)
