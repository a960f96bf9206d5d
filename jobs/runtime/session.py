"""The only place that builds a Spark session."""

import atexit
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from py4j.protocol import Py4JError, Py4JNetworkError
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import SparkSession

from jobs.runtime.config import SparkSettings
from models.errors import WinnowError

DELTA_JAR = "io.delta:delta-spark_4.2_2.13:4.4.0"
HADOOP = "3.5.0"
"""The version of Hadoop that Spark comes with, and so of its connectors."""

JAVA_VERSIONS = (17, 21)

# Spark's own 200 partitions are for clusters: on one machine most of them would be empty tasks.
_PARTITIONS_PER_CORE = 4

# Results that the driver's heap has no room for are lost, and only a log of lower level says why.
_OUT_OF_MEMORY = ("java.lang.OutOfMemoryError", "Not enough memory to build and broadcast", "TaskResultLost")

# How Python's own trace, which Spark passes on as text, names what Winnow raised in a worker.
_RAISED_BY_A_WORKER = re.compile(r"^models\.errors\.\w+: (.*)$", re.MULTILINE)

_NO_FILE_SYSTEM = ("No FileSystem for scheme", "FileSystem not found")
_CONNECTORS = (
    "; Spark comes without the connectors of object stores, and --set "
    f"spark.conf.spark.jars.packages=org.apache.hadoop:hadoop-aws:{HADOOP} fetches that of s3a (hadoop-azure: of abfss)"
)

# What Ivy prints where a registry did not give what Spark asked for: not there, or cut off on the way.
_NOT_FETCHED = ("UNRESOLVED DEPENDENCIES", "FAILED DOWNLOADS")
_TRIES = 3
_PAUSE = 5.0  # Seconds.

# Settings of Spark that hold several values: a user's own join those that Winnow needs.
_LISTS = ("spark.jars.packages", "spark.sql.extensions")

DELTA_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
"""What makes a session one that has Delta, beside its jar."""

_SPARK_CONF = {
    **DELTA_CONF,
    "spark.databricks.delta.snapshotPartitions": "2",
    # How a table was made is told by its log alone, which Delta forgets after 30 days.
    "spark.databricks.delta.properties.defaults.logRetentionDuration": "interval 3650 days",
    # Images are large rows: a batch of the default 10,000 would be 1 GB, a columnar one of 4,096 half of that.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.parquet.enableVectorizedReader": "false",
    # Half of Spark's own: a task of images takes seconds, and the last ones are waited for.
    "spark.sql.files.maxPartitionBytes": str(64 << 20),
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.showConsoleProgress": "false",
}


def get_session(settings: SparkSettings, name: str = "winnow") -> SparkSession:
    """The running session, or a new one.

    Under `spark-submit` the master and the packages it was given stand; without it a local session is started.

    Args:
        settings: The section `[spark]`.
        name: Application name, as the cluster's pages show it.

    Raises:
        WinnowError: Java is missing or of a version that Spark does not run on, or Delta's jars cannot be fetched.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(name)
    conf = dict(_SPARK_CONF)
    if not submitted:
        check_java()
        logging.getLogger("py4j").setLevel(logging.ERROR)
        # Spark logs a query that it cannot understand as a page of JSON, before it raises what is told in a line.
        PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        # py4j logs a traceback where the JVM has ended; `failure` says it in a line.
        logging.getLogger().addFilter(lambda record: record.msg != "Exception while sending command.")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        conf["spark.ui.enabled"] = "false"
        conf["spark.jars.packages"] = DELTA_JAR
        conf["spark.driver.memory"] = settings.driver_memory
        master = settings.master or "local[*]"
        builder = builder.master(master)
        if master.startswith("local"):
            # Executors elsewhere must find the driver, and are not as many as its cores.
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            conf["spark.sql.shuffle.partitions"] = str(_PARTITIONS_PER_CORE * (os.cpu_count() or 1))
    elif settings.master:
        builder = builder.master(settings.master)
    if settings.shuffle_partitions:
        conf["spark.sql.shuffle.partitions"] = str(settings.shuffle_partitions)
    for name, value in settings.conf.items():
        conf[name] = f"{conf[name]},{value}" if name in _LISTS and name in conf else value
    with _quiet_launch(submitted, conf.get("spark.jars.packages", "")):
        session = _started(builder.config(map=conf))
    session.sparkContext.setLogLevel("ERROR")
    return session


def _started(builder: SparkSession.Builder) -> SparkSession:
    """The session, tried again where a registry cut off the jars that a first start fetches: those it gave are kept."""
    for _ in range(_TRIES - 1):
        try:
            return builder.getOrCreate()
        except PySparkException:
            if not _not_fetched(_printed()):
                raise
            time.sleep(_PAUSE)
    return builder.getOrCreate()


@contextmanager
def overridden(spark: SparkSession, conf: Mapping[str, str]) -> Iterator[None]:
    """Settings of the session that hold for a while."""
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


@contextmanager
def _quiet_launch(submitted: bool, packages: str) -> Iterator[None]:
    """Sends what a new local JVM prints to a log file, since it would bury Winnow's own lines.

    Raises:
        WinnowError: The JVM did not start; with the last line it printed, and where the rest is.
    """
    if submitted or SparkSession.getActiveSession() is not None:
        yield
        return
    log = _emptied_log()
    sys.stderr.flush()
    terminal = os.dup(2)
    os.dup2(log, 2)
    try:
        yield
    except Exception as error:
        printed = _printed()
        said = [line for line in printed.strip().splitlines() if not line.startswith("\tat ")][-1:]
        if _not_fetched(printed):
            said = [f"{packages} or what they need could not be fetched from Maven Central, as a first start must"]
        raise WinnowError(f"Spark did not start: {' '.join(said) or error}; all it printed is in {_log()}") from error
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def runs(spark: SparkSession) -> bool:
    """Whether a session's JVM still answers."""
    try:
        spark.sparkContext._jvm.java.lang.System.nanoTime()
    except (Py4JError, ConnectionError):
        return False
    return True


def failure(error: BaseException, settings: SparkSettings, running: bool) -> WinnowError | None:
    """What to tell of an error that came through Spark; None for any other.

    Args:
        error: What was raised while a session ran.
        settings: The section `[spark]`.
        running: Whether the JVM is still there.
    """
    raised = list(_chain(error))
    if not any(isinstance(one, Py4JError | PySparkException | ConnectionError) for one in raised):
        return None
    printed = _printed()
    where = f"; what it printed is in {_log()}" if printed else ""
    if any(sign in text for text in (printed, *map(_text, raised)) for sign in _OUT_OF_MEMORY):
        return WinnowError(
            f"Spark ran out of memory: set spark.driver_memory to more than {settings.driver_memory}, and on a cluster "
            f"spark.executor.memory{where}"
        )
    if not running or any(isinstance(one, Py4JNetworkError) for one in raised):
        return WinnowError(f"Spark's JVM has ended: the system may have killed it for want of memory{where}")
    texts = list(map(_text, raised))
    told = [said for text in texts for said in _RAISED_BY_A_WORKER.findall(text)]
    if told:
        return WinnowError(told[0])
    hint = _CONNECTORS if any(sign in text for text in texts for sign in _NO_FILE_SYSTEM) else ""
    return WinnowError(f"Spark failed: {_gist(texts[-1])}{hint} (`--debug` shows where)")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or while handling."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # An error of a JVM that has ended cannot be asked for its text.
        return ""


def _gist(text: str) -> str:
    """The line of a stack trace that says what went wrong: the innermost cause."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((" ", "\t"))]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    raised = [line.lstrip(": ") for line in lines if re.match(r"(: )?[\w.$]+(Error|Exception): ", line)]
    return ([*causes[-1:], *raised[-1:], *lines[:1]] or ["it gave no reason"])[0]


_logs: list[tuple[int, str]] = []
"""Descriptor and name of the file for what this process's JVM prints; none where it started no JVM."""


def _emptied_log() -> int:
    """The log file, open and empty: of a name that nobody can foretell, and for this user alone."""
    if not _logs:
        _logs.append(tempfile.mkstemp(prefix="winnow-spark-", suffix=".log"))
        atexit.register(_remove_log)
    descriptor, _ = _logs[0]
    # A JVM of an earlier session writes on through a copy of it: where the next line goes is common to both.
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _log() -> Path:
    """The log file for an error to name, which stays where it is from then on."""
    atexit.unregister(_remove_log)
    return Path(_logs[0][1])


def _remove_log() -> None:
    Path(_logs[0][1]).unlink(missing_ok=True)


def _printed() -> str:
    """What the JVM has printed so far; nothing where another process started it, as `spark-submit` does."""
    # Read at a place of its own, so that what the JVM prints meanwhile goes where it belongs.
    return "".join(os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace") for log, _ in _logs)


def _not_fetched(printed: str) -> bool:
    return any(sign in printed for sign in _NOT_FETCHED)


def check_java() -> None:
    """Looks for a Java that Spark runs on.

    Raises:
        WinnowError: None was found, or its version is not one of `JAVA_VERSIONS`.
    """
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    wanted = (
        "Winnow needs Java 17 or 21: install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
    )
    if not java or not shutil.which(java):
        raise WinnowError(f"no Java found{f' under JAVA_HOME={home}' if home else ' on PATH'}. {wanted}")
    answer = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False
    )
    version = java_version(answer.stderr)
    if version not in JAVA_VERSIONS:
        raise WinnowError(f"found Java {version or 'of unknown version'} at {java}. {wanted}")


def java_version(properties: str) -> int | None:
    """The major version in the output of `java -XshowSettings:properties -version`.

    Examples:
        >>> java_version("    java.specification.version = 17")
        17
        >>> java_version("    java.specification.version = 1.8")
        8
    """
    for line in properties.splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "java.specification.version":
            return int(value.strip().removeprefix("1."))
    return None
