"""Reads a table's data files, page by page with their checksums, and says what is wrong with each."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

from jobs.sources import files
from jobs.sources.arrow_columns import UNREADABLE
from jobs.sources.parquet import group_batches
from jobs.sources.rows import one_line

MISSING, OTHER_SIZE, UNREADABLE_FILE = "missing", "other size", "unreadable"
DAMAGED, FEWER_ROWS, OTHER_ID = "damaged", "other number of rows", "other image_id"
"""What can be wrong with a file, as fixed phrases."""

_IDENTITY = ("image_id", "image", "caption")
_NAMED_IDS = 3

_CHECKED = pa.schema([
    ("table", pa.string()), ("path", pa.string()), ("rows", pa.int64()), ("ids", pa.int64()), ("fault", pa.string()),
    ("detail", pa.string()),
])  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What one file was found to be.

    Attributes:
        table: Name of its table.
        path: Its address.
        rows: Rows that were read.
        ids: Rows whose image_id was computed again.
        fault: What is wrong, as a fixed phrase; None if nothing is.
        detail: What was found.
    """

    table: str
    path: str
    rows: int = 0
    ids: int = 0
    fault: str | None = None
    detail: str | None = None


def checked(listed: DataFrame, tasks: int) -> DataFrame:
    """Returns what each data file was found to be.

    Args:
        listed: table, path, size (bytes) and rows of each file, as the log of the table has them; rows may be null.
        tasks: Number of tasks that read the files.

    Returns:
        table, path, rows, ids, fault, detail: a row for each file, as `Checked` explains.
    """
    return listed.repartition(tasks).mapInArrow(_check, from_arrow_schema(_CHECKED))


def _check(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for file in batch.to_pylist():
            yield pa.RecordBatch.from_pylist([asdict(check(**file))], _CHECKED)


def check(table: str, path: str, size: int, rows: int | None) -> Checked:
    """Returns what one data file was found to be.

    Args:
        table: Name of its table.
        path: Its address.
        size: Its size in bytes, as the log has it.
        rows: Its number of rows, as the log has it; None if the log does not.
    """
    count = _Count()
    try:
        with files.random_access(files.absolute(path)) as file:
            if file.size() != size:
                return Checked(table, path, fault=OTHER_SIZE, detail=f"{file.size():,} bytes, not {size:,}")
            for batch in _batches(file):
                count.add(batch)
    except FileNotFoundError:
        return Checked(table, path, fault=MISSING, detail="the log of the table lists it")
    except UNREADABLE as error:
        is_system = isinstance(error, OSError) and error.errno is not None
        fault = UNREADABLE_FILE if is_system else DAMAGED
        return Checked(table, path, count.rows, count.ids, fault, one_line(f"{type(error).__name__}: {error}"))
    found = Checked(table, path, count.rows, count.ids)
    if rows is not None and rows != count.rows:
        return Checked(**{**asdict(found), "fault": FEWER_ROWS, "detail": f"{count.rows:,} rows, not {rows:,}"})
    if count.wrong:
        named = ", ".join(count.named)
        detail = (
            f"{count.wrong:,} of {count.rows:,} rows have other bytes or another caption than their id says: {named}"
        )
        return Checked(**{**asdict(found), "fault": OTHER_ID, "detail": detail})
    return found


def _batches(file: Any) -> Iterator[pa.RecordBatch]:
    metadata = pq.read_metadata(file)
    for number in range(metadata.num_row_groups):
        yield from group_batches(file, metadata, number)


class _Count:
    """The rows of a file, and those whose image_id is not that of their bytes and caption."""

    def __init__(self) -> None:
        self.rows = self.ids = self.wrong = 0
        self.named: list[str] = []

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        if not set(_IDENTITY) <= set(batch.schema.names):
            return
        self.ids += batch.num_rows
        columns: Sequence[Any] = [batch.column(name) for name in _IDENTITY]
        for image_id, image, caption in zip(*columns, strict=True):
            stored = image_id.as_py()
            if stored != identity(image.as_py(), caption.as_py()):
                self.wrong += 1
                self.named += [str(stored)] if len(self.named) < _NAMED_IDS else []


def identity(image: bytes | None, caption: str | None) -> str | None:
    """Returns the id of an image with its caption, as `jobs.sources.inspect.image_id`; None without an image.

    Examples:
        >>> identity(b"", "a dog") == identity(b"", None), identity(None, "a dog")
        (False, None)
    """
    if image is None:
        return None
    return hashlib.sha256((hashlib.sha256(image).hexdigest() + (caption or "")).encode()).hexdigest()[:32]


def remedy(faulty: Mapping[str, str]) -> str:
    """Returns what to do about damaged tables.

    Args:
        faulty: The command that makes each damaged table, by its name.
    """
    own = {"images", "origins", "sources", "labels", "unsure", "decisions"}
    parts = (
        [f"restore the files of {', '.join(sorted(own & faulty.keys()))} from a copy"] if own & faulty.keys() else []
    )
    for name in sorted(faulty.keys() - own):
        parts.append(f"delete the folder {name} and run `winnow {faulty[name]}` again")
    return "; ".join(parts)
