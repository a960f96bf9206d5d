"""Session settings for the files of a table: small row groups for images, large files for rows beside them."""

from contextlib import AbstractContextManager

from pyspark.sql import SparkSession

from jobs.runtime.config import IngestSettings
from jobs.runtime.session import overridden

_ROW_GROUP_BYTES = 8 << 20
BLOOM = "parquet.bloom.filter"
"""Prefix of Parquet's Bloom filter settings. A filter of the ids lets Spark skip row groups without the image."""
_MOST_IN_A_ROW_GROUP = 4_000
_LARGE_FILE = "128m"


def small_files(spark: SparkSession, settings: IngestSettings) -> AbstractContextManager[None]:
    """Sets the session to write images in small row groups, without a second compression, until the block ends."""
    overrides = {
        "spark.sql.files.maxPartitionBytes": str(settings.file_mb << 20),
        "spark.sql.parquet.compression.codec": "uncompressed",
        # Images do not repeat, so Parquet would build a dictionary and discard it.
        "parquet.enable.dictionary#image": "false",
        "parquet.block.size": str(_ROW_GROUP_BYTES),
        f"{BLOOM}.enabled#image_id": "true",
        f"{BLOOM}.expected.ndv#image_id": str(_MOST_IN_A_ROW_GROUP),
        # Parquet checks the size of a row group after this many rows. The default, 100 images, can be a GB.
        "parquet.block.size.row.check.min": "10",
        "parquet.page.size.row.check.min": "10",
        # Otherwise Spark sorts the images by part before it writes them.
        "spark.sql.maxConcurrentOutputFileWriters": "16",
    }
    return overridden(spark, overrides)


def large_files(spark: SparkSession) -> AbstractContextManager[None]:
    """Sets the session to gather the rows of many tasks in files of some 128 MB, until the block ends.

    Delta shuffles the rows before it writes them. Otherwise each task would write a file of its own: `score` has a task
    for 64 MB of images, whose signals are 2.5 MB.
    """
    optimize = "spark.databricks.delta.optimizeWrite"
    return overridden(spark, {f"{optimize}.enabled": "true", f"{optimize}.binSize": _LARGE_FILE})
