"""The images of a part, read in a Spark task from the files of the table images, where they lie."""

import posixpath
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import md5

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sources import files
from models.errors import WinnowError

COLUMNS = ("image_id", "key", "source", "caption", "image", "width", "height", "format", "meta")
_WINDOW_BYTES = 64 << 20


@dataclass(frozen=True)
class _RowGroup:
    """A row group of a Parquet file, with its size in bytes."""

    file: str
    number: int
    bytes: int


def mixed(addresses: Iterable[str], seed: int) -> Iterator[pa.Table]:
    """Yields the rows of Parquet files, each row group once and in shuffled order.

    The order depends on the seed and the names of the files, not on the order in which these are given.

    Args:
        addresses: The files, as Spark's hidden column `_metadata.file_path` names them.
        seed: Seed of the order.

    Returns:
        Tables with `COLUMNS`, of about 64 MB each, from row groups of different files.

    Raises:
        WinnowError: A file has other columns.
    """
    paths = list(map(files.of_spark, addresses))
    shuffled = sorted((group for path in paths for group in _row_groups(path)), key=lambda one: _order(one, seed))
    window: list[pa.Table] = []
    size = 0
    for group in shuffled:
        if window and size + group.bytes > _WINDOW_BYTES:
            yield pa.concat_tables(window)
            window, size = [], 0
        window.append(_read(group))
        size += group.bytes
    if window:
        yield pa.concat_tables(window)


def _row_groups(path: str) -> Iterator[_RowGroup]:
    with files.random_access(path) as file, pq.ParquetFile(file) as parquet:
        lacking = set(COLUMNS) - set(parquet.schema_arrow.names)
        if lacking:
            raise WinnowError(
                f"{path} has no column {', '.join(sorted(lacking))}, as if the table images had column mapping, which "
                "`winnow export` cannot read: copy the table without it"
            )
        for number in range(parquet.num_row_groups):
            yield _RowGroup(path, number, parquet.metadata.row_group(number).total_byte_size)


def _order(group: _RowGroup, seed: int) -> str:
    text = f"{seed}:{posixpath.basename(group.file)}:{group.number}"
    return md5(text.encode(), usedforsecurity=False).hexdigest()


def _read(group: _RowGroup) -> pa.Table:
    with files.random_access(group.file) as file, pq.ParquetFile(file, pre_buffer=True) as parquet:
        return parquet.read_row_group(group.number, columns=list(COLUMNS))
