"""The row schema that all readers of sources share."""

import base64
import codecs
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
from pyspark.sql.pandas.types import from_arrow_schema

_FIELDS = ("source", "key", "caption", "image", "meta", "stage", "reason", "detail", "caption_from")
_ARROW = pa.schema([(n, pa.binary() if n == "image" else pa.string()) for n in _FIELDS])
SCHEMA = from_arrow_schema(_ARROW)

# An Arrow batch ends at whichever limit comes first; a few MB keep the memory of the Python worker and the JVM small.
_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 1000

MAX_IMAGE_BYTES = 1 << 29
"""Maximum size of an image file (512 MB): Spark's rows and Arrow's columns end at 2 GB, and no image is so large."""

MAX_FIELD_BYTES = 1 << 24
"""Maximum size of text and JSON (16 MB); of larger members of a shard only the size is stored."""

READ_STAGE = "read"

OF_ONE_ROW = ("missing file", "no image", "file too large", "not a file")
"""Reasons of the stage read that concern one row, whose key is known. After others, rows may be missing."""

CAPTION_FAULT = {"caption_fault": "bytes that are not UTF-8 were replaced"}
"""What meta says of a caption in which `text` replaced bytes."""

# JSON escapes: a backslash or a whole surrogate pair (group 1, kept), or half a pair.
_ESCAPE = re.compile(r"(\\\\|\\u(?i:d[89ab][0-9a-f]{2})\\u(?i:d[c-f][0-9a-f]{2}))|\\u(?i:d[89a-f][0-9a-f]{2})")
# Python reads and writes JSON to a depth of about 1,000 minus the depth of the call stack. This fixed limit is lower.
_DEEPEST = 200
# Spark's parser accepts no longer numbers.
_LONGEST_NUMBER = 1000


@dataclass(frozen=True)
class Row:
    """One image with its caption, or why it could not be read.

    Attributes:
        source: The file, folder or table that contains it.
        key: Name of the image there; None if it has none.
        caption: None if there is no caption; an empty caption is ''.
        image: The bytes of the file, unchanged; None if there is a reason.
        meta: All other input fields, as a JSON object.
        reason: Why the row could not be read, as a fixed phrase that can be counted; None if it could be read.
        detail: What was found, for the reader of the table quarantine.
        caption_from: Where the caption was found, such as `column TEXT`; None if there is no caption.
    """

    source: str
    key: str | None
    caption: str | None = None
    image: bytes | None = None
    meta: str = "{}"
    reason: str | None = None
    detail: str | None = None
    caption_from: str | None = None


class FieldText(NamedTuple):
    """The text of a field of a record.

    Attributes:
        name: The field as the record spells it; None if the record has none of the fields.
        text: None if the field is missing, null, or a list without text.
        is_whole: Whether the text is the whole value; if not, the field must stay in meta.
    """

    name: str | None
    text: str | None
    is_whole: bool = True


def batches(rows: Iterable[Row]) -> Iterator[pa.RecordBatch]:
    """Yields rows as Arrow batches of a few MB, for `mapInArrow`.

    Examples:
        >>> [batch.num_rows for batch in batches([Row("s", "a", image=b"1"), Row("s", "b", image=b"2")])]
        [2]
    """
    waiting: list[Row] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += len(row.image or b"") + len(row.meta) + len(row.caption or "")
        if size >= _BATCH_BYTES or len(waiting) >= _BATCH_ROWS:
            yield _batch(waiting)
            waiting, size = [], 0
    if waiting:
        yield _batch(waiting)


def printable(name: str) -> str:
    r"""Returns a file name that can be stored; bytes that are not UTF-8 become the replacement character.

    Examples:
        >>> printable("caf\udce9.jpg")
        'caf�.jpg'
    """
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def encoding(head: bytes) -> str:
    r"""Returns the encoding of a text file: UTF-16 if its byte order mark says so, else UTF-8.

    Args:
        head: The first two bytes, or more.

    Returns:
        A codec that removes the byte order mark.

    Examples:
        >>> encoding(b"\xff\xfeZ\x00"), encoding(b"\xef\xbb\xbfZ"), encoding(b"Z")
        ('utf-16', 'utf-8-sig', 'utf-8-sig')
    """
    return "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"


def text(data: bytes) -> tuple[str, bool]:
    r"""Returns the content of a text file without its byte order mark, and whether bytes were replaced.

    A file is UTF-16 if it begins with the byte order mark of UTF-16, else UTF-8. Bytes that cannot be decoded become
    the replacement character.

    Examples:
        >>> text("Zoë\n".encode()), text("Zoë".encode("utf-8-sig")), text("Zoë".encode("utf-16"))
        (('Zoë\n', False), ('Zoë', False), ('Zoë', False))
        >>> text(b"Zo\xeb")
        ('Zo�', True)
    """
    codec = encoding(data)
    try:
        return data.decode(codec), False
    except UnicodeDecodeError:
        return data.decode(codec, "replace"), True


def one_line(message: object) -> str:
    r"""Returns a message, such as an error of pyarrow, on one line.

    Examples:
        >>> one_line(ValueError("bad page\n  in column 2"))
        'bad page in column 2'
    """
    return " ".join(str(message).split())


def first_name(present: Sequence[str], wanted: Sequence[str]) -> str | None:
    """Returns the first of the wanted names that is present, in any case; prefers the exact spelling.

    Examples:
        >>> first_name(["url", "Caption", "TEXT"], ["caption", "text"]), first_name(["text", "TEXT"], ["TEXT"])
        ('Caption', 'TEXT')
    """
    lowered = {name.lower(): name for name in reversed(present)}
    return next(
        (name if name in present else lowered[name.lower()] for name in wanted if name.lower() in lowered), None
    )


def first_text(fields: Mapping[str, Any], names: Iterable[str]) -> FieldText:
    """Returns the text of the first of the names that a record has; upper and lower case are equal.

    Of a list, it is the first text in it. Bytes are decoded. Other values that are not text are returned as JSON.

    Args:
        fields: The record.
        names: Names of fields, in order of preference.

    Examples:
        >>> first_text({"url": "u", "Text": "a dog"}, ["caption", "text"])
        FieldText(name='Text', text='a dog', is_whole=True)
        >>> first_text({"caption": ["a dog", "a pet"]}, ["caption"])
        FieldText(name='caption', text='a dog', is_whole=False)
        >>> first_text({"caption": [7, b"a dog"]}, ["caption"])
        FieldText(name='caption', text='a dog', is_whole=False)
        >>> first_text({"caption": 7}, ["caption"]), first_text({}, ["caption"])
        (FieldText(name='caption', text='7', is_whole=True), FieldText(name=None, text=None, is_whole=True))
    """
    found = first_name(list(fields), list(names))
    value = None if found is None else fields[found]
    is_whole = not isinstance(value, list)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, str | bytes)), None)
    if isinstance(value, bytes):
        return FieldText(found, text(value)[0], is_whole)
    return FieldText(found, value if value is None or isinstance(value, str) else to_json(value), is_whole)


def json_object(content: str) -> tuple[dict[str, Any] | None, dict[str, str]]:
    r"""Returns the object in a JSON text, and what to add to meta if something is wrong with it.

    Half a surrogate pair (JavaScript leaves one if it cuts an emoji) becomes the replacement character, because UTF-8
    cannot encode it.

    Returns:
        The object, and `json_fault` if something was replaced. If the text is not an object: None, the text as `json`,
        and as `json_fault` why it cannot be parsed, if so.

    Examples:
        >>> json_object(r'{"caption": "\ud83d\ude00 \ud83d"}')
        ({'caption': '😀 �'}, {'json_fault': 'halves of surrogate pairs were replaced'})
        >>> json_object("[1]")
        (None, {'json': '[1]'})
    """
    whole = _ESCAPE.sub(lambda found: found[1] or "�", content)
    try:
        value = json.loads(whole)
        _check_depth(value)
    except (ValueError, RecursionError) as error:
        return None, {"json": content, "json_fault": str(error)}
    if not isinstance(value, dict):
        return None, {"json": content}
    return value, {} if whole == content else {"json_fault": "halves of surrogate pairs were replaced"}


def is_strict(content: str) -> bool:
    r"""Returns whether every parser reads a JSON text the same way: no NaN, no repeated names, no huge numbers.

    Examples:
        >>> is_strict('{"a": 1.0}'), is_strict('{"a": NaN}'), is_strict('{"a": 1, "a": 2}')
        (True, False, False)
    """
    try:
        json.loads(content, parse_constant=_refuse, parse_int=_short, parse_float=_short, object_pairs_hook=_named_once)
    except (ValueError, RecursionError):
        return False
    return True


def to_json(value: Any) -> str:
    """Returns any value of an input record as JSON; bytes become base64; dates, NaN and infinities become text.

    Examples:
        >>> to_json({"n": 1, "b": b"abc", "x": float("nan")})
        '{"n": 1, "b": "YWJj", "x": "nan"}'
    """
    try:
        return json.dumps(value, ensure_ascii=False, default=_plain, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), ensure_ascii=False, default=_plain)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _short(number: str) -> str:
    if len(number) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(number)} digits")
    return number


def _named_once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name comes twice")


def _check_depth(value: Any) -> None:
    """Raises an error for JSON that is nested too deeply.

    Raises:
        RecursionError: As Python's parser does, but at a fixed depth.
    """
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise RecursionError(f"more than {_DEEPEST} lists and objects in each other")


def _inside(value: Any) -> list[Any]:
    """Returns the lists and objects directly inside a value."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [inner for inner in inside if isinstance(inner, dict | list)]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _plain(value: Any) -> str:
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else str(value)


def _batch(rows: list[Row]) -> pa.RecordBatch:
    columns = {name: [getattr(row, name) for row in rows] for name in _FIELDS if name != "stage"}
    columns["stage"] = [READ_STAGE if row.reason else None for row in rows]
    arrays = [pa.array(columns[name], type=_ARROW.field(name).type) for name in _FIELDS]
    return pa.RecordBatch.from_arrays(arrays, schema=_ARROW)
