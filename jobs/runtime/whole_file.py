"""A file on the local disk that is replaced whole or not at all."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A new file to write, which takes a name when the block ends; after an error the old file stays as it was.

    No file that is there already has the name of the new one, so nothing else is written over.

    Args:
        file: The name to take; if the block removes the new file, the old one stays.
    """
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        yield part
        if part.exists():
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)
