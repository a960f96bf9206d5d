"""The file that marks a folder as a lake, and the check that this version of Winnow can use the lake."""

import json
from datetime import UTC, datetime

from jobs.runtime.version import VERSION
from models.errors import WinnowError

FILE = "_winnow_lake.json"
LAYOUT = 1
"""Version of the layout of a lake's files. It rises when earlier versions of Winnow can no longer use a lake safely."""


def written() -> bytes:
    """Returns the contents of the marker for a lake that is created now."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"winnow": VERSION, "layout": LAYOUT, "created_at": created}).encode() + b"\n"


def check(marker: bytes, address: str) -> None:
    """Checks that this version of Winnow knows the layout of a lake.

    Args:
        marker: The contents of the file.
        address: The address of the file.

    Raises:
        WinnowError: The layout is a later one, or the file is not a marker.
    """
    try:
        content = json.loads(marker)
        layout, by = content["layout"], str(content["winnow"])
    except (ValueError, KeyError, TypeError):
        layout, by = None, ""
    if not isinstance(layout, int) or isinstance(layout, bool):
        raise WinnowError(
            f"{address} is not a valid lake marker (JSON with 'winnow' and 'layout'): restore the file, or name "
            "another --lake"
        )
    if layout > LAYOUT:
        raise WinnowError(
            f"{address} has layout {layout}, written by Winnow {by}; this Winnow {VERSION} supports layouts up to "
            f"{LAYOUT}: use Winnow {by} or later for this lake"
        )
