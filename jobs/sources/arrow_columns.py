"""Finds the columns of a Parquet file with the image, caption and key, and reads the values of columns."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.runtime.config import IngestSettings
from jobs.sources import columns
from jobs.sources.columns import BYTES
from jobs.sources.rows import first_name

UNREADABLE = (pa.ArrowException, OSError, ValueError, LookupError, OverflowError)
"""What pyarrow raises for damaged files: ValueError for a name that is not UTF-8, KeyError for a wrong time zone."""


@dataclass(frozen=True)
class FileColumns:
    """The columns of a file by their role.

    Attributes:
        names: All columns of the file, in order.
        image: Place of the column of bytes, or of the struct with `bytes` that Hugging Face writes; None if there is
            none.
        caption: Place of the column of texts, or of lists of texts; None if there is none.
        key: Place of the column of texts or integers; None if there is none, and then the image_id is the key.
        text: What to do about a column of texts in place of images; '' if there is none, or a column of images.
    """

    names: tuple[str, ...]
    image: int | None
    caption: int | None
    key: int | None
    text: str = ""


def match(schema: pa.Schema, settings: IngestSettings) -> FileColumns:
    """Finds the columns by name and type.

    Args:
        schema: Schema of the file.
        settings: The names to look for; the first match wins, upper and lower case are equal.

    Examples:
        >>> from jobs.runtime import config
        >>> schema = pa.schema([("url", pa.string()), ("TEXT", pa.string()), ("jpg", pa.binary())])
        >>> match(schema, config.load().ingest)
        FileColumns(names=('url', 'TEXT', 'jpg'), image=2, caption=1, key=0, text='')
    """
    image = _place(schema, settings.image_columns, _holds_images)
    return FileColumns(
        tuple(schema.names),
        image,
        _place(schema, settings.caption_columns, _holds_captions),
        _place(schema, settings.key_columns, lambda kind: _is_text(kind) or pa.types.is_integer(kind)),
        _text_instead(schema, settings) if image is None else "",
    )


def no_image_column(path: str, schema: pa.Schema, settings: IngestSettings) -> str:
    """Returns what is wrong with a file without a column of images, and what to do."""
    present = [f"{field.name} {field.type}" for field in schema]
    return columns.no_image_column(path, present, settings, _text_instead(schema, settings))


def _text_instead(schema: pa.Schema, settings: IngestSettings) -> str:
    return columns.text_instead([field.name for field in schema if _is_text(_plain(field.type))], settings)


def values(column: pa.Array) -> list[Any]:
    """Returns the values of a column; a text that is not UTF-8 as its bytes, and what Python cannot hold as text.

    Examples:
        >>> values(pa.array([2**62, None], pa.timestamp("us"))), values(pa.array([0.9], pa.float32()))
        (['<value out of range: 4611686018427387904>', None], [0.9])
    """
    if pa.types.is_float32(column.type) or pa.types.is_float16(column.type):
        # As the file's writer meant it: 0.9, and not the 64-bit number nearest to its 32 bits, 0.8999999761581421.
        return [None if value is None else float(str(np.float32(value))) for value in column.to_pylist()]
    try:
        return list(column.to_pylist())
    except UNREADABLE:
        if len(column) > 1:
            return [value for place in range(len(column)) for value in values(column.slice(place, 1))]
        return [_unusual(column)]


def _unusual(column: pa.Array) -> Any:
    """Returns the only value of a column whose `to_pylist` fails; None if it has no text either."""
    if pa.types.is_struct(column.type) and not column.null_count:
        fields = zip(column.type, column.flatten(), strict=True)
        return {field.name: values(inner)[0] for field, inner in fields}
    if (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) and not column.null_count:
        return values(column.flatten())
    for kind in (pa.large_binary() if pa.types.is_large_string(column.type) else pa.binary(), pa.string()):
        try:
            return column.cast(kind)[0].as_py()
        except UNREADABLE:
            continue
    return None


def _place(schema: pa.Schema, wanted: Sequence[str], fits: Callable[[pa.DataType], bool]) -> int | None:
    places = {field.name: place for place, field in reversed(list(enumerate(schema))) if fits(_plain(field.type))}
    name = first_name(list(places)[::-1], wanted)
    return None if name is None else places[name]


def _plain(kind: pa.DataType) -> pa.DataType:
    """Returns the type of a column's values: a dictionary is only another way to store them."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def _holds_captions(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return _is_text(kind) or (is_list and _is_text(kind.value_type))


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind):
        return _is_bytes(kind)
    place = kind.get_field_index(BYTES)
    # If a file stores all images by path, other programs give the bytes the type null.
    return place >= 0 and (_is_bytes(kind.field(place).type) or pa.types.is_null(kind.field(place).type))
