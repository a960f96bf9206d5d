"""Parquet files with image bytes, as img2dataset and Hugging Face datasets write them.

Python reads each file by its own schema and not by Spark's reader. So files of one folder may differ in columns and
types, any type that Arrow knows is read, a file name is never taken for a pattern, and damage costs the rows that it
hits and no others.
"""

import errno
import io
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.runtime.config import IngestSettings
from jobs.sources import files
from jobs.sources.arrow_columns import UNREADABLE, FileColumns, match, no_image_column, values
from jobs.sources.columns import BYTES, STATUS
from jobs.sources.find import Source, task_count
from jobs.sources.rows import (
    CAPTION_FAULT,
    MAX_FIELD_BYTES,
    MAX_IMAGE_BYTES,
    SCHEMA,
    Row,
    batches,
    one_line,
    text,
    to_json,
)
from models.errors import WinnowError

_TAIL = 8  # bytes at the end of a file: the length of the footer and the magic number
_MOST_TASKS = 200  # that open footers
_CHECKED = 20  # files whose columns are looked at before work begins
_CHECKED_MORE = 200  # and of the others, if none of these has images

_BATCH_BYTES, _BATCH_ROWS = 16 << 20, 1000
# Larger columns of a row group are read through a buffer, so that memory does not depend on their size. Without one,
# Arrow reads the column whole; then a damaged header of a page cannot make it ask for 2 GB.
_BUFFER_BYTES, _WHOLE_BYTES = 4 << 20, 64 << 20

_GROUPS = pa.schema([
    ("path", pa.string()), ("root", pa.string()), ("row_group", pa.int32()), ("first", pa.int64()),
    ("count", pa.int64()), ("reason", pa.string()), ("detail", pa.string()),
])  # fmt: skip
"""A row group with the number of its first row in the file (from 0) and its number of rows, or why a file has none."""

_CORRUPT = "corrupt file"
# A footer may claim any number of rows. Of equal values, many fit into a byte.
_ROWS_OF_A_BYTE, _ROWS_FREE = 8, 100_000
_PATH = "path"


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the rows of Parquet files; the files may differ in their columns and types.

    A first stage reads the footers. A second one reads the row groups, several in each task. Every row of a footer
    gives exactly one row: if a page is damaged, the rows that can no longer be read have a reason.

    Args:
        spark: The session.
        sources: Files.
        settings: Column names; `file_mb` sets how much a task reads.

    Returns:
        `rows.SCHEMA`. A file that is not valid Parquet is one row with a reason.
    """
    places = [(source.path, source.root) for source in sources]
    names = spark.sparkContext.parallelize(places, min(len(sources), _MOST_TASKS))
    groups = spark.createDataFrame(names, "path string, root string").mapInArrow(
        _row_groups, from_arrow_schema(_GROUPS)
    )
    return groups.repartition(task_count(spark, sources, settings)).mapInArrow(partial(_load, settings), SCHEMA)


def require_images(sources: Sequence[Source], settings: IngestSettings) -> None:
    """Checks that some Parquet file has images, so that a missing column stops before work begins.

    The first files are checked and, if none of them has images, a sample spread over the others: captions or other
    tables may lie beside the images.

    Args:
        sources: Sources of any format.
        settings: Column names.

    Raises:
        WinnowError: None of these files has a column of images.
    """
    sources = [source for source in sources if source.format == "parquet"]
    others = sources[_CHECKED:]
    spread = others[:: max(1, len(others) // _CHECKED_MORE)]
    first = None
    for path, schema in _schemas(iter([*sources[:_CHECKED], *spread])):
        if match(schema, settings).image is not None:
            return
        first = first or (path, schema)
    if first:
        raise WinnowError(no_image_column(*first, settings))


def _schemas(sources: Iterator[Source]) -> Iterator[tuple[str, pa.Schema]]:
    """Yields the schemas of files that can be opened; the tasks report the others."""
    for source in sources:
        try:
            with files.random_access(source.path) as file:
                yield source.path, pq.ParquetFile(pa.BufferReader(_footer(file))).schema_arrow
        except UNREADABLE:
            continue


# Row groups -----------------------------------------------------------------------------------------------------------


def _row_groups(paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in paths:
        for place in batch.to_pylist():
            groups = [group | {"root": place["root"]} for group in _groups(place["path"])]
            yield pa.RecordBatch.from_pylist(groups, _GROUPS)


def _groups(path: str) -> Iterator[dict[str, Any]]:
    """Yields the row groups of a file, or one row with a reason if it has no valid footer."""
    try:
        with files.random_access(path) as file:
            size, footer = file.size(), _footer(file)
    except OSError as error:
        if not files.is_file_error(path, error):
            raise
        yield _no_groups(path, "unreadable file", f"{type(error).__name__}: {error.strerror or error}")
        return
    try:
        found = pq.read_metadata(pa.BufferReader(footer))
        counts = [found.row_group(number).num_rows for number in range(found.num_row_groups)]
    except UNREADABLE as error:
        yield _no_groups(path, _CORRUPT, f"not a complete Parquet file: {error}")
        return
    if min(counts, default=0) < 0 or sum(counts) > _ROWS_OF_A_BYTE * size + _ROWS_FREE:
        yield _no_groups(path, _CORRUPT, f"its footer claims {sum(counts)} rows in {size} bytes")
        return
    first = 0
    for number, count in enumerate(counts):
        yield {"path": path, "row_group": number, "first": first, "count": count, "reason": None, "detail": None}
        first += count


def _no_groups(path: str, reason: str, detail: str) -> dict[str, Any]:
    return {"path": path, "row_group": None, "first": 0, "count": 0, "reason": reason, "detail": detail}


def _footer(file: Any) -> bytes:
    """Returns the footer of a file; reading can also fail for reasons outside the file."""
    size = file.size()
    file.seek(max(size - _TAIL, 0))
    tail = file.read()
    if not tail.endswith(b"PAR1"):
        return bytes(tail)
    length = min(int.from_bytes(tail[:4], "little") + _TAIL, size)
    file.seek(size - length)
    return bytes(file.read())


# Rows -----------------------------------------------------------------------------------------------------------------


def _load(settings: IngestSettings, groups: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches(row for batch in groups for group in batch.to_pylist() for row in _rows(group, settings))


def _rows(group: Mapping[str, Any], settings: IngestSettings) -> Iterator[Row]:
    """Yields the rows of a row group: as many as its footer says, those that cannot be read with a reason."""
    path, name = group["path"], posixpath.basename(group["path"])
    if group["reason"] is not None:
        yield Row(path, name, reason=group["reason"], detail=group["detail"])
        return
    done, faults, folders = 0, list[str](), _named_folders(path, group["root"])
    for columns, record in islice(_readable(group, settings, faults), group["count"]):
        yield _row(path, columns, record, folders)
        done += 1
    why = faults[0] if faults else "it has fewer rows than its footer says"
    for number in range(group["first"] + done, group["first"] + group["count"]):
        detail = f"row group {group['row_group']} is damaged from row {group['first'] + done} on: {why}"
        yield Row(path, f"{name}:{number}", reason=_CORRUPT, detail=detail)


def _readable(
    group: Mapping[str, Any], settings: IngestSettings, faults: list[str]
) -> Iterator[tuple[FileColumns, Sequence[Any]]]:
    """Yields the records of a row group up to damage, which it adds to `faults`, and the columns of the file."""
    watched = None
    try:
        with files.random_access(group["path"]) as file:
            watched = _Watched(file)
            yield from _records(watched, group["row_group"], settings)
    except UNREADABLE as error:
        # Damaged bytes are an OSError without a number too.
        cause = error if watched is None or getattr(error, "errno", None) else watched.fault
        if isinstance(cause, OSError) and not files.is_file_error(group["path"], cause):
            raise
        faults.append(one_line(f"{type(error).__name__}: {error}"))


def _records(file: Any, row_group: int, settings: IngestSettings) -> Iterator[tuple[FileColumns, Sequence[Any]]]:
    parquet = pq.ParquetFile(file)
    columns = match(parquet.schema_arrow, settings)
    for batch in group_batches(file, parquet.metadata, row_group):
        columns_of_values = [values(column) for column in batch.columns]
        yield from ((columns, record) for record in zip(*columns_of_values, strict=True))


def group_batches(file: Any, metadata: pq.FileMetaData, row_group: int) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a row group in batches of a few MB, and verifies the checksums of its pages.

    Args:
        file: The file, open for random access.
        metadata: Its footer.
        row_group: Number of the row group.

    Raises:
        One of `arrow_columns.UNREADABLE`: A page is damaged.
    """
    group = metadata.row_group(row_group)
    largest = max((group.column(number).total_compressed_size for number in range(group.num_columns)), default=0)
    buffer = 0 if largest <= _WHOLE_BYTES else _BUFFER_BYTES
    parquet = pq.ParquetFile(
        file, metadata=metadata, pre_buffer=False, buffer_size=buffer, page_checksum_verification=True
    )
    bytes_of_a_row = max(1, group.total_byte_size // max(1, group.num_rows))
    size = max(1, min(_BATCH_ROWS, _BATCH_BYTES // bytes_of_a_row))
    yield from parquet.iter_batches(size, row_groups=[row_group], use_threads=False)


def _named_folders(path: str, root: str) -> dict[str, str]:
    """Returns the values that the folders of a file name, as Hive and Spark write them: `lang=en/part-0.parquet`."""
    parts = (part.partition("=") for part in posixpath.relpath(posixpath.dirname(path), root).split("/"))
    return {unquote(name): unquote(value) for name, equals, value in parts if name and equals}


def _row(path: str, columns: FileColumns, record: Sequence[Any], folders: Mapping[str, str]) -> Row:
    """Returns the row of one record.

    Args:
        path: The file.
        columns: Which of its columns are the image, the caption and the key.
        record: The values in the order of the file's columns.
        folders: Other fields, which the folders of the file name.
    """
    own = (columns.image, columns.caption, columns.key)
    others = {name: record[place] for place, name in enumerate(columns.names) if place not in own}
    meta: dict[str, Any] = dict(folders)
    for field, value in others.items():
        is_large = isinstance(value, bytes) and len(value) > MAX_FIELD_BYTES
        meta[f"{field}_bytes" if is_large else field] = len(value) if is_large else value
    name = None if columns.key is None else record[columns.key]
    key = None if name is None else _text(name)[0]
    caption, replaced = _caption(columns, record, meta)
    if replaced:
        meta |= CAPTION_FAULT
    image, named = None, None
    if columns.image is not None:
        image, named = _image(columns.names[columns.image], record[columns.image], meta)
    reason, detail = None, None
    if image is None:
        image, reason, detail = _without_bytes(path, columns, named, meta)
    elif len(image) > MAX_IMAGE_BYTES:
        reason, detail = "file too large", f"{len(image)} bytes, the limit is {MAX_IMAGE_BYTES}"
    where = None if columns.caption is None else f"column {columns.names[columns.caption]}"
    return Row(path, key, caption, None if reason else image, to_json(meta) if meta else "{}", reason, detail, where)


def _caption(columns: FileColumns, record: Sequence[Any], meta: dict[str, Any]) -> tuple[str | None, bool]:
    """Returns the caption and whether bytes of it were replaced; a list of captions also goes to `meta`."""
    if columns.caption is None:
        return None, False
    value = record[columns.caption]
    if isinstance(value, list):
        meta[columns.names[columns.caption]] = value
        value = next((one for one in value if isinstance(one, str | bytes)), None)
    return (None, False) if value is None else _text(value)


def _text(value: Any) -> tuple[str, bool]:
    return text(value) if isinstance(value, bytes) else (str(value), False)


def _image(name: str, value: Any, meta: dict[str, Any]) -> tuple[bytes | None, str | None]:
    """Returns the bytes of an image and the path beside them; other fields of its struct go to `meta`."""
    if not isinstance(value, dict):
        return value, None
    others = {field: inner for field, inner in value.items() if field != BYTES}
    if others:
        meta[name] = others
    named = value.get(_PATH)
    return value[BYTES], named if isinstance(named, str) and named else None


def _without_bytes(
    path: str, columns: FileColumns, named: str | None, meta: Mapping[str, Any]
) -> tuple[bytes | None, str | None, str | None]:
    """Returns the image that a record without bytes names by a path, or the reason and detail why there is none.

    The path must be in the folder of the file: the author of the file must not choose other images of this machine.
    """
    if named is not None:
        folder = posixpath.dirname(path)
        place = posixpath.join(folder, named)
        try:
            if not _is_in(folder, place):
                return None, "missing file", f"no bytes, and {named} is not in the folder of the file"
            return files.read(place, MAX_IMAGE_BYTES), None, None
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and not files.is_file_error(place, error):
                raise
            reason = "file too large" if getattr(error, "errno", None) == errno.EFBIG else "missing file"
            return None, reason, f"no bytes, and {named} cannot be read: {getattr(error, 'strerror', None) or error}"
    said = [str(meta[name]) for name in STATUS if meta.get(name) is not None]
    none = "the image column is null" if columns.image is not None else "the file has no column of images"
    none = f"{none}; {columns.text}" if columns.text else none
    return None, "no image", ": ".join(said) or none


def _is_in(folder: str, place: str) -> bool:
    """Returns whether a path stays in a folder; on the local disk, wherever its links lead."""
    if files.is_local(folder):
        return os.path.realpath(place).startswith(f"{os.path.realpath(folder).rstrip('/')}/")
    return place.startswith(f"{folder}/") and ".." not in place.split("/")


class _Watched(io.RawIOBase):
    """A file that remembers the error of a failed read, since Arrow raises the same kind of error for damaged bytes.

    Args:
        file: A file with random access.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file
        self.fault: OSError | None = None

    def readable(self) -> bool:
        """Returns that it can be read."""
        return True

    def seekable(self) -> bool:
        """Returns that it has random access."""
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        """Moves to a position, as `io.RawIOBase`."""
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        """Returns the position."""
        return int(self._file.tell())

    def read(self, size: int = -1) -> bytes:
        """Returns at most `size` bytes; all that follow if it is negative."""
        try:
            return bytes(self._file.read(None if size < 0 else size))
        except OSError as error:
            self.fault = error
            raise
