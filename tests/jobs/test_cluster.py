"""The whole of Winnow on a real standalone cluster gives the rows that one process gives."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession

from jobs import config, tables
from jobs import run as whole
from jobs.job import Job
from jobs.lake import Lake
from jobs.progress import Progress
from jobs.session import DELTA_JAR
from tests.pictures import bright_or_dark, brightness_model, brightness_settings

ROOT = Path(__file__).parents[2]
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


@pytest.mark.cluster
def test_a_cluster_gives_the_rows_of_one_process(spark: SparkSession, cluster: str, tmp_path: Path) -> None:
    pictures, labels = bright_or_dark(tmp_path / "pictures", count=240)
    overrides = [*brightness_settings(brightness_model(tmp_path)), "dedup.hash=pdq"]
    local = Job(Lake(spark, str(tmp_path / "local")), config.load(overrides=overrides), Progress())
    whole.run(local, [str(pictures)], None, [str(labels)])

    archive = tmp_path / "winnow.zip"
    subprocess.run([sys.executable, str(ROOT / "scripts" / "make_zip.py"), str(archive)], check=True)
    command = [
        str(SPARK_HOME / "bin" / "spark-submit"), "--master", cluster, "--packages", DELTA_JAR,
        "--py-files", str(archive), "--conf", "spark.executor.memory=1g", "--conf", "spark.sql.shuffle.partitions=3",
        str(ROOT / "jobs" / "__main__.py"), "run", str(pictures), "--lake", str(tmp_path / "cluster"),
        "--labels", str(labels), *(part for text in overrides for part in ("--set", text)),
    ]  # fmt: skip
    # Another working directory and no PYTHONPATH: the code must come from the zip alone.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYSPARK_GATEWAY_PORT")}
    environment |= {"SPARK_HOME": str(SPARK_HOME), "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    answer = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert answer.returncode == 0, answer.stderr[-4000:]

    other = Lake(spark, str(tmp_path / "cluster"))
    for table, columns in COMPARED.items():
        mine, theirs = (lake.read(table).select(columns) for lake in (local.lake, other))
        assert mine.exceptAll(theirs).isEmpty() and theirs.exceptAll(mine).isEmpty(), f"{table.name} differs"
        assert not mine.isEmpty(), f"{table.name} is empty"
