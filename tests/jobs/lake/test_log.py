"""The log reader agrees with Delta, and a snapshot reads each table once."""

from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import Row

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.log import DeltaLog
from jobs.lake.recipe import Recipe
from tests.builders.spark_settings import overridden

TABLE = tables.WEIGHTS


def filled(lake: Lake, commits: int) -> DeltaTable:
    for number in range(commits):
        rows = [(f"{number:x}{n:031x}", 1.0) for n in range(number % 3)]
        frame = lake.spark.createDataFrame(rows, TABLE.schema)
        lake.append(TABLE, frame, Recipe("weigh", settings={"number": number}))
    return DeltaTable.forPath(lake.spark, lake.path(TABLE.name))


def forget_first_commits(lake: Lake, count: int) -> None:
    """Deletes commits as Delta does when a checkpoint holds them and they are older than its retention."""
    log = Path(lake.path(TABLE.name)) / "_delta_log"
    for number in range(count):
        for ending in ("json", "crc"):
            (log / f"{number:020d}.{ending}").unlink()
            (log / f".{number:020d}.{ending}.crc").unlink(missing_ok=True)


def test_the_log_agrees_with_deltas_history_and_detail(lake: Lake) -> None:
    delta = filled(lake, 4)
    history = {row.version: row for row in delta.history().collect()}
    entries = list(lake._log.entries(TABLE.name))
    assert [entry.version for entry in entries] == [3, 2, 1, 0]
    for entry in entries:
        expected_row = history[entry.version]
        assert (entry.operation, entry.user_metadata) == (expected_row.operation, expected_row.userMetadata)
        assert entry.rows == int(expected_row.operationMetrics["numOutputRows"]) == entry.version % 3
        assert abs(entry.written_ms / 1000 - expected_row.timestamp.timestamp()) < 1
    assert lake._log.table_id(TABLE.name) == delta.detail().collect()[0].id


@pytest.mark.slow
def test_version_and_id_are_right_when_the_log_has_lost_its_first_commits(lake: Lake) -> None:
    delta = filled(lake, 12)  # Delta writes a checkpoint at each tenth version.
    expected = delta.detail().collect()[0].id
    before = lake.snapshot().inputs(TABLE)
    forget_first_commits(lake, 8)
    assert lake.exists(TABLE) and lake.snapshot().inputs(TABLE) == before == {
        "weights": {"version": 11, "id": expected}
    }
    assert lake.read(TABLE).count() == sum(number % 3 for number in range(12))


def test_a_folder_without_a_commit_is_not_a_table(lake: Lake, tmp_path: Path) -> None:
    (Path(lake.uri) / TABLE.name / "_delta_log").mkdir(parents=True)
    assert not lake.exists(TABLE)
    now = lake.snapshot()
    assert (now.version(TABLE), now.recipe(TABLE), now.inputs(TABLE)) == (None, None, {"weights": None})


def test_a_snapshot_reads_each_table_once_and_does_not_change(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(lake, 1)
    calls: list[str] = []
    newest = DeltaLog.newest

    def counted(log: DeltaLog, table: str) -> object:
        calls.append(table)
        return newest(log, table)

    monkeypatch.setattr(DeltaLog, "newest", counted)
    now = lake.snapshot()
    noted = now.inputs(TABLE, tables.CURATED)
    filled(lake, 1)
    assert now.inputs(TABLE, tables.CURATED) == noted and now.recipe(TABLE) is not None
    assert now.newer(TABLE) == [] and now.made_by(Recipe("other"), TABLE) is None
    assert calls == [TABLE.name, tables.CURATED.name]
    assert lake.snapshot().version(TABLE) == 1


# Files of small tables --------------------------------------------------------------------------------------------


def by_delta(lake: Lake, version: int) -> list[Row]:
    rows = lake.spark.read.format("delta").option("versionAsOf", version).load(lake.path(TABLE.name))
    return sorted(rows.collect())


def test_the_files_of_each_version_hold_the_rows_that_delta_reads(lake: Lake) -> None:
    delta = filled(lake, 4)
    delta.optimize().executeCompaction()
    delta.delete("image_id like '1%'")
    lake.replace(TABLE, lake.read(TABLE).limit(1), Recipe("weigh"))
    assert lake._log.version(TABLE.name) == 6
    for version in range(7):
        found, rows = lake._log.files(TABLE.name, version), by_delta(lake, version)
        assert found is not None and found.rows == len(rows) and found.schema == TABLE.schema
        read = lake.read_version(TABLE, version)
        assert read is not None and sorted(read.collect()) == rows
    assert sorted(lake.read(TABLE).collect()) == by_delta(lake, 6) and lake.counts([TABLE]) == {TABLE.name: 1}
    assert lake._log.files(TABLE.name, 7) is None and lake._log.files(tables.PAIRS.name) is None


@pytest.mark.parametrize("name", ["images of 100 %", "out[v2]", "año ☂", "a#b=c"])
def test_partitions_and_folders_of_any_name_are_read(lake: Lake, name: str) -> None:
    odd = Lake(lake.spark, f"{lake.uri}-{name}")
    rows = [(f"{n:032x}", "k", "s", None, b"x", 1, 1, "PNG", "{}", n % 2) for n in range(4)]
    odd.append(tables.IMAGES, lake.spark.createDataFrame(rows, tables.IMAGES.schema), Recipe("ingest"))
    assert odd._log.files("images") is not None
    assert sorted(map(tuple, odd.read(tables.IMAGES).collect())) == rows
    assert [row.image_id for row in odd.read(tables.IMAGES).where("part = 1 and image_id like '%3'").collect()] == [
        f"{3:032x}"
    ]


@pytest.mark.parametrize(
    "properties", ["'delta.enableDeletionVectors' = 'true'", "'delta.columnMapping.mode' = 'name'"]
)
def test_a_table_whose_rows_are_not_those_of_its_files_is_read_by_delta(lake: Lake, properties: str) -> None:
    filled(lake, 3)
    address = f"delta.`{lake.path(TABLE.name)}`"
    lake.spark.sql(f"alter table {address} set tblproperties ({properties})")
    lake.spark.sql(f"delete from {address} where image_id = '20000000000000000000000000000001'")
    assert lake._log.files(TABLE.name) is None
    rows = lake.read(TABLE).collect()
    assert len(rows) == lake.counts([TABLE])[TABLE.name] == 2 and sorted(rows) == by_delta(lake, 4)


def test_rows_are_counted_if_the_log_has_no_statistics(lake: Lake) -> None:
    with overridden(lake.spark, {"spark.databricks.delta.stats.collect": "false"}):
        filled(lake, 3)
    found = lake._log.files(TABLE.name)
    assert found is not None and found.rows is None and lake.counts([TABLE, tables.PAIRS]) == {TABLE.name: 3}


def test_a_long_log_is_left_to_delta(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(lake, 3)
    for limit in ("_FEW_COMMITS", "_FEW_LINES"):
        with monkeypatch.context() as patched:
            patched.setattr(f"jobs.lake.log.{limit}", 2)
            assert lake._log.files(TABLE.name) is None and lake.read(TABLE).count() == 3
