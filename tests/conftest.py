"""One Spark session for all tests; a lake and the default settings for each."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from jobs.job import Job
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.builders.chromium import CHROMIUM
from tests.builders.spark_settings import SPARK


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for tests that are marked with `needs_chromium`."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()
