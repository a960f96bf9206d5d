"""Conditions of `browse`: what they select in SQLite, what they refuse, and that no text of them becomes SQL."""

import sqlite3

import pytest

from jobs.commands.browse.condition import ConditionError, as_number, sql_of

ROWS = [
    ("a", 600, "a red Boat", "PNG", '{"punsafe": 0.05, "tags": {"main one": "x"}, "year": "2020", "safe": true}'),
    ("b", 300, "it's a LOGO", "JPEG", '{"punsafe": "0.9", "year": 2021, "safe": false}'),
    ("c", 900, None, "JPEG", '{"punsafe": "unknown"}'),
    ("d", 100, "100 %_", "WEBP", None),
]
SCORES = [("cats", "a", 0.9), ("cats", "b", 0.2), ("dogs", "a", 0.1)]


def selected(condition: str) -> str:
    """Returns the image_id of the images for which a condition holds, in one text."""
    connection = sqlite3.connect(":memory:")
    connection.create_function("as_number", 1, as_number, deterministic=True)
    connection.execute("create table image (image_id text, width int, caption text, format text, meta text)")
    connection.execute("create table score (category text, image_id text, score real)")
    connection.executemany("insert into image values (?, ?, ?, ?, ?)", ROWS)
    connection.executemany("insert into score values (?, ?, ?)", SCORES)
    sql, values = sql_of(condition, ["cats", "dogs"])
    rows = connection.execute(f"select image_id from image where {sql} order by 1", values)
    return "".join(row[0] for row in rows)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("width >= 300", "abc"),
        ("width > 300", "ac"),
        ("width < 300", "d"),
        ("width <= 300", "bd"),
        ("width = 300", "b"),
        ("width != 300 and format = 'JPEG'", "c"),
        ("WIDTH == 1e2 OR Width <> 600 and format = 'PNG'", "d"),
        ("(width = 100 or width = 600) and format = 'PNG'", "a"),
        ("not width > 300", "bd"),
        ("not not width > 300", "ac"),
        ("not (width > 300 or width < 200)", "b"),
        ("format in ('PNG', 'WEBP')", "ad"),
        ("not format in ('PNG', 'WEBP')", "bc"),
        ("width in (100, 900)", "cd"),
        ("caption is null", "c"),
        ("caption is not null", "abd"),
        ("caption contains 'boat'", "a"),
        ("caption contains '%'", "d"),
        ("caption contains 'it''s'", "b"),
        ('caption contains "it\'s"', "b"),
        ("meta.punsafe < 0.5", "a"),
        ("meta.punsafe >= .5", "b"),
        ("meta.punsafe = 'unknown'", "c"),
        ("meta.year = 2020 or meta.year = 2021", "ab"),
        ("meta.year = '2021'", "b"),
        ("meta.safe = true", "a"),
        ("meta.safe = false", "b"),
        ("meta.year is null", "cd"),
        ("meta.tags.\"main one\" = 'x'", "a"),
        ("meta.missing = 1", ""),
        ("score.cats > 0.5", "a"),
        ("score.cats >= 0.2 and not score.dogs > 0.5", "a"),
        ("score.dogs is null", "bcd"),
        ("width > -1", "abcd"),
    ],
)
def test_a_condition_selects_what_it_says(condition: str, expected: str) -> None:
    assert selected(condition) == expected


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("", "expected a column, found the end"),
        ("widht > 3", "there is no column 'widht': did you mean width?"),
        ("width", "expected =, !=, <"),
        ("width > ", "expected a number or a text in quotes, found the end"),
        ("width > abc", "a text needs quotes: 'abc'"),
        ("width > 'abc'", "width is a number, but 'abc' is a text"),
        ("format = 3", "format is a text, but 3.0 is a number: put it in quotes, '3'"),
        ("width contains 'a'", "width is a number: `contains` is for texts"),
        ("caption contains 3", "expected a text in quotes"),
        ("width > 3 caption is null", "expected `and`, `or` or the end, found 'caption' at character 11"),
        ("(width > 3", "expected `)`"),
        ("format in 'PNG'", "expected `(`"),
        ("format in ('PNG' 'GIF')", "expected `,` or `)`"),
        ("caption is 3", "expected `null`"),
        ("width > 3; drop table image", "cannot be read from '; drop table image' on (character 10)"),
        ("width > 3 -- and", "cannot be read from '-- and'"),
        ("caption = 'open", 'cannot be read from "\'open"'),
        ("score.birds > 0.5", "there are no scores of 'birds'; categories with scores: cats, dogs"),
        ("and > 3", "expected a column"),
        ("(" * 21 + "width > 3" + ")" * 21, "more than 20 nested parentheses"),
        ("width > 3" + " " * 500, "longer than 500 characters"),
        ("meta = 'x'", "there is no column 'meta'"),
        ("sqlite_master = 'x'", "there is no column 'sqlite_master'"),
        ("width > 3x", "cannot be read from '3x'"),
    ],
)
def test_a_bad_condition_says_what_is_wrong_on_one_line(condition: str, said: str) -> None:
    with pytest.raises(ConditionError) as error:
        sql_of(condition, ["cats", "dogs"])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_parentheses_beside_each_other_are_not_nested() -> None:
    assert selected(" or ".join(["(width = 300)"] * 25)) == "b"


def test_no_text_of_a_condition_becomes_sql() -> None:
    hostile = "') or 1=1; drop table image; --"
    texts = [hostile.replace("'", "''"), "x"]
    sql, values = sql_of(f"caption = '{texts[0]}' and meta.\"a') or 1=1 --\" = 'x' and score.cats > 0.5", ["cats"])
    assert "drop" not in sql and "1=1" not in sql and "cats" not in sql
    assert hostile in values.values() and "cats" in values.values()
    assert set("()<>=:.,_ ") | set("abcdefghijklmnopqrstuvwxyz0123456789") >= set(sql)


@pytest.mark.parametrize(("value", "number"), [("1e3", 1000.0), (True, 1.0), (None, None), ("", None), ("nan", None)])
def test_texts_that_are_numbers_are_numbers(value: object, number: float | None) -> None:
    assert as_number(value) == number
