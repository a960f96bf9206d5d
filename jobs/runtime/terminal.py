"""Shows text on a terminal: control characters become visible, and no text is read as markup."""

import re
from collections.abc import Iterable, Sequence

from rich.table import Table
from rich.text import Text

# Control characters (escape sequences begin with one), marks that reverse the direction of text, separators of lines,
# and surrogates, which stand for the bytes of file names that are not UTF-8.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Returns text as one line that is safe to print: control characters and line ends become escapes.

    Captions, file names and messages of other programs could otherwise move the cursor, change colours, hide text or
    begin a line of their own.

    Args:
        text: Any text.

    Examples:
        >>> print(visible("a\x1b[31mb\nc"))
        a\x1b[31mb\nc
        >>> print(visible("photos/bär [v2].jpg"))
        photos/bär [v2].jpg
    """
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def visible_lines(text: str) -> str:
    r"""Returns text of several lines that is safe to print: its lines stay, other control characters become escapes.

    Args:
        text: Any text. The ends of its lines are `\n` or `\r\n`.

    Examples:
        >>> visible_lines("image_id,caption\r\n1,a\x07\r\n")
        'image_id,caption\n1,a\\x07\n'
    """
    return "\n".join(visible(line.removesuffix("\r")) for line in text.split("\n"))


def lines(texts: Iterable[str]) -> str:
    """Returns texts as lines that are safe to print; a line end within a text becomes an escape."""
    return "".join(f"{visible(text)}\n" for text in texts)


def cell(text: object, style: str = "") -> Text:
    """Returns text for rich, which would read brackets in a string as markup and `:name:` as an emoji.

    Args:
        text: Any value; its text may come from a user.
        style: Style of rich.

    Examples:
        >>> cell("out[v2]").plain
        'out[v2]'
    """
    return Text(visible(str(text)), style=style)


def table(title: str, columns: Sequence[str] = ()) -> Table:
    """Returns an empty table; add its rows with `add_row`.

    Args:
        title: Title of the table.
        columns: Heads of its columns; without them, it has no line of heads.
    """
    made = Table(
        title=cell(title, "table.title"), title_justify="left", show_header=bool(columns), box=None, pad_edge=False
    )
    for name in columns:
        made.add_column(cell(name))
    return made


def add_row(table: Table, *values: object, style: str = "") -> None:
    """Adds a row to a table.

    Args:
        table: The table.
        values: The text of each cell.
        style: Style of rich for the row.
    """
    table.add_row(*[cell(value) for value in values], style=style)
