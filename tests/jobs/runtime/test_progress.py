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
