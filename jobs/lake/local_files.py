"""Reads and writes files below a folder on this machine's disk, without the JVM."""

import os
from collections.abc import Iterator
from pathlib import Path

from jobs.runtime.whole_file import replacing


class LocalFiles:
    """The files below one folder of the local disk.

    Args:
        folder: The folder. It need not exist.

    Attributes:
        address: The absolute address of the folder, as Hadoop writes it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.address = f"file:{os.path.abspath(folder)}"  # noqa: PTH100 - `resolve` follows links

    def names(self, name: str = "") -> Iterator[str]:
        """Yields the names in a folder, in no order; none if the folder does not exist or is below a file."""
        try:
            yield from (entry.name for entry in (self._folder / name).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return

    def path(self, name: str) -> Path:
        """Returns the path of a file or folder."""
        return self._folder / name

    def kind(self, name: str) -> str | None:
        """Returns `file`, `folder`, or None if nothing exists there."""
        path = self._folder / name
        return "folder" if path.is_dir() else "file" if path.exists() else None

    def modified(self, name: str) -> Iterator[tuple[str, int]]:
        """Yields the names in a folder, each with the time of its last change, in ms since 1970."""
        for entry in self.names(name):
            try:
                yield entry, (self._folder / name / entry).stat().st_mtime_ns // 1_000_000
            except FileNotFoundError:  # another command has deleted it
                continue

    def lines(self, name: str) -> Iterator[str]:
        """Yields the lines of a UTF-8 text file. It reads no further than the caller does."""
        with (self._folder / name).open(encoding="utf-8", newline="\n") as text:
            yield from text

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file.

        Raises:
            OSError: The file cannot be read.
        """
        return (self._folder / name).read_bytes()

    def create(self, name: str, data: bytes) -> bool:
        """Creates a file if none of that name exists, atomically; returns whether it did. Nobody sees a part of it."""
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            _write_through(part, data)
            try:
                os.link(part, file)
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                return _created_in_place(file, data)
            finally:
                part.unlink()  # so that it replaces nothing
        return True

    def write(self, name: str, data: bytes) -> None:
        """Writes a file atomically: readers see the old file or the new one, also after a crash."""
        file = self._folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as part:
            _write_through(part, data)
            # Hadoop would check the new file against the old checksum and fail. It checks nothing without a checksum.
            file.with_name(f".{file.name}.crc").unlink(missing_ok=True)

    def delete(self, name: str) -> None:
        """Deletes a file, if it exists."""
        (self._folder / name).unlink(missing_ok=True)


def _created_in_place(file: Path, data: bytes) -> bool:
    try:
        with file.open("xb") as out:
            out.write(data)
    except FileExistsError:
        return False
    return True


def _write_through(file: Path, data: bytes) -> None:
    """Writes a file and waits until it is on the disk."""
    with file.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
