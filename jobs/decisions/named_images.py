"""Finds the images that a person names: by id, the first digits of an id, key, or image file."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.runtime.scratch import Scratch
from jobs.sources import files
from jobs.sources.rows import MAX_IMAGE_BYTES
from models.errors import WinnowError

FEWEST_DIGITS = 4
"""Fewest digits of the beginning of an id."""

_DIGITS = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},32}}")
_CONTENT_DIGITS = 32  # of signals.content
FILE, _ID, _KEY, _BEGINNING = "file", "id", "key", "first digits"
_BY = (FILE, _ID, _KEY, _BEGINNING)
_SHOWN = 3


def names(given: Sequence[str], list_file: str | None = None) -> list[str]:
    """Returns the names of images on the command line and in a list, each once.

    Args:
        given: Names of images.
        list_file: Path of a text file with one name in each line; empty lines are skipped.

    Raises:
        WinnowError: There is no name, or the list cannot be read.
    """
    listed: list[str] = []
    if list_file is not None:
        try:
            listed = Path(list_file).read_text("utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            fault = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise WinnowError(f"the list {list_file} cannot be read: {fault}: write one IMAGE in each line") from error
    found = list(dict.fromkeys(name.strip() for name in (*given, *listed) if name.strip()))
    if not found:
        raise WinnowError("no image is named: give an id, the first digits of one, a key or a file, or --from FILE")
    return found


def require_known(job: Job, given: Sequence[str]) -> None:
    """Checks without Spark, if the table images is small, that each name may name an image.

    Raises:
        WinnowError: One names none; the message gives the name.
    """
    job.lake.require_written(tables.IMAGES)
    rows = job.lake.few_rows(tables.IMAGES, "image_id", "key")
    if rows is None:
        return
    ids, keys = rows["image_id"], set(rows["key"])
    for name in given:
        start = name.lower()
        is_start = _DIGITS.fullmatch(start) and any(image_id.startswith(start) for image_id in ids)
        if not is_start and name not in keys and _content(name) is None:
            raise WinnowError(f"{_unknown(name)}. Nothing was written")


def find(job: Job, given: Sequence[str], scratch: Scratch) -> DataFrame:
    """Finds the images of the lake that a person names.

    Args:
        job: The running command.
        given: Names of images, as `names` returns them.
        scratch: Keeps the result.

    Returns:
        name, by (file, id, key or first digits), image_id, key. Several images may have the bytes of one file.

    Raises:
        WinnowError: A name names no image, or several; the message gives the name.
    """
    images = job.lake.require(tables.IMAGES).select("image_id", "key")
    contents = {name: _content(name) for name in given}
    found = scratch.keep(matches(contents, images, job.lake.read(tables.SIGNALS)))
    named = job.lake.spark.createDataFrame([(name,) for name in given], "name string")
    counts = found.groupBy("name").agg(F.first("by").alias("by"), F.count("*").alias("images"))
    several = (F.col("by") != FILE) & (F.col("images") > 1)
    faults = named.join(counts, "name", "left").where(F.col("images").isNull() | several)
    some = faults.orderBy(F.col("images").isNotNull(), "name").limit(_SHOWN + 1).collect()
    if some:
        more = f"; {faults.count() - _SHOWN:,} more names" if len(some) > _SHOWN else ""
        ids = _first_ids(found, [row.name for row in some[:_SHOWN]])
        said = "; ".join(_fault(row, ids.get(row.name, []), contents[row.name] is not None) for row in some[:_SHOWN])
        raise WinnowError(f"{said}{more}. Nothing was written")
    return found


def matches(contents: Mapping[str, str | None], images: DataFrame, signals: DataFrame) -> DataFrame:
    """Returns the images that each name fits.

    Of several ways to read a name, the first that fits counts: file, id, key, first digits of an id.

    Args:
        contents: The names, each with `signals.content` of its file; None if it is not a file.
        images: image_id, key.
        signals: image_id, content.

    Returns:
        name, by, image_id, key.
    """
    spark = images.sparkSession
    digits = [name for name in contents if _DIGITS.fullmatch(name.lower())]
    of_names = F.broadcast(spark.createDataFrame([(name, name) for name in contents], "name string, key string"))
    found = [_fit(_KEY, images.join(of_names, "key"))]
    if digits:
        rows = [(name, name.lower()) for name in digits]
        starts = F.broadcast(spark.createDataFrame(rows, "name string, start string"))
        lengths = sorted({len(name) for name in digits})
        every_start = F.explode(F.array(*[F.substring("image_id", 1, size) for size in lengths])).alias("start")
        started = images.select("image_id", "key", every_start).join(starts, "start")
        found.append(_fit(F.when(F.col("start") == F.col("image_id"), _ID).otherwise(_BEGINNING), started))
    if any(contents.values()):
        known = [(name, content) for name, content in contents.items() if content is not None]
        of_files = F.broadcast(spark.createDataFrame(known, "name string, content string"))
        same = signals.select("image_id", "content").join(of_files, "content").select("image_id", "name").distinct()
        found.append(_fit(FILE, images.join(same, "image_id")))
    every = reduce(DataFrame.unionByName, found)
    place = F.array_position(F.lit(list(_BY)), F.col("by"))
    first = F.min(place).over(Window.partitionBy("name"))
    return every.withColumn("is_first", place == first).where("is_first").drop("is_first")


def _fit(by: str | Column, rows: DataFrame) -> DataFrame:
    return rows.select("name", (F.lit(by) if isinstance(by, str) else by).alias("by"), "image_id", "key")


def _content(name: str) -> str | None:
    """Returns `signals.content` of the file of that name; None if there is no such file."""
    path = files.absolute(name)
    try:
        if files.kind(path) != "file":
            return None
    except (OSError, ValueError, WinnowError):  # a key may look like a path or address that cannot be read
        return None
    return hashlib.sha256(files.read(path, MAX_IMAGE_BYTES)).hexdigest()[:_CONTENT_DIGITS]


def _first_ids(found: DataFrame, given: Sequence[str]) -> dict[str, list[str]]:
    """Returns the smallest ids of the images that each of a few names fits."""
    place = F.row_number().over(Window.partitionBy("name").orderBy("image_id"))
    rows = found.where(F.col("name").isin(*given)).withColumn("place", place).where(F.col("place") <= _SHOWN)
    ids: dict[str, list[str]] = {}
    for row in rows.orderBy("name", "place").collect():
        ids.setdefault(row.name, []).append(row.image_id)
    return ids


def _unknown(name: str) -> str:
    return (
        f"unknown image {name}: it is neither the id of an image of the lake, nor the first {FEWEST_DIGITS} or more "
        "digits of one, nor a key, nor a file"
    )


def _fault(row: Row, ids: Sequence[str], is_file: bool) -> str:
    if row.images is None and is_file:
        return f"file {row.name}: no image that `winnow score` has read has these bytes"
    if row.images is None:
        return _unknown(row.name)
    shown = ", ".join(ids) + (", …" if row.images > _SHOWN else "")
    return f"{row.name} is the {row.by} of {row.images:,} images ({shown}): give the id of one"
