"""The documents: their links lead somewhere, and they name every command."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`|^    .*$", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Returns the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {one.replace(" ", "-") for one in kept}


def broken(page: Path) -> Iterator[str]:
    """Yields the links of a page that lead to no file or heading of the project."""
    for link in LINK.findall(CODE.sub("", page.read_text())):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" in link or link.startswith("mailto:"):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_or_heading(page: Path) -> None:
    assert list(broken(page)) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A: heading\n[a](#a-heading) [b](#b) [c](page.md) [d](none.md) `[e](code.md)` [f](https://x.org)")
    assert list(broken(page)) == ["#b", "none.md"]


def test_every_command_is_in_the_list_of_commands() -> None:
    listed = (ROOT / "docs" / "commands.md").read_text()
    names = [name for panel in cli._PANELS.values() for name in panel]
    assert [name for name in names if not re.search(rf"^\|.*`{re.escape(name)}\b", listed, re.MULTILINE)] == []
