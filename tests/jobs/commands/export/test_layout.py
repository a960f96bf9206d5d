"""Which shard holds an image, and the order of row groups: without Spark."""

from hashlib import md5
from itertools import chain, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.commands.export import command, layout, part_images, shards
from models.errors import WinnowError

IDS = [md5(str(number).encode()).hexdigest() for number in range(1000)]
COUNTS = {0: 250, 1: 3, 2: 4, 5: 700, 6: 1, 9: 2}


def test_every_part_is_in_one_group_and_only_small_parts_share_one():
    groups = layout.shard_groups(COUNTS, 100)

    assert [group.parts for group in groups] == [(0,), (1, 2, 5), (6, 9)]
    assert [group.images for group in groups] == [250, 707, 3]
    assert [(group.first, group.shards) for group in groups] == [(0, 3), (3, 8), (11, 1)]
    assert layout.Layout(tuple(groups), 0).shards == 12
    assert layout.shard_groups({}, 100) == []
    assert [group.shards for group in layout.shard_groups({0: 200}, 100)] == [2]


def test_every_image_is_in_one_shard_and_the_shards_of_a_group_have_the_same_size():
    (group,) = layout.shard_groups({4: 1000}, 130)

    found = layout.places(IDS, group, seed=5)

    sizes = [sum(shard == number for _, shard in found.values()) for number in range(8)]
    assert found.keys() == set(IDS) and sizes == [125] * 8
    assert [shard for _, shard in sorted(found.values())] == sorted(shard for _, shard in found.values())
    assert layout.places(IDS[::-1], group, seed=5) == found
    assert {place for place, _ in layout.places(IDS, group, seed=6).values()}.isdisjoint(p for p, _ in found.values())
    # Shards mix the images of the part: each holds some of the first 100 ones.
    assert {found[image_id][1] for image_id in IDS[:100]} == set(range(8))


def test_a_task_writes_the_missing_shards_of_one_group_and_opens_few_at_once():
    groups = layout.shard_groups({0: 30, 1: 5}, 1)

    found = shards.tasks(groups, finished={3, 30, 31, 32, 33, 34})

    assert {task.group for task in found} == {groups[0]}
    assert sorted(chain(*[task.shards for task in found])) == [n for n in range(30) if n != 3]
    assert max(len(task.shards) for task in found) == shards._OPEN


def parquet_file(path: Path, ids: list[str], rows: int = 10) -> str:
    columns = {name: pa.array([None] * len(ids), pa.string()) for name in part_images.COLUMNS}
    columns["image_id"] = pa.array(ids)
    pq.write_table(pa.table(columns), path, row_group_size=rows)
    return f"file://{str(path).replace(' ', '%20')}"


def read(addresses: list[str], seed: int = 0) -> list[list[str]]:
    return [table["image_id"].to_pylist() for table in part_images.mixed(addresses, seed)]


def test_row_groups_of_all_files_are_mixed_and_each_is_read_once(tmp_path, monkeypatch):
    monkeypatch.setattr(part_images, "_WINDOW_BYTES", 1)  # so that each row group is a table of its own
    addresses = [parquet_file(tmp_path / f"a b{n}.parquet", IDS[100 * n : 100 * n + 100]) for n in range(4)]

    found = read(addresses)

    assert sorted(chain(*found)) == sorted(IDS[:400])
    assert {len(table) for table in found} == {10}
    assert found == read(addresses[::-1])
    assert found != read(addresses, seed=1)
    of_file = [IDS.index(table[0]) // 100 for table in found]
    assert sum(one != other for one, other in pairwise(of_file)) > 20  # of 39; 3 if file followed file


def test_row_groups_are_read_together_up_to_the_size_of_a_window(tmp_path, monkeypatch):
    address = parquet_file(tmp_path / "one.parquet", IDS[:100])
    size = pq.read_metadata(tmp_path / "one.parquet").row_group(0).total_byte_size

    monkeypatch.setattr(part_images, "_WINDOW_BYTES", 4 * size + size // 2)

    assert [len(table) for table in read([address])] == [40, 40, 20]


def test_a_lake_that_only_spark_can_read_is_refused_with_a_message(tmp_path):
    with pytest.raises(WinnowError, match=r"nosuch://data/lake cannot be read: .*nosuch"):
        command.require_readable("nosuch://data/lake")
    with pytest.raises(
        WinnowError, match=f"reads the images of {tmp_path}/file/lake as `ingest` reads sources, .*not: "
    ):
        (tmp_path / "file").touch()
        command.require_readable(f"{tmp_path}/file/lake")
    command.require_readable(str(tmp_path))


def test_a_file_with_other_columns_is_refused_with_a_message(tmp_path):
    pq.write_table(pa.table({"col-1": ["a"]}), tmp_path / "mapped.parquet")

    with pytest.raises(WinnowError, match=r"mapped.parquet has no column caption, .*, as if .* had column mapping"):
        read([str(tmp_path / "mapped.parquet")])
