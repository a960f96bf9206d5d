from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.commands import score
from jobs.job import Job
from jobs.lake import tables
from jobs.scoring import image_bytes
from models.errors import LostRowsError
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded

COLOURS = ("red", "lime", "blue", "white", "black", "navy")


def write(path: Path, count: int, group: int) -> str:
    """Writes a file of `count` images, `group` to a row group; returns its address as Spark names it."""
    ids = [f"{path.stem}-{number}" for number in range(count)]
    rows = pa.table({"image_id": ids, "caption": ids, "image": [one.encode() * 3 for one in ids]})
    pq.write_table(rows, path, row_group_size=group)
    return path.as_uri()


def located(places: Sequence[tuple[str, str, int]], part: int = 4) -> pa.RecordBatch:
    """Returns the rows of images, given the id, the address of the file and the number of the row of each."""
    ids, addresses, rows = zip(*places, strict=True)
    parts = pa.array([part] * len(ids), pa.int32())
    columns = {"image_id": ids, "part": parts, "file": addresses, "row": pa.array(rows, pa.int64())}
    return pa.RecordBatch.from_pydict(columns)


def read(*batches: pa.RecordBatch) -> list[dict[str, Any]]:
    return [row for batch in image_bytes.read(iter(batches)) for row in batch.to_pylist()]


def expected(*ids: str) -> list[dict[str, Any]]:
    return [{"image_id": one, "part": 4, "image": one.encode() * 3} for one in ids]


@pytest.mark.parametrize("group", [1, 3, 100, 1000])
def test_the_wanted_rows_are_read_from_all_row_groups(tmp_path, group):
    file = write(tmp_path / "a b%.parquet", 200, group)
    wanted = [0, 2, 3, 63, 64, 65, 127, 130, 199]
    places = [(f"a b%-{number}", file, number) for number in wanted]
    assert read(located(places)) == expected(*(place[0] for place in places))
    every = [(f"a b%-{number}", file, number) for number in range(200)]
    assert read(located(every[:90]), located(every[90:])) == expected(*(place[0] for place in every))


def test_files_and_rows_may_come_in_any_order(tmp_path):
    one, other = write(tmp_path / "one.parquet", 5, 2), write(tmp_path / "two.parquet", 5, 2)
    places = [("one-4", one, 4), ("two-1", other, 1), ("one-0", one, 0), ("two-0", other, 0), ("one-1", one, 1)]
    found = read(located(places))
    assert sorted(row["image_id"] for row in found) == ["one-0", "one-1", "one-4", "two-0", "two-1"]
    assert all(row["image"] == row["image_id"].encode() * 3 for row in found)
    assert read() == []


@pytest.mark.parametrize("place", [("one-1", 2), ("one-5", 5), ("one-9", 9)])
def test_another_image_in_the_place_of_a_row_is_an_error(tmp_path, place):
    file = write(tmp_path / "one.parquet", 5, 2)
    with pytest.raises(LostRowsError, match=r"one\.parquet has (other|fewer) images than Spark found in it"):
        read(located([("one-0", file, 0), (place[0], file, place[1])]))


def fill(job: Job) -> None:
    images = [encoded(colour, size=(24, 16)) for colour in COLOURS]
    rows = [(f"{n:032x}", f"p{n}", "s", "", image, 24, 16, "PNG", "{}", n // 3) for n, image in enumerate(images)]
    write_rows(job.lake, tables.IMAGES, rows)


def signals(job: Job) -> list[Any]:
    return sorted(job.lake.read(tables.SIGNALS).collect())


def change(job: Job, statement: str) -> None:
    job.lake.spark.sql(statement.format(table=f"delta.`{job.lake.path('images')}`"))


@pytest.mark.slow
def test_a_lake_gets_the_same_signals_through_spark(job, monkeypatch):
    fill(job)
    assert image_bytes.can_read(job.lake.read(tables.IMAGES))
    assert score.run(job)["images scored"] == len(COLOURS)
    in_place = signals(job)
    job.lake.drop(tables.SIGNALS)
    monkeypatch.setattr(image_bytes, "can_read", lambda images: False)
    monkeypatch.setattr(image_bytes, "read", None)
    assert score.run(job)["images scored"] == len(COLOURS)
    assert signals(job) == in_place and len(in_place) == len(COLOURS)


@pytest.mark.slow
def test_deleted_rows_are_left_out_though_the_files_hold_them(job):
    fill(job)
    change(job, "ALTER TABLE {table} SET TBLPROPERTIES (delta.enableDeletionVectors = true)")
    change(job, "DELETE FROM {table} WHERE key IN ('p1', 'p3')")
    assert image_bytes.can_read(job.lake.read(tables.IMAGES))
    assert score.run(job)["images scored"] == 4
    assert [row.image_id[-1] for row in signals(job)] == ["0", "2", "4", "5"]


@pytest.mark.slow
def test_spark_reads_files_whose_columns_have_other_names(job):
    fill(job)
    rows = job.lake.read(tables.IMAGES).localCheckpoint()
    job.lake.drop(tables.IMAGES)
    job.lake.mark()
    mapped = rows.write.format("delta").option("delta.columnMapping.mode", "name").partitionBy("part")
    mapped.save(job.lake.path("images"))
    assert not image_bytes.can_read(job.lake.read(tables.IMAGES))
    assert score.run(job)["images scored"] == len(COLOURS)
