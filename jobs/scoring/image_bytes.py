"""Reads the bytes of images in the task that decodes them, from the files of the table images, where they lie.

Spark finds the rows and passes on only their ids and places. It applies the filters and joins, and leaves out deleted
rows. If it read the bytes too, they would be copied from Parquet to a row, to Arrow, and through a socket to Python.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.sources import files
from models.errors import LostRowsError, WinnowError

_COLUMNS = ["image_id", "image"]
# At once, so that files of large row groups cost no more memory than those of `ingest`, whose row groups have 8 MB.
_ROWS, _BUFFER = 64, 8 << 20


def with_places(images: DataFrame) -> DataFrame:
    """Adds where the bytes of images lie: the columns file, and row (its number in the file, from 0).

    Args:
        images: The table images, not yet joined: Spark does not know the places of joined rows.
    """
    return images.withColumns({"file": F.col("_metadata.file_path"), "row": F.col("_metadata.row_index")})


def can_read(images: DataFrame) -> bool:
    """Returns whether tasks can read the files of the table images without Spark: it tries one of them, on the driver.

    They cannot if pyarrow has no credentials for the file system, or if the columns of the files may have other names
    than those of the table: with Delta's column mapping, Spark gives no numbers of rows.

    Args:
        images: The table images, not yet joined.
    """
    try:
        row = with_places(images).select("file", "row").first()
    except AnalysisException:
        return False
    if row is None:
        return False
    try:
        with files.random_access(files.of_spark(row.file)) as file, pq.ParquetFile(file) as parquet:
            return set(_COLUMNS) <= set(parquet.schema_arrow.names) <= set(images.columns)
    except (OSError, pa.ArrowException, WinnowError):
        return False


def read(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields image_id, part and image of rows with image_id, part, file and row; for use in a Spark task.

    Raises:
        LostRowsError: A file has another image in the place of a row.
    """
    for batch in batches:
        names = batch.column("file").dictionary_encode()
        numbers = np.asarray(names.indices)
        for number, name in enumerate(names.dictionary.to_pylist()):
            yield from _read_file(files.of_spark(name), batch.filter(pa.array(numbers == number)))


def _read_file(path: str, wanted: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    wanted = wanted.sort_by("row")
    rows, done = np.asarray(wanted.column("row")), 0
    for found in _images(path, rows):
        own = wanted.slice(done, len(found))
        done += len(found)
        # Other programs that write Delta tables may use other types of text and bytes.
        ids, image = found.column("image_id").cast(pa.string()), found.column("image").cast(pa.binary())
        if not ids.equals(own.column("image_id").cast(pa.string())):
            raise LostRowsError(f"{path} has other images than Spark found in it: run `winnow score` again")
        yield pa.RecordBatch.from_pydict({"image_id": ids, "part": own.column("part"), "image": image})
    if done < len(rows):
        raise LostRowsError(f"{path} has fewer images than Spark found in it: run `winnow score` again")


def _images(path: str, rows: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Yields image_id and image of some rows of a file, whose numbers are sorted; reads only their row groups."""
    with files.random_access(path) as file, pq.ParquetFile(file, buffer_size=_BUFFER) as parquet:
        counts = [parquet.metadata.row_group(number).num_rows for number in range(parquet.num_row_groups)]
        ends = np.cumsum(counts)
        rows = rows[rows < sum(counts)]
        for number in np.unique(np.searchsorted(ends, rows, side="right")).tolist():
            first = int(ends[number]) - counts[number]
            for batch in parquet.iter_batches(_ROWS, row_groups=[number], columns=_COLUMNS):
                own = rows[np.searchsorted(rows, first) : np.searchsorted(rows, first + len(batch))] - first
                first += len(batch)
                if len(own) == len(batch):
                    yield batch
                elif len(own):
                    yield batch.take(pa.array(own))
