"""Reads TOML files, and says what is not allowed in them: values that nothing can use, and code for Spark to load."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from jobs.runtime.addresses import secret_in
from jobs.runtime.terminal import visible

MOST_BYTES = 10_000_000
_DEEPEST = 20
_BITS = 64
_SHOWN, _SHOWN_CHARACTERS = 5, 200
_NUL = "\0"
_CONF = "spark.conf."

# Prefixes (with a dot at the end) and names of Spark settings that load no code. If in doubt, a setting is not here.
_HARMLESS = (
    # Memory, cores, numbers of executors.
    "spark.driver.cores", "spark.driver.maxResultSize", "spark.driver.memory", "spark.driver.memoryOverhead",
    "spark.driver.memoryOverheadFactor", "spark.executor.cores", "spark.executor.heartbeatInterval",
    "spark.executor.instances", "spark.executor.memory", "spark.executor.memoryOverhead",
    "spark.executor.memoryOverheadFactor", "spark.executor.pyspark.memory", "spark.cores.max", "spark.task.cpus",
    "spark.task.maxFailures", "spark.memory.", "spark.dynamicAllocation.", "spark.python.worker.memory",
    "spark.python.worker.reuse", "spark.yarn.queue",
    # Parallelism, shuffles, sizes, local disks.
    "spark.default.parallelism", "spark.shuffle.", "spark.reducer.", "spark.speculation", "spark.speculation.",
    "spark.scheduler.mode", "spark.buffer.pageSize", "spark.broadcast.", "spark.rdd.compress",
    "spark.kryoserializer.buffer", "spark.kryoserializer.buffer.max", "spark.files.maxPartitionBytes",
    "spark.files.openCostInBytes", "spark.local.dir", "spark.locality.wait", "spark.locality.wait.",
    # Timeouts and the page of the session.
    "spark.network.timeout", "spark.network.timeoutInterval", "spark.rpc.askTimeout", "spark.rpc.lookupTimeout",
    "spark.rpc.message.maxSize", "spark.ui.enabled", "spark.ui.port", "spark.ui.showConsoleProgress",
    # SQL and Delta. Catalogs, extensions, listeners and the classes of Hive are not among them.
    "spark.sql.adaptive.", "spark.sql.ansi.enabled", "spark.sql.autoBroadcastJoinThreshold",
    "spark.sql.broadcastTimeout", "spark.sql.caseSensitive", "spark.sql.cbo.", "spark.sql.codegen.",
    "spark.sql.execution.arrow.", "spark.sql.files.", "spark.sql.inMemoryColumnarStorage.", "spark.sql.join.",
    "spark.sql.optimizer.", "spark.sql.parquet.", "spark.sql.session.timeZone", "spark.sql.shuffle.partitions",
    "spark.sql.sources.parallelPartitionDiscovery.", "spark.sql.statistics.", "spark.sql.windowExec.",
    "spark.databricks.delta.",
    # Object stores: how to connect, and keys (which the report hides). Whoever names the endpoint gets all data.
    "spark.hadoop.fs.s3a.access.key", "spark.hadoop.fs.s3a.attempts.maximum", "spark.hadoop.fs.s3a.block.size",
    "spark.hadoop.fs.s3a.connection.establish.timeout", "spark.hadoop.fs.s3a.connection.maximum",
    "spark.hadoop.fs.s3a.connection.request.timeout", "spark.hadoop.fs.s3a.connection.timeout",
    "spark.hadoop.fs.s3a.endpoint.region", "spark.hadoop.fs.s3a.fast.upload", "spark.hadoop.fs.s3a.multipart.",
    "spark.hadoop.fs.s3a.path.style.access",
    "spark.hadoop.fs.s3a.readahead.range", "spark.hadoop.fs.s3a.retry.", "spark.hadoop.fs.s3a.secret.key",
    "spark.hadoop.fs.s3a.session.token", "spark.hadoop.fs.s3a.threads.",
    # Names of a family that do not name a class.
    "spark.sql.parquet.compression.codec", "spark.sql.execution.arrow.compression.codec",
)  # fmt: skip
_ANY_ACCOUNT = "spark.hadoop.fs.azure.account.key."
# Below an allowed prefix, Spark may still name a class or a program, skip rows of damaged files, or delete recipes.
_REFUSED_BELOW = re.compile(
    r"class|impl|plugin|listener|extension|jar|python|options|manager|provider|policy|command|committer|filters"
    r"|logstore|coordinator|codec|ignorecorruptfiles|ignoremissingfiles|properties\.defaults",
    re.IGNORECASE,
)
# Spark and Hadoop put environment variables and other settings in the place of such a value.
_SUBSTITUTED = "$" + "{"
_OWN_MASTER = re.compile(r"local(\[[\w*, ]+\])?|yarn")


class NotTomlError(ValueError):
    """Text that is not TOML. The message completes a sentence that begins with the name of the text."""


def read_toml(file: Path | Traversable) -> dict[str, Any]:
    """Returns the content of a TOML file.

    Args:
        file: A file of UTF-8 text.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is too large, is not TOML, or holds a value that nothing can use. The message completes a
            sentence that begins with the file's name.
    """
    with file.open("rb") as stream:
        data = stream.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 1_000_000} MB, too much for settings")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 text (byte {error.start})") from error
    tree = parsed(text)
    require_usable(tree)
    return tree


def parsed(text: str) -> dict[str, Any]:
    """Returns the content of TOML text.

    Args:
        text: TOML.

    Raises:
        NotTomlError: The text is not TOML.
        ValueError: It is nested too deeply, or holds a number with too many digits for Python.

    Examples:
        >>> parsed("seed = 7")
        {'seed': 7}
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it has too many brackets inside each other") from None
    except tomllib.TOMLDecodeError as error:
        raise NotTomlError(f"it is not TOML: {error}") from error
    except ValueError as error:  # Python limits the digits of a number
        raise ValueError(f"it holds a number with more than {_BITS} bits") from error


def require_usable(tree: Mapping[str, Any]) -> None:
    """Checks that a tree of settings has no value that ends in a traceback later or that must not be stored.

    Args:
        tree: Values by name: text, numbers, lists and tables.

    Raises:
        ValueError: A text holds a NUL character (no path may) or an address with a password, a number has more bits
            than TOML allows, or a table is nested too deeply. The message names the keys.

    Examples:
        >>> require_usable({"encoder": {"model": "mine.onnx"}})
        >>> require_usable({"encoder": {"model": chr(0)}})
        Traceback (most recent call last):
            ...
        ValueError: encoder.model holds a NUL character
    """
    faults = list(_faults(tree))
    if faults:
        more = f"; and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        raise ValueError("; ".join(faults[:_SHOWN]) + more)


def _faults(tree: Mapping[str, Any]) -> Iterator[str]:
    # Without recursion: the tree may be nested more deeply than Python's stack.
    left: list[tuple[tuple[str, ...], Any]] = [((), tree)]
    while left:
        path, value = left.pop()
        if len(path) > _DEEPEST:
            yield f"{visible('.'.join(path[:3])[:_SHOWN_CHARACTERS])}… is nested more than {_DEEPEST} levels deep"
            return
        if isinstance(value, Mapping):
            left += [((*path, str(name)), inner) for name, inner in reversed(list(value.items()))]
        elif isinstance(value, list):
            left += [((*path, str(place)), inner) for place, inner in reversed(list(enumerate(value)))]
        elif fault := _fault(path, value):
            yield f"{visible('.'.join(path)[:_SHOWN_CHARACTERS])}{fault}"


def _fault(path: tuple[str, ...], value: object) -> str:
    if any(_NUL in name for name in path):
        return " is a name with a NUL character"
    if isinstance(value, str):
        # The report hides the settings of Spark that may be secret, and Hadoop takes some keys only there.
        secret = "" if path[:2] == ("spark", "conf") else secret_in(value)
        return " holds a NUL character" if _NUL in value else f": {secret}" if secret else ""
    too_long = isinstance(value, int) and value.bit_length() > _BITS
    return f" is a number with more than {_BITS} bits" if too_long else ""


def session_settings(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of the Spark session by their names, as `--set` takes them: `spark.master`, `spark.conf.…`.

    Args:
        tree: Settings; values of a wrong type are left out.

    Examples:
        >>> session_settings({"spark": {"conf": {"spark.executor.memory": "8g"}, "master": "local[4]"}})
        {'spark.conf.spark.executor.memory': '8g', 'spark.master': 'local[4]'}
    """
    spark = tree.get("spark")
    if not isinstance(spark, Mapping):
        return {}
    conf = spark.get("conf")
    texts = conf.items() if isinstance(conf, Mapping) else ()
    found = {f"{_CONF}{name}": value for name, value in texts if isinstance(value, str)}
    return found | ({"spark.master": spark["master"]} if isinstance(spark.get("master"), str) else {})


def loads_code(name: str, value: object) -> bool:
    """Returns whether a setting is not on the list of those that load no code and send no data to somebody else.

    Args:
        name: Its name, as `session_settings` returns it.
        value: Its value.

    Examples:
        >>> loads_code("spark.conf.spark.jars.packages", "org.example:any:1")
        True
        >>> loads_code("spark.conf.spark.executor.memory", "8g"), loads_code("spark.master", "local[4]")
        (False, False)
    """
    if name == "spark.master":
        return not _OWN_MASTER.fullmatch(str(value))
    return _SUBSTITUTED in str(value) or not _is_harmless(name.removeprefix(_CONF))


def _is_harmless(name: str) -> bool:
    if name in _HARMLESS or name.startswith(_ANY_ACCOUNT):
        return True
    families = (family for family in _HARMLESS if family.endswith(".") and name.startswith(family))
    return any(not _REFUSED_BELOW.search(name.removeprefix(family)) for family in families)
