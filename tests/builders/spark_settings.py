"""Settings of the Spark sessions that tests start, and other settings for a while."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark.sql import SparkSession

SMALL = [
    # Every small table that is broadcast takes a page, by default of 64 MB: a join of many fills the heap.
    "spark.conf.spark.buffer.pageSize=2m",
    # A test runs a query once or twice on a few rows: it would be compiled for longer than it runs.
    "spark.conf.spark.sql.codegen.wholeStage=false",
    "spark.conf.spark.sql.codegen.factoryMode=NO_CODEGEN",
]
"""For work on few rows, wherever it runs."""

SPARK = [
    # Two workers share two cores. Tests of partitioning repartition, or set their own master.
    'spark.master="local[1]"',
    "spark.driver_memory=2g",
    "spark.shuffle_partitions=1",
    # Adaptive execution plans a query of a few rows again and again. The tests of partitioning switch it on.
    "spark.conf.spark.sql.adaptive.enabled=false",
    "spark.conf.spark.default.parallelism=1",
    "spark.conf.spark.databricks.delta.snapshotPartitions=1",
    *SMALL,
]


@contextmanager
def overridden(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Overrides settings of the session while the block runs."""
    before = {name: spark.conf.get(name, None) for name in conf}
    try:
        for name, value in conf.items():
            spark.conf.set(name, value)
        yield
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)
