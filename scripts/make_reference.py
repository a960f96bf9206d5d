"""Writes the reference pages docs/tables.md and docs/settings.md from the code; `--check` only compares them."""

import json
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jobs.lake.tables import ALL, Table
from jobs.runtime import settings_reference
from jobs.runtime.config import Settings
from jobs.runtime.settings_reference import Comment

ROOT = Path(__file__).resolve().parents[1]
_DEFAULTS = ROOT / "conf" / "winnow.toml"

_TABLES_INTRO = """\
# Tables
<!-- `make docs` writes this page from jobs/lake/tables.py. Do not edit it here. -->
A lake is a folder of Delta tables, with one sub-folder for each table. `--lake` names the folder. Read it from Python:

```python
from winnow import open_lake

lake = open_lake("/data/lake")
lake.tables  # the tables that exist, with their meaning
lake.pandas("thresholds")  # a table as a pandas DataFrame
lake.spark("images")  # a table as a Spark DataFrame
```

Any program that reads Delta can read the tables too. The descriptions below are also the comments of the columns in
Delta: ``DESCRIBE TABLE delta.`/data/lake/images` `` shows them. A table that an earlier version of Winnow wrote has no
comments until a command replaces it; appends do not add them.

`image_id` joins the tables. A column is not null unless its description says so. The [glossary](glossary.md) explains
the terms.
"""

_SETTINGS_INTRO = """\
# Settings
<!-- `make docs` writes this page from jobs/runtime/config.py, conf/ and models/inference/. Do not edit it here. -->
Give settings in a TOML file, below the name of their section:

```toml
# mine.toml
[dedup]
max_distance = 24
```

    winnow run /data/pictures --lake /data/lake --conf mine.toml
    winnow dedup --lake /data/lake --set dedup.max_distance=24

`--set` overrides the files, and a later file overrides an earlier one. Every other setting keeps its default. Winnow
checks all settings before work begins, and reports all faults at once. In the column *default*, *off* means that the
setting has no value until you give it one, and *required* means that you must give it a value.

`winnow settings` shows the value of every setting and where it was set; it takes the same options as other commands.
`winnow settings dedup --conf mine.toml` shows one section. `winnow settings --changed` shows only what differs from the
defaults. The output is TOML: `winnow settings --changed … > mine.toml` writes a settings file.

A file of `--conf` may set Spark's memory, cores, sizes, timeouts and other settings that load no code. Winnow stops at
any other setting of Spark, and at a `spark.master` other than `local`, `local[…]` or `yarn`, because somebody else may
have written the file ([decision 0020](decisions/0020-settings-files-load-no-code.md)). Give such a setting with
`--set`, or add `--trust-conf` if you trust all files that you name.
"""

_MODELS_INTRO = """\
## ONNX models
The fields of the tables `[encoder.model]`, `[semantic.model]` and `[categories.NAME.model]`, which describe your own
model. There are examples of [a classifier](filtering.md#your-own-classifier) and of [encoders](encoders.md).
"""

_SETTING_HEAD = ("setting", "type and limits", "default", "meaning")
_LIMITS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def pages() -> dict[str, str]:
    """Returns the text of each page by its path below the root."""
    return {"docs/tables.md": tables_page(), "docs/settings.md": settings_page()}


def stale() -> list[str]:
    """Returns the paths of the pages that are missing or out of date."""
    return [name for name, text in pages().items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]


# Tables -------------------------------------------------------------------------------------------------------------


def tables_page() -> str:
    """Returns the page of all tables, in the order of the pipeline."""
    overview = _grid(("table", "written by", "rows"), [(f"[{t.name}](#{t.name})", _makers(t), t.meaning) for t in ALL])
    return "\n".join([_TABLES_INTRO, overview, *map(_table_section, ALL)])


def _table_section(table: Table) -> str:
    parts = [f"## {table.name}", f"{_sentence(table.meaning)} Written by {_makers(table)}."]
    if table.partition:
        parts[-1] += f" Partitioned by {_codes(table.partition)}."
    fields = [(f"`{f.name}`", f"`{f.dataType.simpleString()}`", table.description(f.name)) for f in table.schema]
    parts += ["", _grid(("column", "type", "description"), fields)]
    later = [name for name in table.schema.names if name in table.later]
    if later:
        parts.append(f"Rows that an earlier version of Winnow wrote may have null in {_codes(later)}.\n")
    return "\n".join(parts)


def _makers(table: Table) -> str:
    return ", ".join(f"`winnow {command}`" for command in (table.maker, *table.also))


# Settings -----------------------------------------------------------------------------------------------------------


def settings_page() -> str:
    """Returns the page of all settings, section by section.

    Raises:
        ValueError: A setting has neither a comment nor an example in conf/winnow.toml.
    """
    schema, comments = Settings.model_json_schema(), settings_reference.comments()
    parts = [_SETTINGS_INTRO]
    for section, described, fields in settings_reference.sections(schema):
        heading = f"## [{section}]" if section else "## At the top of the file, without a section"
        intro = comments.get(section, Comment("")).text or described
        rows = [setting_row(key, field, required, comments) for key, field, required in fields]
        parts += [heading, f"{_sentence(intro)}\n" if section else "", _grid(_SETTING_HEAD, rows)]
    return "\n".join([*parts, _MODELS_INTRO, _model_fields(schema)])


def setting_row(key: str, field: Mapping[str, Any], required: bool, comments: Mapping[str, Comment]) -> list[str]:
    """Returns the cells of a setting.

    Args:
        key: Its dotted key.
        field: Its JSON schema.
        required: Whether the type has no default.
        comments: As `settings_reference.comments` returns them.

    Raises:
        ValueError: There is neither a comment nor an example.
    """
    comment, default = comments.get(key, Comment("")), _default(field, required, _given(key))
    example = "" if default.startswith("`") or not comment.value else f"example: `{comment.value}`"
    if not comment.text and not example:
        raise ValueError(f"conf/winnow.toml says nothing about {key}: add a comment on its line")
    text = comment.text.removesuffix(".") if example else comment.text
    return [f"`{key}`", kind_of(field), default, "; ".join(filter(None, (text, example)))]


def _given(key: str) -> Any:
    """Returns the value of a setting in conf/winnow.toml; None if it has none there."""
    value: Any = tomllib.loads(_DEFAULTS.read_text())
    for name in key.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _default(field: Mapping[str, Any], required: bool, given: Any = None) -> str:
    """Returns the default in words: the given value, else that of the type."""
    value = field.get("default") if given is None else given
    if value is None:
        return "required" if required else "off"
    return "none" if value == {} else f"`{json.dumps(value, ensure_ascii=False)}`"


def kind_of(field: Mapping[str, Any]) -> str:
    """Returns the type and the limits of a field in words, from its JSON schema."""
    if "$ref" in field:
        return "a table, see [ONNX models](#onnx-models)"
    if choices := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(kind_of(one) for one in choices if one.get("type") != "null")
    if "enum" in field:
        *some, last = (f'`"{value}"`' for value in field["enum"])
        return f"{', '.join(some)} or {last}"
    if field["type"] == "object":
        values = [*field.get("patternProperties", {}).values(), field.get("additionalProperties")][0]
        return re.sub(r"^\w+", r"a table of \g<0>s", kind_of(values))
    if field["type"] == "array":
        return _list_kind(field)
    limits = [f"{words} {field[name]:,}" for name, words in _LIMITS.items() if name in field]
    limits += [f"of the form `{field['pattern']}`"] if "pattern" in field else []
    limits += ["not empty"] if "minLength" in field else []
    return ", ".join(["true or false" if field["type"] == "boolean" else field["type"], *limits])


def _list_kind(field: Mapping[str, Any]) -> str:
    if "prefixItems" in field:
        return f"list of {len(field['prefixItems'])} {field['prefixItems'][0]['type']}s"
    what = kind_of(field["items"]) if "enum" in field["items"] else f"{field['items']['type']}s"
    return f"list of {what}" + (", not empty" if "minItems" in field else "")


def _model_fields(schema: Mapping[str, Any]) -> str:
    """Returns the fields of ONNX models, with their meanings from the docstrings of the two classes."""
    shared, every = (schema["$defs"][name] for name in ("ImageInput", "ImageModel"))
    meanings = settings_reference.model_meanings()
    rows = []
    for name, field in every["properties"].items():
        only = "" if name in shared["properties"] else " Only for a category."
        default = _default(field, name in every["required"])
        rows.append((f"`{name}`", kind_of(field), default, meanings[name] + only))
    return _grid(_SETTING_HEAD, rows)


# Markdown -----------------------------------------------------------------------------------------------------------


def _grid(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _codes(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:].removesuffix('.')}."


def main(arguments: list[str]) -> None:
    """Writes the pages, or with `--check` exits with 1 if one is stale."""
    if arguments not in ([], ["--check"]):
        sys.exit("usage: python scripts/make_reference.py [--check]")
    if arguments:
        found = stale()
        if found:
            sys.exit(f"not up to date with the code: {', '.join(found)}: run `make docs` and commit the result")
        return
    for name, text in pages().items():
        (ROOT / name).write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
