"""The transaction log of a Delta table, read by its protocol: the newest version and what its commit says.

Delta's own `history` and `detail` run Spark jobs, and a command would run dozens of them before it works. The log is a
folder with a JSON file for each version, and the first lines of that file say all that is asked here.

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
# The first lines of a commit tell of it; the rest are files, as many as it wrote.
_FIRST_LINES = 20

# What Delta calls commits that lay a table's rows out anew, tidy its files or set its properties, and change no row.
_UPKEEP = (
    "OPTIMIZE", "VACUUM START", "VACUUM END", "REORG", "FSCK", "CLUSTER BY", "COMPUTE STATS", "UPGRADE PROTOCOL",
    "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD CONSTRAINT", "DROP CONSTRAINT", "ADD COLUMNS", "CHANGE COLUMN",
)  # fmt: skip


@dataclass(frozen=True)
class LogEntry:
    """One version of a table as its log tells it.

    Attributes:
        version: Its number.
        written_ms: When its file was written, in ms since 1970 by the file system's clock.
        operation: What Delta calls it, such as `WRITE`.
        user_metadata: What its writer noted; None where it noted nothing.
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
        spark: Asked only where a log no longer holds its first commit.
        files: The lake's files.
    """

    def __init__(self, spark: SparkSession, files: LakeFiles) -> None:
        self._spark = spark
        self._files = files

    def exists(self, table: str) -> bool:
        """Whether there is a table of that name: one with a commit, which a killed first write has not."""
        return any(_COMMIT.fullmatch(name) for name in self._files.names(_folder(table)))

    def entries(self, table: str) -> Iterator[LogEntry]:
        """The table's versions whose commits are still there, the newest first; none when it is not there."""
        written = {name: ms for name, ms in self._files.modified(_folder(table)) if _COMMIT.fullmatch(name)}
        for name in sorted(written, reverse=True):
            found = self._action(table, name, "commitInfo")
            rows = int((found.get("operationMetrics") or {}).get("numOutputRows", 0))
            operation, noted = str(found.get("operation", "")), found.get("userMetadata")
            yield LogEntry(int(name.removesuffix(".json")), written[name], operation, noted, rows)

    def newest(self, table: str) -> LogEntry | None:
        """The newest version that may have changed rows; None when the table is not there."""
        first = None
        for entry in self.entries(table):
            if entry.operation not in _UPKEEP:
                return entry
            first = first or entry
        return first

    def table_id(self, table: str) -> str:
        """Delta's id of the table, which must be there: the first commit gives it, until the log forgets that."""
        if self._files.exists(f"{_folder(table)}/{_FIRST_COMMIT}"):
            return str(self._action(table, _FIRST_COMMIT, "metaData")["id"])
        return str(DeltaTable.forPath(self._spark, self._files.path(table)).detail().select("id").collect()[0].id)

    def _action(self, table: str, commit: str, kind: str) -> dict[str, Any]:
        """An action of a commit that stands in its first lines; empty where it does not."""
        for line in islice(self._files.lines(f"{_folder(table)}/{commit}"), _FIRST_LINES):
            found: dict[str, Any] = json.loads(line)
            if kind in found:
                return dict(found[kind])
        return {}


def _folder(table: str) -> str:
    return f"{table}/_delta_log"
