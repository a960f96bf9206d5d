"""Whether a lake and the sources that are read into it lie apart: else it would read itself."""

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from jobs.sources import files
from jobs.sources.find import PASSWORD
from models.errors import WinnowError

_SAME_STORE = {"s3": "s3a", "s3n": "s3a", "abfs": "abfss", "wasb": "wasbs"}
_SIGNS = re.compile(r"[*?\[]")


def require_apart(lake: str, paths: Iterable[str]) -> None:
    """Makes sure that no source lies in the lake, and that the lake lies in no source; reads no file.

    Args:
        lake: Address of the lake, with its scheme.
        paths: Files, folders, patterns with `*`, URIs.

    Raises:
        WinnowError: Names the first source that does not lie apart.
    """
    own = _resolved(files.absolute(lake))
    for path in paths:
        if PASSWORD.match(path):  # the search for sources refuses it and does not repeat it
            continue
        if _prefix_is_inside(path, own) or any(_is_inside(one, own) for one in _meant(path)):
            raise WinnowError(
                f"source {path} lies in the lake {lake}, which would read itself; nothing was written: name a folder "
                f"outside of it, or another lake, as in `--lake {_beside(lake)}`"
            )
        if _pattern_covers(path, own) or any(_is_inside(own, one) for one in _meant(path)):
            raise WinnowError(
                f"the lake {lake} lies in source {path}, which would read the lake the next time; nothing was written: "
                f"name a lake outside of the source, as in `--lake {_beside(_above(path))}`"
            )


def _meant(path: str) -> Iterator[tuple[str, ...]]:
    """What a path or pattern stands for, resolved."""
    return (_resolved(name) for name in files.expand(files.absolute(path)))


def _prefix_is_inside(path: str, lake: tuple[str, ...]) -> bool:
    """Whether all that a pattern may ever match lies in the lake."""
    fixed = _fixed(files.absolute(path))
    return fixed is not None and _is_inside(_resolved(fixed), lake)


def _pattern_covers(path: str, lake: tuple[str, ...]) -> bool:
    """Whether a pattern will match the lake, or a folder above it, as soon as it is there."""
    whole = files.absolute(path)
    fixed = _fixed(whole)
    if fixed is None:
        return False
    signs = [part for part in whole[len(fixed) :].split("/") if part]
    start = _resolved(fixed)
    below = lake[len(start) :]
    if "**" in signs or not _is_inside(lake, start) or len(signs) > len(below):
        return False
    return all(fnmatchcase(name, sign) for name, sign in zip(below, signs, strict=False))


def _fixed(path: str) -> str | None:
    """The folder that the first sign of a pattern stands in; None for a path without one."""
    sign = _SIGNS.search(path)
    if sign is None or files.kind(path):
        return None
    return path[: sign.start()].rpartition("/")[0] or "/"


def _resolved(path: str) -> tuple[str, ...]:
    """An address as scheme and host, followed by the names on the way down; links on the local disk are followed.

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
