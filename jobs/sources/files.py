"""Files by path or URI, on the driver and in Spark's tasks alike.

Local paths are opened as they are, so on a cluster they must be on a disk that all workers share. Other URIs go through
pyarrow.fs (`s3a:` or `s3:`, `gs:`, `hdfs:`, `abfss:`), which finds credentials where the vendor's own tools do
(environment, instance role), not in Hadoop's configuration.
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

from pyarrow import fs

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):")
_GZIP = 31  # zlib's window size, 15, plus 16 for the gzip header
_GLOB = re.compile(r"[*?\[]")
_OF_A_FILE = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL,
    errno.EFBIG,
}  # fmt: skip
# A gzip file may unpack to a thousand times its size: what holds pictures unpacks to little more than itself.
_UNPACKED_FREE, _UNPACKED_TIMES = 1 << 30, 100


@dataclass(frozen=True)
class FileEntry:
    """A file in a folder.

    Attributes:
        name: Without its folder.
        size: Bytes.
        modified: Nanoseconds since 1970.
    """

    name: str
    size: int
    modified: int


def absolute(path: str) -> str:
    """A path in the form in which tables keep it: local ones absolute and without `file:`, others as they are.

    Examples:
        >>> absolute("file:///data/photos/")
        '/data/photos'
        >>> absolute("s3a://bucket/photos/")
        's3a://bucket/photos'
    """
    if is_local(path):
        return str(Path(re.sub(r"^file:(//(?=/))?", "", path)).absolute())
    return path.rstrip("/")


def is_local(path: str) -> bool:
    """Whether a path is on this machine's own file system."""
    scheme = _SCHEME.match(path)
    return scheme is None or scheme[1] == "file"


def spark_path(path: str) -> str:
    """The path as Spark reads it, whose default file system need not be the local one.

    Examples:
        >>> spark_path("/data/photos")
        'file:///data/photos'
    """
    return f"file://{path}" if is_local(path) else path


def kind(path: str) -> str | None:
    """`file`, `folder`, or None when there is nothing."""
    filesystem, inner = filesystem_of(path)
    info = filesystem.get_file_info(inner)
    return {fs.FileType.File: "file", fs.FileType.Directory: "folder"}.get(info.type)


def entry(path: str) -> FileEntry:
    """Size and time of one file."""
    filesystem, inner = filesystem_of(path)
    info = filesystem.get_file_info(inner)
    return FileEntry(posixpath.basename(path), int(info.size or 0), int(info.mtime_ns or 0))


def expand(path: str) -> list[str]:
    """What a path with `*`, `?` or `[…]` stands for, sorted; the path itself when it has none or is a real name.

    Only the last part may hold such signs on other file systems than the local one.
    """
    if not _GLOB.search(path) or kind(path):
        return [path]
    if is_local(path):
        return sorted(str(found) for found in Path("/").glob(path.lstrip("/")))
    folder, pattern = posixpath.split(path)
    names = [name for name, _ in _list(folder)]
    return sorted(posixpath.join(folder, name) for name in names if fnmatchcase(name, pattern))


def walk(root: str) -> Iterator[tuple[str, list[FileEntry]]]:
    """Every folder below a root with its files, sorted by name; names that begin with a dot are left out.

    Args:
        root: A folder.

    Returns:
        The folder's path relative to the root ('' for itself), and its files. One folder is held in memory at a time.
    """
    yield from _walk(root, "", (), set())


@contextmanager
def opened(path: str) -> Iterator[IO[bytes]]:
    """A file open for reading at any place; what is compressed or not local is first copied to a temporary file."""
    if is_local(path) and not path.endswith(("gz", "tgz")):
        with _stream(path) as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        with _stream(path) as stream:
            _unpack(stream, copy) if path.endswith(("gz", "tgz")) else shutil.copyfileobj(stream, copy, 1 << 20)
        copy.seek(0)
        yield copy


def random_access(path: str) -> Any:
    """A file open for reading at any place, wherever it is; only what is read travels."""
    filesystem, inner = filesystem_of(path)
    return filesystem.open_input_file(inner)


def is_of_file(path: str, error: OSError) -> bool:
    """Whether an error lies in the file and costs its rows.

    A full disk, a lost network or a mounted share that hangs may pass: the task must fail then, or the source would be
    taken for read. An error without a number is one of what the bytes mean, not of reading them.

    Examples:
        >>> is_of_file("/data/a.jpg", OSError(errno.EACCES, "")), is_of_file("/data/a.jpg", OSError(errno.ESTALE, ""))
        (True, False)
        >>> is_of_file("s3a://bucket/a.jpg", OSError("no connection"))
        False
    """
    if is_local(path):
        return error.errno is None or error.errno in _OF_A_FILE
    return isinstance(error, FileNotFoundError | PermissionError)


def read(path: str, most: int | None = None) -> bytes:
    """The bytes of a file.

    Raises:
        OSError: They are more than `most`, or it is no file but a pipe or a device.
    """
    with _stream(path) if is_local(path) else random_access(path) as file:
        size = os.fstat(file.fileno()).st_size if is_local(path) else file.size()
        if most is not None and size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, the limit is {most}", path)
        return bytes(file.read())


def _unpack(stream: Any, copy: IO[bytes]) -> None:
    """Unpacks gzip as far as it goes; in a cut or damaged file the archive's own end is then found missing."""
    unpacker, room = zlib.decompressobj(_GZIP), _UNPACKED_FREE
    while chunk := stream.read(1 << 16):
        room += _UNPACKED_TIMES * len(chunk)
        while chunk:
            try:
                room -= copy.write(unpacker.decompress(chunk))
            except zlib.error:
                return
            if room < 0:
                return
            chunk = unpacker.unused_data
            if unpacker.eof:  # files packed in pieces hold one stream after the other
                unpacker = zlib.decompressobj(_GZIP)


def _stream(path: str) -> Any:
    if is_local(path):
        return os.fdopen(_open_regular(path), "rb")
    filesystem, inner = filesystem_of(path)
    return filesystem.open_input_stream(inner)


def _open_regular(path: str) -> int:
    # Without waiting: a pipe would not open before somebody writes to it.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise OSError(errno.EINVAL, "neither a file nor a link to one", path)
    return number


def filesystem_of(path: str) -> tuple[fs.FileSystem, str]:
    """The file system that a path is on, and the path as that file system writes it."""
    if is_local(path):
        return fs.LocalFileSystem(), path
    scheme, _, rest = path.partition("://")
    host, _, inner = rest.partition("/")
    # Only the host goes through the URI parser, which would trip over spaces and percent signs in file names.
    filesystem, base = fs.FileSystem.from_uri(f"{ {'s3a': 's3', 's3n': 's3'}.get(scheme, scheme) }://{host}/")
    return filesystem, posixpath.join(base, inner)


def _walk(root: str, folder: str, above: tuple[str, ...], linked: set[str]) -> Iterator[tuple[str, list[FileEntry]]]:
    here = posixpath.join(root, folder) if folder else root
    if is_local(root):
        real = os.path.realpath(here)
        if real in above:  # a link back to a folder above
            return
        above = (*above, real)
        if Path(here).is_symlink():
            if real in linked:  # else the ways through folders of links to each other double with each
                return
            linked.add(real)
    listed = sorted((name, found) for name, found in _list(here) if not name.startswith("."))
    yield folder, [found for _, found in listed if found is not None]
    for name, found in listed:
        if found is None:
            yield from _walk(root, posixpath.join(folder, name), above, linked)


def _list(folder: str) -> Iterator[tuple[str, FileEntry | None]]:
    """Names in a folder; None stands for a sub-folder."""
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
    except OSError:  # a link to itself: reading it will say so
        return False


def _local_entry(item: "os.DirEntry[str]") -> FileEntry:
    try:
        found = item.stat()
    except OSError:  # a link to nothing: reading it will say so
        return FileEntry(item.name, 0, 0)
    return FileEntry(item.name, found.st_size, found.st_mtime_ns)
