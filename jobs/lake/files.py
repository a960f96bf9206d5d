"""Files of a lake beside its tables, through Hadoop, so that they use the tables' own credentials."""

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
"""Stores that show a file when its last byte is there, and until then the one before."""


class LakeFiles:
    """The files and folders below one address.

    Args:
        spark: Its Hadoop configuration has the credentials.
        uri: The folder; a relative path is taken from the working directory.
    """

    def __init__(self, spark: SparkSession, uri: str) -> None:
        self._spark = spark
        self._uri = uri

    def path(self, name: str) -> str:
        """The address of a file or folder."""
        return posixpath.join(self._uri, name)

    @property
    def address(self) -> str:
        """The folder with its scheme and host, absolute: `file:/data/lake`, `s3a://bucket/lake`."""
        return self._in_full("").toString()

    def kind(self, name: str = "") -> str | None:
        """`file`, `folder`, or None when there is nothing."""
        filesystem, path = self._hadoop(name)
        if not filesystem.exists(path):
            return None
        return "folder" if filesystem.getFileStatus(path).isDirectory() else "file"

    def exists(self, name: str) -> bool:
        """Whether there is a file or folder of that name."""
        filesystem, path = self._hadoop(name)
        return bool(filesystem.exists(path))

    def names(self, name: str = "") -> Iterator[str]:
        """Names of the files and folders in a folder, in no order; none when it is not there."""
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            found = filesystem.listStatusIterator(path)
            while found.hasNext():
                yield found.next().getPath().getName()

    def modified(self, name: str) -> Iterator[tuple[str, int]]:
        """Names as `names` gives them, each with the time of its last change, in ms since 1970."""
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            found = filesystem.listStatusIterator(path)
            while found.hasNext():
                status = found.next()
                yield status.getPath().getName(), int(status.getModificationTime())

    def lines(self, name: str) -> Iterator[str]:
        """The lines of a text file in UTF-8, read as they are asked for."""
        filesystem, path = self._hadoop(name)
        text = self._jvm.java.io.InputStreamReader(filesystem.open(path), "UTF-8")
        reader = self._jvm.java.io.BufferedReader(text)
        try:
            while (line := reader.readLine()) is not None:
                yield str(line)
        finally:
            reader.close()

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            WinnowError: There is no such file.
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
        """Writes a file, whole or not at all: whoever reads, or is left after a crash, has the old one or the new one.

        HDFS renames over a file in one step, as the local disk does; object stores show a file once it is whole. Where
        a connector can do neither, Hadoop deletes the old file just before it renames the new one.
        """
        path = self._in_full(name)
        scheme = path.toUri().getScheme()
        if scheme == "file":
            _write_local(Path(path.toUri().getPath()), data)
        elif scheme in _WHOLE_PUTS:
            self._put(path, data)
        else:
            part = self._in_full(f"{name}.part")
            self._put(part, data)
            options = self._spark.sparkContext._gateway.new_array(self._jvm.org.apache.hadoop.fs.Options.Rename, 1)
            options[0] = self._jvm.org.apache.hadoop.fs.Options.Rename.OVERWRITE
            context = self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), self._configuration)
            context.rename(part, path, options)

    def delete(self, name: str) -> None:
        """Removes a folder with all that is in it, or a file; the caller knows that it is Winnow's."""
        filesystem, path = self._hadoop(name)
        filesystem.delete(path, True)

    def _put(self, path: Any, data: bytes) -> None:
        stream = path.getFileSystem(self._configuration).create(path, True)
        stream.write(bytearray(data))
        stream.close()

    def _hadoop(self, name: str) -> tuple[Any, Any]:
        # With nothing below it joins a slash: Hadoop takes no scheme or host alone for a path.
        path = self._jvm.org.apache.hadoop.fs.Path(posixpath.join(self._uri, name))
        return path.getFileSystem(self._configuration), path

    def _in_full(self, name: str) -> Any:
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
        # Hadoop's checksum of the old file would make the new one unreadable; without one, none is checked.
        file.with_name(f".{file.name}.crc").unlink(missing_ok=True)
