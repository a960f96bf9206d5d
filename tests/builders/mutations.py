"""Seeded mutations of files that Winnow reads, and what must hold for each: no crash, no lost row, no changed image."""

import gzip
import io
import json
import random
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from jobs.runtime import config
from jobs.sources import folder, parquet, rows, webdataset
from jobs.sources.rows import Row
from models.errors import WinnowError
from models.images import decoding
from models.images.decoding import ImageFault
from tests.builders.sources import tar_bytes

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 45) - 1, (1 << 63) - 1)
TOKENS = (
    b'"',
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r",
    b"\n",
    b",",
    b"[" * 300,
    b"{" * 300,
    b"9" * 5000,
    b"\xed\xa0\x80",
    b"\\u",
)
"""Bytes on which parsers of text fail."""

_MEGAPIXELS = 20.0
_SAMPLES, _GROUPS = 6, 4


def mutated(data: bytes, draw: random.Random, tokens: Sequence[bytes] = ()) -> tuple[bytes, int, int]:
    """Returns bytes with one to three mutations, and how many bytes at its beginning and end are as before.

    Args:
        data: The bytes.
        draw: Source of randomness.
        tokens: Further bytes to insert.
    """
    found = data
    for _ in range(draw.choice((1, 1, 2, 3))):
        found = _once(found, draw, tokens)
    most = min(len(data), len(found))
    pairs = np.frombuffer(data[:most], np.uint8) != np.frombuffer(found[:most], np.uint8)
    start = int(pairs.argmax()) if pairs.any() else most
    ends = (np.frombuffer(one[len(one) - most :], np.uint8)[::-1] for one in (data, found))
    pairs = np.not_equal(*ends)
    end = int(pairs.argmax()) if pairs.any() else most
    return found, start, end


def _once(data: bytes, draw: random.Random, tokens: Sequence[bytes]) -> bytes:
    place = draw.randrange(len(data) + 1) if draw.random() < 0.7 else min(len(data), draw.randrange(200))
    size = min(len(data) - place, int(2 ** draw.uniform(0, 12)))
    kind = draw.choice(("bit", "number", "zeros", "random", "delete", "repeat", "cut", "insert", "token"))
    before, middle, after = data[:place], data[place : place + size], data[place + size :]
    if kind == "bit" and middle:
        return before + bytes([middle[0] ^ (1 << draw.randrange(8))]) + middle[1:] + after
    if kind == "number":
        width = draw.choice((1, 2, 4, 8))
        order = draw.choice(("little", "big"))
        value = draw.choice(_EXTREMES) % (1 << 8 * width)
        return before + value.to_bytes(width, order) + data[place + width :]  # type: ignore[arg-type]
    if kind == "cut":
        return before
    if kind == "token" and tokens:
        return before + draw.choice(tokens) + middle + after
    changed = {"zeros": bytes(size), "random": draw.randbytes(size), "delete": b"", "repeat": middle * 2}
    return before + changed.get(kind, draw.randbytes(8) + middle) + after


# Images ---------------------------------------------------------------------------------------------------------------


@cache
def originals() -> tuple[bytes, ...]:
    """Returns small images of each format that Winnow reads."""
    grid = np.add.outer(np.arange(48) * 3, np.arange(64) * 2).astype(np.uint8)
    image = Image.fromarray(np.stack([grid, grid[::-1], 255 - grid], -1))
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = image.convert("RGBA")
    clear.putalpha(90)
    wide = Image.fromarray(np.linspace(0, 1, 48 * 64, dtype=np.float32).reshape(48, 64))
    frames = [image.rotate(90), image.rotate(180)]
    ways: list[tuple[Image.Image, str, dict[str, object]]] = [
        (image, "JPEG", {}), (image, "JPEG", {"progressive": True, "exif": exif}), (image.convert("L"), "JPEG", {}),
        (image.convert("CMYK"), "JPEG", {}), (image, "PNG", {}), (clear, "PNG", {"exif": exif}),
        (image.convert("P"), "PNG", {}), (image, "PNG", {"save_all": True, "append_images": frames}),
        (image, "WEBP", {}), (clear, "WEBP", {"lossless": True}), (image, "WEBP", {"save_all": True}),
        (image, "GIF", {"save_all": True, "append_images": frames}), (image, "BMP", {}), (image, "TIFF", {}),
        (image, "TIFF", {"compression": "tiff_lzw"}), (image, "TIFF", {"compression": "tiff_adobe_deflate"}),
        (image, "TIFF", {"compression": "jpeg"}), (wide, "TIFF", {}), (image, "AVIF", {}),
        (image, "MPO", {"save_all": True}),
    ]  # fmt: skip
    found = []
    for one, fmt, options in ways:
        buffer = io.BytesIO()
        one.save(buffer, fmt, **options)
        found.append(buffer.getvalue())
    return tuple(found)


def try_image(seed: int, _folder: Path) -> str:
    """Checks and decodes a mutated image; returns its fate."""
    draw = random.Random(seed)
    data, _, _ = mutated(draw.choice(originals()), draw)
    try:
        info = decoding.check(data, _MEGAPIXELS)
    except ImageFault as fault:
        assert fault.reason and fault.detail is not None
        return fault.reason
    assert info.width > 0 and info.height > 0 and info.width * info.height <= _MEGAPIXELS * 1e6
    try:
        decoding.decode(data, 64, _MEGAPIXELS)
    except ImageFault:
        return "read, not decoded again"
    return "read"


# Shards ---------------------------------------------------------------------------------------------------------------


def _samples() -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    for number, image in enumerate(originals()[:_SAMPLES]):
        key = f"{'d' * 110}/{number:05d}é" if number % 3 == 2 else f"{number:05d}"
        members |= {f"{key}.jpg": image, f"{key}.txt": b"caption %d" % number}
        members |= {f"{key}.json": json.dumps({"caption": "x", "n": number}).encode()}
    return members


def try_shard(seed: int, place: Path) -> str:
    """Reads a mutated tar file, some packed by gzip; samples before the first mutation must be there unchanged."""
    draw, settings = random.Random(seed), config.load().ingest
    whole = tar_bytes(_samples())
    is_packed = draw.random() < 0.2
    data, sound, _ = mutated(gzip.compress(whole, mtime=0) if is_packed else whole, draw)
    shard = place / "a.tar"
    shard.write_bytes(data)
    found = list(webdataset._rows(str(shard), settings))
    check_rows(found)
    assert found, "a shard without a row"
    images = {row.image for row in found}
    if is_packed:
        assert _fate(found) != "all rows" or images <= set(originals()), "damage that the checksum of gzip shows"
        return f"packed, {_fate(found)}"
    ends, end = [], 0
    for name, image in _samples().items():
        end = whole.index(image, end) + len(image)
        if name.endswith(".json"):
            ends.append(end)
    for original, done in zip(originals()[:_SAMPLES], ends, strict=True):
        assert original in images or done + 1024 > sound, "a sample before the damage is missing"
    return _fate(found)


# Parquet --------------------------------------------------------------------------------------------------------------


@cache
def _parquet() -> tuple[bytes, tuple[bytes, ...]]:
    images = tuple(originals()[number % 8] + bytes([number]) for number in range(40))
    table = pa.table({"image": images, "caption": [f"c{n}" for n in range(40)], "n": list(range(40))})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=10, write_page_checksum=True, compression="none", use_dictionary=False)
    return buffer.getvalue(), images


def try_parquet(seed: int, place: Path) -> str:
    """Reads a mutated Parquet file; with a sound footer, each of its rows is there, unchanged or with a reason."""
    draw, settings = random.Random(seed), config.load().ingest
    whole, images = _parquet()
    data, _, sound = mutated(whole, draw)
    file = place / "a.parquet"
    file.write_bytes(data)
    groups = [group | {"root": str(place)} for group in parquet._groups(str(file))]
    found = [row for group in groups for row in parquet._rows(group, settings)]
    check_rows(found)
    assert found, "a file without a row"
    if sound >= int.from_bytes(whole[-8:-4], "little") + 8:
        assert len(found) == len(images), f"{len(found)} rows"
        for number, (row, image) in enumerate(zip(found, images, strict=True)):
            assert row.reason or (row.image == image and row.caption == f"c{number}"), f"row {number} has other values"
    return _fate(found)


# Metadata -------------------------------------------------------------------------------------------------------------


def _metadata(kind: str) -> bytes:
    records = [{"file_name": f"{n}.jpg", "text": f'caption "{n}", Zoë\nline', "n": n} for n in range(_SAMPLES)]
    if kind == "metadata.jsonl":
        return "\n".join(json.dumps(record) for record in records).encode()
    if kind == "metadata.csv":
        lines = ['"{}","{}",{}'.format(r["file_name"], str(r["text"]).replace('"', '""'), r["n"]) for r in records]
        return "\n".join(["file_name,text,n", *lines]).encode(random.Random(len(kind)).choice(("utf-8", "utf-16")))
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def try_metadata(seed: int, place: Path) -> str:
    """Reads a folder with mutated metadata: it is refused, or each image file gives a row with its bytes."""
    draw, settings = random.Random(seed), config.load().ingest
    kind = draw.choice(("metadata.jsonl", "metadata.csv", "metadata.parquet"))
    here = place / kind.replace(".", "_")
    here.mkdir(exist_ok=True)
    for number, image in enumerate(originals()[:_SAMPLES]):
        (here / f"{number}.jpg").write_bytes(image)
    (here / kind).write_bytes(mutated(_metadata(kind), draw, TOKENS)[0])
    try:
        folder._check_metadata(str(here))
    except WinnowError as error:
        assert str(error).startswith(str(here)) and "\n" not in str(error)
        return "refused"
    found = list(_rows_of_folder(str(here), settings))
    check_rows(found)
    assert set(originals()[:_SAMPLES]) <= {row.image for row in found}, "an image is missing"
    return _fate(found)


def _rows_of_folder(root: str, settings: config.IngestSettings) -> Iterator[Row]:
    names, empty = folder._LISTED.names, dict.fromkeys(folder._NAMED.names)
    both = [empty | dict(zip(names, row, strict=True)) for row in folder._listing(root)]
    unnamed = dict.fromkeys(names)
    for path in folder._metadata_paths(root):
        named = folder._named(root, path, settings)
        both += [unnamed | dict(zip(folder._NAMED.names, row, strict=True)) for row in named]
    both.sort(key=lambda row: (row["root"], row["composed"], row["size"] is None, row["path"] or ""))
    yield from (folder._row(row, settings) for row in folder._paired(both))


# Settings -------------------------------------------------------------------------------------------------------------


@cache
def _settings() -> tuple[bytes, ...]:
    conf = resources.files("conf")
    files = [conf / "winnow.toml", *(conf / "categories").iterdir(), *(conf / "rules").iterdir()]
    return tuple(file.read_bytes() for file in sorted(files, key=str) if file.name.endswith(".toml"))


def try_settings(seed: int, place: Path) -> str:
    """Loads a mutated settings file: it is valid, or refused with a message that a terminal can show."""
    draw = random.Random(seed)
    file = place / "mine.toml"
    file.write_bytes(mutated(draw.choice(_settings()), draw, TOKENS)[0])
    try:
        config.load([file])
    except WinnowError as error:
        assert len(str(error)) < 20_000, "a message that no terminal can show"
        return "refused"
    return "valid" if _is_toml(file) else "taken"


def _is_toml(file: Path) -> bool:
    try:
        tomllib.loads(file.read_text())
    except ValueError:
        return False
    return True


# What holds for all ---------------------------------------------------------------------------------------------------


def check_rows(found: Sequence[Row]) -> None:
    """Checks that each row is an image or has a reason, that it can be stored, and that its other fields are JSON."""
    stored = pa.Table.from_batches(list(rows.batches(found)), rows._ARROW) if found else None
    assert stored is None or stored.num_rows == len(found)
    for row in found:
        assert (row.image is None) == (row.reason is not None)
        assert isinstance(json.loads(row.meta), dict)


def _fate(found: Sequence[Row]) -> str:
    faulty = sum(row.reason is not None for row in found)
    return "all rows" if not faulty else "no row" if faulty == len(found) else "some rows"


TRIALS: dict[str, Callable[[int, Path], str]] = {
    "image": try_image,
    "tar": try_shard,
    "parquet": try_parquet,
    "metadata": try_metadata,
    "settings": try_settings,
}
"""What to try, by kind: a function of a seed and a folder for its files that returns the fate, or raises."""
