"""The only place that reads and writes Delta tables: one folder or URI, one sub-folder for each table."""

import json
import posixpath
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from typing import Any, TypedDict
from urllib.parse import unquote

import pyarrow as pa
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.lake import marker
from jobs.lake.files import LakeFiles
from jobs.lake.tables import ALL, Table
from jobs.runtime.session import overridden
from models.errors import WinnowError

_FEW_FILES = 20_000
_STAGING = "_staging/"
_SHOWN = 3
# What a write leaves that is killed before Delta's first commit.
_OF_KILLED_WRITE = r"_delta_log|_temporary|\.?part-\d{5}-[0-9a-f-]{36}.*"

# What Delta calls commits that lay a table's rows out anew, tidy its files or set its properties, and change no row.
_UPKEEP = (
    "OPTIMIZE", "VACUUM START", "VACUUM END", "REORG", "FSCK", "CLUSTER BY", "COMPUTE STATS", "UPGRADE PROTOCOL",
    "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "ADD CONSTRAINT", "DROP CONSTRAINT", "ADD COLUMNS", "CHANGE COLUMN",
)  # fmt: skip


class Version(TypedDict):
    """Which rows of a table were read.

    A version's number alone does not say it: a table that was removed and written anew counts from 0 again.

    Attributes:
        version: Delta's number of it.
        id: Delta's id of the table; None where an earlier version of Winnow did not note it.
    """

    version: int
    id: str | None


@dataclass(frozen=True)
class Recipe:
    """What a table was made from; kept in the table's own commit, so that data and provenance cannot part.

    Attributes:
        command: The command that made it.
        inputs: Version of each table it read, by name; None for a table that was not there.
        settings: Every setting (and model digest) that its rows depend on; JSON values only.
        result: What the command found out and reports again when it is skipped; not part of the identity.
    """

    command: str
    inputs: Mapping[str, Version | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The recipe as one line of JSON, keys sorted."""
        parts = {"command": self.command, "inputs": dict(self.inputs), "settings": dict(self.settings)}
        return json.dumps({**parts, "result": dict(self.result)}, sort_keys=True)

    def makes_the_same(self, other: "Recipe | None") -> bool:
        """Whether both give the same rows: same command, inputs and settings."""
        if other is None:
            return False
        mine, theirs = (json.loads(r.to_json()) for r in (self, other))
        return all(mine[k] == theirs[k] for k in ("command", "inputs", "settings"))


@dataclass(frozen=True)
class Commit:
    """One version of a table.

    Attributes:
        version: Delta's number of it.
        written_at: When it was committed, in UTC.
        recipe: How it was made; None when something other than Winnow wrote it.
        seconds: From the command's start to this commit; None where it was not noted.
    """

    version: int
    written_at: datetime
    recipe: Recipe | None
    seconds: float | None = None


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
        self._marked = False
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
        # Delta also takes a folder inside a table for that table; only one with a log of its own is meant.
        has_log = self._files.exists(f"{table.name}/_delta_log")
        return has_log and bool(DeltaTable.isDeltaTable(self.spark, self.path(table.name)))

    def version(self, table: Table) -> int | None:
        """The table's newest Delta version; None when it is not there."""
        return int(self._last_commit(table)["version"]) if self.exists(table) else None

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
        self._refuse(table, table.lacks(found.columns))
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
        if not self.exists(table):
            return None
        history = DeltaTable.forPath(self.spark, self.path(table.name)).history()
        for commit in history.select("version", "userMetadata").orderBy(F.desc("version")).toLocalIterator():
            if recipe.makes_the_same(_told(commit.userMetadata)[0]):
                return self.read_version(table, commit.version)
        return None

    @property
    def shuffle_partitions(self) -> int:
        """Partitions of a shuffle, as the session says."""
        return int(self.spark.conf.get("spark.sql.shuffle.partitions") or 200)

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Writes rows to a scratch folder and reads them back: whatever is lost, they stay the same.

        Args:
            name: Below `_staging/`.
            rows: What is written.
        """
        folder = _staging(name)
        self.mark()
        rows.write.mode("overwrite").parquet(self.path(folder))
        return self.spark.read.schema(rows.schema).parquet(self.path(name))

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
        self._require_ours(table)
        spoken_for = "spark.databricks.delta.commitInfo.userMetadata"
        equal = " AND ".join(f"t.{name} <=> r.{name}" for name in rows.columns)
        merge = DeltaTable.forPath(self.spark, self.path(table.name)).alias("t").merge(rows.alias("r"), equal)
        # A merge takes its metadata from the session alone.
        with overridden(self.spark, {spoken_for: self._metadata(recipe)}):
            merge.whenMatchedDelete().execute()

    def recipe(self, table: Table) -> Recipe | None:
        """How the table's newest version was made; None when it is not there or was written by something else."""
        if not self.exists(table):
            return None
        return _told(self._last_commit(table)["userMetadata"])[0]

    def commit(self, table: Table) -> Commit | None:
        """The table's newest version, when it was written and how; None when it is not there."""
        if not self.exists(table):
            return None
        last = self._last_commit(table)
        recipe, began_ms = _told(last["userMetadata"])
        # The file system's clock may be another one.
        seconds = None if began_ms is None else max(last["written_ms"] - began_ms, 0) / 1000
        return Commit(int(last["version"]), datetime.fromtimestamp(last["written_ms"] / 1000, UTC), recipe, seconds)

    def rows_written(self, table: Table) -> int:
        """Rows that the table's newest commit wrote, as Delta counted them."""
        return int(self._last_commit(table)["operationMetrics"].get("numOutputRows", 0))

    def inputs(self, *tables: Table) -> dict[str, Version | None]:
        """The present version of each table, for a `Recipe`."""
        return {table.name: self._present(table) for table in tables}

    def _present(self, table: Table) -> Version | None:
        version = self.version(table)
        if version is None:
            return None
        detail = DeltaTable.forPath(self.spark, self.path(table.name)).detail()
        return Version(version=version, id=str(detail.select("id").collect()[0].id))

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
        return [name for name, version in self.inputs(*looked_at).items() if not _as_noted(made.inputs[name], version)]

    def require_current(self, table: Table, *inputs: Table) -> None:
        """Makes sure that a table was made from others as they are now.

        Raises:
            WinnowError: It was not; the message names the command that makes it anew.
        """
        newer = self.newer(table, *inputs)
        if newer:
            older = f"table '{table.name}' is older than {', '.join(newer)}"
            raise WinnowError(f"{older}: run `winnow {table.maker}` first")

    def _write(self, table: Table, rows: DataFrame, recipe: Recipe, mode: str) -> None:
        self.mark()
        self._require_ours(table)
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

    def _last_commit(self, table: Table) -> Mapping[str, Any]:
        """The newest commit that may have changed rows."""
        delta, written = DeltaTable.forPath(self.spark, self.path(table.name)), F.unix_millis("timestamp")
        wanted = "version", "operation", "userMetadata", "operationMetrics", written.alias("written_ms")
        last: dict[str, Any] = delta.history(1).select(*wanted).collect()[0].asDict()
        if last["operation"] not in _UPKEEP:
            return last
        changes = delta.history().where(~F.col("operation").isin(*_UPKEEP))
        before = changes.orderBy(F.desc("version")).select(*wanted).take(1)
        return before[0].asDict() if before else last

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
        if not self._is_marked() and not self._has_table():
            raise WinnowError(
                f"{self.uri} is no lake of Winnow's: {self._found()}; check --lake, or make a lake in a new folder by "
                "`winnow ingest SOURCE... --lake FOLDER`"
            )

    def require_room(self, *tables: Table) -> None:
        """Makes sure that the folder is a lake or can become one; writes nothing.

        Args:
            tables: What is about to be written.

        Raises:
            WinnowError: The folder holds something else, something else lies in the place of one of the tables, or a
                later Winnow made the lake.
        """
        if not self._is_marked() and not self._is_free() and not self._has_table():
            raise WinnowError(
                f"{self.uri} is no lake of Winnow's and not empty: {self._found()}; nothing was written: name a new or "
                f"empty folder, as in `--lake {self.uri}-lake`"
            )
        for table in tables:
            self._require_ours(table)

    def mark(self) -> None:
        """Marks the folder as a lake of Winnow's, unless that has been done; makes it where it is not there.

        Raises:
            WinnowError: As `require_room`.
        """
        if self._marked:
            return
        self.require_room()
        if not self._marked:
            self._files.write(marker.FILE, marker.written())
            self._marked = True

    def drop(self, table: Table) -> None:
        """Deletes a table with its history; nothing where it is not there.

        Raises:
            WinnowError: What lies under its name is not Winnow's, or the folder is no lake.
        """
        if self.exists(table):
            self.mark()
            self._require_ours(table)
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

    def _is_marked(self) -> bool:
        if not self._marked and self._files.exists(marker.FILE):
            marker.check(self._files.read(marker.FILE), self.path(marker.FILE))
            self._marked = True
        return self._marked

    def _has_table(self) -> bool:
        """Whether the folder holds a table of Winnow's, as an unmarked lake of 0.1.0 does."""
        return any(self._lacking(table) == [] for table in ALL)

    def _is_free(self) -> bool:
        """Whether there is no folder yet, or an empty one; half a marker is what a killed command leaves."""
        if self._files.kind() == "file":
            return False
        return all(marker.FILE in name for name in self._files.names())

    def _found(self) -> str:
        kind = self._files.kind()
        if kind != "folder":
            return "it is a file" if kind else "there is no such folder"
        names = sorted(islice(self._files.names(), _SHOWN + 1))
        more = " …" if len(names) > _SHOWN else ""
        return f"it holds {', '.join(names[:_SHOWN])}{more}" if names else "it is an empty folder"

    def _lacking(self, table: Table) -> list[str] | None:
        """The columns of a table that the Delta table under its name is without; None where there is no such table."""
        if not self.exists(table):
            return None
        return table.lacks(self.spark.read.format("delta").load(self.path(table.name)).columns)

    def _require_ours(self, table: Table) -> None:
        """Makes sure that what lies under a table's name may be written over.

        Raises:
            WinnowError: It is a Delta table of other columns, or a folder or file with something else in it.
        """
        lacking = self._lacking(table)
        if lacking is not None:
            self._refuse(table, lacking)
            return
        of_killed = re.compile("|".join([_OF_KILLED_WRITE, *(f"{re.escape(name)}=.*" for name in table.partition)]))
        is_file = self._files.kind(table.name) == "file"
        others = [table.name] if is_file else (n for n in self._files.names(table.name) if not of_killed.fullmatch(n))
        shown = sorted(islice(others, _SHOWN))
        if shown:
            raise WinnowError(
                f"{self.path(table.name)} is no Delta table and holds {', '.join(shown)}, where the table "
                f"'{table.name}' is to be written: move it out of the lake, or name another --lake"
            )

    def _refuse(self, table: Table, lacking: list[str]) -> None:
        if lacking:
            raise WinnowError(
                f"{self.path(table.name)} is a Delta table without the columns {', '.join(lacking)}, so it is not "
                f"Winnow's table '{table.name}': move it out of the lake, or name another --lake"
            )


def _staging(name: str) -> str:
    if not name.startswith(_STAGING) or ".." in name.split("/") or name == _STAGING:
        raise ValueError(f"{name!r} is not below {_STAGING}")
    return name


def _as_noted(noted: Version | None, present: Version | None) -> bool:
    if noted is None or present is None:
        return noted is present
    # An earlier version of Winnow noted the number alone.
    return noted["version"] == present["version"] and noted["id"] in (None, present["id"])


def _told(metadata: str | None) -> tuple[Recipe | None, int | None]:
    """The recipe in a commit's metadata, and when its command began, in ms since 1970; None if it is not Winnow's."""
    try:
        parts = json.loads(metadata or "")
    except ValueError:
        return None, None
    if not isinstance(parts, dict) or not {"command", "inputs", "settings"} <= parts.keys():
        return None, None
    parts.pop("seconds", None)  # An earlier version said how long a command had taken before it wrote.
    began_ms = parts.pop("began_ms", None)
    # An earlier version noted numbers alone.
    read = {name: Version(version=of, id=None) if isinstance(of, int) else of for name, of in parts["inputs"].items()}
    return Recipe(**{**parts, "inputs": read}), began_ms
