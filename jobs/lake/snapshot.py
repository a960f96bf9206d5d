"""Which versions the tables of a lake are at, asked once for all that a command decides before it works."""

from datetime import UTC, datetime

from jobs.lake.log import DeltaLog, LogEntry
from jobs.lake.recipe import Commit, Recipe, Version, is_as_noted, recipe_in
from jobs.lake.tables import ALL, Table
from models.errors import WinnowError


class Snapshot:
    """The newest versions of a lake's tables, each looked up once: whatever is decided by one is decided by the same.

    Args:
        log: The lake's logs.
    """

    def __init__(self, log: DeltaLog) -> None:
        self._log = log
        self._newest: dict[str, LogEntry | None] = {}
        self._ids: dict[str, str] = {}

    def exists(self, table: Table) -> bool:
        """Whether the table has been written."""
        return self._entry(table) is not None

    def version(self, table: Table) -> int | None:
        """The table's newest Delta version that may have changed rows; None when it is not there."""
        entry = self._entry(table)
        return None if entry is None else entry.version

    def recipe(self, table: Table) -> Recipe | None:
        """How the table was made; None when it is not there or was written by something else."""
        entry = self._entry(table)
        return None if entry is None else recipe_in(entry.user_metadata)[0]

    def commit(self, table: Table) -> Commit | None:
        """The table's newest version, when it was written and how; None when it is not there."""
        entry = self._entry(table)
        if entry is None:
            return None
        recipe, began_ms = recipe_in(entry.user_metadata)
        # The file system's clock may be another one.
        seconds = None if began_ms is None else max(entry.written_ms - began_ms, 0) / 1000
        return Commit(entry.version, datetime.fromtimestamp(entry.written_ms / 1000, UTC), recipe, seconds)

    def inputs(self, *tables: Table) -> dict[str, Version | None]:
        """The version of each table, for a `Recipe`."""
        return {table.name: self._version(table) for table in tables}

    def made_by(self, recipe: Recipe, *tables: Table) -> Recipe | None:
        """How the last of a command's tables was made, with its result, if a recipe makes all of them; else None.

        The last one alone does not tell: a run with other settings that was stopped has replaced those before it.
        """
        found = [self.recipe(table) for table in tables]
        return found[-1] if all(recipe.makes_the_same(one) for one in found) else None

    def newer(self, table: Table, *inputs: Table) -> list[str]:
        """Names of the tables that are not what they were when another was made from them.

        Args:
            table: What was made; nothing is newer where it is not there, or was written by something else.
            inputs: The tables to look at; all that it was made from if none are named.
        """
        made = self.recipe(table)
        if made is None:
            return []
        looked_at = [one for one in inputs or ALL if one.name in made.inputs]
        present = self.inputs(*looked_at)
        return [name for name, version in present.items() if not is_as_noted(made.inputs[name], version)]

    def require_current(self, table: Table, *inputs: Table) -> None:
        """Makes sure that a table was made from others as they are now.

        Raises:
            WinnowError: It was not; the message names the command that makes it anew.
        """
        newer = self.newer(table, *inputs)
        if newer:
            older = f"table '{table.name}' is older than {', '.join(newer)}"
            raise WinnowError(f"{older}: run `winnow {table.maker}` first")

    def _entry(self, table: Table) -> LogEntry | None:
        if table.name not in self._newest:
            self._newest[table.name] = self._log.newest(table.name)
        return self._newest[table.name]

    def _version(self, table: Table) -> Version | None:
        entry = self._entry(table)
        if entry is None:
            return None
        if table.name not in self._ids:
            self._ids[table.name] = self._log.table_id(table.name)
        return Version(version=entry.version, id=self._ids[table.name])
