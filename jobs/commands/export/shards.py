"""Shards, written part by part: a Spark task reads the images of a part once and writes all its shards."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.export.folder import Folder
from jobs.commands.export.layout import ShardGroup, places
from jobs.commands.export.part_images import mixed
from models.errors import LostRowsError

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
# The most shards that a task writes at once. An open shard holds up to 16 MB of images.
_OPEN = 24

ShardSample = Mapping[str, Any]
"""A row of `images` with weight and export_key, as Python values."""


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


class OpenShard(Protocol):
    """A shard that is being written: `jobs.commands.export.webdataset.TarShard` or `parquet.ParquetShard`."""

    def add(self, sample: ShardSample) -> None:
        """Adds a sample."""

    def close(self) -> Shard:
        """Completes the files of the shard."""

    def abandon(self) -> None:
        """Closes the files without giving them their names."""


Writer = Callable[[Folder, int], OpenShard]
"""Opens a shard of a format."""


@dataclass(frozen=True)
class Task:
    """The shards that one Spark task writes.

    Attributes:
        group: The group of these shards.
        shards: Their numbers.
    """

    group: ShardGroup
    shards: tuple[int, ...]


@dataclass(frozen=True)
class Writing:
    """What the tasks write, and where.

    Attributes:
        uri: The folder of the export.
        writer: The writer of the format.
        tasks: The tasks; a task is named by its place here.
        seed: Seed of the shuffled order.
    """

    uri: str
    writer: Writer
    tasks: Sequence[Task]
    seed: int


def tasks(groups: Iterable[ShardGroup], finished: Collection[int]) -> list[Task]:
    """Returns the tasks that write the missing shards; a task has a limited number of files open.

    Args:
        groups: All groups of shards.
        finished: Numbers of the complete shards.

    Examples:
        >>> [task.shards for task in tasks([ShardGroup((0,), 50, 0, 5), ShardGroup((1,), 9, 5, 1)], {1, 5})]
        [(0, 2, 3, 4)]
    """
    found = []
    for group in groups:
        missing = [number for number in range(group.first, group.first + group.shards) if number not in finished]
        found += [Task(group, tuple(missing[at : at + _OPEN])) for at in range(0, len(missing), _OPEN)]
    return found


def stem(number: int) -> str:
    """Returns the name of a shard without its ending, numbered like those of img2dataset.

    Examples:
        >>> stem(12), stem(123456)
        ('00012', '123456')
    """
    return f"{number:05d}"


def written(rows: DataFrame, images: DataFrame, writing: Writing) -> DataFrame:
    """Writes shards, and returns a row for each.

    Spark moves ids, weights and keys to the task of their shards. The task itself reads the files of its parts, so no
    image bytes are shuffled.

    Args:
        rows: part, image_id, weight, export_key.
        images: Table images; only the names of its files are read here.
        writing: What to write.

    Returns:
        `SCHEMA`, one row per shard.
    """
    of_part = [(part, number) for number, task in enumerate(writing.tasks) for part in task.group.parts]
    task = F.broadcast(rows.sparkSession.createDataFrame(of_part, "part int, task int"))
    ids = rows.join(task, "part").select("task", "image_id", "weight", "export_key", F.lit(None).alias("file"))
    files = images.select(part_of(images), F.col("_metadata.file_path").alias("file")).distinct().join(task, "part")
    own_tasks = ids.unionByName(files.select("task", "file"), allowMissingColumns=True)
    return own_tasks.repartitionById(len(writing.tasks), "task").mapInArrow(partial(_write, writing), SCHEMA)


def part_of(rows: DataFrame) -> Column:
    """Returns the part of each row as `part`; -1 in a table that an earlier version of Winnow wrote without parts."""
    return F.coalesce(rows["part"], F.lit(-1)).alias("part")


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


def _write(writing: Writing, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    received = list(batches)
    rows = pa.Table.from_batches(received) if received else pa.table({"task": []})
    for number in pc.unique(rows["task"]).to_pylist():
        own = rows.filter(pc.equal(rows["task"], number))
        yield _batch(_write_task(writing, writing.tasks[number], own))


def _write_task(writing: Writing, task: Task, rows: pa.Table) -> list[Shard]:
    """Writes the shards of a task.

    Raises:
        LostRowsError: The files lack an image, or the rows are not those of the layout. No shard counts as complete.
    """
    folder = Folder(writing.uri)
    ids, files = rows.filter(pc.is_valid(rows["image_id"])), rows.filter(pc.is_valid(rows["file"]))
    placed = places(ids["image_id"].to_pylist(), task.group, writing.seed)
    if len(placed) != task.group.images:
        raise LostRowsError(
            f"export: {task.group.images} images of curated were to be written, but {len(placed)} were found: run "
            "`winnow export` again; report this if it happens twice"
        )
    own = {row["image_id"]: row for row in ids.to_pylist() if placed[row["image_id"]][1] in task.shards}
    shards = {number: writing.writer(folder, number) for number in task.shards}
    try:
        for sample in _samples(files["file"].to_pylist(), own, placed, writing.seed):
            shards[placed[sample["image_id"]][1]].add(sample)
    except BaseException:
        for shard in shards.values():
            shard.abandon()
        raise
    complete = [shards[number].close() for number in task.shards]
    for one in complete:
        write_stats(folder, one)
    return complete


def _samples(
    files: Sequence[str], own: dict[str, dict[str, Any]], placed: Mapping[str, tuple[str, int]], seed: int
) -> Iterator[ShardSample]:
    """Yields the wanted rows of files, with their weights and keys.

    Raises:
        LostRowsError: The files lack an image.
    """
    for window in mixed(files, seed):
        found = window.filter(pc.is_in(window["image_id"], pa.array(own, pa.string())))
        for sample in sorted(found.to_pylist(), key=lambda sample: placed[sample["image_id"]]):
            # Files may still hold rows that were deleted from the table, so an id may come twice, with the same bytes.
            if row := own.pop(sample["image_id"], None):
                yield {**sample, "weight": row["weight"], "export_key": row["export_key"]}
    if own:
        raise LostRowsError(
            f"export: {len(own)} images of curated, such as {min(own)}, are not in the files of the table images: run "
            "`winnow weigh` and `winnow export` again; report this if it happens twice"
        )


def _reread(uri: str, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    folder = Folder(uri)
    for batch in batches:
        stats = [json.loads(folder.read(f"{stem(n)}{_STATS}")) for n in batch.column(0).to_pylist()]
        yield _batch([Shard(**{name: one[name] for name in _ARROW.names}) for one in stats])


def _batch(shards: list[Shard]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([vars(shard) for shard in shards], schema=_ARROW)
