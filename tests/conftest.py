"""One Spark session for all tests; a lake and the default settings for each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.job import Job
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session

SMALL = [
    # Every small table that is broadcast takes a page, by default of 64 MB: a join of many fills the heap.
    "spark.conf.spark.buffer.pageSize=2m",
    # A test runs a query once or twice on a few rows: it would be compiled for longer than it runs.
    "spark.conf.spark.sql.codegen.wholeStage=false",
    "spark.conf.spark.sql.codegen.factoryMode=NO_CODEGEN",
]
"""For work on few rows, wherever it runs."""

SPARK = [
    'spark.master="local[2]"',
    "spark.driver_memory=2g",
    "spark.shuffle_partitions=4",
    "spark.conf.spark.default.parallelism=4",
    *SMALL,
]


@pytest.fixture(scope="session")
def spark() -> Iterator[SparkSession]:
    session = get_session(config.load(overrides=SPARK).spark, "winnow tests")
    yield session
    session.stop()


@pytest.fixture
def settings() -> config.Settings:
    return config.load(overrides=SPARK)


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path) -> Lake:
    return Lake(spark, str(tmp_path / "lake"))


@pytest.fixture
def job(lake: Lake, settings: config.Settings) -> Job:
    return Job(lake, settings, Progress())
