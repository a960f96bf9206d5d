"""Checks which parts of a folder are Winnow's. Winnow overwrites and deletes nothing else."""

import re
from collections.abc import Callable, Iterable
from itertools import islice

from pyspark.sql import SparkSession

from jobs.lake import marker
from jobs.lake.files import LakeFiles
from jobs.lake.log import DeltaLog
from jobs.lake.tables import ALL, Table
from models.errors import WinnowError

_SHOWN = 3
# Files that a write leaves if it is killed before Delta's first commit.
_UNCOMMITTED = r"_delta_log|_temporary|\.?part-\d{5}-[0-9a-f-]{36}.*"


class Ownership:
    """The checks whether a folder is a lake or may become one, and which of its tables are Winnow's.

    Args:
        session: Returns the session, for tables whose log only Delta reads.
        uri: The folder.
        files: Its files.
        log: Its logs.
    """

    def __init__(self, session: Callable[[], SparkSession], uri: str, files: LakeFiles, log: DeltaLog) -> None:
        self._session = session
        self._uri = uri
        self._files = files
        self._log = log
        self._marked = False

    def require_made(self) -> None:
        """Checks that the lake exists; writes nothing.

        Raises:
            WinnowError: There is no lake, or a later version of Winnow made it.
        """
        if not self._is_marked() and not self._has_table():
            raise WinnowError(
                f"{self._uri} is not a Winnow lake: {self._contents()}; check --lake, or create a lake in a new folder "
                "with `winnow ingest SOURCE... --lake FOLDER`"
            )

    def require_room(self, *tables: Table) -> None:
        """Checks that the folder is a lake or can become one; writes nothing.

        Args:
            tables: The tables that are about to be written.

        Raises:
            WinnowError: The folder or the path of a table holds other data, or a later version of Winnow made the lake.
        """
        if not self._is_marked() and not self._is_free() and not self._has_table():
            raise WinnowError(
                f"{self._uri} is not a Winnow lake and not empty: {self._contents()}; nothing was written: name a new "
                f"or empty folder, as in `--lake {self._uri}-lake`"
            )
        for table in tables:
            self.require_ours(table)

    def mark(self) -> None:
        """Marks the folder as a lake, once, and creates it if it does not exist.

        Raises:
            WinnowError: As `require_room`.
        """
        if self._marked:
            return
        self.require_room()
        if not self._marked:
            self._files.write(marker.FILE, marker.written())
            self._marked = True

    def require_ours(self, table: Table) -> None:
        """Checks that Winnow may overwrite the data under a table's name.

        Raises:
            WinnowError: It is a Delta table with other columns, or a folder or file with other data.
        """
        columns = self._columns(table)
        if columns is not None:
            self.refuse_foreign(table, columns)
            return
        uncommitted = re.compile("|".join([_UNCOMMITTED, *(f"{re.escape(name)}=.*" for name in table.partition)]))
        is_file = self._files.kind(table.name) == "file"
        others = [table.name] if is_file else (n for n in self._files.names(table.name) if not uncommitted.fullmatch(n))
        shown = sorted(islice(others, _SHOWN))
        if shown:
            raise WinnowError(
                f"{self._files.path(table.name)} is not a Delta table and holds {', '.join(shown)}, but Winnow must "
                f"write the table '{table.name}' there: move it out of the lake, or name another --lake"
            )

    def refuse_foreign(self, table: Table, columns: Iterable[str]) -> None:
        """Checks that a Delta table under a table's name has its columns.

        Raises:
            WinnowError: Columns are missing. The message names them.
        """
        lacking = table.lacks(columns)
        if lacking:
            raise WinnowError(
                f"{self._files.path(table.name)} is a Delta table without the columns {', '.join(lacking)}, so it is "
                f"not Winnow's table '{table.name}': move it out of the lake, or name another --lake"
            )

    def _is_marked(self) -> bool:
        if not self._marked and self._files.exists(marker.FILE):
            marker.check(self._files.read(marker.FILE), self._files.path(marker.FILE))
            self._marked = True
        return self._marked

    def _has_table(self) -> bool:
        """Returns whether the folder holds one of Winnow's tables, as an unmarked lake of 0.1.0 does."""
        candidates = ((table, self._columns(table)) for table in ALL)
        return any(columns is not None and not table.lacks(columns) for table, columns in candidates)

    def _is_free(self) -> bool:
        """Returns whether the folder does not exist or is empty. A killed command may have left part of a marker."""
        if self._files.kind() == "file":
            return False
        return all(marker.FILE in name for name in self._files.names())

    def _contents(self) -> str:
        kind = self._files.kind()
        if kind != "folder":
            return "it is a file" if kind else "there is no such folder"
        names = sorted(islice(self._files.names(), _SHOWN + 1))
        more = " …" if len(names) > _SHOWN else ""
        return f"it holds {', '.join(names[:_SHOWN])}{more}" if names else "it is an empty folder"

    def _columns(self, table: Table) -> list[str] | None:
        """Returns the columns of the Delta table under a table's name; None if there is no such table."""
        if not self._log.exists(table.name):
            return None
        files = self._log.files(table.name)
        if files is not None:
            return files.schema.names
        return self._session().read.format("delta").load(self._files.path(table.name)).columns
