"""Copies of image files without side data: text, colour profiles and other parts on which no pixel depends."""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import partial

_PNG_START = b"\x89PNG\r\n\x1a\n"
_PNG_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
# Chunks at which reading goes on after one whose length is damaged.
_PNG_WANTED = re.compile(rb"PLTE|tRNS|eXIf|IDAT|IEND")

# Parts of a WebP file that hold pixels, and where the next of them may begin after a damaged part.
_WEBP_IMAGE = (b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF")
_WEBP_PIXELS = re.compile(rb"ALPH|VP8 |VP8L|ANIM|ANMF")
_WEBP_FLAGS, _WEBP_PROFILE, _WEBP_EXIF, _WEBP_XMP = 8, 0x20, 0x08, 0x04

_JPEG_SIDE = (*range(0xE0, 0xF0), 0xFE)  # application segments and comments
_ADOBE = 0xEE  # says how colours are stored

# Tags of a TIFF on which its pixels depend: size, type, colours, compression, orientation, strips, tiles.
_TIFF_NEEDED = {
    *range(254, 260), 262, 266, 273, 274, 277, 278, 279, 284, 292, 293, 317, *range(320, 326), 330, 332, 338, 339, 347,
    *range(512, 522), *range(529, 533),
}  # fmt: skip


def copies(data: bytes) -> Iterator[bytes]:
    r"""Yields copies of a PNG, JPEG, WebP or TIFF file without side data, to decode if the file itself fails.

    Sound data on orientation and transparency are kept; a further copy is without transparency, which may be the
    damaged part. Pixels are copied as they are, so damaged pixels stay damaged. An animated PNG becomes its default
    image. Time and memory are a small multiple of the size of the file.

    Args:
        data: The file's bytes.

    Returns:
        At most two copies, which differ from the file and from each other; none for other formats.

    Examples:
        >>> empty = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sI", 0, b"IEND", zlib.crc32(b"IEND"))
        >>> list(copies(empty[:8] + b"\0\0\0\1tEXt?...." + empty[8:])) == [empty]
        True
    """
    before = data
    for strip in _strips(data):
        copy = strip(data)
        if copy not in (data, before):
            before = copy
            yield copy


def _strips(data: bytes) -> tuple[Callable[[bytes], bytes], ...]:
    if data.startswith(_PNG_START):
        return partial(_png, kept=(b"tRNS", b"eXIf")), partial(_png, kept=(b"eXIf",))
    if data.startswith(b"\xff\xd8\xff"):
        return (_jpeg,)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return partial(_webp, kept=(b"EXIF",)), partial(_webp, kept=())
    if data.startswith((b"II*\0", b"MM\0*")):
        return (_tiff,)
    return ()


def _png(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    copy, place, before, pixels_ended = bytearray(_PNG_START), len(_PNG_START), b"", False
    while place < len(data):
        kind, end = data[place + 4 : place + 8], place + 12 + int.from_bytes(data[place : place + 4])
        pixels_ended |= before == b"IDAT" != kind
        if pixels_ended and kind == b"IDAT":  # joining pixels across a gap would give a wrong image
            break
        is_wanted = kind in kept or (kind.isalpha() and kind[:1].isupper())
        if kind in _PNG_CRITICAL or (is_wanted and _is_sound(data, place, end)):
            copy += memoryview(data)[place:end]
        elif not _begins_chunk(data, end):  # its length is damaged
            end = _next_wanted(data, place + 8)
        before, place = kind, end
    return bytes(copy)


def _is_sound(data: bytes, place: int, end: int) -> bool:
    """Returns whether the checksum of a PNG chunk is right."""
    return end <= len(data) and zlib.crc32(memoryview(data)[place + 4 : end - 4]) == int.from_bytes(data[end - 4 : end])


def _begins_chunk(data: bytes, place: int) -> bool:
    return place == len(data) or (place + 8 < len(data) and data[place + 4 : place + 8].isalpha())


def _next_wanted(data: bytes, place: int) -> int:
    """Returns where the next chunk begins on which pixels depend; the end of the file if there is none."""
    for found in _PNG_WANTED.finditer(data, place + 4):
        begin = found.start() - 4
        if _begins_chunk(data, begin + 12 + int.from_bytes(data[begin : begin + 4])):
            return begin
    return len(data)


def _jpeg(data: bytes) -> bytes:
    copy, place = bytearray(data[:2]), 2
    while place + 4 <= len(data) and data[place] == 0xFF and 0xC0 <= data[place + 1] <= 0xFE:
        marker, end = data[place + 1], place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker in (0xD9, 0xDA):  # the end, or the first scan
            break
        is_exif = marker == 0xE1 and data[place + 4 : place + 8] == b"Exif"
        if marker not in _JPEG_SIDE or is_exif or (marker == _ADOBE and end - place >= 16):
            copy += memoryview(data)[place:end]
        place = end
    return bytes(copy + memoryview(data)[place:])


def _webp(data: bytes, kept: tuple[bytes, ...]) -> bytes:
    copy, place, flags = bytearray(data[:12]), 12, 0
    while place + 8 <= len(data):
        kind, size = struct.unpack_from("<4sI", data, place)
        end = place + 8 + size + size % 2
        if kind in _WEBP_IMAGE or (kind in kept and end <= len(data)):
            flags |= _WEBP_EXIF if kind == b"EXIF" else 0
            copy += memoryview(data)[place:end]
        elif end != len(data) and not data[end : end + 4].rstrip().isalnum():  # its length is damaged
            found = _WEBP_PIXELS.search(data, place + 8)
            end = found.start() if found else len(data)
        place = end
    if copy[12:16] == b"VP8X" and len(copy) > 12 + _WEBP_FLAGS:
        copy[12 + _WEBP_FLAGS] = copy[12 + _WEBP_FLAGS] & ~(_WEBP_PROFILE | _WEBP_EXIF | _WEBP_XMP) | flags
    copy[4:8] = struct.pack("<I", (len(copy) - 8) & 0xFFFFFFFF)
    return bytes(copy)


def _tiff(data: bytes) -> bytes:
    """Returns a copy in which the unneeded tags of the first image have no known type, so that readers skip them."""
    order = "<" if data.startswith(b"II") else ">"
    copy = bytearray(data)
    place = int.from_bytes(data[4:8], "little" if order == "<" else "big")
    if place + 2 > len(data):
        return data
    (count,) = struct.unpack_from(f"{order}H", data, place)
    for entry in range(place + 2, min(place + 2 + 12 * count, len(data) - 11), 12):
        if struct.unpack_from(f"{order}H", data, entry)[0] not in _TIFF_NEEDED:
            copy[entry + 2 : entry + 4] = bytes(2)
    return bytes(copy)
