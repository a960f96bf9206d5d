"""How files of images are written, so that single images are found and read without the others."""

from contextlib import AbstractContextManager

from pyspark.sql import SparkSession

from jobs.runtime.config import IngestSettings
from jobs.runtime.session import overridden

_ROW_GROUP_BYTES = 8 << 20
BLOOM = "parquet.bloom.filter"
"""Parquet's settings of Bloom filters: with one of the ids in each row group, few are read to find an image."""
_MOST_IN_A_ROW_GROUP = 4_000


def small_files(spark: SparkSession, settings: IngestSettings) -> AbstractContextManager[None]:
    """Settings of the session for writing pictures: small row groups, which split well, and no second compression."""
    wanted = {
        "spark.sql.files.maxPartitionBytes": str(settings.file_mb << 20),
        "spark.sql.parquet.compression.codec": "uncompressed",
        # No two pictures are alike, so a dictionary of them would be filled, hashed and thrown away.
        "parquet.enable.dictionary#image": "false",
        "parquet.block.size": str(_ROW_GROUP_BYTES),
        f"{BLOOM}.enabled#image_id": "true",
        f"{BLOOM}.expected.ndv#image_id": str(_MOST_IN_A_ROW_GROUP),
        # A row group's size is looked at after so many rows; the default of 100 pictures can be a GB.
        "parquet.block.size.row.check.min": "10",
        "parquet.page.size.row.check.min": "10",
        # Else Spark sorts the pictures by part before it writes them.
        "spark.sql.maxConcurrentOutputFileWriters": "16",
    }
    return overridden(spark, wanted)
