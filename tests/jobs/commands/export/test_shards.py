"""What one task writes: without Spark."""

import tarfile
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.commands.export import layout, parquet, part_images, shards, webdataset
from models.errors import LostRowsError

IDS = [f"{number:032x}" for number in range(40)]
SEED = 3


def image(image_id: str) -> bytes:
    return f"the image {image_id}".encode() * 50


def lake_file(path: Path, ids: list[str]) -> str:
    """Writes a file of the table images."""
    columns = {name: pa.array([None] * len(ids), pa.string()) for name in part_images.COLUMNS}
    columns |= {"image_id": ids, "key": ids, "source": ["file:/s"] * len(ids), "format": ["JPEG"] * len(ids)}
    columns |= {"image": [image(i) for i in ids], "width": [8] * len(ids), "height": [6] * len(ids)}
    pq.write_table(pa.table(columns), path, row_group_size=3)
    return f"file://{path}"


def received(task: int, ids: list[str], files: list[str]) -> pa.RecordBatch:
    """Returns what Spark sends to a task: rows of ids and rows of files."""
    rows = [{"task": task, "image_id": i, "weight": int(i, 16) / 8, "export_key": f"k{i}", "file": None} for i in ids]
    rows += [{"task": task, "image_id": None, "weight": None, "export_key": None, "file": f} for f in files]
    schema = "task", "image_id", "weight", "export_key", "file"
    types = pa.int32(), pa.string(), pa.float64(), pa.string(), pa.string()
    return pa.RecordBatch.from_pylist(rows, schema=pa.schema(list(zip(schema, types, strict=True))))


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two files of a part; the second still holds a row of the first, as if Delta had marked it as deleted."""
    return [lake_file(tmp_path / "a.parquet", IDS[:25]), lake_file(tmp_path / "b.parquet", [*IDS[25:], IDS[0]])]


def write(
    folder: Path, writer: shards.Writer, batches: list[pa.RecordBatch], finished: tuple[int, ...] = ()
) -> pd.DataFrame:
    folder.mkdir(exist_ok=True)
    groups = layout.shard_groups({0: len(IDS) - 4}, 10)
    writing = shards.Writing(str(folder), writer, shards.tasks(groups, finished), SEED)
    return pd.concat([batch.to_pandas() for batch in shards._write(writing, iter(batches))])


def test_a_task_writes_each_wanted_image_once_into_the_shard_of_its_place(tmp_path, files):
    wanted = IDS[:-4]  # the others were filtered

    found = write(tmp_path / "set", webdataset.TarShard, [received(0, wanted, files)])

    assert list(found["shard"]) == [0, 1, 2, 3] and set(found["samples"]) == {9}
    placed = layout.places(wanted, layout.shard_groups({0: len(wanted)}, 10)[0], SEED)
    for number, name, weight in zip(found["shard"], found["name"], found["weight"], strict=True):
        beside = pd.read_parquet(tmp_path / "set" / name.replace(".tar", ".parquet"))
        assert set(beside["image_id"]) == {i for i, (_, shard) in placed.items() if shard == number}
        assert list(beside["key"]) == [f"k{i}" for i in beside["image_id"]]
        assert weight == sum(int(i, 16) / 8 for i in beside["image_id"])
        with tarfile.open(tmp_path / "set" / name) as tar:
            given = {m.name: tar.extractfile(m).read() for m in tar if m.name.endswith(".jpg")}
        assert given == {f"k{i}.jpg": image(i) for i in beside["image_id"]}
        assert sha256((tmp_path / "set" / name).read_bytes()).hexdigest() in set(found["sha256"])


def test_the_order_of_rows_files_and_batches_changes_no_byte_and_finished_shards_stay(tmp_path, files):
    wanted = IDS[:-4]
    write(tmp_path / "one", parquet.ParquetShard, [received(0, wanted, files)])
    turned = received(0, wanted[::-1], files[::-1])
    found = write(tmp_path / "two", parquet.ParquetShard, [turned.slice(0, 7), turned.slice(7)], finished=(2,))

    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert list(found["shard"]) == [0, 1, 3]
    assert names == sorted(f"0000{n}{ending}" for n in range(4) for ending in (".parquet", "_stats.json"))
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == [n for n in names if "00002" not in n]
    for path in (tmp_path / "two").iterdir():
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()


def test_images_that_the_files_lack_are_an_error_and_no_shard_is_complete(tmp_path, files):
    with pytest.raises(LostRowsError, match=f"export: 11 images of curated, such as {IDS[25]}, are not in the files"):
        write(tmp_path / "set", parquet.ParquetShard, [received(0, IDS[:-4], files[:1])])

    assert {path.suffix for path in (tmp_path / "set").iterdir()} == {".part"}
    assert write(tmp_path / "none", parquet.ParquetShard, [received(0, IDS[:-4], files)]).shape[0] == 4
    with pytest.raises(LostRowsError, match="36 images of curated were to be written, but 40 were found"):
        write(tmp_path / "more", parquet.ParquetShard, [received(0, IDS, files)])
    assert list(shards._write(shards.Writing("", parquet.ParquetShard, [], 0), iter([]))) == []
