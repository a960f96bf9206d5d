"""Names of a lake in the user's own folders and in addresses of a page."""

import hashlib
from pathlib import Path


def folder_name(lake: str) -> str:
    """Returns the name of a lake's files in the user's folders; it does not depend on the working directory.

    Args:
        lake: Address of the lake.
    """
    return f"{Path(_absolute(lake)).name[:40]}-{lake_id(lake)}"


def lake_id(lake: str) -> str:
    """Returns an id of a lake that does not reveal its address."""
    return hashlib.sha256(_absolute(lake).encode()).hexdigest()[:12]


def _absolute(lake: str) -> str:
    return lake if "://" in lake else str(Path(lake.removeprefix("file:")).resolve())
