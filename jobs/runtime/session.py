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
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.logger import PySparkLogger
from pyspark.sql import DataFrame, SparkSession

from jobs.runtime.caches import class_archive
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

# What Spark says if a Python process ends before its task does.
_NO_WORKER = re.compile(
    r"Python worker exited unexpectedly|EOFException occurred while reading the port number from pyspark.daemon"
)
# The innermost cause in that case, if Spark was reading from the process or writing to it.
_CUT_OFF = re.compile(r"java\.io\.EOFException$|java\.(io|net)\.\w+: (Stream (is )?closed|Broken pipe)")
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

# Spark settings that hold a list: Winnow adds its own values to the user's.
_PACKAGES, _EXTENSIONS = "spark.jars.packages", "spark.sql.extensions"
_JAVA_OPTIONS = "spark.driver.extraJavaOptions"

DELTA_CONF = {
    _EXTENSIONS: "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
}
"""The Spark settings that Delta needs besides its jar."""

FIXED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # By default Delta skips a commit that changes no row, and what it says about how the table was made.
    "spark.databricks.delta.skipRecordingEmptyCommits": "false",
}
"""The settings that Winnow's own session always has, because results would differ without them."""

_PARTITIONS = "spark.sql.shuffle.partitions"
# A setting of Winnow's own session: whether Winnow chooses the number of shuffle partitions.
_CHOOSES_PARTITIONS = "spark.winnow.choosesShufflePartitions"
# Ids and captions of that many images are some 10 MB. Each task of a shuffle writes a block for each partition, so that
# more partitions than the most cost more than they save.
_IMAGES_OF_A_PARTITION, _MOST_PARTITIONS = 100_000, 20_000

LOG_RETENTION = "interval 90 days"
"""How long Delta keeps the log of earlier versions of a table: `dedup` compares only what is new since one of them."""

_UNLESS_SET = {
    "spark.databricks.delta.snapshotPartitions": "2",
    # Images are large rows: a default batch of 10,000 rows would be 1 GB, a columnar batch of 4,096 half of that.
    "spark.sql.execution.arrow.maxBytesPerBatch": str(16 << 20),
    "spark.sql.parquet.enableVectorizedReader": "false",
    # Half of Spark's default: a task of images takes seconds, and the job waits for the last tasks.
    "spark.sql.files.maxPartitionBytes": str(64 << 20),
    "spark.databricks.delta.properties.defaults.logRetentionDuration": LOG_RETENTION,
}

# For few rows, compiling and planning again take longer than the work. The rows of all results are the same.
# Java's second compiler makes code fast that runs for minutes, and takes a core meanwhile. The first one alone has by
# default 48 MB for its code; once they are full, Java spends a fifth of its time to find room.
_ONE_COMPILER = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m"
_FEW_ROWS = {
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    _PARTITIONS: str(os.cpu_count() or 1),
}


def get_session(settings: SparkSettings, name: str = "winnow", few: bool = False) -> SparkSession:
    """Returns a session of Winnow's own: in the Spark that this process runs, or else in one that it starts.

    Settings that the user made, with `--conf` of `spark-submit`, in spark-defaults.conf or in the running session,
    stay as they are in this session, except for `FIXED`. No other session changes.

    Args:
        settings: The section `[spark]`.
        name: Application name, as the cluster's pages show it.
        few: Whether a new local session will work on few rows: then it compiles nothing for speed.

    Raises:
        WinnowError: Java is missing or has a version that Spark does not support, the jars of Delta cannot be
            downloaded, the running session has no Delta, or the settings change one of `FIXED`.
    """
    refused = [name for name, value in FIXED.items() if settings.conf.get(name, value).lower() != value.lower()]
    if refused:
        needed = " and ".join(f"{name}={FIXED[name]}" for name in refused)
        raise WinnowError(f"Winnow needs {needed}: remove this setting from spark.conf")
    running = running_session()
    if running is None:
        session = _start(settings, name, few)
    else:
        require_delta(running)
        session = with_settings(running, settings.conf)
    local = session.sparkContext.master.startswith("local")
    defaults = {**_UNLESS_SET, _CHOOSES_PARTITIONS: "true", **(_local_partitions() if local else {})}
    if few and local and running is None:
        defaults |= _FEW_ROWS
    given = session.conf.getAll
    if settings.shuffle_partitions or _PARTITIONS in given:
        del defaults[_CHOOSES_PARTITIONS]
    wanted = {**{key: value for key, value in defaults.items() if key not in given}, **FIXED}
    if settings.shuffle_partitions:
        wanted[_PARTITIONS] = str(settings.shuffle_partitions)
    for key, value in wanted.items():
        session.conf.set(key, value)
    return session


def running_session() -> SparkSession | None:
    """Returns a session of the Spark that this process runs; None if it runs none."""
    if SparkContext._active_spark_context is None:
        return None
    return SparkSession.getActiveSession() or SparkSession.builder.getOrCreate()


def leave(session: SparkSession, user: SparkSession | None) -> None:
    """Ends the use of a session: stops the Spark that Winnow started, and no other.

    Args:
        session: From `get_session`.
        user: What `running_session` returned before. It becomes this thread's active session again.
    """
    if not runs(session):
        return
    if user is None:
        session.stop()
    else:
        user.createDataFrame([], "none int")  # the only public call that makes a session the active one


def with_settings(spark: SparkSession, conf: Mapping[str, str]) -> SparkSession:
    """Returns a new session in the same Spark, with the settings of a session and others; the session stays as it is.

    For a scan or a write that needs settings of its own: two that run at the same time do not see each other's.

    Args:
        spark: The session.
        conf: Settings that can be changed while Spark runs.

    Raises:
        WinnowError: One of them cannot.
    """
    session = spark.newSession()
    has = session.conf.getAll
    for name, value in {**spark.conf.getAll, **conf}.items():
        if has.get(name) != value:
            try:
                session.conf.set(name, value)
            except PySparkException as error:
                if name in conf:
                    raise WinnowError(f"{name} cannot be set once Spark runs: set it where Spark starts") from error
    return session


def in_session(frame: DataFrame, session: SparkSession) -> DataFrame:
    """Returns the same rows as a DataFrame of another session, by whose settings Spark then runs and writes it.

    What is read from files is read with the settings of the session in which it was opened.
    """
    if frame.sparkSession is session:
        return frame
    dataset = session._jvm.org.apache.spark.sql.classic.Dataset
    return DataFrame(dataset.ofRows(session._jsparkSession, frame._jdf.logicalPlan()), session)


def fit_shuffles(spark: SparkSession, images: int) -> None:
    """Sets the number of shuffle partitions by the number of images, unless the user set it.

    Adaptive execution merges partitions that turn out small, but never divides one that is too large.

    Args:
        spark: From `get_session`.
        images: Images of the lake.
    """
    if spark.conf.get(_CHOOSES_PARTITIONS, None):
        wanted = min(-(-images // _IMAGES_OF_A_PARTITION), _MOST_PARTITIONS)
        if wanted > int(spark.conf.get(_PARTITIONS) or 0):
            spark.conf.set(_PARTITIONS, str(wanted))


def require_delta(session: SparkSession) -> None:
    """Checks that a session that somebody else started can read Delta tables.

    Raises:
        WinnowError: It cannot; the message has the settings that it lacks.
    """
    extension, catalog = DELTA_CONF.items()
    extensions = session.conf.get(extension[0], None) or ""
    if extension[1] not in extensions or session.conf.get(catalog[0], None) is None:
        wanted = " and ".join(f"{name}={value}" for name, value in (extension, catalog))
        raise WinnowError(
            f"the running Spark session has no Delta: create it with spark.jars.packages={DELTA_JAR}, {wanted}, or "
            "stop it and try again"
        )


def _local_partitions() -> dict[str, str]:
    return {_PARTITIONS: str(_PARTITIONS_PER_CORE * (os.cpu_count() or 1))}


def _start(settings: SparkSettings, name: str, few: bool) -> SparkSession:
    """Starts Spark: by the master and packages of `spark-submit`, or else on this machine."""
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    conf = dict(settings.conf)
    if settings.master:
        conf["spark.master"] = settings.master
    if not submitted:
        check_java()
        use_utf8_names()
        logging.getLogger("py4j").setLevel(logging.ERROR)
        # For an invalid query Spark logs a page of JSON; the exception says the same in one line.
        PySparkLogger.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL)
        logging.getLogger().addFilter(lambda record: record.msg not in _UNLOGGED)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        conf = {"spark.driver.memory": settings.driver_memory, **conf, _PACKAGES: _listed(DELTA_JAR, conf, _PACKAGES)}
        if conf.get("spark.master", "local").startswith("local"):
            # Remote executors must reach the driver, and their number has nothing to do with its cores.
            os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
            # Java archives no class path with folders of settings in it.
            has_folders = any(name in os.environ for name in _OTHER_CONF)
            given = conf.get(_JAVA_OPTIONS, "")
            archive = "" if has_folders else class_archive.options(_java(), given)
            conf[_JAVA_OPTIONS] = " ".join(filter(None, (archive, _ONE_COMPILER if few else "", given)))
    with _quiet_launch(submitted, conf.get(_PACKAGES, "")):
        session = _started(conf, name, submitted)
    session.sparkContext.setLogLevel("ERROR")
    _silence_updates(session)
    return session


def _silence_updates(session: SparkSession) -> None:
    """Prints no traceback if the JVM ends while it sends updates of accumulators: Winnow says it on one line.

    The thread that receives them has no other error to tell.
    """
    server = getattr(session.sparkContext, "_accumulatorServer", None)
    if server is not None:
        server.handle_error = lambda request, client: None


def _listed(own: str, conf: Mapping[str, str], name: str) -> str:
    """Returns a list of Winnow's value and the user's."""
    values = [own, *(one for one in conf.get(name, "").split(",") if one)]
    return ",".join(dict.fromkeys(values))


def _unset(given: Mapping[str, str], submitted: bool) -> dict[str, str]:
    """Returns the settings with which Spark starts, without those that the user set.

    Args:
        given: The settings of `spark-submit`, of spark-defaults.conf and of Winnow's `[spark.conf]`.
        submitted: Whether `spark-submit` started this process.
    """
    conf = {**DELTA_CONF, "spark.ui.showConsoleProgress": "false"}
    if not submitted:
        conf["spark.ui.enabled"] = "false"
    if given.get("spark.master", "local").startswith("local"):
        # Each table that is broadcast takes a page, on one machine of 64 MB by default: a query with many joins of
        # small tables fills the heap.
        conf["spark.buffer.pageSize"] = "4m"
    unset = {name: value for name, value in conf.items() if name not in given}
    return {**unset, _EXTENSIONS: _listed(DELTA_CONF[_EXTENSIONS], given, _EXTENSIONS)}


def _started(conf: Mapping[str, str], name: str, submitted: bool) -> SparkSession:
    """Starts the JVM, if `spark-submit` has not, and a session in it."""
    _launch(conf)
    # Only a JVM that runs tells what the user set for it.
    given = {**dict(SparkConf().getAll()), **conf}
    return SparkSession.builder.appName(name).config(map={**conf, **_unset(given, submitted)}).getOrCreate()


def _launch(conf: Mapping[str, str]) -> None:
    """Starts the JVM; tries again if the download of jars broke off (jars that arrived are kept)."""
    for attempt in range(_TRIES):
        try:
            SparkContext._ensure_initialized(conf=SparkConf().setAll(list(conf.items())))
            return
        except PySparkException:
            if attempt == _TRIES - 1 or not _not_fetched(_printed()):
                raise
            time.sleep(_PAUSE)


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
        if _was_killed(error, printed):
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
    if any(map(_NO_WORKER.search, texts)) or _CUT_OFF.match(gist):
        return WinnowError(
            "a Python process of Spark has ended; the system may have killed it because memory ran out: run fewer at "
            "once, as with `--set 'spark.master=\"local[2]\"'`, or on a cluster raise spark.executor.memoryOverhead"
            f"{where}"
        )
    return WinnowError(f"Spark failed: {gist}{_remedy(*texts)} (`--debug` shows where)")


def _was_killed(error: BaseException, printed: str) -> bool:
    """Returns whether the JVM ended while it started, without a word about why."""
    raised = list(_chain(error))
    has_ended = any(isinstance(one, Py4JNetworkError | ConnectionError) for one in raised)
    has_ended |= any("JAVA_GATEWAY_EXITED" in _text(one) for one in raised)
    last = "".join(printed.strip().splitlines()[-1:])
    return has_ended and not (_raised(printed) or _not_fetched(printed) or "error" in last.lower())


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
