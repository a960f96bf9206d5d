"""The journal of a label page: every decision is on the local disk before the page shows it as saved.

The journal consists of numbered segments with one JSON object a line. A segment is closed before its decisions are
written to the lake, and deleted afterwards. After a crash, the next start writes the remaining segments to the lake. No
decision is added twice, because the lake identifies it by image, category, annotator and time.
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
    """The answer of one person to one image.

    Attributes:
        image_id: Id of the image.
        category: The category that was asked for.
        answer: `yes`, `no` or `unsure`.
        origin: The strategy that picked the image.
        annotator: Name of the person.
        at: Time of the answer with its time zone, to the microsecond.
    """

    image_id: str
    category: str
    answer: Answer
    origin: str
    annotator: str
    at: datetime


@dataclass(frozen=True)
class JournalEntry:
    """One line of the journal: a decision, or its undo."""

    decision: Decision
    undone: bool = False

    def to_line(self) -> bytes:
        """Returns the entry as a line of JSON."""
        fields = asdict(self.decision) | {"at": self.decision.at.isoformat(), "undone": self.undone}
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "JournalEntry":
        """Returns the entry of a line.

        Raises:
            ValueError: The line is not a journal entry.
        """
        try:
            fields = json.loads(line)
            undone = bool(fields.pop("undone"))
            return cls(Decision(**fields | {"at": datetime.fromisoformat(fields["at"])}), undone)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(str(error)) from error


@dataclass(frozen=True)
class LabelBatch:
    """Entries to write to the lake, oldest first, and the segments they come from."""

    entries: tuple[JournalEntry, ...]
    segments: tuple[Path, ...]

    @property
    def made(self) -> list[Decision]:
        """Decisions of the batch that were not undone."""
        undone = set(self.undone)
        return [e.decision for e in self.entries if not e.undone and e.decision not in undone]

    @property
    def undone(self) -> list[Decision]:
        """Decisions that were undone; the lake may hold them from an earlier batch."""
        return [entry.decision for entry in self.entries if entry.undone]

    @property
    def net(self) -> int:
        """Number of decisions that the batch adds to the lake; negative if it removes more than it adds."""
        own = {entry.decision for entry in self.entries if not entry.undone}
        return len(self.made) - len(set(self.undone) - own)


class Journal:
    """The journal of one lake and category on this machine; only one process at a time can open it.

    Args:
        folder: Folder of the segments; created for its owner alone if it does not exist.

    Raises:
        WinnowError: Another process uses the journal, or the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._segment: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise WinnowError(
                f"cannot use the journal folder {folder}: {error.strerror}; choose another with `--state DIR`"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            raise WinnowError(f"another `winnow label serve` uses {folder}: use its page, or stop it first") from error

    def write(self, entries: Iterable[JournalEntry]) -> None:
        """Appends entries; when it returns, they are on the disk.

        Raises:
            OSError: They could not be written; the journal is unchanged.
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
            # Half a line would damage the next one.
            os.ftruncate(self._segment, before)
            raise

    def take(self) -> LabelBatch | None:
        """Closes the current segment and returns all entries that are not yet in the lake; None if there are none."""
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
        """Deletes the segments of a batch that is in the lake."""
        for segment in batch.segments:
            segment.unlink(missing_ok=True)

    def close(self) -> None:
        """Releases the journal; its remaining segments stay on the disk."""
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
    """Returns whether a file name is that of a journal segment; the journal does not touch other files.

    Examples:
        >>> is_segment(Path("000000001.jsonl")), is_segment(Path("notes.jsonl"))
        (True, False)
    """
    return re.fullmatch(r"\d{9}\.jsonl", path.name) is not None


def _entries(segment: Path) -> list[JournalEntry]:
    """Returns the entries of a segment.

    An incomplete last line is ignored: the page never showed its decision as saved.

    Raises:
        WinnowError: Another line is damaged.
    """
    lines = segment.read_bytes().splitlines(keepends=True)
    entries = []
    for number, line in enumerate(lines, 1):
        try:
            entries.append(JournalEntry.from_line(line))
        except ValueError as error:
            if number < len(lines) or line.endswith(b"\n"):
                raise WinnowError(
                    f"line {number} of the journal {segment} is damaged: repair or delete this line"
                ) from error
    return entries
