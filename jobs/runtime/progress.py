"""A progress display: the current step and how many of its Spark tasks are done."""

import io
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from jobs.runtime.terminal import cell, visible

if TYPE_CHECKING:
    from pyspark import SparkContext

_REFRESH_SECONDS = 0.3
_LOG_SECONDS = 30.0


class Progress:
    """A display of the steps of a command on a console.

    On a terminal, a bar shows how many Spark tasks of the step are done. Elsewhere (a log file, CI), a step prints a
    line every half minute and a line when it ends. Texts may hold names of users: they are no markup, and their control
    characters are shown as escapes.

    Args:
        console: The console to print to; standard error when None.
        quiet: Whether to show only warnings and addresses.

    Attributes:
        context: The Spark context whose tasks are counted; None before Spark runs, and then there are no counts.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False) -> None:
        self.console = console or Console(file=sys.stderr)
        self._quiet = quiet
        self.context: SparkContext | None = None
        self._step = ""

    @classmethod
    def silent(cls) -> Self:
        """Returns a display that shows nothing, for use without a command line."""
        return cls(Console(file=io.StringIO(), quiet=True))

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Shows one step while its body runs; of nested steps, the innermost is shown.

        Args:
            text: Name of the step, such as `score: chunk 2 of 5`.
        """
        outer, self._step = self._step, text
        if outer or self._quiet:
            try:
                yield
            finally:
                self._step = outer
            return
        done = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(done,), daemon=True)
        started = time.monotonic()
        watcher.start()
        try:
            yield
            self._finish(done, watcher)
            seconds = (f"{time.monotonic() - started:.1f} s", "dim")
            self.console.print(Text.assemble(("✓", "green"), " ", cell(text), " ", seconds))
        finally:
            self._finish(done, watcher)
            self._step = ""

    def heading(self, text: str) -> None:
        """Prints the name of a command that starts."""
        if not self._quiet:
            self.console.print(Text.assemble("\n", cell(text, "bold")))

    def note(self, text: str) -> None:
        """Prints a line that stays on the screen."""
        if not self._quiet:
            self.console.print(cell(f"  {text}"))

    def address(self, text: str) -> None:
        """Prints an address on one line even in a narrow terminal, so that it can be copied."""
        self.console.print(cell(f"  {text}"), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints a warning that stays on the screen."""
        self.console.print(cell(f"  ! {text}", "yellow"))

    @staticmethod
    def _finish(done: threading.Event, watcher: threading.Thread) -> None:
        done.set()
        watcher.join()

    def _watch(self, done: threading.Event) -> None:
        if self.console.is_terminal:
            self._show_bar(done)
        else:
            self._log(done)

    def _show_bar(self, done: threading.Event) -> None:
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Bars(*columns, TimeElapsedColumn(), console=self.console, transient=True) as bars:
            bar = bars.add_task(visible(self._step), total=None)
            while not done.wait(_REFRESH_SECONDS):
                finished, total = self._tasks()
                bars.update(bar, description=visible(self._step), completed=finished, total=total or None)

    def _log(self, done: threading.Event) -> None:
        while not done.wait(_LOG_SECONDS):
            finished, total = self._tasks()
            tasks = f": {finished} of {total} tasks" if total else ""
            self.console.print(cell(f"  {self._step}{tasks}"))

    def _tasks(self) -> tuple[int, int]:
        if self.context is None:
            return 0, 0
        tracker = self.context.statusTracker()
        try:
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        except Exception:  # the session may be stopping; the display must not stop the command
            return 0, 0
        known = [stage for stage in stages if stage is not None]
        return sum(s.numCompletedTasks for s in known), sum(s.numTasks for s in known)
