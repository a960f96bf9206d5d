"""The journal of a label page: every decision on the local disk before the page hears that it is saved.

Decisions lie in numbered segments, one JSON object a line. A segment is closed when the lake is about to take its
decisions and deleted when the lake has them; what a crash leaves is taken again at the next start, which adds nothing
twice because the lake knows a decision by its image, category, annotator and time.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from models.errors import WinnowError

Answer = Literal["yes", "no", "unsure"]
ANSWERS: tuple[Answer, ...] = get_args(Answer)


@dataclass(frozen=True)
class Decision:
    """What one person said of one image.

    Attributes:
        image_id: Which image.
        category: Whether it shows this.
        answer: `yes`, `no` or `unsure`.
        origin: The strategy that picked the image.
        annotator: Who.
        at: When, with its time zone, to the microsecond.
    """

    image_id: str
    category: str
    answer: Answer
    origin: str
    annotator: str
    at: datetime


@dataclass(frozen=True)
class JournalEntry:
    """One line of the journal: a decision made, or that decision taken back."""

    decision: Decision
    undone: bool = False

    def to_line(self) -> bytes:
        """The entry as a line of JSON."""
        fields = asdict(self.decision) | {"at": self.decision.at.isoformat(), "undone": self.undone}
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "JournalEntry":
        """The entry of a line.

        Raises:
            ValueError: The line is not one.
        """
        try:
            fields = json.loads(line)
            undone = bool(fields.pop("undone"))
            return cls(Decision(**fields | {"at": datetime.fromisoformat(fields["at"])}), undone)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class LabelBatch:
    """Entries that the lake is to take, in the order they were made, and the segments they come from."""

    entries: tuple[JournalEntry, ...]
    segments: tuple[Path, ...]

    @property
    def made(self) -> list[Decision]:
        """Decisions that stand at the end of the batch."""
        taken_back = set(self.undone)
        return [e.decision for e in self.entries if not e.undone and e.decision not in taken_back]

    @property
    def undone(self) -> list[Decision]:
        """Decisions that were taken back; the lake may hold them from an earlier batch."""
        return [entry.decision for entry in self.entries if entry.undone]

    @property
    def net(self) -> int:
        """How many decisions more the lake has after the batch; fewer, if below zero."""
        own = {entry.decision for entry in self.entries if not entry.undone}
        return len(self.made) - len(set(self.undone) - own)


class Journal:
    """The journal of one lake and category on this machine; one process at a time may hold it.

    Args:
        folder: Where the segments lie; made if it is not there, for its owner alone.

    Raises:
        WinnowError: Another process holds it, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segment: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WinnowError(f"the journal folder {folder} cannot be used: {error.strerror}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise WinnowError(f"another `winnow label serve` holds {folder}: use its page, or end it first") from error

    def write(self, entries: Iterable[JournalEntry]) -> None:
        """Appends entries; when it returns they are on the disk.

        Raises:
            OSError: They could not be written; the journal is as it was.
        """
        if self._segment is None:
            self._segment = self._open_segment()
        before = os.fstat(self._segment).st_size
        data = b"".join(entry.to_line() for entry in entries)
        try:
            while data:
                data = data[os.write(self._segment, data) :]
            os.fsync(self._segment)
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._segment, before)
            raise

    def take(self) -> LabelBatch | None:
        """Closes the present segment and gives all that no lake has taken yet; None where there is nothing."""
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None
        segments = self._segments()
        entries = tuple(entry for segment in segments for entry in _entries(segment))
        if not entries:
            self.drop(LabelBatch((), segments))
            return None
        return LabelBatch(entries, segments)

    def drop(self, batch: LabelBatch) -> None:
        """Deletes what the lake has taken."""
        for segment in batch.segments:
            segment.unlink(missing_ok=True)

    def close(self) -> None:
        """Lets another process have it; what was not taken stays on the disk."""
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None
        os.close(self._lock)

    def _segments(self) -> tuple[Path, ...]:
        return tuple(sorted(path for path in self.folder.glob("*.jsonl") if is_segment(path)))

    def _open_segment(self) -> int:
        last = max((int(path.stem) for path in self._segments()), default=0)
        path = self.folder / f"{last + 1:09d}.jsonl"
        segment = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        # A new file survives a power cut only once its folder is on the disk too.
        folder = os.open(self.folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return segment


def is_segment(path: Path) -> bool:
    """Whether a file is a journal's by its name; another is left where it is.

    Examples:
        >>> is_segment(Path("000000001.jsonl")), is_segment(Path("notes.jsonl"))
        (True, False)
    """
    return re.fullmatch(r"\d{9}\.jsonl", path.name) is not None


def _entries(segment: Path) -> list[JournalEntry]:
    """The entries of a segment.

    Raises:
        WinnowError: A line other than the last is damaged; the last may be half a line of a decision that nobody was
            told is saved.
    """
    lines = segment.read_bytes().splitlines(keepends=True)
    found = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(JournalEntry.from_line(line))
        except ValueError as error:
            if number < len(lines) or line.endswith(b"\n"):
                raise WinnowError(f"line {number} of the journal {segment} is damaged: mend or remove it") from error
    return found
