"""Who may write to a lake: leases as files on a disk, taken by threads and processes."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.lake.leases import process
from jobs.lake.leases.lease import FOLDER, Holder, Lease, Pace
from jobs.lake.leases.process import has_ended, this_process
from jobs.lake.local_files import LocalFiles
from models.errors import LakeInUseError

QUICK = Pace(renew=0.05, stale=0.5, look=0.02)
NEVER_RENEWED = Pace(renew=1000, stale=0.5, look=0.02)


def lease(folder: Path, command: str = "ingest", pace: Pace = QUICK, notes: list[str] | None = None) -> Lease:
    return Lease(LocalFiles(folder), str(folder), command, [].append if notes is None else notes.append, pace)


@contextmanager
def held(one: Lease) -> Iterator[Lease]:
    one.acquire()
    try:
        yield one
    finally:
        one.release()


def numbers(folder: Path) -> list[int]:
    return sorted(int(file.name) for file in (folder / FOLDER).iterdir() if file.name.isdecimal())


def newest(folder: Path) -> Path:
    return folder / FOLDER / f"{numbers(folder)[-1]:012d}"


def content(folder: Path) -> Holder:
    holder = Holder.decoded(newest(folder).read_bytes())
    assert holder is not None
    return holder


def as_if_on_another_machine(folder: Path) -> None:
    holder = content(folder)
    assert holder.process is not None
    newest(folder).write_bytes(
        replace(holder, process=replace(holder.process, machine="another"), host="elsewhere").encoded()
    )


def waiting(folder: Path, renewed: bytes) -> Lease:
    """Returns a lease whose holder writes this content as soon as the command waits for it."""

    def write(note: str) -> None:
        assert "waiting up to 60 seconds for a sign that it still runs" in note
        LocalFiles(folder).write(f"{FOLDER}/{1:012d}", renewed)

    return Lease(LocalFiles(folder), str(folder), "score", write, Pace(stale=60, look=0.02))


def test_a_second_command_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with held(lease(tmp_path, "ingest")):
        with pytest.raises(LakeInUseError, match=r"is in use by `winnow ingest` of .* on .*, process \d+, since"):
            lease(tmp_path, "score").acquire()
        assert numbers(tmp_path) == [1]


def test_after_a_release_the_next_number_is_taken_without_waiting(tmp_path: Path) -> None:
    notes: list[str] = []
    for number in (1, 2, 3):
        with held(lease(tmp_path, pace=Pace(stale=1000), notes=notes)) as one:
            assert one.number == number
            assert numbers(tmp_path) == [number]
    assert not notes


def test_of_many_that_start_together_one_holds_the_lake(tmp_path: Path) -> None:
    start, winners, refused = threading.Barrier(8), [], []

    def try_it() -> None:
        one = lease(tmp_path)
        start.wait()
        try:
            one.acquire()
            winners.append(one)
        except LakeInUseError as error:
            refused.append(error)

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(winners), len(refused)) == (1, 7)
    winners[0].release()


def test_the_lake_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from jobs.lake.leases.lease import Lease\n"
        "from jobs.lake.local_files import LocalFiles\n"
        "Lease(LocalFiles(Path(sys.argv[1])), 'lake', 'ingest', print).acquire()\n"
        "print('held', flush=True); time.sleep(1000)"
    )
    holder = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(LakeInUseError, match=f"process {holder.pid}"):
        lease(tmp_path, pace=Pace(stale=1000)).acquire()

    holder.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is still in the list of processes
    with held(lease(tmp_path, pace=Pace(stale=1000))) as one:
        assert one.number == 2
    holder.wait()
    holder.stdout.close()


def test_a_holder_on_another_machine_that_renews_its_lease_keeps_the_lake(tmp_path: Path) -> None:
    holder = lease(tmp_path, pace=NEVER_RENEWED)
    with held(holder):
        as_if_on_another_machine(tmp_path)
        renewed = replace(content(tmp_path), renewals=1).encoded()
        with pytest.raises(LakeInUseError, match="on elsewhere"):
            waiting(tmp_path, renewed).acquire()


def test_a_holder_on_another_machine_that_does_not_is_replaced(tmp_path: Path) -> None:
    asleep = lease(tmp_path, "ingest", NEVER_RENEWED)
    asleep.acquire()
    as_if_on_another_machine(tmp_path)
    began = time.monotonic()
    with held(lease(tmp_path, "score")) as awake:
        assert time.monotonic() - began >= QUICK.stale
        assert awake.number == 2
        awake.require_held()
        with pytest.raises(LakeInUseError, match="taken over by `winnow score` of"):
            asleep.require_held()
        asleep.release()
        assert numbers(tmp_path) == [2] and not content(tmp_path).released


def test_a_holder_that_slept_does_not_renew_a_lease_that_it_lost(tmp_path: Path) -> None:
    first = lease(tmp_path)
    with held(first):
        taken = content(tmp_path).encoded()
        LocalFiles(tmp_path).create(f"{FOLDER}/{2:012d}", taken)
        time.sleep(4 * QUICK.renew)
        before = (tmp_path / FOLDER / f"{1:012d}").read_bytes()
        time.sleep(4 * QUICK.renew)
        assert (tmp_path / FOLDER / f"{1:012d}").read_bytes() == before
        assert newest(tmp_path).read_bytes() == taken


def test_a_lease_is_renewed_until_it_is_released(tmp_path: Path) -> None:
    with held(lease(tmp_path)):
        until = time.monotonic() + 60
        while content(tmp_path).renewals < 2:
            assert time.monotonic() < until
            time.sleep(0.01)
    last = content(tmp_path)
    assert last.released
    time.sleep(4 * QUICK.renew)
    assert content(tmp_path) == last


def test_a_lease_that_is_not_whole_yet_counts_as_held(tmp_path: Path) -> None:
    # On HDFS, a file is empty for a moment before its content comes.
    with held(lease(tmp_path / "other")):
        whole = content(tmp_path / "other").encoded()
        LocalFiles(tmp_path).create(f"{FOLDER}/{1:012d}", b"")
        with pytest.raises(LakeInUseError, match="in use by `winnow ingest`"):
            waiting(tmp_path, whole).acquire()


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"{}", b'{"series": "x"}', b"null"])
def test_a_damaged_lease_is_replaced_after_a_while(tmp_path: Path, damage: bytes) -> None:
    LocalFiles(tmp_path).create(f"{FOLDER}/{7:012d}", damage)
    with held(lease(tmp_path)) as one:
        assert one.number == 8


def test_transactions_rise_from_lease_to_lease_under_one_name(tmp_path: Path) -> None:
    made = []
    for _ in range(3):
        with held(lease(tmp_path)) as one:
            made += [one.transaction(), one.transaction()]
    names, counts = zip(*made, strict=True)
    assert len(set(names)) == 1
    assert list(counts) == sorted(set(counts)) and counts[-1] < 2**63


def test_if_the_leases_were_deleted_transactions_get_another_name(tmp_path: Path) -> None:
    with held(lease(tmp_path)) as one:
        before = one.transaction()
    for file in (tmp_path / FOLDER).iterdir():
        file.unlink()
    with held(lease(tmp_path)) as one:
        assert one.transaction()[0] != before[0]


def test_a_lease_that_is_not_held_has_no_transactions(tmp_path: Path) -> None:
    one = lease(tmp_path)
    with pytest.raises(ValueError, match="not held"):
        one.transaction()
    one.release()
    assert not one.is_held and not (tmp_path / FOLDER).exists()


def test_a_release_that_fails_raises_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = lease(tmp_path)
    one.acquire()

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(LocalFiles, "write", fails)
    one.release()
    assert not one.is_held and not content(tmp_path).released


def test_the_file_of_a_lease_can_be_read_by_people(tmp_path: Path) -> None:
    with held(lease(tmp_path, "dedup")):
        written = json.loads(newest(tmp_path).read_text())
    assert written["command"] == "dedup" and written["process"]["pid"] == os.getpid() and not written["released"]


def test_a_file_is_created_once_also_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = LocalFiles(tmp_path)
    assert files.create("a/b", b"first") and not files.create("a/b", b"second")

    def no_links(*_: object) -> None:
        raise PermissionError("the file system has no hard links")

    monkeypatch.setattr(os, "link", no_links)
    assert files.create("a/c", b"first") and not files.create("a/c", b"second")
    assert {name: files.read(f"a/{name}") for name in files.names("a")} == {"b": b"first", "c": b"first"}
    assert list(files.names("nowhere")) == []


def test_a_process_of_another_machine_cannot_be_seen() -> None:
    here = this_process()
    assert here is not None
    assert has_ended(here) is False
    assert has_ended(replace(here, started=here.started + 1)) is True
    assert has_ended(replace(here, machine="another")) is None


def test_a_process_that_the_system_hides_cannot_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    here = this_process()
    assert here is not None

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(process, "_started", lambda pid: None)
    assert has_ended(here) is True  # it may be asked, so it would be seen
    monkeypatch.setattr(os, "kill", refused)
    assert has_ended(here) is None
