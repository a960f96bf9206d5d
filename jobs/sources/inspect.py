"""Rows of sources with the identity of each image; each image is decoded once.

An image's identity is the first 128 bits of

    SHA-256( hexadecimal SHA-256 of the file's bytes ‖ caption in UTF-8 )

The first part always has 64 characters, so no other image and caption give the same text. For the identity, a missing
caption equals an empty one: CSV and WebDataset cannot tell them apart, and ids must not depend on the format. The
column caption keeps the difference.
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
    """Returns the rows of sources of any format: `jobs.sources.rows.SCHEMA`.

    Raises:
        WinnowError: A source lacks a column.
    """
    parts = []
    for fmt, reader in _READERS.items():
        chosen = [source for source in sources if source.format == fmt]
        parts += [reader(spark, chosen, settings)] if chosen else []
    return reduce(DataFrame.unionByName, parts)


def inspected(source_rows: DataFrame, max_megapixels: float) -> DataFrame:
    """Decodes each image once and computes its id.

    Args:
        source_rows: `jobs.sources.rows.SCHEMA`.
        max_megapixels: Larger images are rejected.

    Returns:
        The same rows with image_id and `info`: width and height in pixels and format, or reason and detail; null for
        rows that could not be read. A row without a key gets its id as key.
    """
    identity = image_id(F.col("image"), F.col("caption"))
    return source_rows.select(
        "source",
        F.coalesce("key", _made_key(identity)).alias("key"),
        "caption",
        "image",
        "meta",
        "stage",
        "reason",
        "detail",
        "caption_from",
        identity.alias("image_id"),
        _inspect(max_megapixels)(F.col("image")).alias("info"),
    )


def image_id(image: Column, caption: Column) -> Column:
    """Returns the identity of an image with its caption, 32 hexadecimal digits; null without an image.

    Args:
        image: The file's bytes.
        caption: The caption; null counts as empty.
    """
    return F.substring(F.sha2(F.concat(F.sha2(image, 256), F.coalesce(caption, F.lit(""))), 256), 1, 32)


def quarantine(staged: DataFrame) -> DataFrame:
    """Returns the rows of the table quarantine: rows that could not be read or decoded, with the reason."""
    stage = F.coalesce(F.col("stage"), F.lit(DECODE_STAGE)).alias("stage")
    detail = F.coalesce(F.col("detail"), F.col("info.detail")).alias("detail")
    unknown = [F.lit(None).cast("string").alias(name) for name in ("image_id", "category", "model")]
    return staged.where(fault_reason().isNotNull()).select(
        "source", "key", stage, fault_reason().alias("reason"), detail, *unknown
    )


def fault_reason() -> Column:
    """Returns why a row of `inspected` is not an image; null for images."""
    return F.coalesce(F.col("reason"), F.col("info.reason"))


def hides_rows() -> Column:
    """Returns whether other rows of the source may be missing because of a faulty row of `inspected`.

    That is so if a file, or an unknown part of it, could not be read. It is also so if the row has no key of its own:
    then it is not known which image it was before.
    """
    is_part = (F.col("stage") == rows.READ_STAGE) & ~F.col("reason").isin(*rows.OF_ONE_ROW)
    has_made_key = F.col("key") == _made_key(F.col("image_id"))
    return F.coalesce(is_part, F.lit(False)) | has_made_key


def _made_key(identity: Column) -> Column:
    """Returns the key of a row without one."""
    return F.coalesce(identity, F.substring(F.sha2(F.col("meta"), 256), 1, 32))


def _inspect(max_megapixels: float) -> Any:
    # Python returns only this small struct; the bytes stay in the JVM.
    def inspect(images: pa.Array) -> pa.Array:
        results = [_inspect_one(image.as_py(), max_megapixels) for image in images]
        kinds = {"width": pa.int32(), "height": pa.int32(), "format": pa.string()}
        kinds |= {"reason": pa.string(), "detail": pa.string()}
        return pa.array(results, pa.struct(list(kinds.items())))

    return F.arrow_udf(inspect, _INFO)


def _inspect_one(image: bytes | None, max_megapixels: float) -> dict[str, Any] | None:
    if image is None:
        return None
    try:
        return vars(check(image, max_megapixels))
    except ImageFault as fault:
        return {"reason": fault.reason, "detail": rows.printable(fault.detail)}
