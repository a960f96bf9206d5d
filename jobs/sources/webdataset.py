"""WebDataset tar shards: members with the same name up to the first dot (`KEY.jpg`, `KEY.txt`) are one sample."""

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import IO, Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession

from jobs.runtime.config import IngestSettings
from jobs.sources import files, tar
from jobs.sources.find import IMAGE_ENDINGS, Source
from jobs.sources.rows import (
    CAPTION_FAULT,
    MAX_FIELD_BYTES,
    MAX_IMAGE_BYTES,
    SCHEMA,
    Row,
    batches,
    first_text,
    is_strict,
    json_object,
    text,
    to_json,
)

NOT_A_FILE = "not a file"


@dataclass
class TarSample:
    """The members of one sample.

    Attributes:
        key: Folder and base name up to the first dot; '' for damage of which no sample is known.
        parts: Where the content of each member is, by the lower-case text after that dot.
        others: Why a member is no plain file, by the same text.
        damage: Why the sample cannot be read.
    """

    key: str
    parts: dict[str, tar.Place] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    damage: tar.Damage | None = None


def read(spark: SparkSession, sources: Sequence[Source], settings: IngestSettings) -> DataFrame:
    """Returns the samples of shards, one task for each shard.

    A task first lists the headers of a shard (by seeking, without reading images), then reads the samples one by one.
    So the members of a sample may be anywhere in the shard, and a large shard takes little memory. Remote or compressed
    shards are first copied to the task's temporary folder. A link gives the bytes of the member to which it points, if
    that comes before it.

    Args:
        spark: The session.
        sources: Shards.
        settings: Names of the members that hold the image and the caption.

    Returns:
        `rows.SCHEMA`. A sample without an image, a damaged header and the lost end of a truncated shard are rows with
        a reason.
    """
    paths = spark.sparkContext.parallelize([(source.path,) for source in sources], len(sources))
    return spark.createDataFrame(paths, "path string").mapInArrow(partial(_read, settings), SCHEMA)


def samples(shard: IO[bytes]) -> list[TarSample]:
    """Returns the samples of a shard in order of appearance, and where the shard is damaged.

    Args:
        shard: A tar file, open for random access.

    Returns:
        The samples. One with `damage` cannot be read; if it is not known which sample is lost, its key is ''.
    """
    index = _Index()
    for found in tar.members(shard):
        if isinstance(found, tar.Damage):
            index.add_damage(found)
        else:
            index.add(found)
    return index.samples


class _Index:
    """Groups members into samples, wherever in the shard they are."""

    def __init__(self) -> None:
        self.samples: list[TarSample] = []
        self._newest: dict[str, TarSample] = {}

    def add(self, member: tar.Member) -> None:
        key, ending = _split(member.name)
        if not key or not ending:
            return
        place = member.place or self._linked(member.target)
        if place is not None:
            self._sample(key, ending).parts[ending] = place
        else:
            end = f" to {member.target}, which is no plain file of a sample before it" if member.target else ""
            self._sample(key, ending).others[ending] = f"{member.name} is {member.kind}{end}"

    def add_damage(self, damage: tar.Damage) -> None:
        key, ending = _split(damage.name)
        sample = self._sample(key, ending) if key and ending else self._cut_sample()
        if sample is not None:
            sample.damage = sample.damage or damage
        elif not self.samples or self.samples[-1].key:  # damage after damage is one row
            self.samples.append(TarSample("", damage=damage))

    def _sample(self, key: str, ending: str) -> TarSample:
        sample = self._newest.get(key)
        # A second member of the same name begins a new sample, as in concatenated shards.
        if sample is None or ending in sample.parts or ending in sample.others:
            sample = self._newest[key] = TarSample(key)
            self.samples.append(sample)
        return sample

    def _cut_sample(self) -> TarSample | None:
        """Returns the last sample if it has fewer members than the one before, so that the damage is inside it."""
        if len(self.samples) < 2:
            return None
        before, last = self.samples[-2:]
        whole = last.damage is None and before.damage is None
        return last if whole and set(last.parts) < set(before.parts) else None

    def _linked(self, target: str) -> tar.Place | None:
        key, ending = _split(posixpath.normpath(target)) if target else ("", "")
        return self._newest[key].parts.get(ending) if key in self._newest else None


def _split(name: str) -> tuple[str, str]:
    folder, base = posixpath.split(name.removeprefix("./"))
    stem, _, ending = base.partition(".")
    return (posixpath.join(folder, stem), ending.lower()) if stem else ("", "")


def _read(settings: IngestSettings, paths: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    yield from batches(row for batch in paths for path in batch.column(0).to_pylist() for row in _rows(path, settings))


def _rows(path: str, settings: IngestSettings) -> Iterator[Row]:
    faults, is_damaged = list[str](), False
    try:
        with files.opened(path, faults) as shard:
            for sample in samples(shard):
                is_damaged |= sample.damage is not None
                yield from _rows_of(path, sample, shard, settings)
        if faults and not is_damaged:
            detail = f"{faults[0]}, so that samples may be missing or changed"
            yield Row(path, posixpath.basename(path), reason=tar.CORRUPT, detail=detail)
    except OSError as error:
        if not files.is_file_error(path, error):
            raise
        detail = f"{type(error).__name__}: {error.strerror or error}"
        yield Row(path, posixpath.basename(path), reason="unreadable file", detail=detail)


def _rows_of(path: str, sample: TarSample, shard: IO[bytes], settings: IngestSettings) -> Iterator[Row]:
    """Yields the row of a sample; none for links and devices that are no image."""
    image = _image_ending(sample.parts, settings.image_columns)
    no_file = None if image else _image_ending(sample.others, settings.image_columns)
    if not (sample.parts or sample.damage or no_file):
        return
    parts = {name: place for name, place in sample.parts.items() if name != image}
    small = {name: tar.read(shard, place) for name, place in parts.items() if place.size <= MAX_FIELD_BYTES}
    unread: dict[str, Any] = {f"{name}_bytes": place.size for name, place in parts.items() if name not in small}
    unread |= {f"{name}_fault": fault for name, fault in sample.others.items() if name != no_file}
    caption, where, meta = _caption_and_meta(small, unread, settings)
    key = sample.key or posixpath.basename(path)
    fault = _fault(sample, image, no_file)
    if image is None or fault is not None:
        reason, detail = fault or ("no image", f"only {', '.join(sorted(sample.parts))}")
        yield Row(path, key, caption, None, meta, reason, detail, where)
    else:
        yield Row(path, key, caption, tar.read(shard, sample.parts[image]), meta, caption_from=where)


def _fault(sample: TarSample, image: str | None, no_file: str | None) -> tuple[str, str] | None:
    """Returns the reason and the detail if a sample cannot be read."""
    if sample.damage is not None:
        return sample.damage.reason, sample.damage.detail
    if no_file is not None:
        return NOT_A_FILE, sample.others[no_file]
    if image is not None and sample.parts[image].size > MAX_IMAGE_BYTES:
        return tar.TOO_LARGE, f"{sample.parts[image].size} bytes, the limit is {MAX_IMAGE_BYTES}"
    return None


def _image_ending(endings: Iterable[str], columns: Iterable[str]) -> str | None:
    present = set(endings)
    candidates = [*(column.lower() for column in columns), *IMAGE_ENDINGS]
    return next((name for name in candidates if name in present), None)


def _caption_and_meta(
    parts: Mapping[str, bytes], unread: Mapping[str, Any], settings: IngestSettings
) -> tuple[str | None, str | None, str]:
    """Returns the caption, where it was found, and all other members as JSON; a lone `.json` stays verbatim.

    Args:
        parts: The content of the members that are no image.
        unread: What to store of members that were not read, such as the size of a large one.
        settings: Names of the members and fields that hold the caption.
    """
    captions = [name.lower() for name in settings.caption_columns if name.lower() in parts]
    fields, faults = _json_fields(parts.get("json"))
    others: dict[str, Any] = {name: _value(data) for name, data in parts.items() if name not in ("json", *captions[:1])}
    others |= {**faults, **unread}
    caption, where = None, None
    if captions:
        caption, replaced = text(parts[captions[0]])
        where = f".{captions[0]} members"
        others |= CAPTION_FAULT if replaced else {}
    elif fields:
        found = first_text(fields, settings.caption_columns)
        caption, where = found.text, f"field {found.name} of .json members"
    if not others and fields is not None and is_strict(content := text(parts["json"])[0]):
        return caption, where, content
    return caption, where, to_json({**(fields or {}), **others})


def _json_fields(data: bytes | None) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """Returns the object in a `.json` member, or what to store instead if it is not an object."""
    if data is None:
        return None, {}
    return json_object(text(data)[0])


def _value(data: bytes) -> str | bytes:
    """Returns a member as text if it is UTF-8, else its bytes: any bytes of even length may pass for UTF-16."""
    try:
        content = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data
    return data if "\0" in content else content
