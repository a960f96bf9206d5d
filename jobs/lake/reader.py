"""Reads the tables of a lake as Spark or pandas frames, for a notebook or a program."""

from collections.abc import Sequence

import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from jobs.lake.lake import Lake
from jobs.lake.tables import ALL, Table
from jobs.runtime import config
from jobs.runtime.session import get_session, in_session, require_delta, running_session, with_settings
from models.errors import WinnowError

_BY_NAME = {table.name: table for table in ALL}
_ARROW = {"spark.sql.execution.arrow.pyspark.enabled": "true"}


class LakeReader:
    """A reader of the tables of one lake. Each call reads the current rows. It writes nothing.

    Args:
        lake: The lake, in a session with Delta.
    """

    def __init__(self, lake: Lake) -> None:
        self._lake = lake

    def __repr__(self) -> str:
        return f"LakeReader({self._lake.uri!r})"

    @property
    def session(self) -> SparkSession:
        """The Spark session that reads the tables."""
        return self._lake.spark

    @property
    def tables(self) -> dict[str, str]:
        """The tables that have been written: a short description of each, by its name."""
        return {table.name: table.meaning for table in ALL if self._lake.exists(table)}

    def spark(self, table: str) -> DataFrame:
        """Returns a table as a Spark DataFrame.

        Args:
            table: Its name, such as `images`.

        Raises:
            WinnowError: No table has that name (the message lists the tables), or it has not been written yet (the
                message names the command that writes it).
        """
        return self._lake.require(self._named(table))

    def pandas(self, table: str, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Returns a table as a pandas DataFrame.

        It loads all rows into the memory of this machine. If the table is large, select the rows in Spark first, as in
        `lake.spark("images").where("width < 256").select("image_id", "width").toPandas()`.

        Args:
            table: Its name, such as `thresholds`.
            columns: Names of the columns to read; None for all.

        Raises:
            WinnowError: As `spark`, or the table lacks a column (the message lists its columns).
        """
        rows = self.spark(table)
        wanted = rows.columns if columns is None else list(columns)
        lacking = [name for name in wanted if name not in rows.columns]
        if lacking:
            raise WinnowError(
                f"the table '{table}' has no column {', '.join(map(repr, lacking))}; it has {', '.join(rows.columns)}"
            )
        selected = rows.select(*[f"`{name}`" for name in wanted])
        return in_session(selected, with_settings(self.session, _ARROW)).toPandas()

    def _named(self, name: str) -> Table:
        if name not in _BY_NAME:
            existing = ", ".join(self.tables) or "none yet"
            raise WinnowError(f"Winnow has no table '{name}'; the tables of {self._lake.uri} are: {existing}")
        return _BY_NAME[name]


def open_lake(uri: str, spark: SparkSession | None = None) -> LakeReader:
    """Opens a lake to read its tables. It writes nothing, and changes no setting of the session.

    Args:
        uri: The lake's folder or URI, as for `--lake`.
        spark: The session to read with, so that its views, functions and settings work with the tables. The default is
            the running session, or else a new local session with the defaults of `conf/winnow.toml`.

    Returns:
        A reader of the lake's tables.

    Raises:
        WinnowError: There is no lake at that address, a later version of Winnow made it, the session lacks Delta, or
            Spark does not start.

    Examples:
        `open_lake("/data/lake").pandas("thresholds", columns=["category", "threshold"])`
    """
    session = spark or running_session() or get_session(config.load().spark)
    require_delta(session)
    lake = Lake(session, uri)
    lake.require_made()
    return LakeReader(lake)
