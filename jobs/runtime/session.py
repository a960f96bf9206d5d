"""Builds the Spark session and explains its failures; the only place that does so."""

import atexit
import locale
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
"""The version of Hadoop that Spark comes with; its connectors need the same version."""

JAVA_VERSIONS = (17, 21)
_JAVA_HINT = (
    "Winnow needs Java 17 or 21: install one (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
)

_UNITS = {"m": 20, "g": 30}
_LEAST_MEMORY = 512 << 20  # Spark refuses a heap of less than 450 MB

# If one of these is set, Spark may read settings that Winnow does not know.
_OTHER_CONF = ("PYSPARK_GATEWAY_PORT", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "SPARK_HOME")

# Spark's default of 200 partitions is for clusters: on one machine most of these tasks would be empty.
_PARTITIONS_PER_CORE = 4

# Results that do not fit into the driver's heap are lost, and only a log of a lower level says why.
_OUT_OF_MEMORY = ("java.lang.OutOfMemoryError", "Not enough memory to build and broadcast", "TaskResultLost")

# Matches an error of Winnow in a Python traceback from a worker, which Spark passes on as text.
_RAISED_BY_A_WORKER = re.compile(r"^models\.errors\.\w+: (.*)$", re.MULTILINE)

# What Spark says if a Python process ends before its task does; the second kind if Spark was writing to it.
_NO_WORKER = re.compile(
    r"Python worker exited unexpectedly|EOFException occurred while reading the port number from pyspark.daemon|"
    r"^java\.(io|net)\.\w+: (Stream (is )?closed|Broken pipe)"
)
_ENDED = "Spark's JVM has ended: the system may have killed it because memory ran out"

_CONNECTORS = (
    "; Spark comes without connectors for object stores: add `--set "
    f"spark.conf.spark.jars.packages=org.apache.hadoop:hadoop-aws:{HADOOP}` for s3a, or hadoop-azure for abfss"
)
_DISK = (
    "; free space on that disk, or let Spark keep its temporary files in another folder: "
    "`--set spark.conf.spark.local.dir=FOLDER`"
)
# What to do about a failure, by what Spark says.
_REMEDIES = {
    "No FileSystem for scheme": _CONNECTORS,
    "FileSystem not found": _CONNECTORS,
    "No space left on device": _DISK,
    "Failed to create a temp directory": _DISK,
    "INVALID_DRIVER_MEMORY": "; set spark.driver_memory to 1g or more",
}

# py4j logs these with a traceback, if the JVM has ended or on Ctrl-C. One line of Winnow says the same.
_UNLOGGED = ("Exception while sending command.", "KeyboardInterrupt while sending command.")

# What Ivy prints if a package is missing in the registry or a download breaks off.
_NOT_FETCHED = ("UNRESOLVED DEPENDENCIES", "FAILED DOWNLOADS")
_TRIES = 3
_PAUSE = 5.0  # Seconds.

_PLAIN_LOCALES, _UTF8_LOCALE = ("C", "POSIX"), "C.UTF-8"

# Spark settings that hold a list, with what separates its values: Winnow adds the user's values to its own.
_LISTS = {"spark.jars.packages": ",", "spark.sql.extensions": ",", "spark.driver.extraJavaOptions": " "}

DELTA_CONF = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
"""The Spark settings that Delta needs besides its jar."""

_SPARK_CONF = {
    **DELTA_CONF,
    "spark.databricks.delta.snapshotPartitions": "2",
    # Only the Delta log says how a table was made, and Delta deletes log entries after 30 days by default.
    "spark.databricks.delta.properties.defaults.logRetentionDuration": "interval 3650 days",
    # Images are large rows: a default batch of 10,000 rows would be 1 GB, a columnar batch of 4,096 half of that.
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.parquet.enableVectorizedReader": "false",
    # Half of Spark's default: a task of images takes seconds, and the job waits for the last tasks.
    "spark.sql.files.maxPartitionBytes": str(64 << 20),
    "spark.sql.session.timeZone": "UTC",
    "spark.ui.showConsoleProgress": "false",
}

# For few rows, compiling and planning again take longer than the work. The rows of all results are the same.
_FEW_CONF = {
    # Java's second compiler makes code fast that runs for minutes, and takes a core meanwhile.
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
}


def get_session(settings: SparkSettings, name: str = "winnow", few: bool = False) -> SparkSession:
    """Returns the running Spark session, or starts a new one.

    Under `spark-submit`, its master and packages are used; otherwise a local session starts.

    Args:
        settings: The section `[spark]`.
        name: Application name, as the cluster's pages show it.
        few: Whether a new local session will work on few rows: then it compiles nothing for speed.

    Raises:
        WinnowError: Java is missing or has a version that Spark does not support, or the jars of Delta cannot be
            downloaded.
    """
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    builder = SparkSession.builder.appName(name)
    conf = dict(_SPARK_CONF)
    if not submitted:
        check_java()
        use_utf8_names()
        logging.getLogger("py4j").setLevel(logging.ERROR)
        # For an invalid query Spark logs a page of JSON; the exception says the same in one line.
        PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        logging.getLogger().addFilter(lambda record: record.msg not in _UNLOGGED)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        conf["spark.ui.enabled"] = "false"
        conf["spark.jars.packages"] = DELTA_JAR
        conf["spark.driver.memory"] = settings.driver_memory
        master = settings.master or "local[*]"
        builder = builder.master(master)
        if master.startswith("local"):
            # Each table that is broadcast takes a page, on one machine of 64 MB by default: a query with many joins of
            # small tables fills the heap.
            conf["spark.buffer.pageSize"] = "4m"
            # Remote executors must reach the driver, and their number has nothing to do with its cores.
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            conf["spark.sql.shuffle.partitions"] = str(_PARTITIONS_PER_CORE * (os.cpu_count() or 1))
            if few:
                conf |= _FEW_CONF | {"spark.sql.shuffle.partitions": str(os.cpu_count() or 1)}
    elif settings.master:
        builder = builder.master(settings.master)
    if settings.shuffle_partitions:
        conf["spark.sql.shuffle.partitions"] = str(settings.shuffle_partitions)
    for name, value in settings.conf.items():
        conf[name] = f"{conf[name]}{_LISTS[name]}{value}" if name in _LISTS and name in conf else value
    with _quiet_launch(submitted, conf.get("spark.jars.packages", "")):
        session = _started(builder.config(map=conf))
    session.sparkContext.setLogLevel("ERROR")
    return session


def _started(builder: SparkSession.Builder) -> SparkSession:
    """Starts the session; tries again if the download of jars broke off (jars that arrived are kept)."""
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


@contextmanager
def _quiet_launch(submitted: bool, packages: str) -> Iterator[None]:
    """Redirects the output of a new local JVM to a log file, because it would bury Winnow's own lines.

    Raises:
        WinnowError: The JVM did not start; the message has its last line of output and the path of the log.
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
        if not _raised(printed) and any(isinstance(one, Py4JNetworkError | ConnectionError) for one in _chain(error)):
            raise WinnowError(f"{_ENDED}; its output is in {_log()}") from error
        reason = start_fault(printed, packages) or str(error)
        raise WinnowError(f"Spark did not start: {reason}; its output is in {_log()}") from error
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def use_utf8_names() -> None:
    """Lets the JVM and the Python workers that this process starts take file names for UTF-8, as Python does.

    In the locale C, which many containers have, Python takes names for UTF-8, but Java for ASCII: it would create a
    folder `caf?` for `café`.
    """
    if sys.flags.utf8_mode and locale.setlocale(locale.LC_CTYPE) in _PLAIN_LOCALES:
        os.environ["LC_ALL"] = _UTF8_LOCALE


def require_names(spark: SparkSession, path: str) -> None:
    """Checks that the JVM can write the letters of a path.

    Raises:
        WinnowError: The locale of the JVM has not all of them.
    """
    if path.isascii():
        return
    encoding = str(spark.sparkContext._jvm.java.lang.System.getProperty("sun.jnu.encoding"))
    try:
        is_known = path.encode(encoding).decode(encoding) == path
    except (LookupError, UnicodeError):
        is_known = False
    if not is_known:
        raise WinnowError(
            f"{path} has letters that Java's encoding of file names, {encoding}, lacks: set the environment variable "
            f"LC_ALL to {_UTF8_LOCALE}, on a cluster also for the driver and the executors"
        )


def runs(spark: SparkSession) -> bool:
    """Returns whether the JVM of a session still answers."""
    try:
        spark.sparkContext._jvm.java.lang.System.nanoTime()
    except (Py4JError, ConnectionError):
        return False
    return True


def failure(error: BaseException, settings: SparkSettings, running: bool) -> WinnowError | None:
    """Returns a one-line error for a failure of Spark; None for any other error.

    Args:
        error: The exception that was raised while a session ran.
        settings: The section `[spark]`.
        running: Whether the JVM still answers.
    """
    raised = list(_chain(error))
    if not any(isinstance(one, Py4JError | PySparkException | ConnectionError) for one in raised):
        return None
    printed = _printed()
    where = f"; its output is in {_log()}" if printed else ""
    if any(sign in text for text in (printed, *map(_text, raised)) for sign in _OUT_OF_MEMORY):
        return WinnowError(
            f"Spark ran out of memory: set spark.driver_memory to more than {settings.driver_memory}, and on a cluster "
            f"spark.executor.memory{where}"
        )
    if not running or any(isinstance(one, Py4JNetworkError) for one in raised):
        return WinnowError(f"{_ENDED}{where}")
    texts = list(map(_text, raised))
    messages = [message for text in texts for message in _RAISED_BY_A_WORKER.findall(text)]
    if messages:
        return WinnowError(messages[0])
    gist = _gist(texts[-1]) or "it gave no reason"
    if _NO_WORKER.search(gist):
        return WinnowError(
            "a Python process of Spark has ended; the system may have killed it because memory ran out: run fewer at "
            "once, as with `--set 'spark.master=\"local[2]\"'`, or on a cluster raise spark.executor.memoryOverhead"
            f"{where}"
        )
    return WinnowError(f"Spark failed: {gist}{_remedy(*texts)} (`--debug` shows where)")


def start_fault(printed: str, packages: str) -> str:
    r"""Returns on one line why Spark did not start; empty if the output does not tell.

    Args:
        printed: The output of the JVM.
        packages: The packages that it was to load.

    Examples:
        >>> start_fault("ERROR SparkContext: Error\njava.lang.Error: no\n\tat a.b\nWARN MetricsSystem: Stop", "")
        'java.lang.Error: no'
    """
    if _not_fetched(printed):
        return (
            f"{packages} or their dependencies could not be downloaded from Maven Central (needed at the first start): "
            "check the network and the names, then run the command again"
        )
    lines = [line for line in printed.strip().splitlines() if not line.startswith("\tat ")]
    return f"{_raised(printed) or ''.join(lines[-1:])}{_remedy(printed)}"


def _remedy(*texts: str) -> str:
    return next((remedy for sign, remedy in _REMEDIES.items() if any(sign in text for text in texts)), "")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and its chain of causes and contexts."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # If the JVM has ended, the text of its errors cannot be read.
        return ""


def _gist(text: str) -> str:
    """Returns the line of a message with stack traces that names the innermost cause, else its first line."""
    return _raised(text) or "".join(_unindented(text)[:1])


def _raised(text: str) -> str:
    """Returns the line of stack traces that names the innermost cause; empty if there is none."""
    lines = _unindented(text)
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    raised = [line.lstrip(": ") for line in lines if re.match(r"(: )?[\w.$]+(Error|Exception): ", line)]
    return "".join([*causes[-1:], *raised[-1:]][:1])


def _unindented(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith((" ", "\t"))]


_logs: list[tuple[int, str]] = []
"""Descriptor and path of the log file for the output of this process's JVM; empty if it started none."""


def _emptied_log() -> int:
    """Returns the descriptor of the emptied log file; its name is random and only this user can read it."""
    if not _logs:
        _logs.append(tempfile.mkstemp(prefix="winnow-spark-", suffix=".log"))
        atexit.register(_remove_log)
    descriptor, _ = _logs[0]
    # The JVM of an earlier session may still write through a copy of the descriptor; both share the file position.
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _log() -> Path:
    """Returns the path of the log file for an error message; from now on the file is not deleted at exit."""
    atexit.unregister(_remove_log)
    return Path(_logs[0][1])


def _remove_log() -> None:
    Path(_logs[0][1]).unlink(missing_ok=True)


def _printed() -> str:
    """Returns the JVM's output so far; empty if another process started the JVM, as `spark-submit` does."""
    # `pread` does not move the file position, at which the JVM goes on writing.
    return "".join(os.pread(log, os.fstat(log).st_size, 0).decode(errors="replace") for log, _ in _logs)


def _not_fetched(printed: str) -> bool:
    return any(sign in printed for sign in _NOT_FETCHED)


def check_java() -> None:
    """Checks that there is a Java that Spark supports.

    Raises:
        WinnowError: No Java was found, it does not start, or its version is not one of `JAVA_VERSIONS`.
    """
    java = _java()
    process = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False
    )
    if process.returncode:
        # Java begins with the variables it has read, then tells its first error.
        printed = process.stderr.strip().splitlines() or [f"exit code {process.returncode}"]
        reason = next((line for line in printed if not line.startswith("Picked up ")), printed[0])
        raise WinnowError(f"{java} does not start: {reason} (check JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS)")
    version = java_version(process.stderr)
    if version not in JAVA_VERSIONS:
        raise WinnowError(f"found Java {version or 'of unknown version'} at {java}. {_JAVA_HINT}")


def require_machine(settings: SparkSettings) -> None:
    """Checks quickly that there is a Java and enough memory; `check_java` starts Java to see its version.

    Raises:
        WinnowError: No Java was found, or `spark.driver_memory` is less than Spark needs or more than the machine has.
    """
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    _java()
    wanted = int(settings.driver_memory[:-1]) << _UNITS[settings.driver_memory[-1]]
    has = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if wanted < _LEAST_MEMORY:
        raise WinnowError(
            f"spark.driver_memory is {settings.driver_memory}, but Spark needs at least {_LEAST_MEMORY >> 20}m: set "
            "spark.driver_memory to 1g or more"
        )
    if wanted > has:
        raise WinnowError(
            f"spark.driver_memory is {settings.driver_memory}, but this machine has {has / (1 << 30):.1f} GB: "
            "set it to half of that or less"
        )


def _java() -> str:
    """Returns the path of the Java that Spark will start."""
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if not java or not shutil.which(java):
        raise WinnowError(f"no Java found{f' under JAVA_HOME={home}' if home else ' on PATH'}. {_JAVA_HINT}")
    return java


def names_this_disk(settings: SparkSettings) -> bool:
    """Returns whether a path without a scheme surely names a file on this machine, before Spark runs.

    Under `spark-submit`, or with a configuration of Hadoop or Spark beside Winnow's settings, it may name one in HDFS.
    """
    return not any(name in os.environ for name in _OTHER_CONF) and not any("fs.default" in key for key in settings.conf)


def java_version(properties: str) -> int | None:
    """Returns the major version from the output of `java -XshowSettings:properties -version`.

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
