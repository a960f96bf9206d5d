"""The thread that works for the page with Spark, so that no request ever waits for it: labels out, pictures in."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.commands.label.page.assignment_queue import AssignmentQueue
from jobs.commands.label.page.journal import Journal, JournalEntry, LabelBatch
from jobs.commands.label.page.pictures import PagePictures
from jobs.commands.label.page.store import Store
from jobs.runtime.progress import Progress
from models.errors import WinnowError

# Of the first pictures only so many are read before the page opens.
_FIRST = 24
_LOOK_SECONDS = 20.0
_TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How often the lake is written and how far ahead it is read.

    Attributes:
        flush_seconds: Decisions wait this long at most before the lake has them.
        flush_labels: Or until there are so many.
        ahead: PagePictures read ahead for each person.
    """

    flush_seconds: float
    flush_labels: int
    ahead: int


class BackgroundSync:
    """Moves decisions from the journal to the lake and pictures from the lake to memory.

    Args:
        store: The lake.
        assignments: Knows which pictures are next.
        journal: Where decisions wait.
        pictures: Where pictures wait.
        pace: How often.
        progress: Told when something fails; the page goes on, since the journal holds all decisions.
    """

    def __init__(self, store: Store, journal: Journal, pictures: PagePictures, pace: Pace, progress: Progress) -> None:
        self._store, self._journal, self._pictures = store, journal, pictures
        self._pace, self._progress = pace, progress
        self._guard = threading.Lock()
        self._waiting, self._oldest = 0, 0.0
        self._looked = time.monotonic()
        self._stop = threading.Event()
        self.fault: str | None = None
        self.added = 0

    def record(self, entries: Sequence[JournalEntry]) -> None:
        """Writes entries to the journal; they are safe when it returns.

        Raises:
            OSError: They are not.
        """
        with self._guard:
            self._journal.write(entries)
            self._waiting += len(entries)
            self._oldest = self._oldest or time.monotonic()

    def commit(self) -> None:
        """Puts into the lake what the journal holds."""
        with self._guard:
            batch = self._journal.take()
            self._waiting, self._oldest = 0, 0.0
        if batch is None:
            return
        try:
            self._store.commit(batch)
        except Exception:
            self._retry_later(batch)
            raise
        with self._guard:
            self._journal.drop(batch)
        self.added += batch.net

    def look(self, assignments: AssignmentQueue) -> None:
        """Adds what has been queued since."""
        self._looked = time.monotonic()
        if self._store.changed():
            queued = self._store.queue()
            assignments.add(queued, self._store.decisions(queued))
            assignments.give_up(self._pictures.locate(one.image_id for one in queued))

    def fetch(self, assignments: AssignmentQueue, most: int | None = None) -> None:
        """Reads pictures ahead, once less than half of them are there, and those that somebody waits for."""
        wanted = assignments.wanted(self._pace.ahead)
        missing = [i for i in wanted if not self._pictures.has(i)]
        urgent = [i for i in sorted(self._pictures.urgent) if not self._pictures.has(i)]
        if not urgent and len(wanted) - len(missing) >= min(self._pace.ahead // 2, len(wanted)):
            return
        assignments.give_up(self._pictures.fetch([*urgent, *missing][: most or self._pace.ahead]))
        self._pictures.keep(wanted)

    def fetch_first(self, assignments: AssignmentQueue) -> None:
        """Reads the pictures that must be there before the page opens."""
        self.fetch(assignments, _FIRST)

    @contextmanager
    def working(self, assignments: AssignmentQueue) -> Iterator[None]:
        """Works in a thread of its own while the body runs; ends with all decisions in the lake."""
        thread = threading.Thread(target=self._work, args=(assignments,), name="label sync", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            self._commit_last()

    def _work(self, assignments: AssignmentQueue) -> None:
        while not self._stop.wait(_TICK_SECONDS):
            try:
                if self._due():
                    self.commit()
                self.fetch(assignments)
                if time.monotonic() - self._looked > _LOOK_SECONDS:
                    self.look(assignments)
                self.fault = None
            except Exception as error:  # whatever the lake's storage raises: the journal holds the labels meanwhile
                self._complain(error)

    def _commit_last(self) -> None:
        try:
            self.commit()
        except Exception as error:  # whatever the lake's storage raises
            where = f"decisions wait in {self._journal.folder} and the next `winnow label serve` adds them"
            raise WinnowError(f"the lake could not be written at the end: {where} ({_first_line(error)})") from error

    def _due(self) -> bool:
        with self._guard:
            late = bool(self._oldest) and time.monotonic() - self._oldest >= self._pace.flush_seconds
            return late or self._waiting >= self._pace.flush_labels

    def _retry_later(self, batch: LabelBatch) -> None:
        with self._guard:
            self._waiting += len(batch.entries)
            self._oldest = time.monotonic()

    def _complain(self, error: Exception) -> None:
        text = _first_line(error)
        if text != self.fault:
            self._progress.warn(f"the lake cannot be used, decisions wait in {self._journal.folder}: {text}")
        self.fault = text


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
