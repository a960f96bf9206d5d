"""Access to files by path or URI, on the driver and in Spark tasks.

Local paths are opened directly, so on a cluster they must be on a shared disk. Other URIs (`s3a:` or `s3:`, `gs:`,
`hdfs:`, `abfss:`) use pyarrow.fs, which takes credentials from the environment or the instance role, not from Hadoop's
configuration.
"""

import errno
import os
import posixpath
import re
import shutil
import stat
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote

import pyarrow as pa
from pyarrow import fs

from models.errors import WinnowError

# A name such as `a:b.tar` has no scheme.
_SCHEME = re.compile(r"^(file(?=:)|[a-zA-Z][a-zA-Z0-9+.-]*(?=:/)):")
_WEB = ("http", "https", "ftp")
_GZIP_START = b"\x1f\x8b"
_GZIP = 31  # zlib's window size, 15, plus 16 for the gzip header
_GLOB = re.compile(r"[*?\[]")
_FILE_ERRORS = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL,
    errno.EFBIG,
}  # fmt: skip
# A gzip file can unpack to a thousand times its size, but one with images unpacks to little more than its size.
_UNPACKED_FREE, _UNPACKED_TIMES = 1 << 30, 100


@dataclass(frozen=True)
class FileEntry:
    """A file in a folder.

    Attributes:
        name: Name without the folder.
        size: Size in bytes.
        modified: Time of the last change, in nanoseconds since 1970.
    """

    name: str
    size: int
    modified: int


def absolute(path: str) -> str:
    """Returns a path in the form that tables store: absolute and without `file:` if local, else unchanged.

    Examples:
        >>> absolute("file:///data/photos/")
        '/data/photos'
        >>> absolute("s3a://bucket/photos/")
        's3a://bucket/photos'
    """
    if is_local(path):
        return str(Path(re.sub(r"^file:(//(?=/))?", "", path)).absolute())
    return path.rstrip("/")


def of_spark(address: str) -> str:
    """Returns the path of a file as `absolute` does, given its address in Spark's hidden column `_metadata.file_path`.

    Examples:
        >>> of_spark("file:///data/a%20lake/a.parquet")
        '/data/a lake/a.parquet'
    """
    return absolute(unquote(address))


def is_local(path: str) -> bool:
    """Returns whether a path is on the local file system.

    Examples:
        >>> is_local("photos/a:b.tar"), is_local("a:b.tar"), is_local("file:a.tar"), is_local("hdfs:/a.tar")
        (True, True, True, False)
    """
    scheme = _SCHEME.match(path)
    return scheme is None or scheme[1] == "file"


def spark_path(path: str) -> str:
    """Returns the path for Spark, whose default file system may not be the local one.

    Examples:
        >>> spark_path("/data/photos")
        'file:///data/photos'
    """
    return f"file://{path}" if is_local(path) else path


def kind(path: str) -> str | None:
    """Returns `file`, `folder`, or None if the path does not exist."""
    filesystem, inner = filesystem_of(path)
    info = filesystem.get_file_info(inner)
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(info.type)


def entry(path: str) -> FileEntry:
    """Returns the name, size and time of one file."""
    filesystem, inner = filesystem_of(path)
    info = filesystem.get_file_info(inner)
    return FileEntry(posixpath.basename(path), int(info.size or 0), int(info.mtime_ns or 0))


def expand(path: str) -> list[str]:
    """Returns the sorted paths that match a pattern with `*`, `?` or `[…]`; the path itself if it exists or has none.

    On file systems other than the local one, only the last part may be a pattern.
    """
    if not _GLOB.search(path) or kind(path):
        return [path]
    if is_local(path):
        return sorted(str(found) for found in Path("/").glob(path.lstrip("/")))
    folder, pattern = posixpath.split(path)
    names = [name for name, _ in _list(folder)]
    return sorted(posixpath.join(folder, name) for name in names if fnmatchcase(name, pattern))


def walk(root: str) -> Iterator[tuple[str, list[FileEntry]]]:
    """Yields every folder below a root with its files, sorted by name; skips names that begin with a dot.

    Args:
        root: A folder.

    Returns:
        The path relative to the root ('' for the root), and the files. Only one folder is in memory at a time.
    """
    yield from _walk(root, "", (), set())


@contextmanager
def opened(path: str, faults: list[str] | None = None) -> Iterator[IO[bytes]]:
    """Opens a file for random access; copies a gzip or remote file to a temporary file first.

    Gzip is recognised by the first bytes, whatever the name says.

    Args:
        path: The file.
        faults: Gets what is wrong with a gzip file that was unpacked only in part.
    """
    with _stream(path) as stream:
        start = bytes(stream.read(len(_GZIP_START)))
        if is_local(path) and start != _GZIP_START:
            stream.seek(0)
            yield stream
            return
        with tempfile.TemporaryFile() as copy:
            if start == _GZIP_START:
                fault = _unpack(start, stream, copy)
                if fault and faults is not None:
                    faults.append(fault)
            else:
                copy.write(start)
                shutil.copyfileobj(stream, copy, 1 << 20)
            copy.seek(0)
            yield copy


def random_access(path: str) -> Any:
    """Opens a local or remote file for random access; transfers only the bytes that are read.

    Raises:
        OSError: The file cannot be opened, or is a pipe or a device, which would wait for a writer.
    """
    if is_local(path):
        os.close(_open_regular(path))
    filesystem, inner = filesystem_of(path)
    return filesystem.open_input_file(inner)


def is_file_error(path: str, error: OSError) -> bool:
    """Returns whether an error is caused by the file itself, so that its rows go to quarantine.

    A full disk, a broken network or a hanging mount may be temporary: then the task must fail, because otherwise the
    source would count as read. A local error without a number is about the content of the file, not about reading it.

    Examples:
        >>> is_file_error("/a.jpg", OSError(errno.EACCES, "")), is_file_error("/a.jpg", OSError(errno.ESTALE, ""))
        (True, False)
        >>> is_file_error("s3a://bucket/a.jpg", OSError("no connection"))
        False
    """
    if is_local(path):
        return error.errno is None or error.errno in _FILE_ERRORS
    return isinstance(error, FileNotFoundError | PermissionError)


def read(path: str, most: int | None = None) -> bytes:
    """Returns the bytes of a file.

    Raises:
        OSError: The file has more than `most` bytes, or the path is a pipe or a device.
    """
    with _stream(path) if is_local(path) else random_access(path) as file:
        size = os.fstat(file.fileno()).st_size if is_local(path) else file.size()
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, the limit is {most}", path)
        return bytes(file.read())


def _unpack(start: bytes, stream: Any, copy: IO[bytes]) -> str | None:
    """Unpacks gzip as far as possible; returns what is wrong with it, because the result may look like a whole tar."""
    unpacker, room, is_inside = zlib.decompressobj(_GZIP), _UNPACKED_FREE, True
    while chunk := start + stream.read(1 << 16):
        start = b""
        room += _UNPACKED_TIMES * len(chunk)
        while chunk := chunk if is_inside else chunk.lstrip(b"\0"):  # zeros may fill the last block
            try:
                room -= copy.write(unpacker.decompress(chunk))
            except zlib.error as error:
                return f"its gzip data are damaged ({error})"
            if room < 0:
                return f"its gzip data unpack to over {_UNPACKED_TIMES} times their size"
            chunk, is_inside = unpacker.unused_data, not unpacker.eof
            if unpacker.eof:  # a gzip file may consist of several streams
                unpacker = zlib.decompressobj(_GZIP)
    return "its gzip data end too early" if is_inside else None


def _stream(path: str) -> Any:
    if is_local(path):
        return os.fdopen(_open_regular(path), "rb")
    filesystem, inner = filesystem_of(path)
    return filesystem.open_input_stream(inner)


def _open_regular(path: str) -> int:
    # O_NONBLOCK: opening a pipe would wait for a writer.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "neither a file nor a link to one", path)
    return number


def filesystem_of(path: str) -> tuple[fs.FileSystem, str]:
    """Returns the file system of a path, and the path in the form of that file system.

    Raises:
        WinnowError: The scheme of the URI is not one that pyarrow reads.
    """
    if is_local(path):
        return fs.LocalFileSystem(), path
    scheme, _, rest = path.partition("://")
    host, _, inner = rest.partition("/")
    # Parse only the host as a URI: the parser fails on spaces and percent signs in file names.
    try:
        filesystem, base = fs.FileSystem.from_uri(f"{ {'s3a': 's3', 's3n': 's3'}.get(scheme, scheme) }://{host}/")
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if scheme.lower() in _WEB:
            raise WinnowError(
                f"{path} is a web address, which is not read: download the files first, for example with img2dataset"
            ) from error
        raise WinnowError(f"{path} cannot be read: {error}") from error
    return filesystem, posixpath.join(base, inner)


def _walk(root: str, folder: str, above: tuple[str, ...], linked: set[str]) -> Iterator[tuple[str, list[FileEntry]]]:
    here = posixpath.join(root, folder) if folder else root
    if is_local(root):
        real = os.path.realpath(here)
        if real in above:  # a link back to a folder above
            return
        above = (*above, real)
        if Path(here).is_symlink():
            if real in linked:  # otherwise folders that link to each other give exponentially many paths
                return
            linked.add(real)
    listed = sorted((name, found) for name, found in _list(here) if not name.startswith("."))
    yield folder, [found for _, found in listed if found is not None]
    for name, found in listed:
        if found is None:
            yield from _walk(root, posixpath.join(folder, name), above, linked)


def _list(folder: str) -> Iterator[tuple[str, FileEntry | None]]:
    """Yields the names in a folder with their entries; None for a subfolder."""
    if is_local(folder):
        with os.scandir(folder) as found:
            for item in found:
                yield item.name, None if _is_folder(item) else _local_entry(item)
        return
    filesystem, inner = filesystem_of(folder)
    for info in filesystem.get_file_info(fs.FileSelector(inner)):
        name = info.base_name
        yield name, None if info.type == fs.FileType.Directory else FileEntry(name, info.size or 0, info.mtime_ns or 0)


def _is_folder(item: "os.DirEntry[str]") -> bool:
    try:
        return item.is_dir()
    except OSError:  # a link to itself: reading it gives the error
        return False


def _local_entry(item: "os.DirEntry[str]") -> FileEntry:
    try:
        found = item.stat()
    except OSError:  # a broken link: reading it gives the error
        return FileEntry(item.name, 0, 0)
    return FileEntry(item.name, found.st_size, found.st_mtime_ns)
