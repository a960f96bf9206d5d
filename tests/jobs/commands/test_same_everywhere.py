"""The whole of Winnow gives the same rows in one process, on a real standalone cluster, and when killed and resumed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from jobs.commands import run as whole
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import DELTA_JAR
from tests.builders.images import bright_or_dark, brightness_model, brightness_settings
from tests.builders.spark_settings import SMALL

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SPARK_HOME = Path(pyspark.__file__).parent
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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[str]:
    """A master and two workers of one core each, on the loopback address."""
    port = free_port()
    environment = {
        **os.environ, "SPARK_HOME": str(SPARK_HOME), "SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable,
        "SPARK_WORKER_DIR": str(tmp_path / "work"), "SPARK_NO_DAEMONIZE": "1",
    }  # fmt: skip
    spark_class, package = str(SPARK_HOME / "bin" / "spark-class"), "org.apache.spark.deploy"
    url = f"spark://127.0.0.1:{port}"
    master = [f"{package}.master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(free_port())]
    worker = [f"{package}.worker.Worker", "-c", "1", "-m", "1500m", "--host", "127.0.0.1", "--webui-port", "0", url]
    processes = []
    try:
        for number, command in enumerate((master, worker, worker)):
            log = (tmp_path / f"daemon-{number}.log").open("wb")
            processes.append(subprocess.Popen([spark_class, *command], env=environment, stdout=log, stderr=log))
            time.sleep(3 if number == 0 else 0)
        yield url
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=30)


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
    archive = tmp_path / "winnow.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_zip.py"), str(archive)], check=True)
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster, "--packages", DELTA_JAR,
        "--py-files", str(archive), "--conf", "spark.executor.memory=1g", "--conf", "spark.sql.shuffle.partitions=3",
        str(ROOT / "jobs" / "__main__.py"), *reference.arguments(tmp_path / "lake"),
    ]  # fmt: skip
    # Another working directory and no PYTHONPATH: the code must come from the zip alone.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_GATEWAY_PORT")}
    environment |= {"SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=2400)
    assert answer.returncode == 0, answer.stderr[-4000:]
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
