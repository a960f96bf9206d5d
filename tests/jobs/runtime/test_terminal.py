import io

import pytest
from rich.console import Console

from jobs.runtime import terminal

HOSTILE = "a\x1b]0;t\x07\x9b2J\r\n\u202eb\udcff[red]x[/] :cat: out[v2]"
SAFE = r"a\x1b]0;t\x07\x9b2J\r\n\u202eb\udcff[red]x[/] :cat: out[v2]"


def printed(what: object) -> str:
    console = Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    console.print(what)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_control_characters_become_visible_and_letters_stay() -> None:
    assert terminal.visible(HOSTILE) == SAFE
    for text in ("bär", "שלום", "日本", "👩\u200d🚀", "a\\nb", "[b]", "C:\\x1b"):
        assert terminal.visible(text) == text


def test_lines_stay_lines() -> None:
    assert terminal.visible_lines("a\x1b\r\nb\tc\n\n") == "a\\x1b\nb\\tc\n\n"


@pytest.mark.parametrize("columns", [(), ("name", HOSTILE)])
def test_a_table_shows_names_to_the_letter(columns: tuple[str, ...]) -> None:
    table = terminal.table(f"title {HOSTILE}", columns)
    terminal.add_row(table, "folder", HOSTILE, style="dim")

    shown = printed(table)

    assert shown.count(SAFE) == (3 if columns else 2)
    assert not set(shown) & set("\x1b\x07\x9b\r\u202e")
    assert len(shown.splitlines()) == (3 if columns else 2)


def test_a_cell_is_no_markup() -> None:
    assert printed(terminal.cell("out[v2] [bold]x[/] :cat:")) == "out[v2] [bold]x[/] :cat:\n"
