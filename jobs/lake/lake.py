"""The only code that reads and writes a lake's Delta tables: one folder or URI, one sub-folder for each table."""

import json
import posixpath
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from urllib.parse import unquote

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake.files import LakeFiles
from jobs.lake.log import DeltaLog
from jobs.lake.ownership import Ownership
from jobs.lake.recipe import Recipe, recipe_in
from jobs.lake.snapshot import Snapshot
from jobs.lake.tables import Table
from jobs.runtime.scratch import Scratch, staged
from jobs.runtime.session import overridden
from models.errors import WinnowError

_FEW_FILES = 20_000
_STAGING = "_staging/"


class Lake:
    """A lake: a folder or URI (`file:`, `s3a:`, `abfss:`, `hdfs:`) whose sub-folders are Delta tables.

    It is marked by a file (`jobs.lake.marker`) as Winnow's own. Only in a folder that is marked, or that may be, is
    anything written or deleted.

    Args:
        spark: The session that reads and writes.
        uri: The folder; a relative path is taken from the working directory.

    Raises:
        WinnowError: The address is empty.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self.spark = spark
        if not uri.strip():
            raise WinnowError("the lake has an empty address: name a folder, as in `--lake FOLDER`")
        self.uri = uri.rstrip("/") or "/"
        self.begin()

    def begin(self) -> None:
        """A command begins: the seconds of its commits count from here."""
        self._began_ms = round(1000 * time.time())

    # Tables ---------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """The address of a table or file below the lake."""
        return posixpath.join(self.uri, name)

    def exists(self, table: Table) -> bool:
        """Whether the table has been written."""
        return self._log.exists(table.name)

    def snapshot(self) -> Snapshot:
        """Which versions the tables are at now: what a command decides by before it works."""
        return Snapshot(self._log)

    def read(self, table: Table) -> DataFrame:
        """The table as it stands; no rows, with its schema, when it has not been written.

        Columns that a table written by an earlier version lacks are null.

        Raises:
            WinnowError: A Delta table of other columns lies under its name.
        """
        if not self.exists(table):
            # The limit shows Spark's optimiser that there are no rows, and it drops joins with them.
            return self.spark.createDataFrame([], table.schema).limit(0)
        found = self.spark.read.format("delta").load(self.path(table.name))
        self._ownership.refuse_foreign(table, found.columns)
        added = {f.name: F.lit(None).cast(f.dataType) for f in table.schema.fields if f.name not in found.columns}
        return found.withColumns(added) if added else found

    def read_version(self, table: Table, version: int | None) -> DataFrame | None:
        """The table as it stood at a version; None where that is gone (vacuumed, or its log is)."""
        if version is None or not self.exists(table):
            return None
        try:
            rows = self.spark.read.format("delta").option("versionAsOf", version).load(self.path(table.name))
            # The log tells which files there were, and not whether they are there still: each is opened.
            rows.select(F.lit(1).alias("one")).agg(F.sum("one")).collect()
        except AnalysisException:
            return None
        except (PySparkException, Py4JJavaError) as error:
            if "FAILED_READ_FILE.FILE_NOT_EXIST" in str(error):
                return None
            raise
        return rows

    def read_made(self, table: Table, recipe: Recipe) -> DataFrame | None:
        """The newest version of the table that was made by a recipe; None where there is none, or it is gone."""
        for entry in self._log.entries(table.name):
            if recipe.makes_the_same(recipe_in(entry.user_metadata)[0]):
                return self.read_version(table, entry.version)
        return None

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Writes rows to a scratch folder and reads them back: whatever is lost, they stay the same.

        Args:
            name: Below `_staging/`.
            rows: What is written.
        """
        folder = _staging(name)
        self.mark()
        return staged(rows, self.path(folder))

    def scratch(self, name: str) -> Scratch:
        """Where a command keeps what it has computed, until its block ends.

        Args:
            name: Of the command.
        """
        self.mark()
        folder = f"{_STAGING}{name}"
        return Scratch(self.spark, self.path(folder), lambda: self.delete_staging(folder))

    def fetch(self, name: str, rows: DataFrame) -> Iterator[pa.Table]:
        """Rows brought to the driver, one partition after the other: memory holds one of them.

        They go through a scratch folder, since `DataFrame.toLocalIterator` keeps what it has fetched from a shuffle in
        the driver's heap until the last row.

        Args:
            name: The folder, below `_staging/`; gone in the end.
            rows: In partitions that fit the driver.
        """
        try:
            for file in sorted(self.stage(name, rows).inputFiles()):
                yield self.spark.read.schema(rows.schema).parquet(unquote(file)).toArrow()
        finally:
            self.delete_staging(name)

    def require(self, table: Table) -> DataFrame:
        """The table as it stands.

        Raises:
            WinnowError: It has not been written yet; the message names the command that makes it.
        """
        if not self.exists(table):
            raise WinnowError(f"{self.uri} holds no table '{table.name}': run `winnow {table.maker}` first")
        return self.read(table)

    def read_files(self, table: Table, files: Iterable[str]) -> DataFrame:
        """The rows of some of a table's data files.

        Delta reads every file to find rows by a column that no file is sorted by. Who has found once where such rows
        lie need not open the others again.

        Args:
            table: Must hold its rows as they were written: with none deleted.
            files: Addresses as the hidden column `_metadata.file_path` names them.

        Raises:
            AnalysisException: A file is not there any more.
        """
        reader = self.spark.read.schema(table.schema).option("basePath", self.path(table.name))
        return reader.parquet(*[unquote(file) for file in files])

    def rows_of(self, table: Table, wanted: DataFrame) -> DataFrame:
        """Some of a table's rows; where few data files hold them, no others are opened.

        Args:
            table: Must hold its rows as they were written: with none deleted.
            wanted: image_id; few enough to be sent to every executor.
        """
        few = F.broadcast(wanted.select("image_id").distinct())
        named = self.read(table).select("image_id", F.col("_metadata.file_path").alias("file"))
        files = named.join(few, "image_id", "left_semi").select("file").distinct().limit(_FEW_FILES + 1).collect()
        if not files:
            return self.read(table).limit(0)
        rows = self.read(table) if len(files) > _FEW_FILES else self.read_files(table, [row.file for row in files])
        return rows.join(few, "image_id", "left_semi")

    def append(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Adds rows in one atomic commit."""
        self._write(table, rows, recipe, "append")

    def replace(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Puts rows in the place of all that the table held, in one atomic commit."""
        self._write(table, rows, recipe, "overwrite")

    def remove(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Takes rows out in one atomic commit.

        Args:
            table: Whose rows.
            rows: What is taken out: rows that agree with one of these in all of its columns.
            recipe: Why.
        """
        if not self.exists(table):
            return
        self.mark()
        self._ownership.require_ours(table)
        spoken_for = "spark.databricks.delta.commitInfo.userMetadata"
        equal = " AND ".join(f"t.{name} <=> r.{name}" for name in rows.columns)
        merge = DeltaTable.forPath(self.spark, self.path(table.name)).alias("t").merge(rows.alias("r"), equal)
        # A merge takes its metadata from the session alone.
        with overridden(self.spark, {spoken_for: self._metadata(recipe)}):
            merge.whenMatchedDelete().execute()

    def rows_written(self, table: Table) -> int:
        """Rows that the table's newest commit wrote, as Delta counted them."""
        entry = self._log.newest(table.name)
        return 0 if entry is None else entry.rows

    def _write(self, table: Table, rows: DataFrame, recipe: Recipe, mode: str) -> None:
        self.mark()
        self._ownership.require_ours(table)
        columns = [rows[f.name].cast(f.dataType) for f in table.schema.fields]
        writer = rows.select(*[c.alias(f.name) for c, f in zip(columns, table.schema.fields, strict=True)]).write
        writer = writer.format("delta").mode(mode).option("userMetadata", self._metadata(recipe))
        writer = writer.partitionBy(*table.partition)
        # A table that an earlier version wrote may lack columns.
        writer = writer.option("overwriteSchema" if mode == "overwrite" else "mergeSchema", "true")
        # Delta leaves out a commit that changes no row, as when nothing takes the place of nothing, and its recipe too.
        with overridden(self.spark, {"spark.databricks.delta.skipRecordingEmptyCommits": "false"}):
            writer.save(self.path(table.name))

    def _metadata(self, recipe: Recipe) -> str:
        # When the command began, and not how long it took: this is said before Delta does the work.
        return json.dumps({**json.loads(recipe.to_json()), "began_ms": self._began_ms})

    # Files beside the tables (models, the report) -------------------------------------------------------------------

    def has_file(self, name: str) -> bool:
        """Whether a file of that name lies below the lake."""
        return self._files.exists(name)

    def read_file(self, name: str) -> bytes:
        """The bytes of a file below the lake.

        Raises:
            WinnowError: There is no such file.
        """
        return self._files.read(name)

    def write_file(self, name: str, data: bytes) -> str:
        """Writes a file below the lake, whole or not at all, and returns its address."""
        self.mark()
        self._files.write(name, data)
        return self.path(name)

    # What is Winnow's: nothing else is written over or deleted ------------------------------------------------------

    @property
    def address(self) -> str:
        """The lake's folder with its scheme and host, absolute."""
        return self._files.address

    def require_made(self) -> None:
        """Makes sure that there is a lake, for a command that needs one; writes nothing.

        Raises:
            WinnowError: There is none, or a later Winnow made it.
        """
        self._ownership.require_made()

    def require_room(self, *tables: Table) -> None:
        """Makes sure that the folder is a lake or can become one; writes nothing.

        Args:
            tables: What is about to be written.

        Raises:
            WinnowError: The folder holds something else, something else lies in the place of one of the tables, or a
                later Winnow made the lake.
        """
        self._ownership.require_room(*tables)

    def mark(self) -> None:
        """Marks the folder as a lake of Winnow's, unless that has been done; makes it where it is not there.

        Raises:
            WinnowError: As `require_room`.
        """
        self._ownership.mark()

    def drop(self, table: Table) -> None:
        """Deletes a table with its history; nothing where it is not there.

        Raises:
            WinnowError: What lies under its name is not Winnow's, or the folder is no lake.
        """
        if self.exists(table):
            self.mark()
            self._ownership.require_ours(table)
            self._files.delete(table.name)

    def delete_staging(self, name: str) -> None:
        """Removes a scratch folder, if it is there.

        Args:
            name: Below `_staging/`.
        """
        folder = _staging(name)
        if self._files.exists(folder):
            self.mark()
            self._files.delete(folder)

    @cached_property
    def _files(self) -> LakeFiles:
        return LakeFiles(self.spark, self.uri)

    @cached_property
    def _log(self) -> DeltaLog:
        return DeltaLog(self.spark, self._files)

    @cached_property
    def _ownership(self) -> Ownership:
        return Ownership(self.spark, self.uri, self._files, self._log)


def _staging(name: str) -> str:
    if not name.startswith(_STAGING) or ".." in name.split("/") or name == _STAGING:
        raise ValueError(f"{name!r} is not below {_STAGING}")
    return name
