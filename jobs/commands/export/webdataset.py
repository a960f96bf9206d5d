"""WebDataset tar shards: unchanged image bytes and captions, fields and weight as JSON."""

import io
import json
import tarfile
from collections.abc import Iterable, Iterator
from math import fsum
from typing import Any

from jobs.commands.export import parquet
from jobs.commands.export.folder import Folder
from jobs.commands.export.shards import Shard, ShardSample, stem

ENDINGS = {
    "JPEG": "jpg", "MPO": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tif",
    "AVIF": "avif",
}  # fmt: skip
"""The file ending of each image format that `ingest` reads."""

_OWN = "winnow"


def write(folder: Folder, number: int, samples: Iterable[ShardSample]) -> Shard:
    """Writes one tar shard and its Parquet file.

    Headers have no time and no owner, so that the same samples give the same bytes.

    Args:
        folder: The folder of the export.
        number: Number of the shard.
        samples: Rows of the shard, in order.
    """
    name, weights = f"{stem(number)}.tar", []
    with folder.created(name) as output, folder.created(f"{stem(number)}.parquet") as beside:
        rows = parquet.Rows(beside, parquet.COLUMNS)
        with tarfile.open(fileobj=output, mode="w:", format=tarfile.GNU_FORMAT) as tar:  # type: ignore[call-overload]
            for sample in samples:
                for ending, data in members(sample):
                    _add(tar, f"{sample['export_key']}.{ending}", data)
                tar.members.clear()  # tarfile keeps every header
                weights.append(sample["weight"])
                rows.add(parquet.record(sample))
        rows.close()
    return Shard(number, name, len(weights), output.size, output.sha256, fsum(weights))


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
