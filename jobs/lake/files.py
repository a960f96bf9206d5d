"""Reads and writes the files of a lake through Hadoop, with the same credentials as its tables."""

import os
import posixpath
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.runtime.whole_file import replacing
from models.errors import WinnowError

_WHOLE_PUTS = ("s3a", "s3n", "s3", "gs", "oss", "cosn", "obs")
"""Stores that show a new file only when it is complete, and the old one until then."""


class LakeFiles:
    """The files and folders below one address.

    Args:
        spark: Its Hadoop configuration has the credentials.
        uri: The folder. A relative path starts at the working directory.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self._spark = spark
        self._uri = uri

    def path(self, name: str) -> str:
        """Returns the address of a file or folder."""
        return posixpath.join(self._uri, name)

    @property
    def address(self) -> str:
        """The absolute address of the folder: `file:/data/lake`, `s3a://bucket/lake`."""
        return self._qualified("").toString()

    def kind(self, name: str = "") -> str | None:
        """Returns `file`, `folder`, or None if nothing exists there."""
        filesystem, path = self._hadoop(name)
        if not filesystem.exists(path):
            return None
        return "folder" if filesystem.getFileStatus(path).isDirectory() else "file"

    def exists(self, name: str) -> bool:
        """Returns whether a file or folder of that name exists."""
        filesystem, path = self._hadoop(name)
        return bool(filesystem.exists(path))

    def names(self, name: str = "") -> Iterator[str]:
        """Yields the names in a folder, in no order; none if the folder does not exist."""
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            entries = filesystem.listStatusIterator(path)
            while entries.hasNext():
                yield entries.next().getPath().getName()

    def modified(self, name: str) -> Iterator[tuple[str, int]]:
        """Yields the names in a folder, each with the time of its last change, in ms since 1970."""
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            entries = filesystem.listStatusIterator(path)
            while entries.hasNext():
                status = entries.next()
                yield status.getPath().getName(), int(status.getModificationTime())

    def lines(self, name: str) -> Iterator[str]:
        """Yields the lines of a UTF-8 text file. It reads no further than the caller does."""
        filesystem, path = self._hadoop(name)
        text = self._jvm.java.io.InputStreamReader(filesystem.open(path), "UTF-8")
        reader = self._jvm.java.io.BufferedReader(text)
        try:
            while (line := reader.readLine()) is not None:
                yield str(line)
        finally:
            reader.close()

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            WinnowError: The file does not exist.
        """
        filesystem, path = self._hadoop(name)
        try:
            stream = filesystem.open(path)
        except Py4JJavaError as error:
            address = posixpath.join(self._uri, name)
            raise WinnowError(f"{address} cannot be read: {error.java_exception.getMessage()}") from error
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def write(self, name: str, data: bytes) -> None:
        """Writes a file atomically: readers see the old file or the new one, also after a crash.

        HDFS and the local disk replace a file by one rename. Object stores show a file once it is complete. If a
        connector can do neither, Hadoop deletes the old file just before it renames the new one.
        """
        path = self._qualified(name)
        scheme = path.toUri().getScheme()
        if scheme == "file":
            _write_local(Path(path.toUri().getPath()), data)
        elif scheme in _WHOLE_PUTS:
            self._put(path, data)
        else:
            part = self._qualified(f"{name}.part")
            self._put(part, data)
            options = self._spark.sparkContext._gateway.new_array(self._jvm.org.apache.hadoop.fs.Options.Rename, 1)
            options[0] = self._jvm.org.apache.hadoop.fs.Options.Rename.OVERWRITE
            context = self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), self._configuration)
            context.rename(part, path, options)

    def delete(self, name: str) -> None:
        """Deletes a file, or a folder with its contents. The caller ensures that it belongs to Winnow."""
        filesystem, path = self._hadoop(name)
        filesystem.delete(path, True)

    def _put(self, path: Any, data: bytes) -> None:
        stream = path.getFileSystem(self._configuration).create(path, True)
        stream.write(bytearray(data))
        stream.close()

    def _hadoop(self, name: str) -> tuple[Any, Any]:
        # An empty name adds a slash: Hadoop does not accept a scheme and host alone as a path.
        path = self._jvm.org.apache.hadoop.fs.Path(posixpath.join(self._uri, name))
        return path.getFileSystem(self._configuration), path

    def _qualified(self, name: str) -> Any:
        filesystem, path = self._hadoop(name)
        return filesystem.makeQualified(path)

    @cached_property
    def _jvm(self) -> Any:
        return self._spark.sparkContext._jvm

    @property
    def _configuration(self) -> Any:
        return self._spark.sparkContext._jsc.hadoopConfiguration()


def _write_local(file: Path, data: bytes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as part:
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        # Hadoop would check the new file against the old checksum and fail. Without a checksum file it checks nothing.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
