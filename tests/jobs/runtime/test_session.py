import locale
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyspark
import pytest
from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.cli import app
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import session
from jobs.runtime.config import SparkSettings
from jobs.runtime.session import DELTA_JAR, HADOOP, check_java, failure, start_fault
from models.errors import ModelError, WinnowError
from tests.builders.images import numbered_images
from tests.builders.lake_rows import write_rows
from tests.builders.sources import Picture, encoded, write_folder

ROOT = Path(__file__).parents[3]
SETTINGS = SparkSettings(driver_memory="3g")

KILLS_THE_JVM = """
import os, signal, sys
from jobs.cli import app
from jobs.commands import ingest
def killed(job, sources, format):
    os.kill(job.lake.spark.sparkContext._gateway.proc.pid, signal.SIGKILL)
    job.lake.spark.range(3).count()
ingest.run = killed
app(["ingest", "pictures", "--lake", sys.argv[1], "--set", "spark.master='local[1]'"])
"""


@pytest.mark.slow
def test_a_killed_jvm_gives_a_one_line_error(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLS_THE_JVM, str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in ran.stderr.splitlines() if "error" in line.lower()]
    assert line.startswith("error: Spark's JVM has ended") and "winnow-spark-" in line
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    assert Path(line.rsplit(" ", 1)[-1]).exists()


SHARED_FOLDER = """
import os, stat
from pathlib import Path
from py4j.protocol import Py4JError
from jobs.runtime import session
from jobs.runtime import session
from jobs.runtime.config import SparkSettings
planted = Path(os.environ["TMPDIR"]) / f"winnow-spark-{os.getpid()}.log"
settings = SparkSettings(driver_memory="3g")
"""


def run_in(folder: Path, script: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script in its own process, with the folder for its temporary files."""
    return subprocess.run(
        [sys.executable, "-c", SHARED_FOLDER + script],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_log_follows_no_link_is_private_and_is_deleted_at_exit(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear")
    script = """
planted.symlink_to(planted.parent / "mine")
with session._quiet_launch(False, ""):
    os.write(2, b"said by the JVM")
(log,) = [path for path in planted.parent.glob("winnow-spark-*") if path != planted]
print(oct(stat.S_IMODE(log.stat().st_mode)), log.read_text(), "|", session._printed())
"""
    ran = run_in(tmp_path, script)
    assert ran.stdout == "0o600 said by the JVM | said by the JVM\n" and ran.stderr == ""
    assert (tmp_path / "mine").read_text() == "dear"
    assert [path.is_symlink() for path in tmp_path.glob("winnow-spark-*")] == [True]


def test_a_second_launch_empties_the_log_and_keeps_the_output_of_both_jvms(tmp_path: Path) -> None:
    script = """
with session._quiet_launch(False, ""):
    os.write(2, b"java.lang.OutOfMemoryError")
    jvm = os.dup(2)
with session._quiet_launch(False, ""):
    os.write(2, b"second, ")
    os.write(jvm, b"first")
print(session._printed())
"""
    ran = run_in(tmp_path, script)
    assert ran.stdout == "second, first\n", ran.stderr


def test_a_log_that_an_error_names_is_not_deleted(tmp_path: Path) -> None:
    script = """
try:
    with session._quiet_launch(False, ""):
        os.write(2, b"no room")
        raise ValueError
except Exception as error:
    print(error)
"""
    ran = run_in(tmp_path, script)
    (log,) = tmp_path.glob("winnow-spark-*")
    assert ran.stdout == f"Spark did not start: no room; its output is in {log}\n", ran.stderr
    assert log.read_text() == "no room"


def test_the_log_of_another_process_is_not_read(tmp_path: Path) -> None:
    script = """
planted.write_text("java.lang.OutOfMemoryError")
with session._quiet_launch(True, ""):
    pass
print(session.failure(Py4JError("java.lang.IllegalStateException: no"), settings, running=True))
"""
    ran = run_in(tmp_path, script)
    assert ran.stdout.startswith("Spark failed: java.lang.IllegalStateException: no"), ran.stderr


@pytest.mark.slow
def test_missing_packages_are_tried_three_times_and_give_a_one_line_error(tmp_path: Path) -> None:
    setting = "spark.conf.spark.jars.packages=io.delta:nothing-of-this-name:0"
    numbered_images(images := tmp_path / "images", range(1))
    command = [
        sys.executable,
        "-m",
        "jobs",
        "ingest",
        str(images),
        "--lake",
        str(tmp_path / "lake"),
        "--set",
        setting,
    ]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error")]
    assert "could not be downloaded from Maven Central" in line
    assert ran.returncode == 1 and "Traceback" not in ran.stderr
    log = Path(line.rsplit(" ", 1)[-1]).read_text(errors="replace")
    assert log.count(":: resolving dependencies") == 3


@pytest.mark.parametrize("said", ["java.lang.OutOfMemoryError: Java heap space", "TaskResultLost (result lost ...)"])
def test_an_out_of_memory_error_names_the_setting_wherever_it_is_in_the_chain(said: str) -> None:
    inner = Py4JError(f"org.apache.spark.SparkException: {said}")
    outer = Py4JError("the job was stopped")
    outer.__cause__ = inner
    told = failure(outer, SETTINGS, running=True)
    assert told is not None and "set spark.driver_memory to more than 3g" in str(told)


@pytest.mark.parametrize(
    "said",
    [
        "org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)",
        "org.apache.spark.SparkException: EOFException occurred while reading the port number from pyspark.daemon's",
        "org.apache.spark.SparkException: Job aborted\n\tat a.B\nCaused by: java.net.SocketException: Broken pipe",
        "org.apache.spark.SparkException: Job aborted\n\tat a.B\nCaused by: java.io.IOException: Stream closed",
        "o1.save.\n: org.apache.spark.SparkException: Python worker exited unexpectedly (crashed)\n\tat a.B\n"
        "Caused by: java.io.EOFException\n\tat java.base/java.io.DataInputStream.readInt(DataInputStream.java:397)",
        "o1.save.\n: org.apache.spark.SparkException: Job aborted\n\tat a.B\nCaused by: java.io.EOFException\n\tat c.D",
    ],
)
def test_a_python_process_that_ended_is_named_with_the_likely_cause(said: str) -> None:
    told = failure(Py4JError(said), SETTINGS, running=True)
    assert told is not None and "a Python process of Spark has ended" in str(told) and "memory ran out" in str(told)


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("java.io.IOException: No space left on device", "spark.local.dir=FOLDER"),
        ("java.io.IOException: Failed to create a temp directory (under /x) after 10 attempts!", "spark.local.dir"),
        ("a.SparkIllegalArgumentException: [INVALID_DRIVER_MEMORY] System memory 1 must be", "spark.driver_memory to"),
        ("java.lang.Error: something else", ""),
    ],
)
def test_a_failure_is_shown_with_its_cause_and_a_remedy(said: str, remedy: str) -> None:
    printed = f"ERROR SparkContext: Error initializing.\n{said}\n\tat a.B.c(B.java:1)\nWARN MetricsSystem: Stopping\n"
    fault = start_fault(printed, "")
    assert fault.startswith(said) and remedy in fault and fault.endswith(said) == (not remedy)
    later = failure(Py4JError(said), SETTINGS, running=True)
    assert later is not None and said in str(later) and remedy in str(later)


@pytest.mark.parametrize(
    ("printed", "is_named", "error"),
    [
        ("To adjust logging level\n", True, Py4JNetworkError("Answer from Java side is empty")),
        ("\tfound org.slf4j#slf4j-api;2.0.17 in central\n", True, PySparkRuntimeError("[JAVA_GATEWAY_EXITED] ...")),
        ("", True, PySparkRuntimeError("[JAVA_GATEWAY_EXITED] Java gateway process exited")),
        ("java.lang.Error: no\n", False, Py4JNetworkError("Answer from Java side is empty")),
        ("java.lang.Error: no\n", False, PySparkRuntimeError("[JAVA_GATEWAY_EXITED] ...")),
    ],
)
def test_a_jvm_that_ends_while_it_starts_is_named(
    printed: str, is_named: bool, error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(session.SparkSession, "getActiveSession", lambda: None)
    with (tmp_path / "log").open("w+b") as log:
        monkeypatch.setattr(session, "_logs", [(log.fileno(), log.name)])
        monkeypatch.setattr(session, "_log", lambda: log.name)
        with pytest.raises(WinnowError) as raised, session._quiet_launch(False, ""):
            os.write(2, printed.encode())
            raise error
    text = str(raised.value)
    assert text.startswith("Spark's JVM has ended" if is_named else "Spark did not start: java.lang.Error: no")
    assert text.endswith(f"its output is in {log.name}")


def test_a_jvm_that_says_no_more_than_a_line_is_quoted() -> None:
    assert start_fault("Error: Could not create the Java Virtual Machine.\n", "") == (
        "Error: Could not create the Java Virtual Machine."
    )
    assert start_fault("", "") == ""


def test_too_little_memory_for_spark_is_one_line_with_the_setting(tmp_path: Path) -> None:
    few = ["--set", "spark.driver_memory=256m", "--set", "spark.master='local[1]'"]
    command = [sys.executable, "-m", "jobs", "ingest", str(tmp_path), "--lake", str(tmp_path / "lake"), *few]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    (line,) = [line for line in ran.stderr.splitlines() if line.startswith("error")]
    assert "set spark.driver_memory to 1g or more" in line and "Traceback" not in ran.stderr


@pytest.mark.slow
def test_names_with_other_letters_are_kept_in_the_locale_c(tmp_path: Path) -> None:
    source = write_folder(tmp_path / "café", [Picture("größe", encoded("red"), "Zoë")])
    lake = tmp_path / "später"
    command = [
        sys.executable,
        "-m",
        "jobs",
        "ingest",
        str(source),
        "--lake",
        str(lake),
        "--set",
        "spark.master=local[1]",
    ]
    env = {**os.environ, "LC_ALL": "C"}
    ran = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"café", "später"} and (lake / "images").is_dir()


def test_a_python_that_reads_and_writes_ascii_shows_other_letters_as_escapes(lake: Lake) -> None:
    write_rows(lake, tables.QUARANTINE, [])
    command = [sys.executable, "-m", "jobs", "status", "--lake", lake.uri]
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    ran = subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0 and "Traceback" not in ran.stderr
    assert "quarantine" in ran.stdout and r"\u2502" in ran.stdout


def test_a_locale_that_python_does_not_replace_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "POSIX")
    session.use_utf8_names()
    plain = locale.setlocale(locale.LC_CTYPE) in ("C", "POSIX") and sys.flags.utf8_mode
    assert os.environ["LC_ALL"] == ("C.UTF-8" if plain else "POSIX")


def test_letters_that_java_cannot_write_are_an_error_before_anything_is_written(spark: SparkSession) -> None:
    system = spark.sparkContext._jvm.java.lang.System  # type: ignore[union-attr]
    before = system.getProperty("sun.jnu.encoding")
    try:
        system.setProperty("sun.jnu.encoding", "ANSI_X3.4-1968")
        session.require_names(spark, "/data/lake")
        with pytest.raises(
            WinnowError, match=r"/data/café has letters .* ANSI_X3.4-1968, lacks: set .* LC_ALL to C.UTF-8"
        ):
            session.require_names(spark, "/data/café")
        system.setProperty("sun.jnu.encoding", "UTF-8")
        session.require_names(spark, "/data/café")
    finally:
        system.setProperty("sun.jnu.encoding", before)


def test_updates_that_break_off_print_no_traceback(spark: SparkSession, capfd: pytest.CaptureFixture[str]) -> None:
    try:
        raise OSError("the JVM has ended")
    except OSError:
        spark.sparkContext._accumulatorServer.handle_error(None, ("127.0.0.1", 1))
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("command", ["Exception while sending command.", "KeyboardInterrupt while sending command."])
def test_py4js_tracebacks_of_a_stopped_jvm_are_not_shown(spark: SparkSession, command: str) -> None:
    root = logging.getLogger()
    assert not root.filter(root.makeRecord("root", logging.ERROR, __file__, 1, command, (), None))
    assert root.filter(root.makeRecord("root", logging.ERROR, __file__, 1, "another error", (), None))


def test_an_operating_system_error_is_one_line_with_the_file(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    shown = CliRunner().invoke(app, ["generate", str(tmp_path / "a" / "b"), "--count", "3"])
    assert shown.exit_code == 1
    assert shown.stderr.split("\n") == [f"error: {tmp_path}/a/b: Not a directory (`--debug` shows where)", ""]


@pytest.mark.parametrize("error", [ValueError("java.lang.OutOfMemoryError"), OSError("disk"), KeyError("x")])
def test_errors_from_outside_spark_are_not_translated(error: Exception) -> None:
    assert failure(error, SETTINGS, running=True) is None


def test_an_error_of_winnow_in_a_worker_keeps_its_message(spark: SparkSession) -> None:
    def refused(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ModelError("the embedding of 2 of 9 pictures is not made of numbers")

    with pytest.raises(PySparkException) as raised:
        spark.range(3).mapInArrow(refused, "id long").collect()
    assert str(failure(raised.value, SETTINGS, running=True)) == (
        "the embedding of 2 of 9 pictures is not made of numbers"
    )


def test_other_failures_of_spark_give_one_line_with_the_cause(spark: SparkSession, tmp_path: Path) -> None:
    def broken(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise OSError(28, "No space left on device")

    fails: list[tuple[Callable[[], object], str]] = [
        (lambda: spark.range(3).mapInArrow(broken, "id long").collect(), "No space left on device"),
        (lambda: spark.read.parquet("nosuch:///x"), 'No FileSystem for scheme "nosuch"'),
        (lambda: spark.read.parquet("s3a://bucket/x"), "hadoop-aws:"),
        (lambda: spark.range(3).selectExpr("cast('x' as int) as n").collect(), "CAST_INVALID_INPUT"),
        (lambda: spark._jvm.java.lang.Integer.parseInt("no number"), "no number"),
    ]
    for fail, said in fails:
        with pytest.raises((Py4JError, PySparkException)) as raised:
            fail()
        line = str(failure(raised.value, SETTINGS, running=True))
        assert line.startswith("Spark failed: ") and said in line and "\n" not in line and "`--debug`" in line


def test_the_named_connectors_match_the_hadoop_version_of_spark() -> None:
    jars = Path(pyspark.__file__).parent / "jars"
    assert (jars / f"hadoop-client-api-{HADOOP}.jar").exists()


@pytest.mark.slow
def test_packages_and_extensions_of_the_user_are_added_to_those_of_delta(tmp_path: Path) -> None:
    # A dependency of Delta itself is certainly in the cache.
    package = "io.delta:delta-storage:" + DELTA_JAR.rpartition(":")[2]
    shown = """
import sys
from jobs.cli import app
from jobs.runtime import session
from jobs.runtime.config import SparkSettings
from jobs.runtime.session import get_session
own = {"spark.sql.extensions": "org.apache.spark.sql.NoSuchThing", "spark.jars.packages": sys.argv[1]}
conf = get_session(SparkSettings(driver_memory="1g", conf=own)).conf
print(conf.get("spark.sql.extensions"), conf.get("spark.jars.packages"))
"""
    ran = subprocess.run([sys.executable, "-c", shown, package], cwd=ROOT, capture_output=True, text=True, check=True)
    extensions = "io.delta.sql.DeltaSparkSessionExtension,org.apache.spark.sql.NoSuchThing"
    assert ran.stdout.split() == [extensions, f"{DELTA_JAR},{package}"]


def test_an_error_whose_text_cannot_be_read_still_gives_a_message() -> None:
    class MuteError(Py4JNetworkError):  # type: ignore[misc]
        def __str__(self) -> str:
            raise ConnectionRefusedError

    told = failure(MuteError(), SETTINGS, running=True)
    assert told is not None and "JVM has ended" in str(told)


@pytest.mark.parametrize(
    ("prints", "message"),
    [
        (
            "echo 'Picked up JAVA_TOOL_OPTIONS: -Xmx1x' >&2; echo 'Invalid maximum heap size: -Xmx1x' >&2; exit 1",
            r"bin/java does not start: Invalid maximum heap size: -Xmx1x \(check JAVA_TOOL_OPTIONS",
        ),
        ("exit 3", "bin/java does not start: exit code 3 "),
        ("echo '    java.specification.version = 11' >&2", "found Java 11 at .*bin/java. Winnow needs Java 17 or 21"),
        (None, "no Java found under JAVA_HOME="),
    ],
)
def test_a_java_that_cannot_be_used_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str | None, message: str
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    if prints:
        java = tmp_path / "bin" / "java"
        java.parent.mkdir()
        java.write_text(f"#!/bin/sh\n{prints}\n")
        java.chmod(0o755)
    with pytest.raises(WinnowError, match=message):
        check_java()
