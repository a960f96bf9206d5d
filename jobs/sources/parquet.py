"""Parquet files with image bytes, as img2dataset and Hugging Face's datasets write them."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.config import IngestSettings
from jobs.sources import columns, files
from jobs.sources.find import Source
from jobs.sources.rows import SCHEMA, Row, batches
from models.errors import WinnowError

_TAIL = 8  # bytes that end a file: its footer's length and a mark


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """The rows of Parquet files; files of one folder may differ in their columns.

    Args:
        spark: The session.
        sources: Files.
        settings: Column names.

    Returns:
        `rows.SCHEMA`. A file that cannot be read as Parquet is one row with its reason.

    Raises:
        WinnowError: There is no column of pictures, or a column has different types in two files.
    """
    paths = spark.sparkContext.parallelize([(source.path,) for source in sources], min(len(sources), 200))
    # The list of broken files comes to the driver: Spark must not be asked to open them, and one look decides.
    broken = spark.createDataFrame(paths, "path string").mapInArrow(_broken, SCHEMA).collect()
    faulty = {row["source"] for row in broken}
    roots: dict[str, list[str]] = {}
    for source in sources:
        if source.path not in faulty:
            roots.setdefault(source.root, []).append(source.path)
    parts = [spark.createDataFrame(broken, SCHEMA)] if broken else []
    parts += [_read_root(spark, root, paths, settings) for root, paths in sorted(roots.items())]
    return reduce(DataFrame.unionByName, parts)


def _read_root(spark: SparkSession, root: str, paths: Sequence[str], settings: IngestSettings) -> DataFrame:
    reader = spark.read.option("mergeSchema", "true").option("basePath", files.spark_path(root))
    try:
        table = reader.parquet(*[files.spark_path(path) for path in paths])
    except (PySparkException, Py4JJavaError) as error:
        said = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        raise WinnowError(f"the Parquet files under {root} do not fit together: {said.splitlines()[0]}") from error
    return columns.rows(table, _source(), columns.match(table.schema, settings, root))


def _source() -> F.Column:
    """The row's file, in the form of `files.absolute`; Spark gives it percent-encoded."""
    encoded = F.regexp_replace(F.col("_metadata.file_path"), r"^file:/+", "/")
    # A plus sign is itself here, but a space to url_decode.
    return F.url_decode(F.replace(encoded, F.lit("+"), F.lit("%2B")))


def _broken(paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches(row for batch in paths for path in batch.column(0).to_pylist() for row in _fault(path))


def _fault(path: str) -> Iterator[Row]:
    """A row for a file that cannot be opened, or whose footer is none."""
    key = path.rpartition("/")[2]
    try:
        with files.random_access(path) as file:
            footer = _footer(file)
    except OSError as error:
        if not files.is_of_file(path, error):
            raise
        yield Row(path, key, reason="unreadable file", detail=f"{type(error).__name__}: {error.strerror or error}")
        return
    try:
        pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        yield Row(path, key, reason="corrupt file", detail=f"not a whole Parquet file: {error}")


def _footer(file: Any) -> bytes:
    """The bytes at the end that say what a file holds; reading may fail for reasons that do not lie in the file."""
    size = file.size()
    file.seek(max(size - _TAIL, 0))
    tail = file.read()
    if not tail.endswith(b"PAR1"):
        return bytes(tail)
    length = min(int.from_bytes(tail[:4], "little") + _TAIL, size)
    file.seek(size - length)
    return bytes(file.read())
