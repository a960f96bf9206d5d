"""An image folder: images with captions in `metadata.{jsonl,csv,parquet}`, or in text or JSON files beside them."""

import csv
import json
import posixpath
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from io import TextIOWrapper
from itertools import groupby, islice
from operator import itemgetter
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.runtime.config import IngestSettings
from jobs.sources import arrow_columns, files
from jobs.sources.beside import json_file, side_files, text_file
from jobs.sources.find import Source, is_image, is_metadata, task_count
from jobs.sources.rows import (
    CAPTION_FAULT,
    MAX_FIELD_BYTES,
    MAX_IMAGE_BYTES,
    SCHEMA,
    Row,
    batches,
    encoding,
    first_name,
    first_text,
    json_object,
    one_line,
    printable,
    text,
    to_json,
)
from models.errors import WinnowError

_TEXT, _TRUTH = pa.string(), pa.bool_()
# Names as they are on the disk: their bytes need not be text. `path` may have replacement characters.
_STORED = pa.binary()
_PLACE = pa.schema([("root", _TEXT), ("stored", _STORED)])
# `composed` is the path in NFC: a disk may store é as one character or as two, and the metadata the other way.
_FILE = pa.schema([("root", _TEXT), ("path", _TEXT), ("composed", _TEXT)])
_BESIDE = [(name, _STORED) for name in ("stored", "text_file", "json_file")]
_LISTED = pa.schema([*_FILE, ("is_image", _TRUTH), ("size", pa.int64()), *_BESIDE])
_OF_METADATA = ("caption", "caption_from", "meta", "key", "detail")
_NAMED = pa.schema([*_FILE, *((name, _TEXT) for name in _OF_METADATA)])
_CHUNK = 5000
_SHOWN_LETTERS = 300  # of the names of columns
_FILE_NAME = "file_name"


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the images of folders, at any depth.

    An image is a file with the extension of an image, or a file that metadata names. Each line of metadata is one row,
    so an image with three captions gives three rows; an image without metadata gives one. The caption comes from the
    metadata, else from the text file beside the image, else from the JSON file beside it (`jobs.sources.beside`); all
    other fields go to meta. The tasks list the folders, bring files and lines of metadata with the same name together,
    and then open the images.

    Args:
        spark: The session.
        sources: Folders.
        settings: Names of the caption column; `file_mb` sets how many images a task reads.

    Returns:
        `rows.SCHEMA`; the key is the path below the folder, without its extension.

    Raises:
        WinnowError: A metadata file has no column `file_name`.
    """
    for source in sources:
        _check_metadata(source.path)
    roots = spark.createDataFrame([(source.path,) for source in sources], "root string")
    listed = roots.mapInArrow(_list_images, from_arrow_schema(_LISTED))
    named = roots.mapInArrow(_list_metadata, from_arrow_schema(_PLACE)).repartition("root", "stored")
    named = named.mapInArrow(partial(_read_metadata, settings), from_arrow_schema(_NAMED))
    together = listed.unionByName(named, allowMissingColumns=True)
    together = together.repartition(task_count(spark, sources, settings), "root", "composed")
    # `_paired` needs this order. Only files have a size.
    together = together.sortWithinPartitions("root", "composed", F.col("size").isNull(), "path")
    return together.mapInArrow(partial(_load, settings), SCHEMA)


def records(file: IO[bytes], name: str) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yields the records of a metadata file.

    Args:
        file: File open for reading.
        name: Name of the file; ends in .jsonl, .csv or .parquet, in upper or lower case.

    Returns:
        The number of each record, from 1 (in .jsonl and .csv: of its last line), and its fields or what is wrong. In
        .jsonl and .csv, bytes that are not UTF-8 are escaped as by `surrogateescape`.
    """
    kind = posixpath.splitext(name)[1].lower()
    if kind == ".parquet":
        return _parquet_records(file)
    codec = encoding(file.read(2))
    file.seek(0)
    errors = "replace" if codec == "utf-16" else "surrogateescape"
    lines = TextIOWrapper(file, codec, errors=errors, newline="\n" if kind == ".jsonl" else "")
    return _json_records(lines) if kind == ".jsonl" else _csv_records(lines)


def _json_records(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        fields, faults = json_object(line)
        if fields is not None:
            yield number, fields | faults
        else:
            fault = faults.get("json_fault")
            yield number, f"not readable as JSON: {fault}" if fault else "not a JSON object"


def _csv_records(lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    columns: list[str] | None = None
    for number, values in _csv_rows(lines):
        if isinstance(values, str):
            yield number, values
            if columns is None:
                return
        elif columns is None:
            columns = values
        else:
            more = {"more_fields": values[len(columns) :]} if len(values) > len(columns) else {}
            yield number, dict.fromkeys(columns) | dict(zip(columns, values, strict=False)) | more


def _csv_rows(lines: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Yields the rows of a CSV file that are not empty, each with the number of its last line.

    A quote that never closes makes the following lines part of one value, up to the next quote or the end of the file.
    So a row of several lines must be quoted correctly; if not, what is wrong is yielded in its place.
    """
    # By default, a caption of more than 131,072 characters raises an exception. Without a limit, an open quote would
    # take the rest of the file into memory.
    csv.field_size_limit(MAX_FIELD_BYTES)
    taken: list[str] = []
    reader = csv.reader(_noted(lines, taken))
    last = 0
    while True:
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the next row begins in the next line
            first, last = last + 1, reader.line_num
            taken.clear()
            yield last, f"cannot read lines {first} to {last}: {error}"
            continue
        first, last = last + 1, reader.line_num
        if len(taken) > 1 and not _is_quoted_correctly(taken):
            where = f"line {first}" if first == last else f"lines {first} to {last}"
            yield last, f"the row that begins in line {first} opens a quote that never closes: cannot read {where}"
        elif values:
            yield last, values
        taken.clear()


def _noted(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
    """Passes lines on and adds them to a list, and an empty one if the end of the file is reached."""
    for line in lines:
        taken.append(line)
        yield line
    taken.append("")


def _is_quoted_correctly(lines: Sequence[str]) -> bool:
    try:
        list(csv.reader(lines, strict=True))
    except csv.Error:
        return False
    return True


def _parquet_records(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any] | str]]:
    number = 0
    for batch in pq.ParquetFile(file).iter_batches(_CHUNK):
        for record in zip(*map(arrow_columns.values, batch.columns), strict=True):
            number += 1
            yield number, dict(zip(batch.schema.names, record, strict=True))


def _check_metadata(root: str) -> None:
    """Checks the first record of the first metadata files, so that a missing column is an error before work begins."""
    for path in islice(_metadata_paths(root), 20):
        if path != printable(path):  # `_named` reports it as a quarantine row
            continue
        where = posixpath.join(root, path)
        try:
            with files.random_access(where) as file:
                first = next((fields for _, fields in records(file, path) if isinstance(fields, dict)), None)
        except OSError as error:
            raise WinnowError(f"{where} cannot be read: {error.strerror or one_line(error)}") from error
        except arrow_columns.UNREADABLE as error:
            raise WinnowError(f"{where} is not a Parquet file: {one_line(error)}") from error
        if first is not None and first_name(list(first), [_FILE_NAME]) is None:
            raise WinnowError(
                f"{where} has no column {_FILE_NAME}, which must name the image file; it has "
                f"{printable(one_line(', '.join(first)))[:_SHOWN_LETTERS]}: add the column or rename one"
            )


def _metadata_paths(root: str) -> Iterator[str]:
    for folder, entries in files.walk(root):
        for entry in entries:
            if is_metadata(entry.name):
                yield posixpath.join(folder, entry.name)


def _list_images(batches_of_roots: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (row for batch in batches_of_roots for root in batch.column(0).to_pylist() for row in _listing(root))
    yield from _chunks(rows, _LISTED)


def _listing(root: str) -> Iterator[tuple[Any, ...]]:
    for folder, entries in files.walk(root):
        beside = side_files(entry.name for entry in entries)
        for name, size in ((entry.name, entry.size) for entry in entries if not is_metadata(entry.name)):
            stored = posixpath.join(folder, name)
            path, kind = printable(stored), is_image(name)
            described = (found and _bytes_of(found) for found in (text_file(name, beside), json_file(name, beside)))
            yield root, path, _composed(path), kind, size, _bytes_of(stored), *described


def _list_metadata(batches_of_roots: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (
        (root, _bytes_of(path))
        for batch in batches_of_roots
        for root in batch.column(0).to_pylist()
        for path in _metadata_paths(root)
    )
    yield from _chunks(rows, _PLACE)


def _read_metadata(settings: IngestSettings, paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    rows = (
        row
        for batch in paths
        for place in batch.to_pylist()
        for row in _named(place["root"], _name_of(place["stored"]), settings)
    )
    yield from _chunks(rows, _NAMED)


def _named(root: str, path: str, settings: IngestSettings) -> Iterator[tuple[Any, ...]]:
    place = posixpath.join(root, path)
    try:
        yield from _names(root, path, settings)
    except OSError as error:
        if not files.is_file_error(place, error):
            raise
        path = printable(path)
        yield _bad_line(root, path, f"{path} cannot be read: {error.strerror or one_line(error)}")
    except arrow_columns.UNREADABLE as error:
        path = printable(path)
        yield _bad_line(root, path, f"{path} is not a complete Parquet file: {one_line(error)}")


def _names(root: str, path: str, settings: IngestSettings) -> Iterator[tuple[Any, ...]]:
    with files.opened(posixpath.join(root, path)) as file:
        path = printable(path)
        for number, record in records(file, path):
            key = f"{path}:{number}"
            if isinstance(record, str):
                yield _bad_line(root, key, record)
                continue
            fields = _without_escapes(record)
            if not isinstance(image := _file_name(fields), str) or not image:
                what = f"its {_FILE_NAME} is not UTF-8: {image!r}" if isinstance(image, bytes) else f"no {_FILE_NAME}"
                yield _bad_line(root, key, what, to_json(fields))
            else:
                image = posixpath.normpath(posixpath.join(posixpath.dirname(path), image))
                found = first_text(fields, settings.caption_columns)
                others = {name: value for name, value in fields.items() if name != found.name or not found.is_whole}
                value = fields.get(found.name or "")
                is_replaced = isinstance(value, bytes) or value != record.get(found.name or "")
                others |= CAPTION_FAULT if is_replaced else {}
                where = f"column {found.name}"
                yield root, image, _composed(image), found.text, where, to_json(others), key, None


def _without_escapes(value: Any) -> Any:
    """Returns a value of a record with the replacement character for each byte that `records` escaped."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return {printable(str(name)): _without_escapes(inner) for name, inner in value.items()}
    return [_without_escapes(inner) for inner in value] if isinstance(value, list) else value


def _bad_line(root: str, key: str, detail: str, meta: str = "{}") -> tuple[Any, ...]:
    # No path holds a NUL. Without a place of their own, all bad lines of a folder would go to one task.
    return root, None, f"\0{key}", None, None, meta, key, detail


def _file_name(fields: Mapping[str, Any]) -> Any:
    name = first_name(list(fields), [_FILE_NAME])
    return None if name is None else fields[name]


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def _chunks(rows: Iterator[tuple[Any, ...]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    while chunk := list(islice(rows, _CHUNK)):
        yield pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in chunk], schema)


def _load(settings: IngestSettings, together: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    found = (fields for batch in together for fields in batch.to_pylist())
    yield from batches(_row(fields, settings) for fields in _paired(found))


def _paired(found: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields each line of metadata with its file, and each image that no line names.

    A line gets the file of exactly its name. If there is none, it gets the first file whose name is equal in NFC.

    Args:
        found: Files and lines, sorted by root and composed path, the files before the lines. Only files have a size.
    """
    for _, same in groupby(found, key=itemgetter("root", "composed")):
        listed: dict[str, dict[str, Any]] = {}
        named: set[str] = set()
        for fields in same:
            path = fields["path"]
            if fields["size"] is not None and path not in listed:
                listed[path] = fields
            elif fields["size"] is not None:  # `printable` can make the names of two files equal
                yield from [fields] if fields["is_image"] else []
            elif not listed:
                yield fields
            else:
                path = path if path in listed else next(iter(listed))
                named.add(path)
                yield listed[path] | {name: fields[name] for name in _OF_METADATA}
        yield from (file for path, file in listed.items() if file["is_image"] and path not in named)


def _row(fields: Mapping[str, Any], settings: IngestSettings) -> Row:
    """Returns one row of `_paired` with the bytes of its image."""
    root, path = fields["root"], fields["path"]
    meta = fields["meta"] or "{}"
    if fields["detail"] is not None:
        return Row(root, fields["key"], None, None, meta, "bad metadata", fields["detail"])
    key = posixpath.splitext(path)[0]
    if fields["size"] is None:
        detail = f"{path}, named by {fields['key']}, does not exist"
        return Row(root, key, fields["caption"], None, meta, "missing file", detail)
    if fields["size"] > MAX_IMAGE_BYTES:
        detail = f"{path}: {fields['size']} bytes, the limit is {MAX_IMAGE_BYTES}"
        return Row(root, key, fields["caption"], None, meta, "file too large", detail)
    place = posixpath.join(root, _name_of(fields["stored"]))
    try:
        caption, where, meta = _beside(place, fields, meta, settings)
        return Row(root, key, caption, files.read(place, MAX_IMAGE_BYTES), meta, caption_from=where)
    except OSError as error:
        if not files.is_file_error(place, error):
            raise
        reason = "missing file" if isinstance(error, FileNotFoundError) else "unreadable file"
        # The failing file may be the text or JSON file.
        name = printable(posixpath.basename(str(error.filename or path)))
        at_fault = posixpath.join(posixpath.dirname(path), name)
        return Row(root, key, fields["caption"], None, meta, reason, f"{at_fault}: {error.strerror or error}")


def _beside(
    place: str, fields: Mapping[str, Any], meta: str, settings: IngestSettings
) -> tuple[str | None, str | None, str]:
    """Returns the caption, where it was found, and meta, completed from the text and JSON files beside an image."""
    caption: str | None = fields["caption"]
    where: str | None = fields["caption_from"]
    if not (fields["text_file"] or fields["json_file"]):
        return caption, where, meta
    here = posixpath.dirname(place)
    extra: dict[str, Any] = {}
    if fields["json_file"]:
        content, _ = text(files.read(posixpath.join(here, _name_of(fields["json_file"])), MAX_FIELD_BYTES))
        fields_beside, faults = json_object(content)
        extra = (fields_beside or {}) | faults
    if fields["text_file"]:
        content, replaced = text(files.read(posixpath.join(here, _name_of(fields["text_file"])), MAX_FIELD_BYTES))
        if caption is None:
            caption, where = content, "text files"
            extra |= CAPTION_FAULT if replaced else {}
        elif caption != content:
            extra["txt"] = content
    if caption is None:
        found = first_text(extra, settings.caption_columns)
        caption, where = found.text, f"field {found.name} of JSON files"
    return caption, where, to_json({**extra, **json.loads(meta)})


def _bytes_of(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _name_of(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
