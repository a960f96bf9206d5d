"""Atomic replacement of a file on the local disk."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yields a temporary file to write; renames it to `file` when the block ends, unless an error occurs.

    The temporary file has a new name in the same folder, so it overwrites no other file.

    Args:
        file: The file to replace. If the block deletes the temporary file, `file` stays.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        if part.exists():
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)
