"""A Delta table with a column of image bytes."""

from collections.abc import Sequence
from functools import reduce

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.config import IngestSettings
from jobs.sources import columns, files
from jobs.sources.find import Source


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the rows of Delta tables.

    Args:
        spark: The session.
        sources: Tables; reads the newest version.
        settings: Column names.

    Returns:
        `rows.SCHEMA`; the source is the path of the table.

    Raises:
        WinnowError: A table has no column of images.
    """
    return reduce(DataFrame.unionByName, [_read_table(spark, source.path, settings) for source in sources])


def _read_table(spark: SparkSession, path: str, settings: IngestSettings) -> DataFrame:
    table = spark.read.format("delta").load(files.spark_path(path))
    return columns.rows(table, F.lit(path), columns.match(table.schema, settings, path))
