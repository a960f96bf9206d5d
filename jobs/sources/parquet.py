"""Parquet files with image bytes, as img2dataset and Hugging Face datasets write them."""

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

_TAIL = 8  # bytes at the end of a file: the length of the footer and the magic number


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the rows of Parquet files; files of one folder may differ in their columns.

    Args:
        spark: The session.
        sources: Files.
        settings: Column names.

    Returns:
        `rows.SCHEMA`. A file that is not valid Parquet is one row with a reason.

    Raises:
        WinnowError: There is no column of images, or a column has different types in two files.
    """
    paths = spark.sparkContext.parallelize([(source.path,) for source in sources], min(len(sources), 200))
    # Collect the broken files on the driver: Spark must not open them, and each file is checked only once.
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
        text = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        raise WinnowError(
            f"the Parquet files under {root} do not fit together: {text.splitlines()[0]}; give files with the same "
            "column types in one run"
        ) from error
    return columns.rows(table, _source(), columns.match(table.schema, settings, root))


def _source() -> F.Column:
    """Returns the file of a row in the form of `files.absolute`; Spark percent-encodes it."""
    encoded = F.regexp_replace(F.col("_metadata.file_path"), r"^file:/+", "/")
    # A plus sign stands for itself here, but `url_decode` would turn it into a space.
    return F.url_decode(F.replace(encoded, F.lit("+"), F.lit("%2B")))


def _broken(paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches(row for batch in paths for path in batch.column(0).to_pylist() for row in _fault(path))


def _fault(path: str) -> Iterator[Row]:
    """Yields a row for a file that cannot be opened or has no valid footer."""
    key = path.rpartition("/")[2]
    try:
        with files.random_access(path) as file:
            footer = _footer(file)
    except OSError as error:
        if not files.is_file_error(path, error):
            raise
        yield Row(path, key, reason="unreadable file", detail=f"{type(error).__name__}: {error.strerror or error}")
        return
    try:
        pq.read_metadata(pa.BufferReader(footer))
    except (pa.ArrowException, OSError) as error:
        yield Row(path, key, reason="corrupt file", detail=f"not a complete Parquet file: {error}")


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
