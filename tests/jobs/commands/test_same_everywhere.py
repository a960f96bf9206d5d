"""The whole of Winnow gives the same rows in one process, on a real standalone cluster, and when killed and resumed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.commands import run as whole
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.images import bright_or_dark, brightness_model, brightness_settings
from tests.builders.spark_settings import SMALL
from tests.builders.standalone_cluster import ROOT, standalone_cluster, submitted

pytestmark = pytest.mark.slow

COMPARED = {
    tables.IMAGES: ["image_id", "key", "caption", "width", "height", "format", "meta"],
    tables.SIGNALS: ["image_id", "pdq", "pdq_quality", "embedding", "embedding_hash"],
    tables.SCORES: ["image_id", "category", "model", "score"],
    tables.THRESHOLDS: ["category", "threshold", "recall_lower", "positives", "negatives"],
    tables.VERDICTS: ["image_id", "kept", "reasons"],
    tables.PAIRS: ["a_id", "b_id", "distance", "method"],
    tables.DUPLICATES: ["removed_id", "kept_id", "distance", "method"],
    tables.WEIGHTS: ["image_id", "weight"],
    tables.KEYWORD_SHIFT: tables.KEYWORD_SHIFT.schema.names,
}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    with standalone_cluster(tmp_path) as url:
        yield url


@dataclass(frozen=True)
class Run:
    """A finished run in one process, and what it was given."""

    lake: Lake
    pictures: Path
    labels: Path
    overrides: list[str]

    def arguments(self, lake: Path) -> list[str]:
        """The same command for another lake, in which Spark finds the duplicates."""
        settings = [part for text in (*self.overrides, *SMALL, "dedup.in_memory=0") for part in ("--set", text)]
        return ["run", str(self.pictures), "--lake", str(lake), "--labels", str(self.labels), *settings]


@pytest.fixture(scope="module")
def reference(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("reference")
    pictures, labels = bright_or_dark(folder / "pictures", count=240)
    overrides = [*brightness_settings(brightness_model(folder)), "dedup.hash=pdq"]
    job = Job(Lake(spark, str(folder / "lake")), config.load(overrides=overrides), Progress())
    whole.run(job, [str(pictures)], None, [str(labels)])
    return Run(job.lake, pictures, labels, overrides)


def assert_same(reference: Run, other: Lake) -> None:
    for table, columns in COMPARED.items():
        mine, theirs = (lake.read(table).select(columns) for lake in (reference.lake, other))
        assert mine.exceptAll(theirs).isEmpty() and theirs.exceptAll(mine).isEmpty(), f"{table.name} differs"
        assert not mine.isEmpty(), f"{table.name} is empty"


@pytest.mark.cluster
def test_a_cluster_gives_the_rows_of_one_process(
    spark: SparkSession, reference: Run, cluster: str, tmp_path: Path
) -> None:
    process = submitted(cluster, tmp_path, reference.arguments(tmp_path / "lake"))
    _, printed = process.communicate(timeout=2400)
    assert process.returncode == 0, printed[-4000:]
    assert_same(reference, Lake(spark, str(tmp_path / "lake")))


def test_a_run_that_was_killed_and_started_again_gives_the_same_rows(
    spark: SparkSession, reference: Run, tmp_path: Path
) -> None:
    lake, log = tmp_path / "lake", tmp_path / "killed.log"
    command = [sys.executable, "-m", "jobs", *reference.arguments(lake), "--set", "spark.master=local[2]"]
    with log.open("wb") as file:
        # In a session of its own, so that the JVM and the Python workers die with it.
        killed = subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
        deadline = time.monotonic() + 1800
        while not (lake / "verdicts" / "_delta_log" / f"{0:020}.json").exists():
            assert killed.poll() is None and time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.05)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert not (lake / "report.html").exists()
    job = Job(Lake(spark, str(lake)), config.load(overrides=reference.overrides), Progress())
    scored = job.lake.snapshot().version(tables.SIGNALS)
    whole.run(job, [str(reference.pictures)], None, [str(reference.labels)])
    assert job.lake.snapshot().version(tables.SIGNALS) == scored, "what had been scored was scored again"
    assert_same(reference, job.lake)
