"""`vacuum` gathers small files and removes unused ones; no row changes, and nothing becomes out of date."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from jobs.commands.vacuum import command as vacuum
from jobs.commands.verify import command as verify
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError

MONTH_MS = 30 * 24 * 3_600_000
ORPHAN = "part-00000-01234567-89ab-cdef-0123-456789abcdef-c000.snappy.parquet"
SCORES = [(f"{n:032x}", "cats", "m1", n / 10, 0) for n in range(9)]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """A lake with nine small files of scores, verdicts that were replaced twice, and duplicates made from both."""
    for row in SCORES:
        lake.append(tables.SCORES, lake.spark.createDataFrame([row], tables.SCORES.schema), Recipe("score"))
    for kept in (True, False, True):
        verdicts = [(row[0], kept, [], None) for row in SCORES]
        rows = lake.spark.createDataFrame(verdicts, tables.VERDICTS.schema).coalesce(1)
        lake.replace(tables.VERDICTS, rows, Recipe("filter", lake.snapshot().inputs(tables.SCORES), result={"n": 9}))
    nothing = lake.spark.createDataFrame([], tables.DUPLICATES.schema)
    lake.replace(tables.DUPLICATES, nothing, Recipe("dedup", lake.snapshot().inputs(tables.VERDICTS, tables.SCORES)))
    return lake


def job_on(lake: Lake) -> Job:
    return Job(lake, config.load(), Progress())


def aged(lake: Lake, folder: Path, from_version: dict[str, int] | None = None) -> Lake:
    """Returns a copy of a lake whose files and log entries are a month old, without the first commits of some logs."""
    shutil.copytree(lake.uri, folder)
    for path in folder.rglob("*"):
        # A checkpoint has the times of removed files too.
        of_log = path.parent.parent.name not in (from_version or {})
        if path.name.endswith(".crc") or (of_log and "checkpoint" in path.name):
            path.unlink()
        elif path.parent.name == "_delta_log" and path.suffix == ".json":
            if int(path.stem) < (from_version or {}).get(path.parent.parent.name, 0):
                path.unlink()
                continue
            older = re.sub(
                r'"(deletionTimestamp|timestamp)":(\d+)', lambda m: f'"{m[1]}":{int(m[2]) - MONTH_MS}', path.read_text()
            )
            path.write_text(older)
    for path in folder.rglob("*"):
        os.utime(path, (path.stat().st_mtime - MONTH_MS / 1000,) * 2)
    return Lake(lake.spark, str(folder))


def data_files(lake: Lake, table: str) -> set[str]:
    return {path.name for path in Path(lake.path(table)).glob("*.parquet")}


def rows_of(lake: Lake) -> list[list[str]]:
    return [
        sorted(map(str, lake.read(table).collect())) for table in (tables.SCORES, tables.VERDICTS, tables.DUPLICATES)
    ]


def test_small_files_are_gathered_and_unused_files_of_winnow_alone_are_removed(filled: Lake, tmp_path: Path) -> None:
    old = aged(filled, tmp_path / "old")
    mine = [Path(old.path("scores")) / name for name in ("notes.txt", "mine.parquet", "part-1.parquet")]
    for path in [*mine, Path(old.path("scores")) / ORPHAN]:
        path.write_bytes(b"12345")
        os.utime(path, (1_000_000_000,) * 2)
    fresh = Path(old.path("verdicts")) / ORPHAN
    fresh.write_bytes(b"a write that still runs")
    # Two replaced verdicts, an orphan, and the empty file of the duplicates, which Delta wrote and did not add.
    before, versions = rows_of(old), {name: old._log.version(name) for name in ("scores", "verdicts")}
    files = {name: data_files(old, name) for name in versions}

    counted = vacuum.run(job_on(old), "7d", dry_run=True)

    assert {name: data_files(old, name) for name in versions} == files
    assert {name: old._log.version(name) for name in versions} == versions
    assert (counted["small files to compact"], counted["unused files to remove"]) == (9, 4)

    done = vacuum.run(job_on(old), "7d")

    assert (done["small files compacted"], done["unused files removed"]) == (9, 4)
    assert data_files(old, "verdicts") == {fresh.name, *(Path(f).name for f in old.read(tables.VERDICTS).inputFiles())}
    assert all(path.exists() for path in mine) and fresh.exists() and ORPHAN not in data_files(old, "scores")
    assert len(old.read(tables.SCORES).inputFiles()) == 1 and rows_of(old) == before
    now = old.snapshot()
    assert now.newer(tables.DUPLICATES) == now.newer(tables.VERDICTS) == []
    verified = verify.run(job_on(old))
    assert verified["damage"] == "none found" and verified["rows"] == 18
    again = vacuum.run(job_on(old), "7d")
    assert (again["small files compacted"], again["unused files removed"]) == (0, 0)


def test_files_that_were_replaced_lately_stay_for_readers(filled: Lake) -> None:
    files = data_files(filled, "verdicts")
    done = vacuum.run(job_on(filled), "1h")
    assert done["unused files removed"] == 0 and data_files(filled, "verdicts") == files


def checkpointed(lake: Lake, table: str) -> int:
    """Writes a checkpoint of a table's newest version and returns its number; Delta may delete the log before it."""
    log = lake.spark._jvm.org.apache.spark.sql.delta.DeltaLog.forTable(lake.spark._jsparkSession, lake.path(table))
    log.checkpoint()
    return int(lake._log.version(table) or 0)


def test_what_a_table_was_made_from_outlives_the_log_of_its_version(filled: Lake, tmp_path: Path) -> None:
    vacuum.run(job_on(filled), "7d")
    filled.append(tables.VERDICTS, filled.read(tables.VERDICTS).limit(0), Recipe("filter", result={"n": 9}))
    before = filled.snapshot()
    with filled._upkeep(tables.VERDICTS, {}) as session:
        DeltaTable.forPath(session, filled.path("verdicts")).optimize().executeCompaction()
        session.sql(f"ALTER TABLE delta.`{filled.path('verdicts')}` SET TBLPROPERTIES ('a' = 'b')")
    cut = {name: checkpointed(filled, name) for name in ("scores", "verdicts")}
    old = aged(filled, tmp_path / "old", cut)

    now = old.snapshot()

    assert min(int(path.stem) for path in Path(old.path("scores")).glob("_delta_log/*.json")) == cut["scores"] > 8
    assert now.inputs(tables.SCORES, tables.VERDICTS) == before.inputs(tables.SCORES, tables.VERDICTS)
    assert now.recipe(tables.VERDICTS) == before.recipe(tables.VERDICTS) == Recipe("filter", result={"n": 9})
    commits = [one.commit(tables.SCORES) for one in (now, before)]
    assert commits[0] == commits[1] and commits[0] is not None
    assert now.newer(tables.DUPLICATES) == ["verdicts"]
    old.append(tables.SCORES, old.spark.createDataFrame(SCORES[:1], tables.SCORES.schema), Recipe("score"))
    assert old.snapshot().newer(tables.DUPLICATES) == ["scores", "verdicts"]


def test_a_table_whose_log_no_longer_tells_what_it_was_made_from_is_out_of_date(filled: Lake, tmp_path: Path) -> None:
    for _ in range(2):  # as other programs do
        filled.spark.sql(f"ALTER TABLE delta.`{filled.path('verdicts')}` SET TBLPROPERTIES ('a' = 'b')")
    assert filled.snapshot().newer(tables.VERDICTS) == []
    old = aged(filled, tmp_path / "old", {"verdicts": checkpointed(filled, "verdicts")})

    assert old.snapshot().newer(tables.VERDICTS) == ["the rest of its log"]
    with pytest.raises(WinnowError, match="'verdicts' is older than the rest of its log: run `winnow filter` first"):
        old.snapshot().require_current(tables.VERDICTS)
    assert old.snapshot().made_by(Recipe("filter"), tables.VERDICTS) is None


def test_an_earlier_version_is_read_from_the_upkeep_after_it(filled: Lake, tmp_path: Path) -> None:
    version = filled.snapshot().version(tables.SCORES)
    vacuum.run(job_on(filled), "7d")
    filled.append(tables.SCORES, filled.spark.createDataFrame(SCORES[:2], tables.SCORES.schema), Recipe("score"))
    old = aged(filled, tmp_path / "old")
    vacuum.run(job_on(old), "1h")

    earlier = old.read_version(tables.SCORES, version)

    assert earlier is not None and earlier.count() == 9 and old.read(tables.SCORES).count() == 11
    assert old.read_version(tables.SCORES, 3) is None


def test_signals_that_the_next_dedup_compares_stay(filled: Lake) -> None:
    row = dict.fromkeys(tables.SIGNALS.schema.names) | {"image_id": "a" * 32, "encoder": "e"}
    rows = filled.spark.createDataFrame([row], tables.SIGNALS.schema)
    filled.append(tables.SIGNALS, rows, Recipe("score"))
    nothing = filled.spark.createDataFrame([], tables.DUPLICATES.schema)
    filled.replace(tables.DUPLICATES, nothing, Recipe("dedup", filled.snapshot().inputs(tables.SIGNALS)))
    for _ in range(8):
        filled.append(tables.SIGNALS, rows, Recipe("score"))

    vacuum.run(job_on(filled), "7d")
    assert len(filled.read(tables.SIGNALS).inputFiles()) == 9

    filled.replace(tables.DUPLICATES, nothing, Recipe("dedup", filled.snapshot().inputs(tables.SIGNALS)))
    vacuum.run(job_on(filled), "7d")
    assert len(filled.read(tables.SIGNALS).inputFiles()) == 1


def test_logs_that_were_kept_for_ten_years_are_shortened_and_those_of_the_user_stay(filled: Lake) -> None:
    name = "delta.logRetentionDuration"
    assert filled._log.property("scores", name) == "interval 90 days"
    for table, period in {"scores": "interval 3650 days", "verdicts": "interval 400 days"}.items():
        filled.spark.sql(f"ALTER TABLE delta.`{filled.path(table)}` SET TBLPROPERTIES ('{name}' = '{period}')")

    vacuum.run(job_on(filled), "7d")

    assert filled._log.property("scores", name) == "interval 90 days"
    assert filled._log.property("verdicts", name) == "interval 400 days"


@pytest.mark.parametrize("keep", ["0h", "8d", "169h", "7", "week", "-1d", "1.5h", ""])
def test_a_period_that_delta_cannot_keep_is_one_line(filled: Lake, keep: str) -> None:
    before = data_files(filled, "verdicts")
    with pytest.raises(WinnowError, match=r"^--keep .* is not a period of 1h to 7d, as in `--keep 7d`") as raised:
        vacuum.run(job_on(filled), keep)
    assert "\n" not in str(raised.value) and data_files(filled, "verdicts") == before


def test_an_upkeep_entry_of_another_kind_is_not_taken_for_one_of_winnow(spark: SparkSession, filled: Lake) -> None:
    entry = filled._log.newest("verdicts")
    assert entry is not None and entry.kept is None
    assert json.loads(entry.as_kept())["keeps"]["version"] == entry.version
