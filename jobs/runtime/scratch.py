"""Frames that an algorithm looks at more than once, kept while a block runs and gone when it ends."""

import posixpath
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession


class Scratch:
    """Where an algorithm keeps what it has computed: on the executors' disks, or as files in a folder.

    `with Scratch(spark, folder) as scratch:` frees all of it when the block ends, also by an error. Frames that were
    made from kept ones have to be written before that.

    Args:
        spark: The session that writes and reads.
        folder: Path or URI of a folder that the workers can read and write; made when it is needed. What is in it
            already is left alone: files go to a folder of their own below it, which is deleted at the end.
        delete: Removes the folder, which is then the scratch's alone; called at the end where anything was written.
    """

    def __init__(self, spark: SparkSession, folder: str, delete: Callable[[], None] | None = None) -> None:
        self._spark = spark
        self._folder = folder if delete else posixpath.join(folder, f"winnow-{uuid.uuid4().hex[:12]}")
        self._delete = delete or self._delete_own
        self._kept = ExitStack()
        self._is_written = False

    def keep(self, frame: DataFrame) -> DataFrame:
        """A frame that is computed once and then lies on the executors' disks; what is lost there is computed anew."""
        kept = frame.persist(StorageLevel.DISK_ONLY)
        self._kept.callback(kept.unpersist)
        return kept

    def stage(self, name: str, frame: DataFrame) -> DataFrame:
        """A frame that is written down and read back: whatever is lost, its rows stay the same.

        Args:
            name: Of a folder below the scratch folder; each once.
            frame: What is written.
        """
        if not self._is_written:
            self._is_written = True
            self._kept.callback(self._delete)
        return staged(frame, posixpath.join(self._folder, name))

    @property
    def shuffle_partitions(self) -> int:
        """Partitions of a shuffle, as the session says."""
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


def staged(frame: DataFrame, path: str) -> DataFrame:
    """A frame that is written to a folder and read back: whatever is lost, its rows stay the same.

    Args:
        frame: What is written.
        path: Of the folder; what it held is replaced.
    """
    frame.write.mode("overwrite").parquet(path)
    return frame.sparkSession.read.schema(frame.schema).parquet(path)
