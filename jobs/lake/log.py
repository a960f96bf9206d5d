"""Reads the newest version, its commit, and the files of small tables from the transaction log of a Delta table.

Delta's own `history`, `detail` and list of files run Spark jobs, and a command would run hundreds of them on a small
lake. The log is a folder with a JSON file for each version, and each of its lines is an action.

Source:
    delta-io/delta, PROTOCOL.md: Delta Log Entries, Actions, Action Reconciliation.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any
from urllib.parse import unquote

from delta.tables import DeltaTable
from pyspark.sql import Column, DataFrame, SparkSession
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
# An upkeep commit of Winnow repeats the entry of the version whose rows it keeps, because Delta may delete that entry.
_KEEPS = "keeps"


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

    @property
    def is_upkeep(self) -> bool:
        """Whether this version has the rows of the version before."""
        return self.operation in _UPKEEP

    @property
    def kept(self) -> "LogEntry | None":
        """The entry of the version whose rows this upkeep of Winnow keeps; None for any other entry."""
        try:
            noted = json.loads(self.user_metadata or "")
            return LogEntry(**noted[_KEEPS]) if self.is_upkeep else None
        except (ValueError, KeyError, TypeError):
            return None

    def as_kept(self) -> str:
        """Returns the metadata of an upkeep commit that keeps the rows of this version."""
        return json.dumps({_KEEPS: asdict(self)})


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
        """Returns the newest version that may have changed rows; None if the table does not exist.

        If the log no longer tells, because other programs have since changed the files only, it is a version of upkeep.
        """
        first = None
        for entry in self.entries(table):
            if not entry.is_upkeep or entry.kept:
                return entry.kept or entry
            first = first or entry
        return first

    def same_rows(self, table: str, version: int) -> int:
        """Returns the newest version with the same rows as a version: the last upkeep directly after it, or itself."""
        same = None
        for entry in self.entries(table):
            if entry.version <= version:
                return version if same is None else same
            if not entry.is_upkeep:
                same = None
            elif same is None:
                same = entry.version
            if same is not None and entry.kept and entry.kept.version == version:
                return same
        return version

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
        log = self._delta_log(table)
        added = DataFrame(log.unsafeVolatileSnapshot().allFiles().toDF(), self._session())
        rows = F.get_json_object("stats", "$.numRecords").cast("long")
        return added.select(self._address(table), "size", rows.alias("rows"))

    def unreferenced(self, table: str, listed: DataFrame, before_ms: int) -> DataFrame:
        """Returns the files that no version of an existing table uses that was current at a time or later.

        Args:
            table: Name of the table.
            listed: Files below the table's folder, with the column path (absolute address).
            before_ms: The time, in ms since 1970.
        """
        log = self._delta_log(table)
        removed = DataFrame(log.unsafeVolatileSnapshot().tombstones().toDF(), self._session())
        recent = removed.where(F.coalesce("deletionTimestamp", F.lit(0)) >= before_ms).select("path")
        used = self.all_files(table).select("path").unionByName(recent.select(self._address(table)))
        return listed.join(used, "path", "left_anti")

    def property(self, table: str, name: str) -> str | None:
        """Returns a property of an existing table; None if it is not set."""
        log = self._delta_log(table)
        value = log.unsafeVolatileSnapshot().metadata().configuration().get(name)
        return str(value.get()) if value.isDefined() else None

    def _delta_log(self, table: str) -> Any:
        spark = self._session()
        return spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(spark._jsparkSession, self._files.path(table))

    def _address(self, table: str) -> Column:
        path = F.concat(
            F.lit(f"{self._files.address}/{table}/"), F.url_decode(F.replace("path", F.lit("+"), F.lit("%2B")))
        )
        return path.alias("path")

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
