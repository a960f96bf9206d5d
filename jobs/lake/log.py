"""Reads the newest version and its commit from the transaction log of a Delta table.

Delta's own `history` and `detail` run Spark jobs, and a command would run dozens of them before its work begins. The
log is a folder with a JSON file for each version. The first lines of that file hold all that is needed here.

Source:
    delta-io/delta, PROTOCOL.md: Delta Log Entries, Change Metadata, Commit Provenance Information.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from jobs.lake.files import LakeFiles

_COMMIT = re.compile(r"\d{20}\.json")
_FIRST_COMMIT = f"{0:020d}.json"
# The first lines of a commit describe it; the others list its files.
_FIRST_LINES = 20

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


class DeltaLog:
    """The logs of the tables of one lake.

    Args:
        spark: Used only if a log no longer holds its first commit.
        files: The lake's files.
    """

    def __init__(self, spark: SparkSession, files: LakeFiles) -> None:
        self._spark = spark
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
        return str(DeltaTable.forPath(self._spark, self._files.path(table)).detail().select("id").collect()[0].id)

    def _action(self, table: str, commit: str, kind: str) -> dict[str, Any]:
        """Returns an action from the first lines of a commit; empty if it is not there."""
        for line in islice(self._files.lines(f"{_folder(table)}/{commit}"), _FIRST_LINES):
            action: dict[str, Any] = json.loads(line)
            if kind in action:
                return dict(action[kind])
        return {}


def _folder(table: str) -> str:
    return f"{table}/_delta_log"
