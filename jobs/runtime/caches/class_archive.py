"""Java's archive of the classes of Spark, from which a local Spark starts faster (JEP 350, dynamic CDS archives).

At each start, Java reads some 15,000 classes from jars and checks them. An archive holds them ready for use. Unless
there is one, the JVM of a local session writes it to the user's cache folder when its command has ended. Java itself
checks that an archive fits its version and its jars, and does without it otherwise.
"""

import contextlib
import os
import shlex
import shutil
import time
from hashlib import sha256
from pathlib import Path

import pyspark

from jobs.runtime.caches.folder import cache_folder

# The first bytes of a dynamic archive. Java writes them last, so an archive that has them is complete.
_MAGIC = (0xF00BABA8).to_bytes(4, "little")
_FREE = 2 << 30  # bytes that the disk must have free: an archive takes some 200 MB
_WRITING = 300.0  # seconds in which a JVM surely writes its archive after its command has ended
_UNUSED = 30 * 24 * 3_600.0  # seconds without a use after which an archive is deleted
# Java warns of an archive that does not fit. It is not used then, so nobody needs to know.
_QUIET = "-Xlog:disable"
_VERIFIED = "-XX:+VerifySharedSpaces"  # compares checksums: a disk may have damaged the archive
_OF_THE_USER = ("-Xshare", "SharedArchiveFile", "ArchiveClassesAtExit")


def options(java: str, given: str) -> str:
    """Returns the options with which Java uses the archive, or writes one; empty if it can do neither.

    Args:
        java: Path of the program `java`.
        given: The user's own options.
    """
    given = " ".join([given, *(os.environ.get(name, "") for name in ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS"))])
    if any(option in given for option in _OF_THE_USER):
        return ""
    try:
        program = Path(shutil.which(java) or java).resolve()
        # Java refuses to start if it shall add to an archive of its own classes that it does not have.
        if not (program.parents[1] / "lib" / "server" / "classes.jsa").exists():
            return ""
        folder = cache_folder("java")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        seen = folder.stat()
        if seen.st_uid != os.getuid() or seen.st_mode & 0o022:
            return ""  # An archive is code: no other user must be able to put one here.
        return _options(folder, f"classes-{_key(program)}")
    except (OSError, RuntimeError, IndexError):
        return ""


def _options(folder: Path, name: str) -> str:
    _tidy(folder, name)
    for archive in folder.glob(f"{name}-*.jsa"):
        # Java would crash on a file that was cut off.
        if archive.stat().st_size == int(archive.stem.rpartition("-")[2]):
            os.utime(archive)
            return f"{_QUIET} {_VERIFIED} {shlex.quote(f'-XX:SharedArchiveFile={archive}')}"
        archive.unlink()
    if any(True for _ in folder.glob(f"{name}.*.part")) or shutil.disk_usage(folder).free < _FREE:
        return ""
    part = folder / f"{name}.{os.getpid()}.part"
    part.touch(mode=0o600)  # Java replaces it when it ends. Meanwhile no other process records.
    return f"{_QUIET} {shlex.quote(f'-XX:ArchiveClassesAtExit={part}')}"


def _tidy(folder: Path, name: str) -> None:
    """Takes a complete archive, and deletes parts that killed JVMs left and archives that nothing uses any more."""
    now = time.time()
    for part in folder.glob(f"{name}.*.part"):
        # Another process may take it at the same time.
        with contextlib.suppress(FileNotFoundError):
            if _is_complete(part):
                part.replace(folder / f"{name}-{part.stat().st_size}.jsa")
            elif now - part.stat().st_mtime > _WRITING and not _runs(part):
                part.unlink()
    for other in folder.glob("classes-*.jsa"):
        with contextlib.suppress(FileNotFoundError):
            if now - other.stat().st_mtime > _UNUSED:
                other.unlink()


def _is_complete(part: Path) -> bool:
    """Returns whether Java has written the whole file; all of it is on the disk then."""
    with part.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            return False
        os.fsync(file.fileno())
        return True


def _runs(part: Path) -> bool:
    """Returns whether the command that records a part still runs."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(int(part.name.split(".")[-2]), 0)
        return True
    return False


def _key(program: Path) -> str:
    """Returns a name for what an archive depends on. Java checks the rest."""
    used = f"{program} {program.stat().st_mtime_ns} {Path(pyspark.__file__).parent}"
    return sha256(used.encode()).hexdigest()[:16]
