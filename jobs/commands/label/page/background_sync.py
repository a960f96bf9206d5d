"""The thread that writes labels to the lake and reads images from it, so that no request waits for Spark."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from jobs.commands.label.page.assignment_queue import AssignmentQueue
from jobs.commands.label.page.images import PageImages
from jobs.commands.label.page.journal import Journal, JournalEntry, LabelBatch
from jobs.commands.label.page.store import Store
from jobs.runtime.progress import Progress
from models.errors import WinnowError

# Images that are read before the page opens.
_FIRST = 24
_REFRESH_SECONDS = 20.0
_TICK_SECONDS = 0.5


@dataclass(frozen=True)
class Pace:
    """How often decisions are written to the lake, and how many images are read ahead.

    Attributes:
        flush_seconds: Longest time in seconds that a decision waits before it is written to the lake.
        flush_labels: Number of waiting decisions that are written at once, without waiting longer.
        ahead: Number of images read ahead for each person.
    """

    flush_seconds: float
    flush_labels: int
    ahead: int


class BackgroundSync:
    """Moves decisions from the journal to the lake, and images from the lake to memory.

    Args:
        store: The lake.
        journal: Holds the decisions until they are in the lake.
        images: Holds the images.
        pace: How often to write, and how much to read ahead.
        progress: Shows a warning if the lake fails; the page continues, because the journal holds all decisions.
    """

    def __init__(self, store: Store, journal: Journal, images: PageImages, pace: Pace, progress: Progress) -> None:
        self._store, self._journal, self._images = store, journal, images
        self._pace, self._progress = pace, progress
        self._lock = threading.Lock()
        self._waiting, self._oldest = 0, 0.0
        self._refreshed = time.monotonic()
        self._stop = threading.Event()
        self.fault: str | None = None
        self.added = 0

    def record(self, entries: Sequence[JournalEntry]) -> None:
        """Writes entries to the journal; when it returns, they are on the disk.

        Raises:
            OSError: They could not be written.
        """
        with self._lock:
            self._journal.write(entries)
            self._waiting += len(entries)
            self._oldest = self._oldest or time.monotonic()

    def commit(self) -> None:
        """Writes the decisions of the journal to the lake."""
        with self._lock:
            batch = self._journal.take()
            self._waiting, self._oldest = 0, 0.0
        if batch is None:
            return
        try:
            self._store.commit(batch)
        except Exception:
            self._retry_later(batch)
            raise
        with self._lock:
            self._journal.drop(batch)
        self.added += batch.net

    def refresh_queue(self, assignments: AssignmentQueue) -> None:
        """Adds the images that were queued since the last call."""
        self._refreshed = time.monotonic()
        if self._store.changed():
            queued = self._store.queue()
            assignments.add(queued, self._store.decisions(queued))
            assignments.give_up(self._images.locate(one.image_id for one in queued))

    def fetch(self, assignments: AssignmentQueue, most: int | None = None) -> None:
        """Reads images that a request waits for, and reads ahead once fewer than half of the next images are loaded."""
        upcoming = assignments.upcoming(self._pace.ahead)
        missing = [i for i in upcoming if not self._images.has(i)]
        urgent = [i for i in sorted(self._images.urgent) if not self._images.has(i)]
        if not urgent and len(upcoming) - len(missing) >= min(self._pace.ahead // 2, len(upcoming)):
            return
        assignments.give_up(self._images.fetch([*urgent, *missing][: most or self._pace.ahead]))
        self._images.keep(upcoming)

    def fetch_first(self, assignments: AssignmentQueue) -> None:
        """Reads the images that the page needs when it opens."""
        self.fetch(assignments, _FIRST)

    @contextmanager
    def working(self, assignments: AssignmentQueue) -> Iterator[None]:
        """Runs the thread while the body runs; at the end, all decisions are in the lake."""
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
                if time.monotonic() - self._refreshed > _REFRESH_SECONDS:
                    self.refresh_queue(assignments)
                self.fault = None
            except Exception as error:  # the lake's storage may raise anything; the journal holds the labels meanwhile
                self._warn_once(error)

    def _commit_last(self) -> None:
        try:
            self.commit()
        except Exception as error:  # the lake's storage may raise anything
            remedy = f"they are safe in {self._journal.folder}, and the next `winnow label serve` adds them"
            raise WinnowError(f"cannot write the last labels to the lake ({_first_line(error)}): {remedy}") from error

    def _due(self) -> bool:
        with self._lock:
            late = bool(self._oldest) and time.monotonic() - self._oldest >= self._pace.flush_seconds
            return late or self._waiting >= self._pace.flush_labels

    def _retry_later(self, batch: LabelBatch) -> None:
        with self._lock:
            self._waiting += len(batch.entries)
            self._oldest = time.monotonic()

    def _warn_once(self, error: Exception) -> None:
        text = _first_line(error)
        if text != self.fault:
            self._progress.warn(f"label serve: the lake cannot be used; labels wait in {self._journal.folder}: {text}")
        self.fault = text


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
