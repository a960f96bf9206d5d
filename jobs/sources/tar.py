"""Lists the members of tar files: whole, truncated, damaged, or several in one file.

Only headers are read. After a damaged header, reading goes on at the next header that has the magic bytes and the
checksum of one.
"""

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, NamedTuple

from jobs.sources.rows import printable

CUT = "truncated shard"
CORRUPT = "corrupt shard"
UNSUPPORTED = "unsupported"
TOO_LARGE = "file too large"

# Exceptions of tarfile for invalid headers.
_BAD_HEADER = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, IndexError)
# The headers of one member (long names, extended headers, maps of holes) have a few hundred bytes.
_MOST_HEADER_BYTES = 1 << 20
# Holes of sparse members take no bytes in the shard, so a small shard could give any number of bytes.
_MOST_HOLE_BYTES = 1 << 30

_PADDING = tarfile.BLOCKSIZE - 1  # the most bytes that fill the last block of a member
_CHUNK = 1 << 16
_MAGIC, _MAGIC_AT = b"ustar", 257
# A shard of a GB could hold a hundred million false headers. After so many, the rest is given up.
_MOST_CANDIDATES = 10_000
# Headers that describe the member after them, whose own header then has a shortened name, or one with question marks.
_DESCRIBING = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
_DESCRIBING_NAMES = ("@LongLink", "PaxHeader")
_KINDS = {
    tarfile.LNKTYPE: "a hard link", tarfile.SYMTYPE: "a symbolic link", tarfile.FIFOTYPE: "a named pipe",
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device",
}  # fmt: skip
_COMPRESSED = ((b"\xfd7zXZ\0", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"\x04\x22\x4d\x18", "lz4"),
               (b"\x1f\x9d", "compress"), (b"PK\3\4", "zip"), (b"7z\xbc\xaf\x27\x1c", "7z"))  # fmt: skip


class Place(NamedTuple):
    """Where the content of a member is.

    Attributes:
        offset: Where its bytes begin in the tar file.
        size: Size of the content in bytes.
        pieces: Position and size of each piece that is stored of a sparse member; the rest is zeros. None for others.
    """

    offset: int
    size: int
    pieces: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Member:
    """A member that is not a folder.

    Attributes:
        name: Its path in the archive.
        place: Its content; None if it is not a plain file.
        kind: What it is instead of a plain file, such as `a hard link`; '' for plain files.
        target: Path in the archive to which a link points; '' for other members.
    """

    name: str
    place: Place | None = None
    kind: str = ""
    target: str = ""


@dataclass(frozen=True)
class Damage:
    """A part of a tar file that cannot be read.

    Attributes:
        name: Path of the member that is lost, '' if unknown.
        reason: A fixed phrase, such as `truncated shard`.
        detail: What was found.
    """

    name: str
    reason: str
    detail: str


def members(shard: IO[bytes]) -> Iterator[Member | Damage]:
    """Yields the members of a tar file in their order, and between them what is damaged.

    If archives follow each other in one file, the members of all are yielded.

    Args:
        shard: A tar file, open for random access.

    Examples:
        >>> file = io.BytesIO()
        >>> with tarfile.open(fileobj=file, mode="w") as archive:
        ...     archive.addfile(tarfile.TarInfo("a.txt"))
        >>> list(members(file))
        [Member(name='a.txt', place=Place(offset=512, size=0, pieces=None), kind='', target='')]
    """
    walk = _Walk(shard)
    place: int | None = 0
    while place is not None:
        found, place = walk.step(place)
        yield from found


def read(shard: IO[bytes], place: Place) -> bytes:
    r"""Returns the content of a member.

    Examples:
        >>> read(io.BytesIO(b"..abc"), Place(2, 6, ((0, 1), (4, 2))))
        b'a\x00\x00\x00bc'
    """
    shard.seek(place.offset)
    if place.pieces is None:
        return shard.read(place.size)
    content = bytearray(place.size)
    for start, size in place.pieces:
        content[start : start + size] = shard.read(size)
    return bytes(content)


class _Walk:
    """Goes from header to header. A member is held back until the next header shows that its size is right."""

    def __init__(self, shard: IO[bytes]) -> None:
        self._shard, self._size = shard, shard.seek(0, 2)
        self._held: Member | None = None
        self._held_data = 0  # where the data of that member begin
        self._holes = 0
        self._tar = _empty_tar()

    def step(self, place: int) -> tuple[list[Member | Damage], int | None]:
        """Returns what is known after reading the header at a place, and where the next one is; None at the end."""
        if _block(self._shard, place) == bytes(tarfile.BLOCKSIZE):
            return self._after_end(place)
        headers = _Headers(self._shard, place)
        self._tar.fileobj = headers  # type: ignore[assignment]  # tarfile only reads and tells
        try:
            header = tarfile.TarInfo.fromtarfile(self._tar)
        except _BAD_HEADER as error:
            read_to = headers.tell()
            if _is_header(_block(self._shard, place)):
                return self._broken(place, read_to, error)
            return self._no_header(place) if place else self._not_a_tar(error)
        return self._member(header)

    def _member(self, header: tarfile.TarInfo) -> tuple[list[Member | Damage], int | None]:
        name, data, after = printable(header.name), header.offset_data, self._tar.offset
        if header.size < 0 or after < data:
            return self._backwards(name, header.size, data)
        pieces = _pieces(header)
        # Of a sparse member, tarfile gives the size with its holes, but goes on by that of the stored bytes.
        stored = header.size if pieces is None else max(sum(size for _, size in pieces), after - data - _PADDING)
        if after > data and data + stored > self._size:
            return self._beyond(name, data, stored)
        if pieces is not None and (damage := self._damage_of_sparse(header, pieces)):
            return self._lost(damage, after)
        released = self._release()
        if not header.isdir():
            self._held, self._held_data = _member_of(header, name, pieces), data
        return released, after

    def _backwards(self, name: str, size: int, data: int) -> tuple[list[Member | Damage], int | None]:
        detail = f"{name}: a size of {size} bytes points back to earlier members"
        return self._lost(Damage(name, CORRUPT, detail), _next_header(self._shard, data, self._size))

    def _release(self) -> list[Member | Damage]:
        held, self._held = self._held, None
        return [] if held is None else [held]

    def _lost(self, damage: Damage, place: int | None) -> tuple[list[Member | Damage], int | None]:
        return [*self._release(), damage], place

    def _beyond(self, name: str, data: int, stored: int) -> tuple[list[Member | Damage], int | None]:
        found = None if _is_archive(name) else _next_header(self._shard, data, self._size)
        if found is None:
            detail = f"{name}: its last {data + stored - self._size} bytes are missing"
            return self._lost(Damage(name, CUT, detail), None)
        detail = f"{name}: a size of {stored} bytes, beyond the end of the shard of {self._size} bytes"
        return self._lost(Damage(name, CORRUPT, detail), found)

    def _damage_of_sparse(self, header: tarfile.TarInfo, pieces: tuple[tuple[int, int], ...]) -> Damage | None:
        name, end, stored = printable(header.name), 0, 0
        for start, size in pieces:
            stored += size
            if start < end or size < 0 or start + size > header.size or stored > self._tar.offset - header.offset_data:
                return Damage(name, CORRUPT, f"{name}: a sparse member with an invalid map of its holes")
            end = start + size
        self._holes += header.size - stored
        if self._holes > _MOST_HOLE_BYTES:
            detail = f"{name}: the sparse members up to it have over {_MOST_HOLE_BYTES} bytes of holes"
            return Damage(name, TOO_LARGE, detail)
        return None

    def _after_end(self, place: int) -> tuple[list[Member | Damage], int | None]:
        """Returns where another archive begins after the block of zeros that ends one."""
        self._tar.pax_headers = {}
        following = _past_zeros(self._shard, place)
        if following is None:
            return self._release(), None
        found = _next_header(self._shard, following, self._size)
        if found == following:
            return self._release(), found
        detail = f"data that are no tar member follow the end of the archive, at byte {following} of {self._size}"
        return self._lost(Damage("", CORRUPT, detail), found)

    def _not_a_tar(self, error: Exception) -> tuple[list[Member | Damage], int | None]:
        compression = _compression(_block(self._shard, 0))
        if compression:
            detail = f"compressed with {compression}, which is not read: unpack it, or compress it with gzip"
            return [Damage("", UNSUPPORTED, detail)], None
        found = _next_header(self._shard, 1, self._size)
        what = "not a tar file" if found is None else "does not begin with a tar header"
        return [Damage("", CORRUPT, f"{what}: {error} (of {self._size} bytes)")], found

    def _no_header(self, place: int) -> tuple[list[Member | Damage], int | None]:
        """Returns where to go on if there is no header where one should be."""
        if self._held is not None and not _is_archive(self._held.name):
            inside = _next_header(self._shard, self._held_data, place)
            if inside is not None:  # the size of the member before is too large
                name, self._held = self._held.name, None
                detail = f"{name}: its size is wrong, because another member begins inside, at byte {inside}"
                return [Damage(name, CORRUPT, detail)], inside
        found = _next_header(self._shard, place + 1, self._size)
        if found is None and self._size - place < tarfile.BLOCKSIZE:
            return self._lost(Damage("", CUT, f"no end-of-archive mark at byte {place} of {self._size}"), None)
        return self._lost(Damage("", CORRUPT, f"no tar header at byte {place} of {self._size}"), found)

    def _broken(self, place: int, read_to: int, error: Exception) -> tuple[list[Member | Damage], int | None]:
        """Returns where to go on after a header that is sound in itself, but cannot be used."""
        header = _header(_block(self._shard, place))
        if header.size < 0:  # newer versions of tarfile refuse it, and do not say why
            if header.type not in (*_DESCRIBING, tarfile.XGLTYPE):
                return self._backwards(printable(header.name), header.size, place + tarfile.BLOCKSIZE)
            error = tarfile.ReadError(_size_of_header(header.size))
        found = _next_header(self._shard, max(read_to, place + tarfile.BLOCKSIZE), self._size)
        reason = CUT if found is None else CORRUPT
        if found is not None and header.type in _DESCRIBING:
            found = self._past_nameless(found)
        # With another name, only the type of a member's own header is damaged.
        name = "" if any(mark in header.name for mark in _DESCRIBING_NAMES) else printable(header.name)
        return self._lost(Damage(name, reason, f"header at byte {place} of {self._size}: {error}"), found)

    def _past_nameless(self, place: int) -> int:
        """Returns the end of a member if its long name was lost; the short one may be that of another sample."""
        header = _header(_block(self._shard, place))
        is_whole = len(header.name) < tarfile.LENGTH_NAME - 1 and "?" not in header.name
        end = place + tarfile.BLOCKSIZE + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return place if is_whole or not header.isreg() or not place < end <= self._size else end


class _Headers:
    """Reads headers from a place on, for tarfile, and no more than a few belong to one member."""

    def __init__(self, shard: IO[bytes], place: int) -> None:
        self._shard, self._room = shard, _MOST_HEADER_BYTES
        shard.seek(place)

    def read(self, size: int) -> bytes:
        if not 0 <= size <= self._room:
            raise tarfile.ReadError(_size_of_header(size))
        self._room -= size
        return self._shard.read(size)

    def tell(self) -> int:
        return self._shard.tell()


def _size_of_header(size: int) -> str:
    return f"a header of {size} bytes"


def _empty_tar() -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(bytes(tarfile.BLOCKSIZE)), mode="r:")


def _member_of(header: tarfile.TarInfo, name: str, pieces: tuple[tuple[int, int], ...] | None) -> Member:
    if header.isreg():
        return Member(name, Place(header.offset_data, header.size, pieces))
    kind = _KINDS.get(header.type, f"a member of type {header.type!r}")
    folder = posixpath.dirname(name) if header.issym() else ""
    target = posixpath.join(folder, printable(header.linkname)) if header.issym() or header.islnk() else ""
    return Member(name, None, kind, target)


def _pieces(header: tarfile.TarInfo) -> tuple[tuple[int, int], ...] | None:
    """Returns where the stored bytes of a sparse member belong; None for other members."""
    sparse: Any = header.sparse  # a list of pairs; typeshed says bytes
    return None if sparse is None else tuple((start, size) for start, size in sparse if size)


def _is_archive(name: str) -> bool:
    """Returns whether a member may hold headers of its own."""
    return name.lower().endswith(".tar")


def _compression(start: bytes) -> str | None:
    """Returns what a file is compressed with, other than gzip."""
    if start.startswith(b"BZh") and start[4:10] == b"1AY&SY":
        return "bzip2"
    return next((name for mark, name in _COMPRESSED if start.startswith(mark)), None)


def _block(shard: IO[bytes], place: int) -> bytes:
    shard.seek(place)
    return shard.read(tarfile.BLOCKSIZE)


def _header(block: bytes) -> tarfile.TarInfo:
    return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")


def _is_header(block: bytes) -> bool:
    try:
        _header(block)
    except _BAD_HEADER:
        return False
    return True


def _past_zeros(shard: IO[bytes], place: int) -> int | None:
    """Returns where the first byte other than zero is; None if there is none."""
    shard.seek(place)
    while chunk := shard.read(_CHUNK):
        rest = chunk.lstrip(b"\0")
        if rest:
            return place + len(chunk) - len(rest)
        place += len(chunk)
    return None


def _next_header(shard: IO[bytes], start: int, stop: int) -> int | None:
    """Returns the first place from `start` to before `stop` at which a tar header begins; None if there is none."""
    candidates = 0
    for place in range(start, stop, _CHUNK):
        shard.seek(place)
        chunk = shard.read(_CHUNK + tarfile.BLOCKSIZE)
        found = chunk.find(_MAGIC, _MAGIC_AT)
        while 0 <= found < _CHUNK + _MAGIC_AT and place + found - _MAGIC_AT < stop:
            begin = found - _MAGIC_AT
            if _is_header(chunk[begin : begin + tarfile.BLOCKSIZE]):
                return place + begin
            candidates += 1
            if candidates > _MOST_CANDIDATES:
                return None
            found = chunk.find(_MAGIC, found + 1)
    return None
