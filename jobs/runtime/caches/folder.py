"""The user's cache folder, for files that can be made again."""

import os
from pathlib import Path


def cache_folder(name: str) -> Path:
    """Returns the folder of one kind of cached files: below `XDG_CACHE_HOME` or `~/.cache`. It need not exist.

    Args:
        name: Name of the kind.

    Raises:
        RuntimeError: The user has no home folder.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "winnow" / name
