"""What a table was made from, as its own commits tell it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, TypedDict


class Version(TypedDict):
    """Which rows of a table were read.

    A version's number alone does not say it: a table that was removed and written anew counts from 0 again.

    Attributes:
        version: Delta's number of it.
        id: Delta's id of the table; None where an earlier version of Winnow did not note it.
    """

    version: int
    id: str | None


@dataclass(frozen=True)
class Recipe:
    """What a table was made from; kept in the table's own commit, so that data and provenance cannot part.

    Attributes:
        command: The command that made it.
        inputs: Version of each table it read, by name; None for a table that was not there.
        settings: Every setting (and model digest) that its rows depend on; JSON values only.
        result: What the command found out and reports again when it is skipped; not part of the identity.
    """

    command: str
    inputs: Mapping[str, Version | None] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The recipe as one line of JSON, keys sorted."""
        parts = {"command": self.command, "inputs": dict(self.inputs), "settings": dict(self.settings)}
        return json.dumps({**parts, "result": dict(self.result)}, sort_keys=True)

    def with_result(self, result: Mapping[str, Any]) -> "Recipe":
        """The same with what the command found out."""
        return replace(self, result=result)

    def makes_the_same(self, other: "Recipe | None") -> bool:
        """Whether both give the same rows: same command, inputs and settings."""
        if other is None:
            return False
        mine, theirs = (json.loads(r.to_json()) for r in (self, other))
        return all(mine[k] == theirs[k] for k in ("command", "inputs", "settings"))


@dataclass(frozen=True)
class Commit:
    """One version of a table.

    Attributes:
        version: Delta's number of it.
        written_at: When it was committed, in UTC.
        recipe: How it was made; None when something other than Winnow wrote it.
        seconds: From the command's start to this commit; None where it was not noted.
    """

    version: int
    written_at: datetime
    recipe: Recipe | None
    seconds: float | None = None


def is_as_noted(noted: Version | None, present: Version | None) -> bool:
    """Whether a table is at the version that a recipe noted."""
    if noted is None or present is None:
        return noted is present
    # An earlier version of Winnow noted the number alone.
    return noted["version"] == present["version"] and noted["id"] in (None, present["id"])


def recipe_in(metadata: str | None) -> tuple[Recipe | None, int | None]:
    """The recipe in a commit's metadata, and when its command began, in ms since 1970; None if it is not Winnow's."""
    try:
        parts = json.loads(metadata or "")
    except ValueError:
        return None, None
    if not isinstance(parts, dict) or not {"command", "inputs", "settings"} <= parts.keys():
        return None, None
    parts.pop("seconds", None)  # An earlier version said how long a command had taken before it wrote.
    began_ms = parts.pop("began_ms", None)
    # An earlier version noted numbers alone.
    read = {name: Version(version=of, id=None) if isinstance(of, int) else of for name, of in parts["inputs"].items()}
    return Recipe(**{**parts, "inputs": read}), began_ms
