"""Spark settings for the files of a table, for `Lake.within`: small row groups for images, large files for others."""

from jobs.runtime.config import IngestSettings

_ROW_GROUP_BYTES = 8 << 20
BLOOM = "parquet.bloom.filter"
"""Prefix of Parquet's Bloom filter settings. A filter of the ids lets Spark skip row groups without the image."""
_MOST_IN_A_ROW_GROUP = 4_000

SMALL_FILE = 32 << 20
"""Bytes; `Lake.compact` gathers files below this size."""

LARGE_FILES = {
    "spark.databricks.delta.optimizeWrite.enabled": "true",
    "spark.databricks.delta.optimizeWrite.binSize": "128m",
}
"""Settings to gather the rows of many tasks in files of some 128 MB.

Delta shuffles the rows before it writes them. Otherwise each task would write a file of its own: `score` has a task for
64 MB of images, whose signals are 2.5 MB.
"""


def small_files(settings: IngestSettings) -> dict[str, str]:
    """Returns settings to write images in small row groups, without a second compression."""
    return {
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
