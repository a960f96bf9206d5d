"""Checks that a lake and its sources do not contain each other; otherwise `ingest` would read its own output."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from jobs.runtime.addresses import require_no_secret
from jobs.sources import files
from models.errors import WinnowError

_SAME_STORE = {"s3": "s3a", "s3n": "s3a", "abfs": "abfss", "wasb": "wasbs"}
_WILDCARDS = re.compile(r"[*?\[]")


def require_apart(lake: str, paths: Iterable[str]) -> None:
    """Checks that no source lies in the lake and that the lake lies in no source; reads no file.

    Args:
        lake: Address of the lake, with its scheme.
        paths: Files, folders, patterns with `*`, URIs.

    Raises:
        WinnowError: A source lies in the lake, or the lake in a source; the message names the first one. Or the address
            of a source holds a secret.
    """
    own = _resolved(files.absolute(lake))
    for path in paths:
        require_no_secret(path)
        if _prefix_is_inside(path, own) or any(_is_inside(one, own) for one in _expanded(path)):
            raise WinnowError(
                f"source {path} lies in the lake {lake}, so the lake would read itself; nothing was written: give a "
                f"source outside the lake, or another lake, as in `--lake {_beside(lake)}`"
            )
        if _pattern_covers(path, own) or any(_is_inside(own, one) for one in _expanded(path)):
            raise WinnowError(
                f"the lake {lake} lies in source {path}, so the next run would read the lake; nothing was written: "
                f"give a lake outside the source, as in `--lake {_beside(_above(path))}`"
            )


def is_inside(path: str, folder: str) -> bool:
    """Returns whether a path is that of a folder or below it; reads no file.

    Examples:
        >>> is_inside("/data/lake/out", "file:/data/lake"), is_inside("/data/lake-out", "/data/lake")
        (True, False)
    """
    return _is_inside(_resolved(files.absolute(path)), _resolved(files.absolute(folder)))


def _expanded(path: str) -> Iterator[tuple[str, ...]]:
    """Returns the paths that match a path or pattern, resolved."""
    return (_resolved(name) for name in files.expand(files.absolute(path)))


def _prefix_is_inside(path: str, lake: tuple[str, ...]) -> bool:
    """Returns whether everything that a pattern can match lies in the lake."""
    fixed = _fixed(files.absolute(path))
    return fixed is not None and _is_inside(_resolved(fixed), lake)


def _pattern_covers(path: str, lake: tuple[str, ...]) -> bool:
    """Returns whether a pattern will match the lake or a folder above it once the lake exists."""
    whole = files.absolute(path)
    fixed = _fixed(whole)
    if fixed is None:
        return False
    patterns = [part for part in whole[len(fixed) :].split("/") if part]
    start = _resolved(fixed)
    below = lake[len(start) :]
    if "**" in patterns or not _is_inside(lake, start) or len(patterns) > len(below):
        return False
    return all(fnmatchcase(name, pattern) for name, pattern in zip(below, patterns, strict=False))


def _fixed(path: str) -> str | None:
    """Returns the folder above the first wildcard of a pattern; None for a path without a wildcard."""
    wildcard = _WILDCARDS.search(path)
    if wildcard is None or files.kind(path):
        return None
    return path[: wildcard.start()].rpartition("/")[0] or "/"


def _resolved(path: str) -> tuple[str, ...]:
    """Returns an address as scheme and host, then the names of its folders; follows links on the local disk.

    Examples:
        >>> _resolved("s3://Bucket/a/../b/")
        ('s3a://bucket', 'b')
    """
    if files.is_local(path):
        return _address("file://", os.path.realpath(path))
    scheme, _, rest = path.partition("://")
    host, _, inner = rest.partition("/")
    store = _SAME_STORE.get(scheme.lower(), scheme.lower())
    return _address(f"{store}://{host.lower()}", posixpath.normpath(f"/{inner}"))


def _address(store: str, path: str) -> tuple[str, ...]:
    return (store, *[name for name in path.split("/") if name])


def _is_inside(inner: tuple[str, ...], outer: tuple[str, ...]) -> bool:
    return inner[: len(outer)] == outer


def _above(path: str) -> str:
    return _fixed(files.absolute(path)) or files.absolute(path)


def _beside(address: str) -> str:
    return f"{files.absolute(address)}-lake"
