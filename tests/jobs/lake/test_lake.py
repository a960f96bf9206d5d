import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pytest
from delta.tables import DeltaTable
from pyspark.sql import DataFrame

from jobs.lake import marker, tables
from jobs.lake.image_files import LARGE_FILES
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe, Version
from jobs.runtime.addresses import local_folder
from models.errors import WinnowError

VERDICTS = [("a" * 32, True, [], None), ("b" * 32, False, ["cats"], None)]


def rows(lake: Lake, image_id: str) -> DataFrame:
    return lake.spark.createDataFrame([(image_id, True, [], None)], tables.VERDICTS.schema)


def test_a_commit_gives_the_duration_of_the_command_including_deltas_work(lake: Lake) -> None:
    def slowly(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        time.sleep(2)
        yield from batches

    schema = tables.VERDICTS.schema
    slow = lake.spark.createDataFrame(VERDICTS, schema).coalesce(1).mapInArrow(slowly, schema)
    lake.begin()
    lake.replace(tables.VERDICTS, slow, Recipe("filter", settings={"x": 1}))
    stored = lake.snapshot().commit(tables.VERDICTS)
    assert stored is not None and stored.recipe == Recipe("filter", settings={"x": 1})
    assert stored.seconds is not None and 2 <= stored.seconds < 120


def test_a_missing_table_has_no_rows_and_the_error_names_its_command(lake: Lake) -> None:
    assert lake.read(tables.VERDICTS).columns == tables.VERDICTS.schema.names
    assert lake.read(tables.VERDICTS).count() == 0
    assert lake.snapshot().version(tables.VERDICTS) is None and lake.snapshot().commit(tables.VERDICTS) is None
    with pytest.raises(WinnowError, match="has no table 'verdicts': run `winnow filter` first"):
        lake.require(tables.VERDICTS)


def test_rows_are_deleted_and_older_versions_can_be_read(lake: Lake) -> None:
    both = lake.spark.createDataFrame(VERDICTS, tables.VERDICTS.schema)
    lake.append(tables.VERDICTS, both, Recipe("filter"))
    lake.remove(tables.VERDICTS, both.where("kept").select("image_id"), Recipe("undo"))
    assert [row.image_id for row in lake.read(tables.VERDICTS).collect()] == ["b" * 32]
    assert lake.snapshot().recipe(tables.VERDICTS) == Recipe("undo")
    first = lake.read_version(tables.VERDICTS, 0)
    assert first is not None and first.count() == 2
    assert lake.read_version(tables.VERDICTS, 99) is None
    undone = lake.read_made(tables.VERDICTS, Recipe("undo"))
    assert undone is not None and undone.count() == 1
    assert lake.read_made(tables.VERDICTS, Recipe("another")) is None


def test_a_version_whose_files_were_deleted_is_none(lake: Lake) -> None:
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("one"))
    files = lake.read(tables.VERDICTS).inputFiles()
    lake.replace(tables.VERDICTS, rows(lake, "b" * 32), Recipe("two"))
    # As a vacuum does.
    for file in files:
        Path(urlsplit(file).path).unlink()

    assert lake.read_version(tables.VERDICTS, 0) is None and lake.read_made(tables.VERDICTS, Recipe("one")) is None
    assert lake.read_version(tables.VERDICTS, 1) is not None


def read_verdicts(lake: Lake) -> Recipe:
    return Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS))


def test_a_table_deleted_and_written_again_is_a_different_input(lake: Lake) -> None:
    missing = read_verdicts(lake)
    assert missing.inputs == {"verdicts": None}
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("one"))
    first = read_verdicts(lake)
    assert not first.makes_the_same(missing) and first.makes_the_same(read_verdicts(lake))

    lake.drop(tables.VERDICTS)
    lake.append(tables.VERDICTS, rows(lake, "b" * 32), Recipe("one"))

    before, now = first.inputs["verdicts"], read_verdicts(lake).inputs["verdicts"]
    assert before and now and before["version"] == now["version"] == 0
    assert not first.makes_the_same(read_verdicts(lake))


def test_inputs_stored_as_plain_numbers_are_read_and_count_as_different(lake: Lake) -> None:
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("one"))
    noted: dict[str, Any] = {"verdicts": 0, "weights": None}
    lake.append(tables.DUPLICATES, lake.read(tables.DUPLICATES), Recipe("dedup", noted))

    stored = lake.snapshot().recipe(tables.DUPLICATES)

    assert stored and stored.inputs == {"verdicts": Version(version=0, id=None), "weights": None}
    assert not stored.makes_the_same(Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS, tables.WEIGHTS)))


def test_a_stale_table_raises_and_the_error_names_its_command(lake: Lake) -> None:
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("filter"))
    nothing = lake.read(tables.DUPLICATES)
    lake.snapshot().require_current(tables.DUPLICATES)
    lake.replace(tables.DUPLICATES, nothing, Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS, tables.IMAGES)))
    lake.snapshot().require_current(tables.DUPLICATES)

    lake.append(tables.VERDICTS, rows(lake, "b" * 32), Recipe("filter"))

    lake.snapshot().require_current(tables.DUPLICATES, tables.IMAGES)
    assert lake.snapshot().newer(tables.DUPLICATES) == ["verdicts"]
    with pytest.raises(WinnowError, match="'duplicates' is older than verdicts: run `winnow dedup` first"):
        lake.snapshot().require_current(tables.DUPLICATES, tables.IMAGES, tables.VERDICTS)


def test_only_the_version_number_counts_for_inputs_without_an_id(lake: Lake) -> None:
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("filter"))
    early = Recipe("dedup", {"verdicts": Version(version=0, id=None), "weights": None})
    lake.replace(tables.DUPLICATES, lake.read(tables.DUPLICATES), early)
    assert lake.snapshot().newer(tables.DUPLICATES) == []

    lake.append(tables.VERDICTS, rows(lake, "b" * 32), Recipe("filter"))

    assert lake.snapshot().newer(tables.DUPLICATES) == ["verdicts"]


def test_tables_of_a_stopped_run_with_other_settings_are_not_up_to_date(lake: Lake) -> None:
    nothing = {table: lake.read(table) for table in (tables.PAIRS, tables.DUPLICATES)}
    wanted, other = (Recipe("dedup", settings={"max_distance": bits}) for bits in (31, 20))
    for table in (tables.PAIRS, tables.DUPLICATES):
        lake.replace(table, nothing[table], Recipe("dedup", settings={"max_distance": 31}, result={"kept": 3}))
    made = lake.snapshot().made_by(wanted, tables.PAIRS, tables.DUPLICATES)
    assert made and made.result == {"kept": 3} and not lake.snapshot().made_by(other, tables.PAIRS, tables.DUPLICATES)

    lake.replace(tables.PAIRS, nothing[tables.PAIRS], other)

    assert lake.snapshot().made_by(wanted, tables.PAIRS, tables.DUPLICATES) is None
    assert lake.snapshot().made_by(wanted, tables.DUPLICATES) and not lake.snapshot().made_by(
        wanted, tables.DUPLICATES, tables.NEAR_MISSES
    )


def test_replacing_no_rows_by_no_rows_makes_a_commit_with_its_recipe(lake: Lake) -> None:
    """By default Delta skips such a commit. A lake that grew without duplicates would then ask for dedup forever."""
    nothing = lake.read(tables.DUPLICATES)
    lake.append(tables.VERDICTS, rows(lake, "a" * 32), Recipe("filter"))
    lake.replace(tables.DUPLICATES, nothing, Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS)))
    lake.append(tables.VERDICTS, rows(lake, "b" * 32), Recipe("filter"))

    lake.replace(tables.DUPLICATES, nothing, Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS)))

    lake.snapshot().require_current(tables.DUPLICATES)
    lake.append(tables.VERDICTS, lake.read(tables.VERDICTS).where("false"), Recipe("filter", settings={"more": 1}))
    assert lake.rows_written(tables.VERDICTS) == 0 and lake.read(tables.VERDICTS).count() == 2


def test_maintenance_commits_are_skipped_and_foreign_commits_have_no_recipe(lake: Lake) -> None:
    for image_id in "ab":
        lake.append(tables.VERDICTS, rows(lake, image_id * 32), Recipe("filter", settings={"x": 1}))
    before = lake.snapshot().inputs(tables.VERDICTS)
    delta = DeltaTable.forPath(lake.spark, lake.path("verdicts"))

    delta.optimize().executeCompaction()

    assert delta.history(1).select("operation").collect()[0][0] == "OPTIMIZE"
    lake.spark.sql(f"ALTER TABLE delta.`{lake.path('verdicts')}` SET TBLPROPERTIES (who = 'ann')")
    assert delta.history(1).select("operation").collect()[0][0] == "SET TBLPROPERTIES"
    assert lake.snapshot().recipe(tables.VERDICTS) == Recipe("filter", settings={"x": 1})
    assert lake.snapshot().inputs(tables.VERDICTS) == before and lake.rows_written(tables.VERDICTS) == 1
    for metadata in ("mended by hand", '{"who": "ann"}', "[1]"):
        writer = rows(lake, "c" * 32).write.format("delta").mode("append").option("userMetadata", metadata)
        writer.save(lake.path("verdicts"))
        assert lake.snapshot().recipe(tables.VERDICTS) is None
    commit = lake.snapshot().commit(tables.VERDICTS)
    assert commit and commit.recipe is None and commit.seconds is None


def test_rows_are_fetched_partition_by_partition_and_the_scratch_folder_is_deleted(lake: Lake) -> None:
    odd = Lake(lake.spark, f"{lake.uri}/a lake of 100% [v2] {{a,b}} ü")
    parts = list(odd.fetch("_staging/x", lake.spark.range(100).repartition(3)))
    assert len(parts) == 3 and all(part.num_rows for part in parts)
    assert sorted(row for part in parts for row in part["id"].to_pylist()) == list(range(100))
    assert not odd.has_file("_staging/x")


def test_a_file_is_replaced_atomically_and_the_error_names_a_missing_file(lake: Lake) -> None:
    lake.write_file("models/a.bin", b"one")
    lake.write_file("models/a.bin", b"\xfftwo")
    assert lake.read_file("models/a.bin") == b"\xfftwo" and lake.has_file("models/a.bin")
    assert not lake.has_file("models/a.bin.part")
    Path(lake.uri, "models/a.bin").unlink()
    with pytest.raises(WinnowError, match=r"models/a\.bin cannot be read"):
        lake.read_file("models/a.bin")


def adds(lake: Lake, table: tables.Table) -> list[dict[str, Any]]:
    """Returns the files of the table's newest commit, as Delta's log describes them."""
    commit = max(Path(lake.path(table.name)).glob("_delta_log/*.json"))
    actions = map(json.loads, commit.read_text().splitlines())
    return [action["add"] for action in actions if "add" in action]


def test_delta_notes_the_ranges_of_columns_that_queries_ask_for_only(lake: Lake) -> None:
    scores = [("b" * 32, "cats", "m1", 0.5, 3), ("a" * 32, "dogs", "m1", 0.75, 4)]
    lake.append(tables.SCORES, lake.spark.createDataFrame(scores, tables.SCORES.schema).coalesce(1), Recipe("score"))

    (file,) = adds(lake, tables.SCORES)

    stats = json.loads(file["stats"])
    assert stats["minValues"] == {"category": "cats", "model": "m1", "part": 3}
    assert stats["maxValues"] == {"category": "dogs", "model": "m1", "part": 4}
    assert stats["numRecords"] == lake.rows_written(tables.SCORES) == 2


def test_the_rows_of_many_tasks_share_a_large_file(lake: Lake) -> None:
    scores = [(f"{n:032x}", "cats", "m1", 0.5, 0) for n in range(40)]
    rows = lake.spark.createDataFrame(scores, tables.SCORES.schema).repartition(8)
    lake.append(tables.SCORES, rows, Recipe("score"))
    assert len(adds(lake, tables.SCORES)) == 8

    lake.within(LARGE_FILES).append(tables.SCORES, rows, Recipe("score"))

    assert len(adds(lake, tables.SCORES)) == 1 and lake.rows_written(tables.SCORES) == 40
    assert lake.read(tables.SCORES).count() == 80


@pytest.mark.parametrize("name", ["a", "a/../b", "a lake of 100% [v2]", "ü"])
def test_local_folders_are_known_without_hadoop(spark, tmp_path, name):
    for uri in (f"{tmp_path}/{name}", f"file:{tmp_path}/{name}", f"file://{tmp_path}/{name}"):
        by_hadoop, without = Lake(spark, uri), Lake(lambda few: pytest.fail("Spark was to start"), uri)
        by_hadoop.mark()
        assert without.has_file(marker.FILE) and without.read_file(marker.FILE) == by_hadoop.read_file(marker.FILE)
        qualified = by_hadoop._files._qualified("").toString()
        assert without.address == by_hadoop.address == qualified
    for elsewhere in ("s3a://bucket/lake", "hdfs:/lake", "file://host/lake", "a:b", "file:relative"):
        assert local_folder(elsewhere) is None
