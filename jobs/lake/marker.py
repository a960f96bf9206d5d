"""The file that marks a folder as a lake of Winnow's: what it says, and whether this Winnow may use such a lake."""

import json
from datetime import UTC, datetime

from jobs.runtime.version import VERSION
from models.errors import WinnowError

FILE = "_winnow_lake.json"
LAYOUT = 1
"""How folders and files lie in a lake; raised when an earlier Winnow could no longer use one safely."""


def written() -> bytes:
    """The marker of a lake that is made now."""
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"winnow": VERSION, "layout": LAYOUT, "created_at": created}).encode() + b"\n"


def check(marker: bytes, address: str) -> None:
    """Makes sure that this Winnow knows the layout of a lake.

    Args:
        marker: What the file says.
        address: Where the file lies.

    Raises:
        WinnowError: The layout is a later one, or the file is no marker.
    """
    try:
        told = json.loads(marker)
        layout, by = told["layout"], str(told["winnow"])
    except (ValueError, KeyError, TypeError):
        layout, by = None, ""
    if not isinstance(layout, int) or isinstance(layout, bool):
        raise WinnowError(
            f"{address} is no marker of a lake, which is JSON with 'winnow' and 'layout': restore it, or name the "
            "folder of another lake"
        )
    if layout > LAYOUT:
        raise WinnowError(
            f"{address} names layout {layout}, made by Winnow {by}, and this Winnow {VERSION} knows layouts up to "
            f"{LAYOUT}: use Winnow {by} or a later one for this lake"
        )
