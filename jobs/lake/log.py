"""Reads the newest version, its commit, and the files of small tables from the transaction log of a Delta table.

Delta's own `history`, `detail` and list of files run Spark jobs, and a command would run hundreds of them on a small
lake. The log is a folder with a JSON file for each version, and each of its lines is an action.

Source:
    delta-io/delta, PROTOCOL.md: Delta Log Entries, Actions, Action Reconciliation.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.lake.files import LakeFiles

_COMMIT = re.compile(r"\d{20}\.json")
_FIRST_COMMIT = f"{0:020d}.json"
# The first lines of a commit describe it; the others list its files.
_FIRST_LINES = 20
# A log with more commits, or a commit with more lines, is left to Delta, which reads it from a checkpoint.
_FEW_COMMITS, _FEW_LINES = 40, 200
# The version of Delta's protocol in which the rows of a table are those of its Parquet files.
_PLAIN_FILES = 1

# Delta's names for commits that change the layout, the files or the properties of a table, but no row.
_UPKEEP = (
    "OPTIMIZE", "VACUUM START", "VACUUM END", "REORG", "FSCK", "CLUSTER BY", "COMPUTE STATS", "UPGRADE PROTOCOL",
    "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD CONSTRAINT", "DROP CONSTRAINT", "ADD COLUMNS", "CHANGE COLUMN",
)  # fmt: skip


@dataclass(frozen=True)
class LogEntry:
    """One version of a table in its log.

    Attributes:
        version: Its number.
        written_ms: When its file was written, in ms since 1970 by the file system's clock.
        operation: Delta's name for it, such as `WRITE`.
        user_metadata: The metadata that its writer added; None if there is none.
        rows: Rows that it wrote, as Delta counted them.
    """

    version: int
    written_ms: int
    operation: str
    user_metadata: str | None
    rows: int


@dataclass(frozen=True)
class TableFiles:
    """The Parquet files of one version of a table.

    Attributes:
        schema: Its columns, in order.
        paths: Path of each file below the table's folder.
        rows: Number of all rows; None if the log does not tell.
        is_partitioned: Whether the names of folders hold the values of some columns.
    """

    schema: StructType
    paths: tuple[str, ...]
    rows: int | None
    is_partitioned: bool


class DeltaLog:
    """The logs of the tables of one lake.

    Args:
        session: Returns the session; called only if a log no longer holds its first commit, and for `all_files`.
        files: The lake's files.
    """

    def __init__(self, session: Callable[[], SparkSession], files: LakeFiles) -> None:
        self._session = session
        self._files = files

    def exists(self, table: str) -> bool:
        """Returns whether the table exists: a folder without a commit, left by a killed first write, is not a table."""
        return any(_COMMIT.fullmatch(name) for name in self._files.names(_folder(table)))

    def version(self, table: str) -> int | None:
        """Returns the number of the table's newest version; None if it does not exist."""
        commits = (name for name in self._files.names(_folder(table)) if _COMMIT.fullmatch(name))
        return max((int(name.removesuffix(".json")) for name in commits), default=None)

    def has_new_rows(self, table: str, version: int | None) -> bool:
        """Returns whether a version after the given one may have changed rows; None stands for no table."""
        newest = self.newest(table)
        return newest is not None and (version is None or newest.version > version)

    def entries(self, table: str) -> Iterator[LogEntry]:
        """Yields the versions of a table whose commits still exist, newest first; none if there is no table."""
        written = {name: ms for name, ms in self._files.modified(_folder(table)) if _COMMIT.fullmatch(name)}
        for name in sorted(written, reverse=True):
            info = self._action(table, name, "commitInfo")
            rows = int((info.get("operationMetrics") or {}).get("numOutputRows", 0))
            operation, metadata = str(info.get("operation", "")), info.get("userMetadata")
            yield LogEntry(int(name.removesuffix(".json")), written[name], operation, metadata, rows)

    def newest(self, table: str) -> LogEntry | None:
        """Returns the newest version that may have changed rows; None if the table does not exist."""
        first = None
        for entry in self.entries(table):
            if entry.operation not in _UPKEEP:
                return entry
            first = first or entry
        return first

    def table_id(self, table: str) -> str:
        """Returns Delta's id of an existing table: from its first commit, or from Delta if the log no longer has it."""
        if self._files.exists(f"{_folder(table)}/{_FIRST_COMMIT}"):
            return str(self._action(table, _FIRST_COMMIT, "metaData")["id"])
        return str(DeltaTable.forPath(self._session(), self._files.path(table)).detail().select("id").collect()[0].id)

    def files(self, table: str, version: int | None = None) -> TableFiles | None:
        """Returns the files of a table, if its log is short and local and its rows are those of its files; else None.

        In an object store each commit would be a request, where Delta keeps what it has read.

        Args:
            table: Name of the table.
            version: The version; None for the newest one.
        """
        if not self._files.local:
            return None
        commits = sorted(name for name in self._files.names(_folder(table)) if _COMMIT.fullmatch(name))
        if version is not None:
            commits = [name for name in commits if int(name.removesuffix(".json")) <= version]
        # Delta deletes the first commits of a long log.
        is_whole = commits[-1:] == [f"{len(commits) - 1:020d}.json"] and version in (None, len(commits) - 1)
        if not is_whole or len(commits) > _FEW_COMMITS:
            return None
        replayed = _Replay()
        for name in commits:
            lines = list(islice(self._files.lines(f"{_folder(table)}/{name}"), _FEW_LINES + 1))
            if len(lines) > _FEW_LINES or not all(replayed.takes(json.loads(line)) for line in lines):
                return None
        return replayed.files

    def all_files(self, table: str) -> DataFrame:
        """Returns the data files of the newest version of an existing table; Delta reads them from a long log by Spark.

        Returns:
            path (absolute address), size (bytes), rows (null if the log does not tell).
        """
        spark = self._session()
        log = spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, self._files.path(table))
        added = DataFrame(log.unsafeVolatileSnapshot().allFiles().toDF(), spark)
        path = F.concat(
            F.lit(f"{self._files.address}/{table}/"), F.url_decode(F.replace("path", F.lit("+"), F.lit("%2B")))
        )
        rows = F.get_json_object("stats", "$.numRecords").cast("long")
        return added.select(path.alias("path"), "size", rows.alias("rows"))

    def _action(self, table: str, commit: str, kind: str) -> dict[str, Any]:
        """Returns an action from the first lines of a commit; empty if it is not there."""
        for line in islice(self._files.lines(f"{_folder(table)}/{commit}"), _FIRST_LINES):
            action: dict[str, Any] = json.loads(line)
            if kind in action:
                return dict(action[kind])
        return {}


class _Replay:
    """The state of a table after some of its actions, in order."""

    def __init__(self) -> None:
        self._metadata: dict[str, Any] = {}
        self._rows: dict[str, int | None] = {}

    def takes(self, action: dict[str, Any]) -> bool:
        """Applies an action; returns whether rows are still those of the files."""
        kind, value = next(iter(action.items()))
        if kind == "protocol":
            return bool(value["minReaderVersion"] == _PLAIN_FILES)
        if kind == "metaData":
            self._metadata = value
        elif kind == "remove":
            self._rows.pop(value["path"], None)
        elif kind == "add":
            self._rows[value["path"]] = json.loads(value.get("stats") or "{}").get("numRecords")
            folders = [f"{name}={text}" for name, text in value["partitionValues"].items()]
            return unquote(value["path"]).split("/")[:-1] == folders
        return True

    @property
    def files(self) -> TableFiles:
        counts = list(self._rows.values())
        return TableFiles(
            StructType.fromJson(json.loads(self._metadata["schemaString"])),
            tuple(map(unquote, self._rows)),
            None if None in counts else sum(count for count in counts if count is not None),
            bool(self._metadata["partitionColumns"]),
        )


def _folder(table: str) -> str:
    return f"{table}/_delta_log"
