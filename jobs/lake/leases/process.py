"""Identifies a process of this machine, so that another can find out later whether it still runs; and its user."""

import getpass
import os
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_ENDED_STATES = ("Z", "X")  # A killed process stays in the list until its parent asks for its exit status.
_ENDED = -1


@dataclass(frozen=True)
class ProcessId:
    """A process, told apart from later ones with the same number.

    Attributes:
        machine: This start of the machine and its list of processes: containers have lists of their own.
        pid: Number of the process in that list.
        started: When the process started, in clock ticks since the machine did.
    """

    machine: str
    pid: int
    started: int


def this_process() -> ProcessId | None:
    """Returns the identity of the running process; None where the system does not tell (it needs Linux's `/proc`)."""
    machine, pid = _machine(), os.getpid()
    started = _started(pid)
    return None if machine is None or started is None else ProcessId(machine, pid, started)


def has_ended(process: ProcessId) -> bool | None:
    """Returns whether a process has ended; None if that cannot be seen.

    Processes of another machine or container cannot be seen, nor those of other users if `/proc` hides them.

    Examples:
        >>> here = this_process()
        >>> here is None or has_ended(here) is False
        True
    """
    if process.machine != _machine():
        return None
    started = _started(process.pid)
    return None if started is None and _is_of_another_user(process.pid) else started != process.started


def user_name() -> str | None:
    """Returns the name of the user who runs the process; None if the system has none, as in some containers."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # by version of Python and system
        return None


def _machine() -> str | None:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return None


def _started(pid: int) -> int | None:
    """Returns when a process started; `_ENDED` if it only waits for its parent, None if it cannot be found."""
    try:
        # The name of the process, in parentheses, may hold anything. The fields behind it are plain.
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return _ENDED if state in _ENDED_STATES else int(fields[18])


def _is_of_another_user(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # sends nothing, only asks whether it could
    except OSError as error:
        return isinstance(error, PermissionError)
    return False
