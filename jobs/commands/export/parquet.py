"""Parquet files: the columns of img2dataset, the columns of Winnow and, in the format `parquet`, the image bytes."""

import json
from contextlib import ExitStack
from hashlib import sha256
from math import fsum
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commands.export.folder import Folder, Output
from jobs.commands.export.shards import Shard, ShardSample, stem

_ROW_GROUP_BYTES = 16 << 20
_ROW_GROUP_ROWS = 10_000
_INTS = ("width", "height", "original_width", "original_height")
_NAMES = (
    "key", "url", "caption", "status", "error_message", *_INTS, "exif", "sha256",
    "image_id", "weight", "source", "source_key", "format", "meta",
)  # fmt: skip
_TYPES = {**dict.fromkeys(_INTS, pa.int32()), "weight": pa.float64(), "image": pa.binary()}
COLUMNS = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _NAMES])
"""The columns beside each tar shard: one row per sample, without image bytes."""

WITH_IMAGES = pa.schema([*COLUMNS, ("image", pa.binary())])


class Rows:
    """A Parquet file that is written a few MB at a time.

    Args:
        output: The file to write to.
        schema: `COLUMNS` or `WITH_IMAGES`.
    """

    def __init__(self, output: Output, schema: pa.Schema) -> None:
        # Image bytes are already compressed; captions are not.
        compression = {name: "none" if name == "image" else "zstd" for name in schema.names}
        self._writer = pq.ParquetWriter(output, schema, compression=compression)
        self._schema = schema
        self._waiting: list[dict[str, Any]] = []
        self._bytes = 0

    def add(self, record: dict[str, Any]) -> None:
        """Adds one row."""
        self._waiting.append(record)
        self._bytes += len(record.get("image") or b"") + len(record["meta"] or "") + len(record["caption"] or "")
        if self._bytes >= _ROW_GROUP_BYTES or len(self._waiting) >= _ROW_GROUP_ROWS:
            self._flush()

    def close(self) -> None:
        """Writes the remaining rows and the footer."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        self._writer.write_table(pa.Table.from_pylist(self._waiting, self._schema))
        self._waiting, self._bytes = [], 0


class ShardFiles:
    """The files of a shard that is being written. They get their names together, or not at all.

    Args:
        folder: The folder of the export.
        number: Number of the shard.
        ending: Ending of the main file, without a dot.
    """

    _rows: Rows

    def __init__(self, folder: Folder, number: int, ending: str) -> None:
        self._number, self._name = number, f"{stem(number)}.{ending}"
        self._weights: list[float] = []
        self._files = ExitStack()
        self._output = self._files.enter_context(folder.created(self._name))

    def close(self) -> Shard:
        """Completes the files and gives them their names."""
        self._rows.close()
        self._files.close()
        found = self._output
        return Shard(self._number, self._name, len(self._weights), found.size, found.sha256, fsum(self._weights))

    def abandon(self) -> None:
        """Closes the files without giving them their names."""
        self._rows.close()
        self._files.__exit__(GeneratorExit, GeneratorExit(), None)


class ParquetShard(ShardFiles):
    """A Parquet file with image bytes.

    Args:
        folder: The folder of the export.
        number: Number of the shard.
    """

    def __init__(self, folder: Folder, number: int) -> None:
        super().__init__(folder, number, "parquet")
        self._rows = Rows(self._output, WITH_IMAGES)

    def add(self, sample: ShardSample) -> None:
        """Adds a sample."""
        self._weights.append(sample["weight"])
        self._rows.add({**record(sample), "image": sample["image"]})


def record(sample: ShardSample) -> dict[str, Any]:
    """Returns a sample as a row with the columns of img2dataset; url, original size and EXIF come from the source.

    Args:
        sample: A row of `curated` with export_key.

    Returns:
        A row of `COLUMNS`; sha256 is the digest of the exported bytes.
    """
    meta = fields(sample["meta"])
    return {
        "key": sample["export_key"],
        "url": _text(meta.get("url", meta.get("URL"))),
        "caption": sample["caption"],
        "status": "success",
        "error_message": None,
        "width": sample["width"],
        "height": sample["height"],
        "original_width": _pixels(meta.get("original_width"), sample["width"]),
        "original_height": _pixels(meta.get("original_height"), sample["height"]),
        "exif": _text(meta.get("exif")),
        "sha256": sha256(sample["image"]).hexdigest(),
        "image_id": sample["image_id"],
        "weight": sample["weight"],
        "source": sample["source"],
        "source_key": sample["key"],
        "format": sample["format"],
        "meta": sample["meta"],
    }


def fields(meta: str | None) -> dict[str, Any]:
    """Returns the input fields of an image; empty if they are not a JSON object.

    Examples:
        >>> fields('{"url": "u"}'), fields("[1]"), fields(None)
        ({'url': 'u'}, {}, {})
    """
    try:
        found = json.loads(meta or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _pixels(value: Any, otherwise: int | None) -> int | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 31
    return value if whole else otherwise
