"""Rows of sources, each image decoded once and named by its identity.

An image's identity is the first 128 bits of

    SHA-256( hexadecimal SHA-256 of the file's bytes ‖ caption in UTF-8 )

The first part always has 64 characters, so no other image and caption give the same text. A missing caption counts as
an empty one here: CSV and WebDataset cannot tell them apart, and ids must not depend on the format. The column keeps
the difference.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.config import IngestSettings
from jobs.sources import delta, folder, parquet, rows, webdataset
from jobs.sources.find import Source
from models.images.decoding import ImageFault, check

DECODE_STAGE = "decode"
_READERS = {"folder": folder.read, "webdataset": webdataset.read, "parquet": parquet.read, "delta": delta.read}
_INFO = "struct<width: int, height: int, format: string, reason: string, detail: string>"


def source_rows(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """The rows of sources of any format: `jobs.sources.rows.SCHEMA`.

    Raises:
        WinnowError: A source lacks a column.
    """
    parts = []
    for fmt, reader in _READERS.items():
        of_format = [source for source in sources if source.format == fmt]
        parts += [reader(spark, of_format, settings)] if of_format else []
    return reduce(DataFrame.unionByName, parts)


def inspected(source_rows: DataFrame, max_megapixels: float) -> DataFrame:
    """Decodes each image once and names it.

    Args:
        source_rows: `jobs.sources.rows.SCHEMA`.
        max_megapixels: Larger pictures are refused.

    Returns:
        The same rows with image_id, and `info`: width and height in pixels, format, or reason and detail; null for rows
        that could not be read. A row without a key has its id as key.
    """
    identity = image_id(F.col("image"), F.col("caption"))
    nameless = F.when(F.col("image").isNull(), F.substring(F.sha2(F.col("meta"), 256), 1, 32)).otherwise(identity)
    return source_rows.select(
        "source",
        F.coalesce("key", nameless).alias("key"),
        "caption",
        "image",
        "meta",
        "stage",
        "reason",
        "detail",
        identity.alias("image_id"),
        _inspect(max_megapixels)(F.col("image")).alias("info"),
    )


def image_id(image: Column, caption: Column) -> Column:
    """The identity of an image with its caption, 32 hexadecimal digits; null without an image.

    Args:
        image: The file's bytes.
        caption: Null counts as empty.
    """
    return F.substring(F.sha2(F.concat(F.sha2(image, 256), F.coalesce(caption, F.lit(""))), 256), 1, 32)


def quarantine(staged: DataFrame) -> DataFrame:
    """The rows of the table quarantine: what could not be read or decoded, and why."""
    stage = F.coalesce(F.col("stage"), F.lit(DECODE_STAGE)).alias("stage")
    detail = F.coalesce(F.col("detail"), F.col("info.detail")).alias("detail")
    nameless = F.lit(None).cast("string").alias("image_id")
    return staged.where(fault_reason().isNotNull()).select(
        "source", "key", stage, fault_reason().alias("reason"), detail, nameless
    )


def fault_reason() -> Column:
    """Why a row of `inspected` is no image; null for those that are."""
    return F.coalesce(F.col("reason"), F.col("info.reason"))


def _inspect(max_megapixels: float) -> Any:
    # Only this small struct comes back from Python; the bytes stay in the JVM.
    def inspect(images: pa.Array) -> pa.Array:
        found = [_inspect_one(image.as_py(), max_megapixels) for image in images]
        kinds = {"width": pa.int32(), "height": pa.int32(), "format": pa.string()}
        kinds |= {"reason": pa.string(), "detail": pa.string()}
        return pa.array(found, pa.struct(list(kinds.items())))

    return F.arrow_udf(inspect, _INFO)


def _inspect_one(image: bytes | None, max_megapixels: float) -> dict[str, Any] | None:
    if image is None:
        return None
    try:
        return vars(check(image, max_megapixels))
    except ImageFault as fault:
        return {"reason": fault.reason, "detail": rows.printable(fault.detail)}
