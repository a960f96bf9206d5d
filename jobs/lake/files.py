"""Reads and writes the files of a lake through Hadoop, with the same credentials as its tables."""

import posixpath
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

from jobs.lake.local_files import LocalFiles
from models.errors import WinnowError

_WHOLE_PUTS = ("s3a", "s3n", "s3", "gs", "oss", "cosn", "obs")
"""Stores that show a new file only when it is complete, and the old one until then."""

_CREATE_IF_NONE = "fs.option.create.conditional.overwrite"
"""Makes the S3 connector create a file only if none has its name; other connectors ignore it, and check it anyway."""


class LakeFiles:
    """The files and folders below one address.

    Args:
        session: Returns the session, whose Hadoop configuration has the credentials; not called for a known `folder`,
            except to delete folders and to sum up sizes.
        uri: The folder. A relative path starts at the working directory.
        folder: The same folder, if the caller knows that it is on this machine's disk; if None, Hadoop tells.
    """

    def __init__(self, session: Callable[[], SparkSession], uri: str, folder: Path | None = None) -> None:
        self._session = session
        self._uri = uri
        self._folder = folder

    def path(self, name: str) -> str:
        """Returns the address of a file or folder."""
        return posixpath.join(self._uri, name)

    @property
    def address(self) -> str:
        """The absolute address of the folder: `file:/data/lake`, `s3a://bucket/lake`."""
        return self.local.address if self.local else self._qualified("").toString()

    @cached_property
    def local(self) -> LocalFiles | None:
        """The same files, read and written without the JVM, if they lie on this machine's disk; else None."""
        if self._folder is not None:
            return LocalFiles(self._folder)
        uri = self._qualified("").toUri()
        return LocalFiles(Path(uri.getPath())) if uri.getScheme() == "file" else None

    def kind(self, name: str = "") -> str | None:
        """Returns `file`, `folder`, or None if nothing exists there."""
        if self.local:
            return self.local.kind(name)
        filesystem, path = self._hadoop(name)
        if not filesystem.exists(path):
            return None
        return "folder" if filesystem.getFileStatus(path).isDirectory() else "file"

    def exists(self, name: str) -> bool:
        """Returns whether a file or folder of that name exists."""
        if self.local:
            return self.local.kind(name) is not None
        filesystem, path = self._hadoop(name)
        return bool(filesystem.exists(path))

    def names(self, name: str = "") -> Iterator[str]:
        """Yields the names in a folder, in no order; none if the folder does not exist."""
        if self.local:
            yield from self.local.names(name)
            return
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            entries = filesystem.listStatusIterator(path)
            while entries.hasNext():
                yield entries.next().getPath().getName()

    def modified(self, name: str) -> Iterator[tuple[str, int]]:
        """Yields the names in a folder, each with the time of its last change, in ms since 1970."""
        if self.local:
            yield from self.local.modified(name)
            return
        filesystem, path = self._hadoop(name)
        if filesystem.exists(path):
            entries = filesystem.listStatusIterator(path)
            while entries.hasNext():
                status = entries.next()
                yield status.getPath().getName(), int(status.getModificationTime())

    def below(self, name: str) -> Iterator[tuple[str, int, int]]:
        """Yields the files in a folder and below it: path below the folder, bytes, time of the last change (ms)."""
        filesystem, folder = self._hadoop(name)
        if not filesystem.exists(folder):
            return
        start = len(filesystem.makeQualified(folder).toString().rstrip("/")) + 1
        files = filesystem.listFiles(folder, True)
        while files.hasNext():
            status = files.next()
            yield status.getPath().toString()[start:], int(status.getLen()), int(status.getModificationTime())

    def size(self, name: str) -> int:
        """Returns the bytes of all files in a folder and below it."""
        system, path = self._hadoop(name)
        return int(system.getContentSummary(path).getLength())

    def lines(self, name: str) -> Iterator[str]:
        """Yields the lines of a UTF-8 text file. It reads no further than the caller does."""
        if self.local:
            yield from self.local.lines(name)
            return
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
        if self.local:
            try:
                return self.local.read(name)
            except OSError as error:
                raise WinnowError(f"{self.path(name)} cannot be read: {error.strerror}") from error
        filesystem, path = self._hadoop(name)
        try:
            stream = filesystem.open(path)
        except Py4JJavaError as error:
            raise WinnowError(f"{self.path(name)} cannot be read: {error.java_exception.getMessage()}") from error
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
        finally:
            stream.close()

    def write(self, name: str, data: bytes) -> None:
        """Writes a file atomically: readers see the old file or the new one, also after a crash.

        HDFS and the local disk replace a file by one rename. Object stores show a file once it is complete. If a
        connector can do neither, Hadoop deletes the old file just before it renames the new one.
        """
        if self.local:
            self.local.write(name, data)
            return
        path = self._qualified(name)
        if path.toUri().getScheme() in _WHOLE_PUTS:
            self._put(path, data)
        else:
            part = self._qualified(f"{name}.part")
            self._put(part, data)
            options = self._session().sparkContext._gateway.new_array(self._jvm.org.apache.hadoop.fs.Options.Rename, 1)
            options[0] = self._jvm.org.apache.hadoop.fs.Options.Rename.OVERWRITE
            context = self._jvm.org.apache.hadoop.fs.FileContext.getFileContext(path.toUri(), self._configuration)
            context.rename(part, path, options)

    def create(self, name: str, data: bytes) -> bool:
        """Creates a file if none of that name exists, atomically; returns whether it did.

        HDFS, Azure and Google's connector check it on their servers. For S3 this needs Hadoop 3.4.2 or later and a
        store with conditional writes. On HDFS the file is empty for a moment.
        """
        local = self.local
        if local:
            return local.create(name, data)
        filesystem, path = self._hadoop(name)
        builder = filesystem.createFile(path).overwrite(False).recursive().opt(_CREATE_IF_NONE, "true")
        try:
            stream = builder.build()
            stream.write(bytearray(data))
            stream.close()
        except Py4JJavaError:
            # Connectors raise different errors if another command was first, some only when the file is closed.
            if filesystem.exists(path) and self.read(name) != data:
                return False
            raise
        return True

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
        return self._session().sparkContext._jvm

    @property
    def _configuration(self) -> Any:
        return self._session().sparkContext._jsc.hadoopConfiguration()
