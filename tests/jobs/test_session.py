import subprocess
import sys
from pathlib import Path

import pytest
from py4j.protocol import Py4JError, Py4JNetworkError

from jobs.config import SparkSettings
from jobs.session import failure

ROOT = Path(__file__).parents[2]
SETTINGS = SparkSettings(driver_memory="3g")

KILLS_THE_JVM = """
import os, signal, sys
import typer
from jobs.cli import Invocation
try:
    with Invocation(sys.argv[1], None, ["spark.master='local[1]'"], debug=False).open("test") as job:
        os.kill(job.lake.spark.sparkContext._gateway.proc.pid, signal.SIGKILL)
        job.lake.spark.range(3).count()
except typer.Exit as exit:
    sys.exit(exit.exit_code)
"""


def test_a_jvm_that_was_killed_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLS_THE_JVM, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in ran.stderr.splitlines() if "error" in line.lower()]
    assert line.startswith("error: Spark's JVM has ended") and "winnow-spark-" in line
    assert ran.returncode == 1 and "Traceback" not in ran.stderr


def test_packages_that_are_not_there_are_asked_for_again_and_then_one_line(tmp_path: Path) -> None:
    setting = "spark.conf.spark.jars.packages=io.delta:nothing-of-this-name:0"
    command = [
        sys.executable,
        "-m",
        "jobs",
        "ingest",
        str(tmp_path),
        "--lake",
        str(tmp_path / "lake"),
        "--set",
        setting,
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error")]
    assert "could not be fetched from Maven Central" in line
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    log = Path(line.rsplit(" ", 1)[-1]).read_text(errors="replace")
    assert log.count(":: resolving dependencies") == 3


@pytest.mark.parametrize("said", ["java.lang.OutOfMemoryError: Java heap space", "TaskResultLost (result lost ...)"])
def test_memory_that_ran_out_is_named_with_the_setting_wherever_it_is_said(said: str) -> None:
    inner = Py4JError(f"org.apache.spark.SparkException: {said}")
    outer = Py4JError("the job was stopped")
    outer.__cause__ = inner
    told = failure(outer, SETTINGS, running=True)
    assert told is not None and "set spark.driver_memory to more than 3g" in str(told)


@pytest.mark.parametrize("error", [ValueError("java.lang.OutOfMemoryError"), OSError("disk"), Py4JError("a query")])
def test_other_errors_are_left_as_they_are(error: Exception) -> None:
    assert failure(error, SETTINGS, running=True) is None


def test_an_error_that_cannot_say_its_text_is_still_told() -> None:
    class MuteError(Py4JNetworkError):  # type: ignore[misc]
        def __str__(self) -> str:
            raise ConnectionRefusedError

    told = failure(MuteError(), SETTINGS, running=True)
    assert told is not None and "JVM has ended" in str(told)
