import io
import threading

import pytest
from rich.console import Console

from jobs.runtime import progress
from jobs.runtime.progress import Progress


@pytest.mark.parametrize(("tasks", "line"), [((0, 0), "  score: part 1"), ((3, 8), "  score: part 1: 3 of 8 tasks")])
def test_a_log_counts_the_tasks_if_there_are_any(monkeypatch, tasks, line):
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.001)
    shown = Progress(Console(file=io.StringIO(), width=120))
    counted_once = threading.Event()

    def counted() -> tuple[int, int]:
        counted_once.set()
        return tasks

    monkeypatch.setattr(shown, "_tasks", counted)
    with shown.step("score: part 1"):
        counted_once.wait(10)
        # After the second count, the line of the first has certainly been printed.
        counted_once.clear()
        counted_once.wait(10)
    lines = shown.console.file.getvalue().splitlines()
    assert lines[0] == line
    assert lines[-1].startswith("✓ score: part 1 ")


HOSTILE = "out[v2] [red]x[/] :cat: a\x1b[31m\nb"
SAFE = r"out[v2] [red]x[/] :cat: a\x1b[31m\nb"


def test_names_in_all_lines_are_shown_to_the_letter_and_on_one_line():
    shown = Progress(Console(file=io.StringIO(), width=200))
    for show in (shown.note, shown.warn, shown.heading, shown.address):
        show(HOSTILE)
    with shown.step(HOSTILE):
        pass

    lines = shown.console.file.getvalue().splitlines()
    assert lines[:5] == [f"  {SAFE}", f"  ! {SAFE}", "", SAFE, f"  {SAFE}"]
    assert lines[5].startswith(f"✓ {SAFE} ") and len(lines) == 6


def test_names_in_the_bar_of_a_terminal_are_shown_to_the_letter(monkeypatch):
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.01)
    shown = Progress(Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None, _environ={}))
    counted = threading.Event()
    monkeypatch.setattr(shown, "_tasks", lambda: counted.set() or (0, 0))
    with shown.step(HOSTILE):
        counted.wait(10)

    printed = shown.console.file.getvalue()
    assert printed.count(SAFE) >= 2 and "\x1b[31m" not in printed


def test_quiet_shows_only_warnings_and_addresses():
    shown = Progress(Console(file=io.StringIO(), width=200), quiet=True)
    for show in (shown.note, shown.warn, shown.heading, shown.address):
        show("a line")
    with shown.step("a step"), shown.step("inside"):
        pass
    assert shown.console.file.getvalue() == "  ! a line\n  a line\n"
