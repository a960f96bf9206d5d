"""A lease makes one command the only writer of a lake.

The lease is a file with a number as its name, and whoever creates the file of the next number holds the lake. To create
a file only if none has its name is the one atomic step that local disks, HDFS and object stores have in common. The
holder rewrites its file again and again. If the file stays the same for a while, by the clock of the command that waits
for it, the holder is taken for dead and the next command creates the next number.

A holder that was only asleep finds the next number before its next write. If it sleeps during a write, the numbers of
the transactions, which rise with those of the leases, let Delta refuse the commit (`Lake.append`).

Source:
    C. Gray and D. Cheriton, "Leases: an efficient fault-tolerant mechanism for distributed file cache consistency",
    SOSP 1989; M. Burrows, "The Chubby lock service for loosely-coupled distributed systems", OSDI 2006 (sequencers).
"""

import json
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from jobs.lake.leases.process import ProcessId, has_ended, this_process, user_name
from models.errors import LakeInUseError

BESIDE = (
    "label serve", "label export", "keep", "drop", "report", "export", "compare", "regurgitation prompts", "explain",
    "status", "browse", "verify",
)  # fmt: skip
"""Commands that may run beside a writer: of tables, they only read, or only append labels and decisions."""

FOLDER = "_lease"
_DIGITS = 12
# Numbers of the writes of one lease, within the number of a transaction.
_WRITES = 1 << 20


class LeaseFiles(Protocol):
    """What a lease needs of the lake's files; names are relative to the lake."""

    def names(self, name: str) -> Iterable[str]:
        """Returns the names in a folder; none if it does not exist."""

    def read(self, name: str) -> bytes:
        """Returns the bytes of a file."""

    def create(self, name: str, data: bytes) -> bool:
        """Creates a file if none has its name; returns whether it did."""

    def write(self, name: str, data: bytes) -> None:
        """Writes a file, or writes it anew."""

    def delete(self, name: str) -> None:
        """Deletes a file."""


@dataclass(frozen=True)
class Pace:
    """How often a lease is renewed and how long others wait for that.

    Attributes:
        renew: Seconds from one renewal to the next.
        stale: Seconds without a renewal after which the holder is taken for dead.
        look: Seconds from one look of a waiting command to the next.
    """

    renew: float = 10.0
    stale: float = 120.0
    look: float = 2.0


@dataclass(frozen=True)
class Holder:
    """The content of a lease: who holds it.

    Attributes:
        series: Random id of the lake's sequence of leases; a deleted folder of leases begins a new one.
        command: The command.
        user: Name of the user.
        host: Name of the machine.
        process: The process; None if the system does not tell.
        since: When the command took the lease, as its clock says.
        renewals: Rises with each renewal.
        released: Whether the command has ended.
    """

    series: str
    command: str
    user: str
    host: str
    process: ProcessId | None
    since: str
    renewals: int = 0
    released: bool = False

    @property
    def described(self) -> str:
        """Returns who holds the lake, for a message."""
        process = f", process {self.process.pid}" if self.process else ""
        return f"`winnow {self.command}` of {self.user} on {self.host}{process}, since {self.since}"

    def encoded(self) -> bytes:
        """Returns the content of the file."""
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def decoded(cls, data: bytes) -> "Holder | None":
        """Returns the holder that a file names; None if the file is not, or not yet, a whole lease."""
        try:
            content = json.loads(data)
            process = content.pop("process")
            return cls(process=ProcessId(**process) if process else None, **content)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None


class Lease:
    """The right of one command to write to a lake, from `acquire` to `release`.

    Args:
        files: The lake's files.
        address: Address of the lake, for messages.
        command: The command that writes.
        note: Called with a line for the user if the command has to wait.
        pace: How often the lease is renewed.
    """

    def __init__(
        self, files: LeaseFiles, address: str, command: str, note: Callable[[str], None], pace: Pace | None = None
    ) -> None:
        self._files = files
        self._address = address
        self._command = command
        self._note = note
        self._pace = pace or Pace()
        self._number = 0
        self._held: Holder | None = None
        self._writes = 0
        self._ended = threading.Event()
        self._renewing = threading.Lock()

    @property
    def number(self) -> int:
        """The number of the lease, from 1; each holder of a lake has a higher one than those before. 0: not held."""
        return self._number

    @property
    def is_held(self) -> bool:
        """Returns whether the lease was acquired and not released."""
        return self._held is not None

    def acquire(self) -> None:
        """Becomes the lake's only writer. Waits only if the last holder may be dead.

        Raises:
            LakeInUseError: Another command writes to the lake. The message names it.
        """
        series = uuid.uuid4().hex
        while not self._held:
            last = self._last()
            if last:
                seen = self._content(last)
                if not self._is_free(last, seen):
                    continue
                before = Holder.decoded(seen)
                series = before.series if before else series
            self._take(last + 1, series)
        for number in self._numbers():
            if number < self._number:
                self._files.delete(_file(number))
        threading.Thread(target=self._renew, name="lake lease", daemon=True).start()

    def release(self) -> None:
        """Lets other commands write to the lake. Raises nothing: without a release, the next command has to wait."""
        self._ended.set()
        with self._renewing, suppress(Exception):  # the storage may raise anything
            held, self._held = self._held, None
            if held and self._last() == self._number:
                self._files.write(_file(self._number), replace(held, released=True).encoded())

    def require_held(self) -> None:
        """Checks that no other command took the lake over.

        Raises:
            LakeInUseError: Another command did, because this one was not heard of for too long.
        """
        last = self._last()
        if not self._held or last == self._number:
            return
        other = Holder.decoded(self._content(last))
        by = other.described if other else "another command"
        raise LakeInUseError(
            f"{self._address} was taken over by {by}: this command was not heard of for {self._pace.stale:g} seconds, "
            "and writes nothing more; run it again when the other has ended"
        )

    def transaction(self) -> tuple[str, int]:
        """Returns the name and the number of the next transaction; Delta refuses a number that is not above the last.

        Raises:
            ValueError: The lease is not held.
        """
        if not self._held:
            raise ValueError("the lease is not held")
        self._writes += 1
        return f"winnow-{self._held.series}", self._number * _WRITES + self._writes

    def _take(self, number: int, series: str) -> None:
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        holder = Holder(
            series, self._command, user_name() or "an unknown user", socket.gethostname(), this_process(), since
        )
        if self._files.create(_file(number), holder.encoded()):
            self._number, self._held = number, holder

    def _is_free(self, number: int, seen: bytes) -> bool:
        """Returns whether the next number may be taken now; False if the lease changed, so that the caller looks again.

        Raises:
            LakeInUseError: The holder lives.
        """
        holder = Holder.decoded(seen)
        if holder and holder.released:
            return True
        ended = has_ended(holder.process) if holder and holder.process else None
        if ended is None:
            ended = not self._changes(number, seen, holder)
        if ended:
            return True
        now = Holder.decoded(self._content(number)) if self._last() == number else None
        if now is None or now.released:
            return False
        raise LakeInUseError(
            f"{self._address} is in use by {now.described}: wait until it ends, or stop it, and try again"
        )

    def _changes(self, number: int, seen: bytes, holder: Holder | None) -> bool:
        """Waits until the file of a lease changes; returns False if it stays the same for too long."""
        by = holder.described if holder else "another command"
        self._note(
            f"{self._address} is held by {by}; waiting up to {self._pace.stale:g} seconds for a sign that it still runs"
        )
        until = time.monotonic() + self._pace.stale
        while time.monotonic() < until:
            time.sleep(self._pace.look)
            if self._last() != number or self._content(number) != seen:
                return True
        return False

    def _renew(self) -> None:
        """Rewrites the file until the lease is released or lost."""
        while not self._ended.wait(self._pace.renew):
            with self._renewing, suppress(Exception):  # the storage may raise anything; the next renewal tries again
                if not self._held or self._last() != self._number:
                    return
                self._held = replace(self._held, renewals=self._held.renewals + 1)
                self._files.write(_file(self._number), self._held.encoded())

    def _content(self, number: int) -> bytes:
        """Returns the content of a lease; empty if another command deleted it meanwhile."""
        try:
            return self._files.read(_file(number))
        except Exception:  # each kind of storage has its own error for a missing file
            return b""

    def _last(self) -> int:
        """Returns the highest number; 0 if there is none."""
        return max(self._numbers(), default=0)

    def _numbers(self) -> list[int]:
        return [int(name) for name in self._files.names(FOLDER) if name.isdecimal()]


def _file(number: int) -> str:
    return f"{FOLDER}/{number:0{_DIGITS}d}"
