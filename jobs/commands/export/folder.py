"""The folder that is exported to: a path or URI, in which every file is whole or not there."""

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
"""How a file of an export is named while it is written; a file of the user's may end in the same way."""


class Output:
    """A file being written, which counts and digests what passes.

    Args:
        stream: Where the bytes go.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._digest = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Writes bytes; returns how many."""
        self._stream.write(data)
        self._digest.update(data)
        self.size += len(data)
        return len(data)

    def tell(self) -> int:
        """The number of bytes written."""
        return self.size

    def flush(self) -> None:
        """Nothing: what counts is the end of the file."""

    @property
    def closed(self) -> bool:
        """Whether no more can be written."""
        return bool(self._stream.closed)

    @property
    def sha256(self) -> str:
        """The digest of what was written, in hexadecimal digits."""
        return self._digest.hexdigest()


class Folder:
    """A folder on any file system that `jobs.sources.files` knows; on a cluster one that all workers share.

    Args:
        uri: A path or URI.
    """

    def __init__(self, uri: str) -> None:
        self.uri = files.absolute(uri)

    def names(self) -> list[str]:
        """Names of the files and folders in it, sorted; none when it is not there."""
        filesystem, inner = files.filesystem_of(self.uri)
        found = filesystem.get_file_info(fs.FileSelector(inner, allow_not_found=True))
        return sorted(info.base_name for info in found)

    def make(self) -> None:
        """Makes the folder, and those above it."""
        filesystem, inner = files.filesystem_of(self.uri)
        filesystem.create_dir(inner, recursive=True)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return files.read(posixpath.join(self.uri, name))

    @contextmanager
    def opened(self, name: str) -> Iterator[Any]:
        """A file open for reading from its start."""
        filesystem, inner = files.filesystem_of(self.uri)
        with filesystem.open_input_stream(posixpath.join(inner, name)) as stream:
            yield stream

    @contextmanager
    def created(self, name: str) -> Iterator[Output]:
        """A new file, which takes its name only when it is whole; two tasks may write the same one."""
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
        """Removes a file."""
        filesystem, inner = files.filesystem_of(self.uri)
        filesystem.delete_file(posixpath.join(inner, name))

    def delete_parts(self) -> None:
        """Removes what killed tasks left."""
        for name in self.names():
            if PART.fullmatch(name):
                self.delete(name)
