"""The recipe of a table: what it was made from, as stored in its commits."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypedDict


class Version(TypedDict):
    """The version of a table that was read.

    The number alone is not unique: a table that is deleted and written again counts from 0.

    Attributes:
        version: Delta's number of the version.
        id: Delta's id of the table; None if an earlier version of Winnow did not store it.
    """

    version: int
    id: str | None


@dataclass(frozen=True)
class Recipe:
    """What a table was made from. It is in the table's own commit, so that data and provenance stay together.

    Attributes:
        command: The command that made it.
        inputs: Version of each table it read, by name; None for a table that did not exist.
        settings: Every setting (and model digest) that its rows depend on; JSON values only.
        result: The summary that the command shows again when it is skipped. It does not count in comparisons.
    """

    command: str
    inputs: Mapping[str, Version | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Returns the recipe as one line of JSON with sorted keys."""
        parts = {"command": self.command, "inputs": dict(self.inputs), "settings": dict(self.settings)}
        return json.dumps({**parts, "result": dict(self.result)}, sort_keys=True)

    def with_result(self, result: Mapping[str, Any]) -> "Recipe":
        """Returns the recipe with the command's result."""
        return replace(self, result=result)

    def makes_the_same(self, other: "Recipe | None") -> bool:
        """Returns whether both recipes make the same rows: same command, inputs and settings."""
        if other is None:
            return False
        mine, theirs = (json.loads(r.to_json()) for r in (self, other))
        return all(mine[k] == theirs[k] for k in ("command", "inputs", "settings"))


@dataclass(frozen=True)
class Commit:
    """One version of a table.

    Attributes:
        version: Delta's number of the version.
        written_at: Time of the commit, in UTC.
        recipe: Its recipe; None if another program wrote it.
        seconds: Time from the command's start to this commit; None if the start is not stored.
    """

    version: int
    written_at: datetime
    recipe: Recipe | None
    seconds: float | None = None


def is_as_noted(noted: Version | None, present: Version | None) -> bool:
    """Returns whether a table is still at the version that a recipe noted."""
    if noted is None or present is None:
        return noted is present
    # An earlier version of Winnow stored only the number.
    return noted["version"] == present["version"] and noted["id"] in (None, present["id"])


# Parts of the names that earlier versions of Winnow gave to results, and what they are called now.
_RENAMED = {
    "largest distance, unseen": "largest distance, without comparing thumbnails",
    "largest distance, looked at": "largest distance, if thumbnails agree",
    "ranking of the random labels": "ranking of the labels of the random sample",
    "random positives": "positives of the random sample",
    "random negatives": "negatives of the random sample",
}


def _renamed(result: Mapping[str, Any]) -> dict[str, Any]:
    named = {}
    for name, value in result.items():
        for old, new in _RENAMED.items():
            name = name.replace(old, new)
        named[name] = value
    return named


def recipe_in(metadata: str | None) -> tuple[Recipe | None, int | None]:
    """Returns the recipe in a commit's metadata and its command's start, in ms since 1970; None if not Winnow's."""
    try:
        parts = json.loads(metadata or "")
    except ValueError:
        return None, None
    if not isinstance(parts, dict) or not {"command", "inputs", "settings"} <= parts.keys():
        return None, None
    parts.pop("seconds", None)  # An earlier version stored the duration instead of the start.
    began_ms = parts.pop("began_ms", None)
    # An earlier version stored only the numbers.
    inputs = {name: Version(version=v, id=None) if isinstance(v, int) else v for name, v in parts["inputs"].items()}
    parts["result"] = _renamed(parts.get("result", {}))
    return Recipe(**{**parts, "inputs": inputs}), began_ms
