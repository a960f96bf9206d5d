"""The current versions of a lake's tables, read once for all decisions of a command."""

from datetime import UTC, datetime

from jobs.lake.log import DeltaLog, LogEntry
from jobs.lake.recipe import Commit, Recipe, Version, is_as_noted, recipe_in
from jobs.lake.tables import ALL, Table
from models.errors import WinnowError

# The commands that make tables from other tables.
_DERIVES = ("calibrate", "filter", "dedup", "weigh", "audit", "regurgitation")


class Snapshot:
    """The newest versions of a lake's tables. Each is read once, so that all decisions use the same version.

    Args:
        log: The lake's logs.
    """

    def __init__(self, log: DeltaLog) -> None:
        self._log = log
        self._newest: dict[str, LogEntry | None] = {}
        self._ids: dict[str, str] = {}

    def exists(self, table: Table) -> bool:
        """Returns whether the table has been written."""
        return self._entry(table) is not None

    def version(self, table: Table) -> int | None:
        """Returns the table's newest Delta version that may have changed rows; None if it does not exist."""
        entry = self._entry(table)
        return None if entry is None else entry.version

    def recipe(self, table: Table) -> Recipe | None:
        """Returns the table's recipe; None if the table does not exist or another program wrote it."""
        entry = self._entry(table)
        return None if entry is None else recipe_in(entry.user_metadata)[0]

    def commit(self, table: Table) -> Commit | None:
        """Returns the table's newest commit; None if the table does not exist."""
        entry = self._entry(table)
        if entry is None:
            return None
        recipe, began_ms = recipe_in(entry.user_metadata)
        # The file system may have another clock, so the difference may be negative.
        seconds = None if began_ms is None else max(entry.written_ms - began_ms, 0) / 1000
        return Commit(entry.version, datetime.fromtimestamp(entry.written_ms / 1000, UTC), recipe, seconds)

    def inputs(self, *tables: Table) -> dict[str, Version | None]:
        """Returns the version of each table, for a `Recipe`."""
        return {table.name: self._version(table) for table in tables}

    def made_by(self, recipe: Recipe, *tables: Table) -> Recipe | None:
        """Returns the stored recipe, with its result, if the given recipe would make all these tables; else None.

        Checking the last table is not enough: a stopped run with other settings may have replaced the tables before it.
        """
        stored = [self.recipe(table) for table in tables]
        return stored[-1] if all(recipe.makes_the_same(one) for one in stored) else None

    def newer(self, table: Table, *inputs: Table) -> list[str]:
        """Returns the names of inputs that changed since a table was made from them.

        Args:
            table: The table. If it does not exist, or another program wrote it, the result is empty. If its log no
                longer tells what it was made from, it counts as older than what is left of the log.
            inputs: The inputs to check; all of them if none are named.
        """
        entry = self._entry(table)
        if entry is not None and entry.is_upkeep and table.maker in _DERIVES:
            return ["the rest of its log"]
        recipe = self.recipe(table)
        if recipe is None:
            return []
        checked = [one for one in inputs or ALL if one.name in recipe.inputs]
        present = self.inputs(*checked)
        return [name for name, version in present.items() if not is_as_noted(recipe.inputs[name], version)]

    def require_current(self, table: Table, *inputs: Table) -> None:
        """Checks that a table was made from the current versions of its inputs.

        Raises:
            WinnowError: An input has changed. The message names the command that makes the table again.
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
