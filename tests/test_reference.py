"""The generated pages docs/tables.md and docs/settings.md: complete, and up to date."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from jobs.lake import tables
from jobs.runtime import config
from models.inference.classifier import ImageModel
from scripts import make_reference


def test_the_pages_are_up_to_date() -> None:
    assert make_reference.stale() == [], "run `make docs`"


def test_a_page_that_lacks_a_setting_is_stale_and_the_check_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_reference, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    make_reference.main([])
    assert make_reference.stale() == []
    page = tmp_path / "docs" / "settings.md"
    lines = page.read_text().splitlines(keepends=True)
    page.write_text("".join(line for line in lines if not line.startswith("| `dedup.max_distance` |")))

    with pytest.raises(SystemExit, match=r"docs/settings\.md: run `make docs`") as stopped:
        make_reference.main(["--check"])

    # Python prints a text that a program exits with, and exits with 1.
    assert isinstance(stopped.value.code, str) and "docs/tables.md" not in stopped.value.code


def keys_of(section: BaseModel, above: str = "") -> Iterator[str]:
    for name, value in section:
        yield from keys_of(value, f"{above}{name}.") if isinstance(value, BaseModel) else [f"{above}{name}"]


def test_every_setting_has_a_row_with_its_type_default_and_meaning() -> None:
    rows = [line[2:-2].split(" | ") for line in make_reference.settings_page().splitlines() if line.startswith("| `")]

    keys = {row[0].strip("`") for row in rows}
    assert set(keys_of(config.load())) - {"categories"} <= keys
    assert {f"categories.NAME.{name}" for name in config.CategorySettings.model_fields} <= keys
    assert {field.name for field in fields(ImageModel)} <= keys
    assert all(len(row) == 4 and all(row) for row in rows)


def test_a_setting_that_nothing_explains_is_named() -> None:
    field = {"type": "integer", "default": 3}

    with pytest.raises(ValueError, match=r"says nothing about dedup\.other: add a comment"):
        make_reference.setting_row("dedup.other", field, False, {})


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 20_000}, "integer, at least 1, at most 20,000"),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, "number, above 0, below 1"),
        ({"anyOf": [{"type": "string", "minLength": 1}, {"type": "null"}]}, "string, not empty"),
        ({"enum": ["lsh", "clusters", "both"], "type": "string"}, '`"lsh"`, `"clusters"` or `"both"`'),
        ({"type": "array", "items": {"type": "string"}, "minItems": 1}, "list of strings, not empty"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "a table of strings"),
        (
            {"type": "object", "patternProperties": {"^a": {"type": "number", "exclusiveMinimum": 0}}},
            "a table of numbers, above 0",
        ),
        (
            {
                "type": "object",
                "patternProperties": {"^a": {"type": "array", "items": {"type": "string"}, "minItems": 1}},
            },
            "a table of lists of strings, not empty",
        ),
        ({"type": "array", "prefixItems": [{"type": "number"}] * 3}, "list of 3 numbers"),
    ],
)
def test_types_and_limits_are_words(field: dict[str, object], words: str) -> None:
    assert make_reference.kind_of(field) == words


def test_every_table_and_column_is_on_the_page() -> None:
    page = make_reference.tables_page()

    for table in tables.ALL:
        section = page.partition(f"\n## {table.name}\n")[2].partition("\n## ")[0]
        assert f"`winnow {table.maker}`" in section
        for field in table.schema:
            assert (
                f"| `{field.name}` | `{field.dataType.simpleString()}` | {table.description(field.name)} |" in section
            )
