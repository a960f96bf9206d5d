"""Shards, each written by one Spark task; the bytes do not depend on the number of partitions."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame

from jobs.commands.export.folder import Folder

SCHEMA = "shard int, name string, samples long, bytes long, sha256 string, weight double"
_ARROW = pa.schema(
    [
        ("shard", pa.int32()),
        ("name", pa.string()),
        ("samples", pa.int64()),
        ("bytes", pa.int64()),
        ("sha256", pa.string()),
        ("weight", pa.float64()),
    ]
)
_STATS = "_stats.json"

ShardSample = Mapping[str, Any]
"""A row of `curated` with `export_key`, as Python values."""


@dataclass(frozen=True)
class Shard:
    """A written shard.

    Attributes:
        shard: Number of the shard.
        name: Name of the file.
        samples: Number of images.
        bytes: Size of the file.
        sha256: Digest of the file.
        weight: Sum of the weights.
    """

    shard: int
    name: str
    samples: int
    bytes: int
    sha256: str
    weight: float


Writer = Callable[[Folder, int, Iterable[ShardSample]], Shard]
"""Writes one shard of a format: `jobs.commands.export.webdataset.write`, `jobs.commands.export.parquet.write`."""


def stem(number: int) -> str:
    """Returns the name of a shard without its ending, numbered like those of img2dataset.

    Examples:
        >>> stem(12), stem(123456)
        ('00012', '123456')
    """
    return f"{number:05d}"


def written(rows: DataFrame, uri: str, writer: Writer, shards: int) -> DataFrame:
    """Writes shards, one per task, and returns a row for each.

    Args:
        rows: The columns of `curated`, with export_key, shard, place and task (0 to shards - 1).
        uri: The folder of the export.
        writer: The writer of the format.
        shards: Number of shards.

    Returns:
        `SCHEMA`, one row per shard.
    """
    own_tasks = rows.repartitionById(shards, "task").sortWithinPartitions("shard", "place")
    return own_tasks.drop("task").mapInArrow(partial(_write, uri, writer), SCHEMA)


def files_of(number: int, endings: Iterable[str]) -> list[str]:
    """Returns the files of one shard; its statistics are written last, so a shard that has them is complete.

    Examples:
        >>> files_of(3, [".tar", ".parquet"])
        ['00003.tar', '00003.parquet', '00003_stats.json']
    """
    return [f"{stem(number)}{ending}" for ending in (*endings, _STATS)]


def finished(names: Iterable[str], shards: int, endings: Sequence[str]) -> list[int]:
    """Returns the numbers of the complete shards.

    Examples:
        >>> finished(["00000.tar", "00000_stats.json", "00001.tar", "README.md"], 2, [".tar"])
        [0]
    """
    existing = set(names)
    return [number for number in range(shards) if existing.issuperset(files_of(number, endings))]


def reread(numbers: DataFrame, uri: str) -> DataFrame:
    """Returns the rows of complete shards, from their statistics.

    Args:
        numbers: shard.
        uri: The folder of the export.

    Returns:
        `SCHEMA`.
    """
    return numbers.mapInArrow(partial(_reread, uri), SCHEMA)


def write_stats(folder: Folder, shard: Shard) -> None:
    """Writes `NNNNN_stats.json` like img2dataset, but without times, so that the same shard gives the same file."""
    stats = {
        "count": shard.samples,
        "successes": shard.samples,
        "failed_to_download": 0,
        "failed_to_resize": 0,
        "status_dict": {"success": shard.samples},
        **vars(shard),
    }
    folder.write(f"{stem(shard.shard)}{_STATS}", json.dumps(stats, indent=2).encode())


def _write(uri: str, writer: Writer, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    folder = Folder(uri)
    samples = (row for batch in batches for row in batch.to_pylist())
    for number, group in groupby(samples, key=lambda row: int(row["shard"])):
        shard = writer(folder, number, group)
        write_stats(folder, shard)
        yield _batch([shard])


def _reread(uri: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    folder = Folder(uri)
    for batch in batches:
        stats = [json.loads(folder.read(f"{stem(n)}{_STATS}")) for n in batch.column(0).to_pylist()]
        yield _batch([Shard(**{name: one[name] for name in _ARROW.names}) for one in stats])


def _batch(shards: list[Shard]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([vars(shard) for shard in shards], schema=_ARROW)
