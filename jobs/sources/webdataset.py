"""WebDataset tar shards: members with the same name up to the first dot (`KEY.jpg`, `KEY.txt`) are one sample."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import IO, Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.runtime.config import IngestSettings
from jobs.sources import files
from jobs.sources.find import IMAGE_ENDINGS, Source
from jobs.sources.rows import (
    MAX_FIELD_BYTES,
    MAX_IMAGE_BYTES,
    SCHEMA,
    Row,
    batches,
    first_text,
    is_strict,
    json_object,
    printable,
    text,
    to_json,
)

CUT = "truncated shard"

# Exceptions of tarfile for invalid headers.
_BAD_HEADER = (tarfile.TarError, EOFError, ValueError, OverflowError, RecursionError, IndexError)


@dataclass
class TarSample:
    """The members of one sample.

    Attributes:
        key: Folder and base name up to the first dot.
        parts: Offset and size in bytes of each member, by the lower-case text after that dot.
    """

    key: str
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the samples of shards, one task for each shard.

    A task first lists the headers of a shard (by seeking, without reading images), then reads the samples one by one.
    So the members of a sample may be anywhere in the shard, and a large shard takes little memory. Remote or compressed
    shards are first copied to the task's temporary folder.

    Args:
        spark: The session.
        sources: Shards.
        settings: Names of the members that hold the image and the caption.

    Returns:
        `rows.SCHEMA`. A sample without an image and the lost end of a truncated shard are rows with a reason.
    """
    paths = spark.sparkContext.parallelize([(source.path,) for source in sources], len(sources))
    return spark.createDataFrame(paths, "path string").mapInArrow(partial(_read, settings), SCHEMA)


def samples(shard: IO[bytes]) -> tuple[list[TarSample], Row | None]:
    """Returns the samples of a shard in order of appearance, and what is wrong with its end.

    Args:
        shard: A tar file, open for random access.

    Returns:
        The complete samples, and a row without source that says where the shard ends too early. Its key is that of the
        truncated sample, or '' if unknown. None instead of the row for a complete shard.
    """
    size = shard.seek(0, 2)
    shard.seek(0)
    index = _Index()
    try:
        with tarfile.open(fileobj=shard, mode="r:") as tar:
            fault = index.fill(tar, size) or _fault_at_end(shard, tar.offset, size)
            return index.samples, index.drop_truncated(fault)
    except _BAD_HEADER as error:
        return index.samples, Row("", "", reason="corrupt shard", detail=f"not a tar file: {error} (of {size} bytes)")


class _Index:
    """Groups members into samples, wherever in the shard they are."""

    def __init__(self) -> None:
        self.samples: list[TarSample] = []
        self._newest: dict[str, TarSample] = {}

    def fill(self, tar: tarfile.TarFile, size: int) -> Row | None:
        """Adds all members; stops at one that ends beyond the end of the file, and removes its sample."""
        end = -1
        while True:
            try:
                member = tar.next()
            except _BAD_HEADER as error:
                detail = f"after {len(self.samples)} samples: {error} (of {size} bytes)"
                return Row("", "", reason=CUT, detail=detail)
            if member is None:
                return None
            if member.size < 0 or tar.offset <= end:
                detail = f"{printable(member.name)}: a size of {member.size} bytes points back to earlier members"
                return Row("", "", reason="corrupt shard", detail=detail)
            end = tar.offset
            tar.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all headers, 1 kB each
            name = printable(member.name)
            key, ending = _split(name)
            if not member.isreg() or not key or not ending:
                continue
            if member.offset_data + member.size > size:
                self._forget(key)
                missing = member.offset_data + member.size - size
                return Row("", key, reason=CUT, detail=f"{name}: its last {missing} bytes are missing")
            self._add(key, ending, (member.offset_data, member.size))

    def drop_truncated(self, fault: Row | None) -> Row | None:
        """Removes the last sample if the shard ends too early and it has fewer members than the one before."""
        if fault is None or fault.key or len(self.samples) < 2:
            return fault
        before, last = self.samples[-2:]
        if not set(last.parts) < set(before.parts):
            return fault
        self.samples.pop()
        return replace(fault, key=last.key)

    def _add(self, key: str, ending: str, place: tuple[int, int]) -> None:
        sample = self._newest.get(key)
        # A second member of the same name begins a new sample, as in concatenated shards.
        if sample is None or ending in sample.parts:
            sample = self._newest[key] = TarSample(key)
            self.samples.append(sample)
        sample.parts[ending] = place

    def _forget(self, key: str) -> None:
        sample = self._newest.pop(key, None)
        if sample is not None:
            self.samples.remove(sample)


def _fault_at_end(shard: IO[bytes], offset: int, size: int) -> Row | None:
    # tarfile treats a missing or broken header as the end; the real end is a block of zeros.
    shard.seek(offset)
    block = shard.read(tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE:
        return Row("", "", reason=CUT, detail=f"no end-of-archive mark at byte {offset} of {size}")
    if any(block):
        return Row("", "", reason="corrupt shard", detail=f"no tar header at byte {offset} of {size}")
    return None


def _split(name: str) -> tuple[str, str]:
    folder, base = posixpath.split(name.removeprefix("./"))
    stem, _, ending = base.partition(".")
    return (posixpath.join(folder, stem), ending.lower()) if stem else ("", "")


def _read(settings: IngestSettings, paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches(row for batch in paths for path in batch.column(0).to_pylist() for row in _rows(path, settings))


def _rows(path: str, settings: IngestSettings) -> Iterator[Row]:
    try:
        with files.opened(path) as shard:
            complete, fault = samples(shard)
            for sample in complete:
                yield _row(path, sample, shard, settings)
    except OSError as error:
        if not files.is_file_error(path, error):
            raise
        fault = Row("", "", reason="unreadable file", detail=f"{type(error).__name__}: {error.strerror or error}")
    if fault is not None:
        yield Row(path, fault.key or posixpath.basename(path), reason=fault.reason, detail=fault.detail)


def _row(path: str, sample: TarSample, shard: IO[bytes], settings: IngestSettings) -> Row:
    image = _image_ending(sample.parts, settings.image_columns)
    parts = {name: place for name, place in sample.parts.items() if name != image}
    small = {name: _bytes(shard, place) for name, place in parts.items() if place[1] <= MAX_FIELD_BYTES}
    large = {f"{name}_bytes": place[1] for name, place in parts.items() if name not in small}
    caption, meta = _caption_and_meta(small, large, settings)
    if image is None:
        detail = f"only {', '.join(sorted(sample.parts))}"
        return Row(path, sample.key, caption, None, meta, "no image", detail)
    if sample.parts[image][1] > MAX_IMAGE_BYTES:
        detail = f"{sample.parts[image][1]} bytes, the limit is {MAX_IMAGE_BYTES}"
        return Row(path, sample.key, caption, None, meta, "file too large", detail)
    return Row(path, sample.key, caption, _bytes(shard, sample.parts[image]), meta)


def _bytes(shard: IO[bytes], place: tuple[int, int]) -> bytes:
    shard.seek(place[0])
    return shard.read(place[1])


def _image_ending(endings: Iterable[str], columns: Iterable[str]) -> str | None:
    present = set(endings)
    candidates = [*(column.lower() for column in columns), *IMAGE_ENDINGS]
    return next((name for name in candidates if name in present), None)


def _caption_and_meta(
    parts: Mapping[str, bytes], large: Mapping[str, int], settings: IngestSettings
) -> tuple[str | None, str]:
    """Returns the caption and all other members as JSON (large ones as their size); a lone `.json` stays verbatim."""
    captions = [name for name in settings.caption_columns if name in parts]
    fields, faults = _json_fields(parts.get("json"))
    others: dict[str, Any] = {name: _value(data) for name, data in parts.items() if name not in ("json", *captions[:1])}
    others |= {**faults, **large}
    caption = None
    if captions:
        caption, replaced = text(parts[captions[0]])
        others |= {"caption_fault": "bytes that are not UTF-8 were replaced"} if replaced else {}
    elif fields:
        caption = first_text(fields, settings.caption_columns)[1]
    if not others and fields is not None and is_strict(content := text(parts["json"])[0]):
        return caption, content
    return caption, to_json({**(fields or {}), **others})


def _json_fields(data: bytes | None) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Returns the object in a `.json` member, or what to store instead if it is not an object."""
    if data is None:
        return None, {}
    return json_object(text(data)[0])


def _value(data: bytes) -> str | bytes:
    content, replaced = text(data)
    return data if replaced or "\0" in content else content
