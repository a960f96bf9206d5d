"""Shows the settings: the value of each, its default, where it was set and what it means."""

import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import groupby
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from jobs.runtime import config, settings_reference, terminal
from jobs.runtime.addresses import names_secret, secret_in
from jobs.runtime.config import DEFAULT, Layer, Settings
from jobs.runtime.wording import did_you_mean
from models.errors import WinnowError
from models.inference.onnx_image_spec import ImageInput

_WIDTH, _INDENT = 80, "    # "
_SPARK_CONF = ("spark", "conf")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z\"`(])")
_NO_DEFAULT = object()


@dataclass(frozen=True)
class Entry:
    """One setting.

    Attributes:
        path: The parts of its name.
        value: Its value; None is off.
        default: Its default; a value of its own if it has none.
        origin: Where it was set, as in `Layer`.
    """

    path: tuple[str, ...]
    value: Any
    default: Any
    origin: str

    @property
    def name(self) -> str:
        """The name as `--set` takes it."""
        return ".".join(self.path)

    @property
    def changed(self) -> bool:
        """Whether the value is not the default."""
        return bool(self.value != self.default)


def run(layers: Sequence[Layer], names: Sequence[str], changed: bool) -> str:
    """Returns settings as TOML, each with a comment that says where it was set and what it means.

    What TOML cannot hold is a comment too: a setting that is off, and a value that may be a secret.

    Args:
        layers: The settings of each place, as `config.layers` returns them.
        names: Names of sections or settings to show; empty for all.
        changed: Whether to show only settings that differ from their defaults.

    Raises:
        SettingsError: A setting is wrong.
        WinnowError: There is no section or setting of such a name.
    """
    entries = _named(entries_of(layers), names)
    shown = [entry for entry in entries if entry.changed or not changed]
    if not shown:
        return "# these settings have their defaults\n"
    meanings = settings_reference.explanations(Settings.model_json_schema())
    groups = (list(group) for _, group in groupby(shown, key=lambda entry: entry.path[0]))
    return "\n".join(terminal.lines(line for entry in group for line in _lines(entry, meanings)) for group in groups)


def entries_of(layers: Sequence[Layer]) -> list[Entry]:
    """Returns all settings in the order of conf/winnow.toml.

    Args:
        layers: The settings of each place.

    Raises:
        SettingsError: A setting is wrong.
    """
    found = _leaves(config.validated(layers), config.load())
    return [Entry(path, value, default, _origin(path, layers)) for path, value, default in found]


def _named(entries: Sequence[Entry], names: Iterable[str]) -> Sequence[Entry]:
    """Returns the settings that have one of the names or are in a section of that name; all if no name is given."""
    wanted = set(names)
    for name in sorted(wanted):
        if not any(_is_in(entry, name) for entry in entries):
            known = [*(entry.name for entry in entries), *config.setting_names()]
            advice = did_you_mean(name, known) or ": `winnow settings` shows all"
            raise WinnowError(f"there is no setting or section {name!r}{advice}")
    return [entry for entry in entries if not wanted or any(_is_in(entry, name) for name in wanted)]


def _is_in(entry: Entry, name: str) -> bool:
    return f"{entry.name}.".startswith(f"{name}.")


def _leaves(value: Any, default: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yields the path, the value and the default of each setting; an empty table is a setting."""
    if isinstance(value, BaseModel | ImageInput):
        of_type = _defaults(type(value))
        known = {name: getattr(default, name) for name in of_type} if type(default) is type(value) else of_type
        for name in of_type:
            yield from _leaves(getattr(value, name), known[name], (*path, name))
    elif isinstance(value, dict) and value:
        for name, inner in value.items():
            inner_default = default.get(name, _NO_DEFAULT) if isinstance(default, dict) else _NO_DEFAULT
            yield from _leaves(inner, inner_default, (*path, name))
    else:
        yield path, value, default


def _defaults(kind: type[BaseModel | ImageInput]) -> dict[str, Any]:
    """Returns the names of the fields of a type with their defaults."""
    if issubclass(kind, BaseModel):
        found = {name: field.default for name, field in kind.model_fields.items()}
    else:
        found = {field.name: field.default for field in fields(kind)}
    return {name: _NO_DEFAULT if value in (MISSING, PydanticUndefined) else value for name, value in found.items()}


def _origin(path: Iterable[str], layers: Sequence[Layer]) -> str:
    """Returns where a setting was set last: the highest layer that has it or replaces a table around it."""
    for layer in reversed(layers):
        part: Any = layer.tree
        for name in path:
            if not isinstance(part, Mapping):
                return DEFAULT
            if name not in part:
                break
            part = part[name]
        else:
            return layer.origin
    return DEFAULT


def _lines(entry: Entry, meanings: Mapping[str, str]) -> Iterator[str]:
    """Yields the line of a setting, and the lines that say what it means."""
    hidden, off = _may_be_secret(entry), entry.value is None
    key = ".".join(name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in entry.path)
    value = "(hidden)" if hidden else _toml(entry.value)
    default = f"; default: {_toml(entry.default)}" if entry.changed and entry.default is not _NO_DEFAULT else ""
    yield f"{'# ' if hidden or off else ''}{key} = {value}  # {entry.origin}{default}"
    yield from textwrap.wrap(
        _meaning(entry.path, meanings), _WIDTH - 1, initial_indent=_INDENT, subsequent_indent=_INDENT
    )


def _toml(value: object) -> str:
    return "off" if value is None else json.dumps(value, ensure_ascii=False)


def _may_be_secret(entry: Entry) -> bool:
    """Returns whether a setting of Spark may be a password, key or token, or hold one, such as an option of Java."""
    if entry.path[:2] != _SPARK_CONF or len(entry.path) == len(_SPARK_CONF):
        return False
    value = str(entry.value)
    return names_secret(".".join(entry.path[2:])) or names_secret(value) or bool(secret_in(value))


def _meaning(path: tuple[str, ...], meanings: Mapping[str, str]) -> str:
    """Returns the first sentence of the comment on a setting, or of that on the table around it."""
    known = ("categories", "NAME", *path[2:]) if path[0] == "categories" else path
    texts = (meanings.get(".".join(name), "") for name in (known, known[:-1]))
    return _SENTENCE_END.split(next(filter(None, texts), ""), maxsplit=1)[0].removesuffix(".")
