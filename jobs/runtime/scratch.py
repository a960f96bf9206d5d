"""Storage for intermediate DataFrames that an algorithm reads more than once; freed when the block ends."""

import posixpath
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession

# Hadoop's pattern characters.
_PATTERN = re.compile(r"[\\{}\[\]*?]")


class Scratch:
    """Storage for intermediate results: on the executors' disks, or as files in a folder.

    `with Scratch(spark, folder) as scratch:` frees everything when the block ends, also after an error. Write any
    DataFrame that depends on stored ones before the block ends.

    Args:
        spark: The session that writes and reads.
        folder: Path or URI of a folder that the workers can read and write; created if needed. Existing files in it
            are not touched: files go to a new folder below it, which is deleted at the end.
        delete: Deletes `folder`, which then belongs to this scratch alone; called at the end if anything was written.
        commits: Keeps results for a command that continues if the driver is killed; without it, a killed command
            begins anew.
    """

    def __init__(
        self,
        spark: SparkSession,
        folder: str,
        delete: Callable[[], None] | None = None,
        commits: "Commits | None" = None,
    ) -> None:
        self._spark = spark
        self._commits = commits
        self._folder = folder if delete else posixpath.join(folder, f"winnow-{uuid.uuid4().hex[:12]}")
        self._delete = delete or self._delete_own
        self._kept = ExitStack()
        self._is_written = False
        self._checkpoints = 0

    def keep(self, frame: DataFrame) -> DataFrame:
        """Returns a DataFrame that is computed once and kept on the executors' disks; lost parts are computed again."""
        kept = frame.persist(StorageLevel.DISK_ONLY)
        self._kept.callback(kept.unpersist)
        return kept

    def stage(self, name: str, frame: DataFrame) -> DataFrame:
        """Writes a DataFrame to files and returns it read back: its rows stay the same even if executors are lost.

        Args:
            name: Name of a folder below the scratch folder; use each name once.
            frame: The DataFrame to write.
        """
        if not self._is_written:
            self._is_written = True
            self._kept.callback(self._delete)
        return staged(frame, posixpath.join(self._folder, name))

    def checkpoint(self, frame: DataFrame) -> DataFrame:
        """Writes a DataFrame to files and returns it read back, so that its plan does not grow with each round.

        `DataFrame.localCheckpoint` would keep the rows on the executors alone: if one is lost, the job fails.
        """
        self._checkpoints += 1
        return self.stage(f"checkpoint-{self._checkpoints}", frame)

    def commit(self, name: str, frame: DataFrame) -> DataFrame:
        """Writes a DataFrame as `stage` does, or reads what a killed command has written under this name.

        Args:
            name: Name of a folder; use each name once.
            frame: The DataFrame to write. It must have the same rows in each run that may continue this one.
        """
        if self._commits is None:
            return self.stage(name, frame)
        path = posixpath.join(self._commits.folder, name)
        if self._commits.is_complete(name):
            return frame.sparkSession.read.schema(frame.schema).parquet(literal(path))
        return staged(frame, path)

    def committed(self, names: Iterable[str]) -> int:
        """Returns how many of these results a killed command has left."""
        return sum(self._commits.is_complete(name) for name in names) if self._commits else 0

    @property
    def shuffle_partitions(self) -> int:
        """Returns the session's number of shuffle partitions."""
        return int(self._spark.conf.get("spark.sql.shuffle.partitions") or 200)

    def _delete_own(self) -> None:
        path = self._spark._jvm.org.apache.hadoop.fs.Path(self._folder)
        path.getFileSystem(self._spark.sparkContext._jsc.hadoopConfiguration()).delete(path, True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kept.close()
        if self._commits and kind is None:
            self._commits.delete()


@dataclass(frozen=True)
class Commits:
    """Results that outlive a killed command.

    Attributes:
        folder: Path or URI of the folder; each result is a folder in it.
        is_complete: Returns whether the result of a name was written to its end.
        delete: Deletes all results; called when the command has ended.
    """

    folder: str
    is_complete: Callable[[str], bool]
    delete: Callable[[], None]


def staged(frame: DataFrame, path: str) -> DataFrame:
    """Writes a DataFrame to a folder and returns it read back: its rows stay the same even if executors are lost.

    Args:
        frame: The DataFrame to write.
        path: Path of the folder; its content is replaced.
    """
    frame.write.mode("overwrite").parquet(path)
    return frame.sparkSession.read.schema(frame.schema).parquet(literal(path))


def literal(path: str) -> str:
    r"""Returns a path for Spark's readers of files, which would take brackets, braces, `*` and `?` for a pattern.

    Examples:
        >>> literal("/data/out[v2]"), literal("/data/out")
        ('/data/out\\[v2\\]', '/data/out')
    """
    return _PATTERN.sub(r"\\\g<0>", path)
