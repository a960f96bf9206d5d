"""The only code that reads and writes a lake's Delta tables: one folder or URI, one sub-folder for each table."""

import json
import posixpath
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from functools import cached_property, reduce
from hashlib import sha256
from itertools import islice
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from jobs.lake.files import LakeFiles
from jobs.lake.image_files import SMALL_FILE
from jobs.lake.leases.lease import BESIDE, Lease
from jobs.lake.leases.lease import FOLDER as LEASES
from jobs.lake.log import DeltaLog, TableFiles
from jobs.lake.ownership import Ownership
from jobs.lake.recipe import Recipe, recipe_in
from jobs.lake.snapshot import Snapshot
from jobs.lake.tables import IMAGES, Table
from jobs.runtime.addresses import local_folder, require_no_secret
from jobs.runtime.scratch import Commits, Scratch, literal, staged
from jobs.runtime.session import LOG_RETENTION, fit_shuffles, in_session, require_names, with_settings
from models.errors import LakeInUseError, WinnowError

_FEW_FILES, _FEW_ROWS = 20_000, 100_000
_FEW_IMAGES, _FEW_BYTES = 5_000, 512 << 20
_USER_METADATA = "spark.databricks.delta.commitInfo.userMetadata"
_LOG_RETENTION, _TEN_YEARS = "delta.logRetentionDuration", "interval 3650 days"
_OPTIMIZE = "spark.databricks.delta.optimize"
_COMPACT = {f"{_OPTIMIZE}.minFileSize": str(SMALL_FILE), f"{_OPTIMIZE}.maxFileSize": str(128 << 20)}
# The names of Delta's data files.
_DATA_FILE = r"part-\d{5}-[0-9a-f-]{36}[^/]*\.parquet"
_FILES_AT_ONCE = 100_000
_STAGING = "_staging/"
# Scratch folders of commands that may run beside others are deleted only when they are old.
_BESIDE_FOLDER, _COMMITS, _OLD_MS = "beside-", "committed-", 7 * 24 * 3_600_000


class Lake:
    """A lake: a folder or URI (`file:`, `s3a:`, `abfss:`, `hdfs:`) whose sub-folders are Delta tables.

    A file marks the folder as a lake (`jobs.lake.marker`). Winnow writes and deletes only in a folder that is marked or
    may be marked. Within `used_by`, a command is the only writer (`jobs.lake.leases.lease`). In your own code, ensure
    that.

    Args:
        spark: The session that reads and writes; or the function that starts it, which is called when rows are first
            read or written, with `is_small`. Until then, a path without a scheme must mean this machine's disk
            (`names_this_disk`).
        uri: The folder. A relative path starts at the working directory.

    Raises:
        WinnowError: The address is empty or holds a secret.
    """

    def __init__(self, spark: SparkSession | Callable[[bool], SparkSession], uri: str) -> None:
        if not uri.strip():
            raise WinnowError("the address of the lake is empty: name a folder, as in `--lake FOLDER`")
        require_no_secret(uri)
        self.uri = uri.rstrip("/") or "/"
        self._start = None if isinstance(spark, SparkSession) else spark
        if isinstance(spark, SparkSession):
            require_names(spark, uri)
            self.spark = spark
        self._lease: Lease | None = None
        self._scratch_folder = ""
        self._added_bytes: int | None = None
        self._versions: dict[str, int | None] = {}
        self.begin()

    def beside(self, uri: str) -> "Lake":
        """Returns another lake, in the same session."""
        return Lake((lambda few: self.spark) if self._start else self.spark, uri)

    def adds(self, size: int) -> None:
        """Notes that the command will read sources of this size, in bytes."""
        self._added_bytes = size

    @property
    def is_small(self) -> bool:
        """Whether it is known without Spark that the lake has few images, and will when the command ends."""
        if local_folder(self.uri) is None:
            return False
        if not self.exists(IMAGES):
            return self._added_bytes is not None and self._added_bytes <= _FEW_BYTES
        files = self._log.files(IMAGES.name)
        few = files is not None and files.rows is not None and files.rows <= _FEW_IMAGES
        return few and (self._added_bytes or 0) <= _FEW_BYTES

    @cached_property
    def spark(self) -> SparkSession:
        """The session that reads and writes."""
        assert self._start is not None  # else the session was given
        session = self._start(self.is_small)
        require_names(session, self.uri)
        self.spark = session  # what follows may read rows
        self.fit_shuffles()
        return session

    def begin(self) -> None:
        """Notes that a command begins. The duration in its commits counts from here."""
        self._began_ms = round(1000 * time.time())

    def within(self, conf: Mapping[str, str]) -> "Lake":
        """Returns the same lake with other Spark settings, for a scan or a write that needs settings of its own.

        Args:
            conf: Settings of Spark. A command that writes must hold the lake before.
        """
        other = copy(self)
        other.spark = with_settings(self.spark, conf)
        return other

    def fit_shuffles(self) -> None:
        """Sets the number of shuffle partitions by the number of images, unless the user set it."""
        fit_shuffles(self.spark, self.counts([IMAGES]).get(IMAGES.name, 0))

    # One writer at a time ---------------------------------------------------------------------------------------------

    @contextmanager
    def used_by(self, command: str, note: Callable[[str], None]) -> Iterator[None]:
        """Keeps a command apart from others that use the lake at the same time, while the block runs.

        A command that is not one of `BESIDE` becomes the only writer: from `hold` on, or from its first write. Each
        command has scratch folders of its own.

        Args:
            command: Name of the command.
            note: Called with a line for the user if the command has to wait.

        Raises:
            LakeInUseError: From `hold` and the first write: another command writes to the lake.
        """
        if command in BESIDE:
            self._scratch_folder = f"{_BESIDE_FOLDER}{uuid.uuid4().hex[:12]}/"
        else:
            self._lease = Lease(self._files.local or self._files, self.uri, command, note)
        try:
            yield
        finally:
            if self._scratch_folder:
                with suppress(Exception):  # the storage may raise anything; a later command deletes what is left
                    if self._files.exists(f"{_STAGING}{self._scratch_folder}"):
                        self._files.delete(f"{_STAGING}{self._scratch_folder}")
            if self._lease:
                self._lease.release()
            self._lease, self._scratch_folder = None, ""

    def hold(self) -> None:
        """Becomes the lake's only writer, if the command that uses it needs that and is not yet.

        Raises:
            LakeInUseError: Another command writes to the lake. The message names it.
        """
        if self._lease and not self._lease.is_held:
            self._lease.acquire()
            self._scratch_folder = f"{self._lease.number}/"
            self._versions.clear()
            self._delete_left_scratch()

    def _delete_left_scratch(self) -> None:
        """Deletes what killed commands left in scratch folders; what they committed only after a week."""
        now = round(1000 * time.time())
        for name, changed in list(self._files.modified(_STAGING.rstrip("/"))):
            if not name.startswith((_BESIDE_FOLDER, _COMMITS)) or now - changed > _OLD_MS:
                self._files.delete(f"{_STAGING}{name}")

    def _require_alone(self, table: Table) -> int | None:
        """Checks that no other command has written to a table since this one read it; returns its newest version.

        Raises:
            LakeInUseError: Another command did, or took the lake over.
        """
        if not self._lease:
            return None
        self._lease.require_held()
        seen, now = self._versions.get(table.name), self._log.version(table.name)
        if table.name in self._versions and seen != now and self._log.has_new_rows(table.name, seen):
            raise LakeInUseError(
                f"{self.path(table.name)} was changed by another program while this command ran; this command wrote "
                "nothing more: run it again when the other has ended"
            )
        return now

    def _see(self, table: Table) -> None:
        """Notes the version of a table that the command reads or has written, if it is to be its only writer."""
        if self._lease and self._lease.is_held and not {table.maker, *table.also} & set(BESIDE):
            self._versions[table.name] = self._log.version(table.name)

    # Tables ---------------------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        """Returns the address of a table or file of the lake."""
        return posixpath.join(self.uri, name)

    def exists(self, table: Table) -> bool:
        """Returns whether the table has been written."""
        return self._log.exists(table.name)

    def snapshot(self) -> Snapshot:
        """Returns the current versions of the tables. A command bases its decisions on one snapshot."""
        return Snapshot(self._log)

    def read(self, table: Table) -> DataFrame:
        """Returns the current rows of a table; no rows, with its schema, if it has not been written.

        If an earlier version of Winnow wrote the table without some columns, they are null.

        Raises:
            WinnowError: The Delta table under this name has other columns.
        """
        if table.name not in self._versions:
            self._see(table)
        if not self.exists(table):
            return self._no_rows(table.schema)
        rows = self._rows(table)
        self._ownership.refuse_foreign(table, rows.columns)
        return _completed(table, rows)

    def counts(self, wanted: Iterable[Table]) -> dict[str, int]:
        """Returns the number of rows of tables, by name, without those that do not exist.

        The logs of most tables hold the numbers. The others are counted in one query.

        Raises:
            WinnowError: The Delta table under a name has other columns.
        """
        counts, uncounted = {}, []
        for table in filter(self.exists, wanted):
            files = self._log.files(table.name)
            if files is not None and files.rows is not None:
                self._ownership.refuse_foreign(table, files.schema.names)
                counts[table.name] = files.rows
            else:
                rows = self._rows(table)
                self._ownership.refuse_foreign(table, rows.columns)
                uncounted.append(rows.agg(F.count("*").alias("rows")).select(F.lit(table.name).alias("name"), "rows"))
        if uncounted:
            counts |= {row.name: row["rows"] for row in reduce(DataFrame.unionAll, uncounted).collect()}
        return counts

    def few_rows(self, table: Table, *columns: str) -> dict[str, list[Any]] | None:
        """Returns columns of a small table on this machine's disk, read without Spark.

        Args:
            table: A table. If it does not exist, the columns have no values.
            columns: Names of columns, of which none is a partition.

        Returns:
            The values of each column; None if the table is elsewhere or not small.
        """
        found = self._log.files(table.name) if self.exists(table) else TableFiles(table.schema, (), 0, False)
        if found is None or found.rows is None or found.rows > _FEW_ROWS or self._files.local is None:
            return None
        parts = [self._files.local.path(f"{table.name}/{path}") for path in found.paths]
        read = [pq.ParquetFile(part).read(list(columns)) for part in parts]
        return {name: [value for one in read for value in one[name].to_pylist()] for name in columns}

    def _rows(self, table: Table, version: int | None = None) -> DataFrame:
        """Returns the rows of a version of a table; None stands for the newest one.

        For each scan Delta runs Spark jobs that list the table's files, and more for the first scan of a version: half
        a second, where the rows of a small table take a tenth. So Spark reads the files of small tables itself.
        """
        files = self._log.files(table.name, version)
        if files is None:
            reader = self.spark.read.format("delta")
            at = reader if version is None else reader.option("versionAsOf", version)
            return at.load(self.path(table.name))
        if not files.paths:
            return self._no_rows(files.schema)
        reader = self.spark.read.schema(files.schema)
        if files.is_partitioned:
            reader = reader.option("basePath", self.path(table.name))
        return reader.parquet(*(literal(self.path(f"{table.name}/{path}")) for path in files.paths))

    def _no_rows(self, schema: StructType) -> DataFrame:
        # The limit tells Spark's optimiser that there are no rows, so that it drops joins with them.
        return self.spark.createDataFrame([], schema).limit(0)

    def read_version(self, table: Table, version: int | None) -> DataFrame | None:
        """Returns the rows of an earlier version; None if its files or its log no longer exist."""
        if version is None or not self.exists(table):
            return None
        try:
            rows = self._rows(table, self._log.same_rows(table.name, version))
            # The log lists the files but does not say whether they still exist, so this opens each of them.
            rows.select(F.lit(1).alias("one")).agg(F.sum("one")).collect()
        except AnalysisException:
            return None
        except (PySparkException, Py4JJavaError) as error:
            if "FAILED_READ_FILE.FILE_NOT_EXIST" in str(error):
                return None
            raise
        return rows

    def read_made(self, table: Table, recipe: Recipe) -> DataFrame | None:
        """Returns the newest version of the table that the recipe made; None if there is none or its files are gone.

        If an earlier version of Winnow wrote the table without some columns, they are null.
        """
        for entry in self._log.entries(table.name):
            if recipe.makes_the_same(recipe_in(entry.user_metadata)[0]):
                rows = self.read_version(table, entry.version)
                return None if rows is None else _completed(table, rows)
        return None

    def stage(self, name: str, rows: DataFrame) -> DataFrame:
        """Writes rows to a scratch folder and returns them as read from there, so that Spark never recomputes them.

        Args:
            name: The folder, below `_staging/`.
            rows: The rows to write.
        """
        self.mark()
        return staged(rows, self.staging(name))

    def scratch(self, name: str, recipe: Recipe | None = None) -> Scratch:
        """Returns a scratch folder, in which a command keeps intermediate results until its block ends.

        Args:
            name: Name of the command.
            recipe: What the command works from. If it is killed, the next run with the same recipe finds what it
                committed. None if it commits nothing.
        """
        self.mark()
        folder = f"{_STAGING}{name}"
        commits = self._commits(f"{_COMMITS}{name}-", recipe) if recipe else None
        return Scratch(self.spark, self.staging(folder), lambda: self.delete_staging(folder), commits)

    def _commits(self, prefix: str, recipe: Recipe) -> Commits:
        """Returns the results of a recipe, and deletes those of others."""
        own = prefix + sha256(recipe.to_json().encode()).hexdigest()[:16]
        for name, _ in list(self._files.modified(_STAGING.rstrip("/"))):
            if name.startswith(prefix) and name != own:
                self._files.delete(f"{_STAGING}{name}")
        return Commits(
            self.path(f"{_STAGING}{own}"),
            lambda name: self._files.exists(f"{_STAGING}{own}/{name}/_SUCCESS"),
            lambda: self._files.delete(f"{_STAGING}{own}"),
        )

    def staging(self, name: str) -> str:
        """Returns the address of a scratch folder. Commands that run at the same time get different ones.

        Args:
            name: The folder, below `_staging/`.
        """
        return self.path(self._own(name))

    def fetch(self, name: str, rows: DataFrame) -> Iterator[pa.Table]:
        """Yields rows to the driver, one partition at a time, so that memory holds one partition.

        The rows go through a scratch folder. `DataFrame.toLocalIterator` would keep all fetched shuffle data in the
        driver's heap until the last row.

        Args:
            name: The folder, below `_staging/`. It is deleted at the end.
            rows: Rows in partitions that fit into the driver's memory.
        """
        try:
            for file in sorted(self.stage(name, rows).inputFiles()):
                yield self.spark.read.schema(rows.schema).parquet(literal(unquote(file))).toArrow()
        finally:
            self.delete_staging(name)

    def require(self, table: Table) -> DataFrame:
        """Returns the current rows of a table that must exist.

        Raises:
            WinnowError: The table has not been written yet. The message names the command that writes it.
        """
        self.require_written(table)
        return self.read(table)

    def require_written(self, table: Table) -> None:
        """Checks that a table exists; reads no rows.

        Raises:
            WinnowError: As `require`.
        """
        if not self.exists(table):
            raise WinnowError(f"{self.uri} has no table '{table.name}': run `winnow {table.maker}` first")

    def read_files(self, table: Table, files: Iterable[str]) -> DataFrame:
        """Returns the rows of some of a table's data files.

        Delta opens every file to find rows by a column that the files are not sorted by. A caller that knows the files
        of its rows saves opening the others.

        Args:
            table: A table from which no rows were deleted.
            files: Addresses as in the hidden column `_metadata.file_path`.

        Raises:
            AnalysisException: A file no longer exists.
        """
        reader = self.spark.read.option("basePath", self.path(table.name)).schema(table.schema)
        return reader.parquet(*[literal(unquote(file)) for file in files])

    def rows_of(self, table: Table, wanted: DataFrame) -> DataFrame:
        """Returns the rows of some images. If few data files hold them, it opens only these files.

        Args:
            table: A table from which no rows were deleted.
            wanted: image_id; few enough to broadcast.
        """
        few = F.broadcast(wanted.select("image_id").distinct())
        locations = self.read(table).select("image_id", F.col("_metadata.file_path").alias("file"))
        files = locations.join(few, "image_id", "left_semi").select("file").distinct().limit(_FEW_FILES + 1).collect()
        if not files:
            return self.read(table).limit(0)
        rows = self.read(table) if len(files) > _FEW_FILES else self.read_files(table, [row.file for row in files])
        return rows.join(few, "image_id", "left_semi")

    def append(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Appends rows to a table in one atomic commit."""
        self._write(table, rows, recipe, "append")

    def replace(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Replaces all rows of a table in one atomic commit."""
        self._write(table, rows, recipe, "overwrite")

    def remove(self, table: Table, rows: DataFrame, recipe: Recipe) -> None:
        """Deletes rows from a table in one atomic commit.

        Args:
            table: The table.
            rows: Rows of the table that equal one of these, in all columns of these, are deleted.
            recipe: The recipe of the commit.
        """
        if not self.exists(table):
            return
        self.mark()
        self._ownership.require_ours(table)
        self._require_alone(table)
        # A merge can only read its metadata from the session.
        own = with_settings(self.spark, {_USER_METADATA: self._metadata(recipe)})
        equal = " AND ".join(f"t.{name} <=> r.{name}" for name in rows.columns)
        merge = DeltaTable.forPath(own, self.path(table.name)).alias("t").merge(rows.alias("r"), equal)
        merge.whenMatchedDelete().execute()
        self._see(table)

    def data_files(self, table: Table) -> DataFrame:
        """Returns the data files of the current version of an existing table, as its log lists them.

        Returns:
            table, path (absolute address), size (bytes), rows (null if the log does not tell).
        """
        return self._log.all_files(table.name).select(F.lit(table.name).alias("table"), "path", "size", "rows")

    def rows_written(self, table: Table) -> int:
        """Returns how many rows the table's newest commit wrote, as Delta counted them."""
        entry = self._log.newest(table.name)
        return 0 if entry is None else entry.rows

    def _write(self, table: Table, rows: DataFrame, recipe: Recipe, mode: str) -> None:
        self.mark()
        self._ownership.require_ours(table)
        before = self._require_alone(table)
        # The metadata hold the comments of the columns. An append leaves those of existing columns as they are.
        columns = [rows[f.name].cast(f.dataType).alias(f.name, metadata=f.metadata) for f in table.schema.fields]
        # Before it replaces rows, Delta looks for their files with a query: a new table has none.
        how = mode if self.exists(table) else "append"
        writer = in_session(rows.select(*columns), self.spark).write.format("delta").mode(how)
        writer = writer.option("userMetadata", self._metadata(recipe))
        writer = writer.partitionBy(*table.partition)
        # Delta reads this property only when it creates the table.
        writer = writer.option("delta.dataSkippingStatsColumns", ",".join(table.asked_for))
        # A table of an earlier version of Winnow may lack columns.
        writer = writer.option("overwriteSchema" if how == "overwrite" else "mergeSchema", "true")
        if self._lease and mode == "append":
            # Delta skips a commit whose number is not above the last one of the same name, and refuses one beside it.
            name, number = self._lease.transaction()
            writer = writer.option("txnAppId", name).option("txnVersion", number)
        writer.save(self.path(table.name))
        if self._lease:
            self._lease.require_held()
            self._require_written(table, before)
        self._see(table)

    def _require_written(self, table: Table, before: int | None) -> None:
        """Checks that a write made a new version of a table.

        Raises:
            WinnowError: Delta skipped the write.
        """
        if self._log.version(table.name) == before:
            raise WinnowError(
                f"{self.path(table.name)} was not written: it knows later commands than {self.path(LEASES)}, as if the "
                f"lake were put together from copies of different times; delete {self.path(LEASES)}, then try again"
            )

    def _metadata(self, recipe: Recipe) -> str:
        # The start of the command, not its duration: this is written before Delta does the work.
        return json.dumps({**json.loads(recipe.to_json()), "began_ms": self._began_ms})

    # Upkeep: files change, rows do not ------------------------------------------------------------------------------

    def compact(self, table: Table) -> None:
        """Gathers the small files of a table in files of some 128 MB, in one commit without a change of rows."""
        with self._upkeep(table, _COMPACT) as session:
            DeltaTable.forPath(session, self.path(table.name)).optimize().executeCompaction()

    def unreferenced(self, table: Table, before_ms: int) -> DataFrame:
        """Returns the data files of a table that no version uses that was current at a time or later.

        Killed writes left them, or later versions replaced them. Files that Winnow did not write are not among them.

        Args:
            table: An existing table.
            before_ms: The time, in ms since 1970. Files that changed later are not returned either.

        Returns:
            path (absolute address), length (bytes), isDir (false), modificationTime (ms since 1970).
        """
        own = re.compile("/".join([*(f"{re.escape(name)}=[^/]*" for name in table.partition), _DATA_FILE]))
        folder = f"{self._files.address}/{table.name}/"
        found = (
            (folder + path, size, False, changed)
            for path, size, changed in self._files.below(table.name)
            if changed < before_ms and own.fullmatch(path)
        )
        name, schema = (
            f"{_STAGING}vacuum-{table.name}",
            "path string, length long, isDir boolean, modificationTime long",
        )
        self.delete_staging(name)
        while batch := list(islice(found, _FILES_AT_ONCE)):
            listed = self.spark.createDataFrame(batch, schema)
            listed.write.mode("append").parquet(self.staging(name))
        listed = (
            self.read_staged(name) if self._files.exists(self._own(name)) else self.spark.createDataFrame([], schema)
        )
        return self._log.unreferenced(table.name, listed, before_ms)

    def remove_unreferenced(self, table: Table, files: DataFrame, keep_hours: int) -> None:
        """Deletes files that `unreferenced` returned. Delta checks again that no version uses them.

        Args:
            table: An existing table.
            files: From `unreferenced`.
            keep_hours: How long a replaced file is kept, in hours.
        """
        with self._upkeep(table, {"spark.databricks.delta.retentionDurationCheck.enabled": "false"}) as session:
            in_session(files, session).createOrReplaceTempView("winnow_unreferenced")
            address = self.path(table.name).replace("`", "``")
            inventory = "(SELECT * FROM winnow_unreferenced)"
            session.sql(f"VACUUM delta.`{address}` USING INVENTORY {inventory} RETAIN {keep_hours} HOURS").collect()

    def shorten_log(self, table: Table) -> None:
        """Lets Delta delete old entries of a table's log, if an earlier version of Winnow kept them for ten years."""
        if self._log.property(table.name, _LOG_RETENTION) == _TEN_YEARS:
            with self._upkeep(table, {}) as session:
                address = self.path(table.name).replace("`", "``")
                session.sql(f"ALTER TABLE delta.`{address}` SET TBLPROPERTIES ('{_LOG_RETENTION}' = '{LOG_RETENTION}')")

    @contextmanager
    def _upkeep(self, table: Table, conf: Mapping[str, str]) -> Iterator[SparkSession]:
        """Yields a session whose commits say that they keep the rows of the table and its recipe."""
        self.mark()
        self._ownership.require_ours(table)
        self._require_alone(table)
        entry = self._log.newest(table.name)
        said = {_USER_METADATA: entry.as_kept()} if entry and not entry.is_upkeep else {}
        yield with_settings(self.spark, {**conf, **said})
        if self._lease:
            self._lease.require_held()
        self._see(table)

    # Files beside the tables (models, the report) -------------------------------------------------------------------

    def bytes_of(self, table: Table) -> int:
        """Returns the bytes that a table takes on disk, files of earlier versions included."""
        return self._files.size(table.name)

    def has_file(self, name: str) -> bool:
        """Returns whether the lake has a file of that name."""
        return self._files.exists(name)

    def read_file(self, name: str) -> bytes:
        """Returns the bytes of a file of the lake.

        Raises:
            WinnowError: The file does not exist.
        """
        return self._files.read(name)

    def write_file(self, name: str, data: bytes) -> str:
        """Writes a file of the lake atomically and returns its address."""
        self.mark()
        self._files.write(name, data)
        return self.path(name)

    # Ownership: Winnow overwrites and deletes only its own files ----------------------------------------------------

    @property
    def address(self) -> str:
        """The absolute address of the lake, with scheme and host."""
        return self._files.address

    def require_made(self) -> None:
        """Checks that the lake exists; writes nothing.

        Raises:
            WinnowError: There is no lake, or a later version of Winnow made it.
        """
        self._ownership.require_made()

    def require_room(self, *tables: Table) -> None:
        """Checks that the folder is a lake or can become one; writes nothing.

        Args:
            tables: The tables that are about to be written.

        Raises:
            WinnowError: The folder or the path of a table holds other data, or a later version of Winnow made the lake.
        """
        self._ownership.require_room(*tables)

    def mark(self) -> None:
        """Marks the folder as a lake, once, and creates it if it does not exist. Then it holds the lake.

        Raises:
            WinnowError: As `require_room`.
            LakeInUseError: As `hold`.
        """
        self._ownership.mark()
        self.hold()

    def drop(self, table: Table) -> None:
        """Deletes a table with its history, if it exists.

        Raises:
            WinnowError: The data under its name is not Winnow's, or the folder is not a lake.
        """
        if self.exists(table):
            self.mark()
            self._ownership.require_ours(table)
            self._require_alone(table)
            self._files.delete(table.name)
            self._see(table)

    def read_staged(self, name: str) -> DataFrame:
        """Returns the rows of a Parquet folder that was written to the address `staging` gives.

        Args:
            name: The folder, below `_staging/`.
        """
        return self.spark.read.parquet(literal(self.staging(name)))

    def delete_staging(self, name: str) -> None:
        """Deletes a scratch folder, if it exists.

        Args:
            name: The folder, below `_staging/`.
        """
        if not self._files.exists(self._own(name)):
            return
        self.mark()
        self._files.delete(self._own(name))

    def _own(self, name: str) -> str:
        """Returns the name of a scratch folder that only the command at work uses."""
        if not name.startswith(_STAGING) or ".." in name.split("/") or name == _STAGING:
            raise ValueError(f"{name!r} is not below {_STAGING}")
        return f"{_STAGING}{self._scratch_folder}{name.removeprefix(_STAGING)}"

    @cached_property
    def _files(self) -> LakeFiles:
        return LakeFiles(lambda: self.spark, self.uri, local_folder(self.uri) if self._start else None)

    @cached_property
    def _log(self) -> DeltaLog:
        return DeltaLog(lambda: self.spark, self._files)

    @cached_property
    def _ownership(self) -> Ownership:
        return Ownership(lambda: self.spark, self.uri, self._files, self._log)


def _completed(table: Table, rows: DataFrame) -> DataFrame:
    """Adds the columns of a table that its rows lack, as nulls."""
    added = {f.name: F.lit(None).cast(f.dataType) for f in table.schema.fields if f.name not in rows.columns}
    return rows.withColumns(added) if added else rows
