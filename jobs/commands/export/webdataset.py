"""WebDataset tar shards: unchanged image bytes and captions, fields and weight as JSON."""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

from jobs.commands.export import parquet
from jobs.commands.export.folder import Folder
from jobs.commands.export.shards import ShardSample, stem

ENDINGS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif",
    "AVIF": "avif",
}  # fmt: skip
"""The file ending of each image format that `ingest` reads."""

_OWN = "winnow"


class TarShard(parquet.ShardFiles):
    """A tar shard and its Parquet file.

    Headers have no time and no owner, so that the same samples give the same bytes.

    Args:
        folder: The folder of the export.
        number: Number of the shard.
    """

    def __init__(self, folder: Folder, number: int) -> None:
        super().__init__(folder, number, "tar")
        self._rows = parquet.Rows(self._files.enter_context(folder.created(f"{stem(number)}.parquet")), parquet.COLUMNS)
        self._tar: Any = self._files.enter_context(
            tarfile.TarFile(fileobj=self._output, mode="w", format=tarfile.GNU_FORMAT)  # type: ignore[arg-type]
        )

    def add(self, sample: ShardSample) -> None:
        """Adds the files of a sample."""
        for ending, data in members(sample):
            _add(self._tar, f"{sample['export_key']}.{ending}", data)
        self._tar.members.clear()  # tarfile keeps every header
        self._weights.append(sample["weight"])
        self._rows.add(parquet.record(sample))


def members(sample: ShardSample) -> Iterator[tuple[str, bytes]]:
    """Yields ending and bytes of each file of a sample; a null caption has no file.

    Args:
        sample: A row of `curated` with export_key.
    """
    yield ENDINGS.get(sample["format"], str(sample["format"]).lower()), sample["image"]
    if sample["caption"] is not None:
        yield "txt", sample["caption"].encode()
    yield "json", described(sample).encode()


def described(sample: ShardSample) -> str:
    """Returns the unchanged input fields, followed by image_id, weight and `winnow` (source and key of the image).

    An input field with one of these names moves to `winnow.input`.

    Examples:
        >>> described({"meta": '{"n": 1.50}', "image_id": "a", "weight": 2.0, "source": "s", "key": "k"})
        '{"n": 1.50, "image_id": "a", "weight": 2.0, "winnow": {"source": "s", "key": "k"}}'
    """
    text, meta = (sample["meta"] or "{}").strip(), parquet.fields(sample["meta"])
    origin: dict[str, Any] = {"source": sample["source"], "key": sample["key"]}
    own: dict[str, Any] = {"image_id": sample["image_id"], "weight": sample["weight"], _OWN: origin}
    taken = {name: meta[name] for name in own if name in meta}
    if taken:
        origin["input"] = taken
        text = _json({name: value for name, value in meta.items() if name not in own})
    added = _json(own)
    return f"{text[:-1].rstrip()}, {added[1:]}" if meta.keys() - taken.keys() else added


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(data)
    tar.addfile(header, io.BytesIO(data))
