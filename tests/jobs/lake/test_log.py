"""The log reader agrees with Delta, and a snapshot reads each table once."""

from pathlib import Path

import pytest
from delta.tables import DeltaTable

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.log import DeltaLog
from jobs.lake.recipe import Recipe

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
