"""The folder of an export: a path or URI in which every file is complete or missing."""

import posixpath
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from typing import Any

from pyarrow import fs

from jobs.sources import files

_OF_SHARDS = r"\d{5,}(?:\.tar|\.parquet|\.sorted|_stats\.json)"
_OF_SET = r"README\.md|croissant\.json|subset\.npy|winnow(?:\.started)?\.json"
PART = re.compile(rf"(?P<whole>{_OF_SHARDS}|{_OF_SET})\.[0-9a-f]{{8}}\.part")
"""The name of an export file while it is written; files of the user may have the same ending."""


class Output:
    """A file being written, with its size and digest.

    Args:
        stream: The stream to write to.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Writes bytes; returns their number."""
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """Returns the number of bytes written."""
        return self.size

    def flush(self) -> None:
        """Does nothing: the file counts only when it is complete."""

    @property
    def closed(self) -> bool:
        """Whether the stream is closed."""
        return bool(self._stream.closed)

    @property
    def sha256(self) -> str:
        """The SHA-256 digest of the written bytes, in hexadecimal."""
        return self._digest.hexdigest()


class Folder:
    """A folder on any file system that `jobs.sources.files` supports; on a cluster, all workers must share it.

    Args:
        uri: A path or URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = files.absolute(uri)

    def names(self) -> list[str]:
        """Returns the sorted names of its files and folders; empty if it does not exist."""
        filesystem, inner = files.filesystem_of(self.uri)
        found = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def make(self) -> None:
        """Makes the folder and its parents."""
        filesystem, inner = files.filesystem_of(self.uri)
        filesystem.create_dir(inner, recursive=True)

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file."""
        return files.read(posixpath.join(self.uri, name))

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """Opens a file for reading."""
        filesystem, inner = files.filesystem_of(self.uri)
        with filesystem.open_input_stream(posixpath.join(inner, name)) as stream:
            yield stream

    @contextmanager
    def created(self, name: str) -> Iterator[Output]:
        """Opens a new file, which gets its name only when it is complete; two tasks may write the same file."""
        filesystem, inner = files.filesystem_of(self.uri)
        part = posixpath.join(inner, f"{name}.{uuid.uuid4().hex[:8]}.part")
        with filesystem.open_output_stream(part) as stream:
            output = Output(stream)
            yield output
        filesystem.move(part, posixpath.join(inner, name))

    def write(self, name: str, data: bytes) -> None:
        """Writes a small file."""
        with self.created(name) as output:
            output.write(data)

    def delete(self, name: str) -> None:
        """Deletes a file."""
        filesystem, inner = files.filesystem_of(self.uri)
        filesystem.delete_file(posixpath.join(inner, name))

    def delete_parts(self) -> None:
        """Deletes the partial files of killed tasks."""
        for name in self.names():
            if PART.fullmatch(name):
                self.delete(name)
