"""Which columns of a table are the picture, its caption and its key, and the rows made of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.runtime.config import IngestSettings
from jobs.sources.rows import READ_STAGE
from models.errors import WinnowError

# What img2dataset says of a download that failed.
_STATUS = ("status", "error_message")
_BYTES = "bytes"


@dataclass(frozen=True)
class Mapping:
    """The columns of a table by what they are.

    Attributes:
        image: Binary, or a struct with binary `bytes`, as Hugging Face writes it.
        caption: A string; None when the table has none.
        key: None when the table has none; the image_id then takes its place.
    """

    image: str
    caption: str | None
    key: str | None


def match(schema: T.StructType, settings: IngestSettings, where: str) -> Mapping:
    """Finds the columns by name and type.

    Args:
        schema: Of the table.
        settings: The names looked for, first match wins; small and capital letters are the same.
        where: The table's path, for the message.

    Raises:
        WinnowError: No column holds pictures; the message lists the columns.

    Examples:
        >>> from jobs.runtime import config
        >>> kinds = {"url": T.StringType(), "TEXT": T.StringType(), "image": T.StringType(), "jpg": T.BinaryType()}
        >>> schema = T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])
        >>> match(schema, config.load().ingest, "photos.parquet")
        Mapping(image='jpg', caption='TEXT', key='url')
    """
    image = _first(schema, settings.image_columns, _holds_images)
    if image is None:
        has = ", ".join(f"{field.name} {field.dataType.simpleString()}"[:80] for field in schema.fields[:20])
        wanted = ", ".join(settings.image_columns)
        raise WinnowError(f"{where} has no binary column named {wanted}; it has {has}: set ingest.image_columns")
    caption = _first(schema, settings.caption_columns, lambda kind: isinstance(kind, T.StringType))
    key = _first(schema, settings.key_columns, lambda kind: isinstance(kind, T.StringType | T.IntegralType))
    return Mapping(image, caption, key)


def rows(table: DataFrame, source: Column, mapping: Mapping) -> DataFrame:
    """A table's rows in the shape that every source gives.

    Args:
        table: Holds the mapping's columns.
        source: The file or table that a row lies in.
        mapping: From `match`.

    Returns:
        `rows.SCHEMA`. Rows without a picture have the reason `no image`, and as detail what img2dataset said of them.
    """
    kind = table.schema[mapping.image].dataType
    column = _column(mapping.image)
    image = column[_BYTES] if isinstance(kind, T.StructType) else column
    lacking = image.isNull()
    said = [_column(name).cast("string") for name in _STATUS if name in table.columns]
    detail = F.coalesce(F.nullif(F.concat_ws(": ", *said), F.lit("")), F.lit("the image column is null"))
    return table.select(
        source.alias("source"),
        (_column(mapping.key) if mapping.key else F.lit(None)).cast("string").alias("key"),
        (_column(mapping.caption) if mapping.caption else F.lit(None)).cast("string").alias("caption"),
        image.alias("image"),
        _meta(table.schema, mapping).alias("meta"),
        F.when(lacking, READ_STAGE).alias("stage"),
        F.when(lacking, "no image").alias("reason"),
        F.when(lacking, detail).alias("detail"),
    )


def _meta(schema: T.StructType, mapping: Mapping) -> Column:
    """All columns that are not mapped, as one JSON object; binary ones become base64."""
    others = [_column(f.name).alias(f.name) for f in schema.fields if f.name not in _mapped(mapping)]
    kind = schema[mapping.image].dataType
    if isinstance(kind, T.StructType) and len(kind.fields) > 1:
        others.append(_column(mapping.image).dropFields(_BYTES).alias(mapping.image))
    if not others:
        return F.lit("{}")
    # Nulls are kept: a field that is there and null is not a field that is missing.
    return F.to_json(F.struct(*others), {"ignoreNullFields": "false"})


def _mapped(mapping: Mapping) -> tuple[str | None, ...]:
    return mapping.image, mapping.caption, mapping.key


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _first(schema: T.StructType, names: Sequence[str], fits: Callable[[T.DataType], bool]) -> str | None:
    """The first wanted name that the table has with a fitting type; the exact spelling before another."""
    fitting = [field.name for field in schema.fields if fits(field.dataType)]
    lowered = {name.lower(): name for name in reversed(fitting)}
    return next((name if name in fitting else lowered[name.lower()] for name in names if name.lower() in lowered), None)


def _holds_images(kind: T.DataType) -> bool:
    if isinstance(kind, T.StructType):
        return _BYTES in kind.names and isinstance(kind[_BYTES].dataType, T.BinaryType)
    return isinstance(kind, T.BinaryType)
