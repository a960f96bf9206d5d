"""What the settings are called, from their types, and what they mean, from the comments of conf/winnow.toml."""

import inspect
import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Any, NamedTuple

from models.inference.classifier import ImageModel
from models.inference.onnx_image_spec import ImageInput

Schema = Mapping[str, Any]
"""A JSON schema, as pydantic derives it from the types of the settings."""

Field = tuple[str, Schema, bool]
"""A setting: its key, its JSON schema, and whether its type has no default."""


class Comment(NamedTuple):
    """What a TOML file says about a setting: the text of its comment, and its value as written."""

    text: str
    value: str = ""


def explanations(schema: Schema) -> dict[str, str]:
    """Returns the comments on settings and sections, and the docstrings of the fields of models, by dotted key.

    Args:
        schema: The schema of all settings.
    """
    found = {key: comment.text for key, comment in comments().items()}
    for _, _, fields in sections(schema):
        for key, field, _ in fields:
            for model in _models(field, schema):
                meanings = model_meanings()
                found.update({f"{key}.{name}": meanings[name] for name in model["properties"]})
    return found


def names(schema: Schema) -> list[str]:
    """Returns the dotted keys of all sections, settings and fields of models; NAME stands for the name of a category.

    Args:
        schema: The schema of all settings.
    """
    found = []
    for section, _, fields in sections(schema):
        found += [section] if section else []
        for key, field, _ in fields:
            found += [key, *(f"{key}.{name}" for model in _models(field, schema) for name in model["properties"])]
    return found


def sections(schema: Schema) -> Iterator[tuple[str, str, list[Field]]]:
    """Yields each section with its description and its fields; the top of the file is a section without a name.

    Args:
        schema: The schema of all settings.
    """
    yield from _sections(schema, "", schema)


def comments() -> dict[str, Comment]:
    """Returns the comments of conf/winnow.toml, and for a category also those of the example of a category file."""
    conf = resources.files("conf")
    examples = comments_of(conf.joinpath("categories", "_example.toml").read_text("utf-8"), "categories.NAME")
    own = comments_of(conf.joinpath("winnow.toml").read_text("utf-8"))
    return {**examples, **{key: comment for key, comment in own.items() if comment.text or key not in examples}}


def comments_of(toml: str, section: str = "") -> dict[str, Comment]:
    r"""Returns the comments on the sections and settings of a TOML file, also on those that are commented out.

    The comment on a setting stands on its line and on the lines below that hold only an indented comment. A setting
    without one has the comment above it, which also holds for the settings after it, up to an empty line.

    Args:
        toml: The text of the file.
        section: The section that the top of the file belongs to.

    Examples:
        >>> found = comments_of('[a]  # both\n# x = 1  # off: one\n        # or two\n\n# Names.\ny = "#"\n')
        >>> found["a"].text, found["a.x"].text, found["a.x"].value, found["a.y"].text
        ('both', 'off: one or two', '1', 'Names.')
    """
    found: dict[str, Comment] = {}
    top, key, above = section, section, ""
    for line in toml.splitlines():
        if header := re.fullmatch(r"(?:# )?\[([\w.]+)\]\s*(?:#\s*(.*))?", line):
            key = section = re.sub(r"^categories\.\w+", "categories.NAME", ".".join(filter(None, (top, header[1]))))
            found[key], above = Comment(header[2] or above), ""
        elif setting := re.fullmatch(r'(?:# )?(\w+) = ((?:"[^"]*"|[^"#])*)(?:#\s*(.*))?', line):
            key = ".".join(filter(None, (section, setting[1])))
            found[key] = Comment(setting[3] or above, setting[2].strip())
        elif more := re.fullmatch(r"\s+#\s*(.*)", line):
            found[key] = found[key]._replace(text=f"{found[key].text} {more[1]}")
        else:
            above = f"{above} {line[2:]}".strip() if line.startswith("# ") else ""
    return found


def model_meanings() -> dict[str, str]:
    """Returns the meaning of each field of an ONNX model, from the docstrings of the two classes that describe one."""
    return {
        name: re.sub(r"\s+", " ", text)
        for part in (ImageInput, ImageModel)
        for name, text in re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", inspect.getdoc(part) or "", re.MULTILINE)
    }


def _sections(part: Schema, section: str, schema: Schema) -> Iterator[tuple[str, str, list[Field]]]:
    own: list[Field] = []
    inner = []
    for name, field in part["properties"].items():
        key = f"{section}.{name}" if section else name
        values = [*field.get("patternProperties", {}).values()]
        if "$ref" in field:
            inner.append((key, _resolved(field, schema)))
        elif values and "$ref" in values[0]:
            inner.append((f"{key}.NAME", _resolved(values[0], schema)))
        else:
            own.append((key, field, name in part.get("required", ())))
    yield section, part.get("description", ""), own
    for key, below in inner:
        yield from _sections(below, key, schema)


def _models(field: Schema, schema: Schema) -> list[Schema]:
    """Returns the schemas of the tables that a setting may hold instead of a name."""
    choices = field.get("anyOf") or field.get("oneOf") or []
    return [_resolved(choice, schema) for choice in choices if "$ref" in choice]


def _resolved(field: Schema, schema: Schema) -> Schema:
    return dict(schema["$defs"][field["$ref"].rpartition("/")[2]])
