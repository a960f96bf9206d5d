import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.runtime.caches import class_archive

JAVA = str(shutil.which("java"))
MAGIC = bytes.fromhex("a8ab0bf0")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of archives in an empty cache, in a path with a space."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "my cache"))
    return tmp_path / "my cache" / "winnow" / "java"


def path_in(options: str, option: str) -> Path:
    """Returns the path of an option, which must be one word for a shell."""
    *_, named = shlex.split(options)
    assert "-Xlog:disable" in options and named.startswith(f"-XX:{option}=")
    return Path(named.partition("=")[2])


def recorded(folder: Path, content: bytes = MAGIC, age: float = 0.0, process: int = 1 << 30) -> Path:
    """Lets a command record, which then is another process, and ends it."""
    part = path_in(class_archive.options(JAVA, ""), "ArchiveClassesAtExit")
    left = part.with_name(part.name.replace(f".{os.getpid()}.", f".{process}."))
    part.replace(left)
    left.write_bytes(content)
    os.utime(left, (time.time() - age,) * 2)
    return left


def test_the_first_command_records_and_others_use_what_it_wrote(folder: Path) -> None:
    part = recorded(folder)
    archive = path_in(class_archive.options(JAVA, ""), "SharedArchiveFile")
    assert archive.parent == folder and archive.read_bytes() == MAGIC and not part.exists()
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("still_runs", [True, False])
def test_nothing_is_used_or_recorded_while_an_archive_is_written(folder: Path, still_runs: bool) -> None:
    """By a process that runs, however long it takes, or by one that ended a moment ago."""
    process, age = (os.getpid(), 7_200.0) if still_runs else (1 << 30, 0.0)
    part = recorded(folder, b"", age=age, process=process)
    assert class_archive.options(JAVA, "") == "" and part.exists()


@pytest.mark.parametrize("content", [b"", bytes(4_096)])
def test_what_a_killed_java_left_is_recorded_again(folder: Path, content: bytes) -> None:
    part = recorded(folder, content, age=301.0)
    again = path_in(class_archive.options(JAVA, ""), "ArchiveClassesAtExit")
    assert not part.exists() and again.name.endswith(f".{os.getpid()}.part")


def test_an_archive_that_nothing_used_for_a_month_is_deleted(folder: Path) -> None:
    recorded(folder)
    for name, days in (("old", 31), ("new", 29)):
        (folder / f"classes-{name}.jsa").touch()
        os.utime(folder / f"classes-{name}.jsa", (time.time() - days * 86_400,) * 2)
    class_archive.options(JAVA, "")
    assert not (folder / "classes-old.jsa").exists() and (folder / "classes-new.jsa").exists()


def test_another_java_has_an_archive_of_its_own(folder: Path, tmp_path: Path) -> None:
    recorded(folder)
    other = tmp_path / "jdk" / "bin" / "java"
    for file in (other, tmp_path / "jdk" / "lib" / "server" / "classes.jsa"):
        file.parent.mkdir(parents=True)
        file.write_text("#!/bin/sh\n")
        file.chmod(0o755)
    assert "SharedArchiveFile" in class_archive.options(JAVA, "")
    assert "ArchiveClassesAtExit" in class_archive.options(str(other), "")


def test_a_folder_that_others_may_write_to_is_not_used(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    assert class_archive.options(JAVA, "") == ""


def test_a_java_without_an_archive_of_its_own_classes_is_left_alone(folder: Path, tmp_path: Path) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    assert class_archive.options(str(java), "") == "" and not folder.exists()


@pytest.mark.parametrize("given", ["-Xshare:off", "-Da=b -XX:SharedArchiveFile=/mine.jsa"])
def test_archives_of_the_user_are_left_to_the_user(folder: Path, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert class_archive.options(JAVA, given) == ""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", given)
    assert class_archive.options(JAVA, "") == ""


def test_an_archive_that_was_cut_off_is_never_used(folder: Path) -> None:
    recorded(folder, MAGIC + bytes(99))
    archive = path_in(class_archive.options(JAVA, ""), "SharedArchiveFile")
    archive.write_bytes(MAGIC + bytes(98))
    assert "ArchiveClassesAtExit" in class_archive.options(JAVA, "") and not archive.exists()


def test_without_a_cache_or_space_java_starts_as_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr("jobs.runtime.caches.class_archive._FREE", 1 << 60)
        assert class_archive.options(JAVA, "") == ""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert class_archive.options(JAVA, "") == ""


STARTS = """
import os
from jobs.runtime import config
from jobs.runtime.session import get_session
session = get_session(config.load(overrides=['spark.master="local[1]"', "spark.driver_memory=1g"]).spark)
print(session.range(3).count(), session._jvm.java.lang.ProcessHandle.current().pid())
maps = open(f"/proc/{session._jvm.java.lang.ProcessHandle.current().pid()}/maps").read()
print("winnow/java/classes-" in maps)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_java_writes_an_archive_and_maps_it_at_the_next_start(folder: Path) -> None:
    def started() -> tuple[int, bool]:
        ran = subprocess.run([sys.executable, "-c", STARTS], capture_output=True, text=True, timeout=300, check=True)
        assert ran.stderr == ""
        found = re.fullmatch(r"3 (\d+)\n(True|False)\n", ran.stdout)
        assert found is not None
        return int(found[1]), found[2] == "True"

    java, is_mapped = started()
    assert not is_mapped
    end = time.monotonic() + 120
    while Path(f"/proc/{java}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert started()[1]
    (archive,) = folder.iterdir()
    assert archive.suffix == ".jsa" and archive.stat().st_size > 50 << 20
