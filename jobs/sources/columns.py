"""Finds the columns of a table with the image, caption and key, and makes rows from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.runtime.config import IngestSettings
from jobs.sources.rows import READ_STAGE, first_name
from models.errors import WinnowError

# Columns in which img2dataset describes a failed download.
STATUS = ("status", "error_message")
BYTES = "bytes"
_URL = "url"
_SHOWN, _SHOWN_LETTERS = 20, 80


@dataclass(frozen=True)
class Mapping:
    """The names of the columns of a table by their role.

    Attributes:
        image: Binary column, or a struct with binary `bytes`, as Hugging Face writes it.
        caption: String column; None if the table has none.
        key: String or integer column; None if the table has none, and then the image_id is the key.
    """

    image: str
    caption: str | None
    key: str | None


def match(schema: T.StructType, settings: IngestSettings, where: str) -> Mapping:
    """Finds the columns by name and type.

    Args:
        schema: Schema of the table.
        settings: The names to look for; the first match wins, upper and lower case are equal.
        where: Path of the table, for the message.

    Raises:
        WinnowError: No column holds images; the message lists the columns.

    Examples:
        >>> from jobs.runtime import config
        >>> kinds = {"url": T.StringType(), "TEXT": T.StringType(), "image": T.StringType(), "jpg": T.BinaryType()}
        >>> schema = T.StructType([T.StructField(name, kind) for name, kind in kinds.items()])
        >>> match(schema, config.load().ingest, "photos.parquet")
        Mapping(image='jpg', caption='TEXT', key='url')
    """
    image = _first(schema, settings.image_columns, _holds_images)
    if image is None:
        present = [f"{field.name} {field.dataType.simpleString()}" for field in schema.fields]
        texts = [field.name for field in schema.fields if isinstance(field.dataType, T.StringType)]
        raise WinnowError(no_image_column(where, present, settings, text_instead(texts, settings)))
    caption = _first(schema, settings.caption_columns, lambda kind: isinstance(kind, T.StringType))
    key = _first(schema, settings.key_columns, lambda kind: isinstance(kind, T.StringType | T.IntegralType))
    return Mapping(image, caption, key)


def no_image_column(where: str, present: Sequence[str], settings: IngestSettings, instead: str) -> str:
    """Returns that no column holds images, and what to do.

    Args:
        where: The table or file.
        present: Name and type of each of its columns.
        settings: The names that were looked for.
        instead: From `text_instead`.
    """
    columns = ", ".join(column[:_SHOWN_LETTERS] for column in present[:_SHOWN])
    text = (
        f"{where} has no binary column named {', '.join(settings.image_columns)}; it has {columns}: set "
        "ingest.image_columns, as in --set 'ingest.image_columns=[\"NAME\"]'"
    )
    return f"{text}; {instead}" if instead else text


def text_instead(texts: Sequence[str], settings: IngestSettings) -> str:
    """Returns what to do about a column of texts where images are expected; empty if there is none.

    Args:
        texts: Names of the columns of texts.
        settings: The names of columns of images.

    Examples:
        >>> from jobs.runtime import config
        >>> text_instead(["caption", "Image"], config.load().ingest)
        'the column Image holds text: download URLs (as img2dataset does) or decode base64 first'
    """
    name = first_name(texts, [*settings.image_columns, _URL])
    what = "holds text: download URLs (as img2dataset does) or decode base64 first"
    return "" if name is None else f"the column {name} {what}"


def rows(table: DataFrame, source: Column, mapping: Mapping) -> DataFrame:
    """Returns the rows of a table in the schema of all sources.

    Args:
        table: The table.
        source: The file or table that contains a row.
        mapping: From `match`.

    Returns:
        `rows.SCHEMA`. Rows without an image have the reason `no image`, and as detail the message of img2dataset.
    """
    kind = table.schema[mapping.image].dataType
    column = _column(mapping.image)
    image = column[BYTES] if isinstance(kind, T.StructType) else column
    is_missing = image.isNull()
    status = [_column(name).cast("string") for name in STATUS if name in table.columns]
    detail = F.coalesce(F.nullif(F.concat_ws(": ", *status), F.lit("")), F.lit("the image column is null"))
    return table.select(
        source.alias("source"),
        (_column(mapping.key) if mapping.key else F.lit(None)).cast("string").alias("key"),
        (_column(mapping.caption) if mapping.caption else F.lit(None)).cast("string").alias("caption"),
        image.alias("image"),
        _meta(table.schema, mapping).alias("meta"),
        F.when(is_missing, READ_STAGE).alias("stage"),
        F.when(is_missing, "no image").alias("reason"),
        F.when(is_missing, detail).alias("detail"),
        F.lit(mapping.caption and f"column {mapping.caption}").cast("string").alias("caption_from"),
    )


def _meta(schema: T.StructType, mapping: Mapping) -> Column:
    """Returns all columns that are not mapped as one JSON object; binary values become base64."""
    others = [_column(f.name).alias(f.name) for f in schema.fields if f.name not in _mapped(mapping)]
    kind = schema[mapping.image].dataType
    if isinstance(kind, T.StructType) and len(kind.fields) > 1:
        others.append(_column(mapping.image).dropFields(BYTES).alias(mapping.image))
    if not others:
        return F.lit("{}")
    # Keep nulls: a field that is null differs from a missing field.
    return F.to_json(F.struct(*others), {"ignoreNullFields": "false"})


def _mapped(mapping: Mapping) -> tuple[str | None, ...]:
    return mapping.image, mapping.caption, mapping.key


def _column(name: str) -> Column:
    return F.col("`" + name.replace("`", "``") + "`")


def _first(schema: T.StructType, names: Sequence[str], fits: Callable[[T.DataType], bool]) -> str | None:
    """Returns the first of the names that the table has with a fitting type."""
    return first_name([field.name for field in schema.fields if fits(field.dataType)], names)


def _holds_images(kind: T.DataType) -> bool:
    if isinstance(kind, T.StructType):
        return BYTES in kind.names and isinstance(kind[BYTES].dataType, T.BinaryType)
    return isinstance(kind, T.BinaryType)
