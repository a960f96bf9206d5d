"""One writer at a time: what Delta and the lake do for commands that use a lake at the same time."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.leases.lease import FOLDER, Holder, Lease
from jobs.lake.recipe import Recipe
from models.errors import LakeInUseError, WinnowError

WEEK = 7 * 24 * 3600


def rows(lake: Lake, *ids: str) -> DataFrame:
    return lake.spark.createDataFrame([(one * 32, True, [], None) for one in ids], tables.VERDICTS.schema)


def ids(lake: Lake) -> list[str]:
    return sorted(row.image_id[0] for row in lake.read(tables.VERDICTS).collect())


def asleep(lake: Lake) -> None:
    """Makes the holder of a lake look as if it had ended, though it goes on."""
    (file,) = [file for file in Path(lake.uri, FOLDER).iterdir() if file.name.isdecimal()]
    holder = Holder.decoded(file.read_bytes())
    assert holder is not None
    file.write_bytes(replace(holder, released=True).encoded())


@pytest.fixture
def other(spark: SparkSession, lake: Lake) -> Lake:
    """The same lake, as another command opens it."""
    return Lake(spark, lake.uri)


def test_a_second_writer_is_refused_and_commands_beside_it_are_not(lake: Lake, other: Lake) -> None:
    with lake.used_by("ingest", print):
        lake.append(tables.VERDICTS, rows(lake, "a"), Recipe("ingest"))
        with other.used_by("score", print):
            with pytest.raises(LakeInUseError, match="in use by `winnow ingest`"):
                other.hold()
            with pytest.raises(LakeInUseError, match="in use by `winnow ingest`"):
                other.append(tables.VERDICTS, rows(other, "b"), Recipe("score"))
        with other.used_by("keep", print):
            other.append(tables.VERDICTS, rows(other, "c"), Recipe("keep"))
    with other.used_by("score", print):
        other.append(tables.VERDICTS, rows(other, "d"), Recipe("score"))
    assert ids(lake) == ["a", "c", "d"]


def test_scratch_folders_are_a_commands_own_and_left_ones_are_deleted(lake: Lake, other: Lake) -> None:
    staging = Path(lake.uri, "_staging")
    with lake.used_by("drop", print), other.used_by("keep", print):
        assert len({lake.staging("_staging/x"), other.staging("_staging/x")}) == 2
        lake.stage("_staging/x", rows(lake, "a"))
        other.stage("_staging/x", rows(other, "b"))
        lake.delete_staging("_staging/x")
        assert [row.image_id[0] for row in lake.spark.read.parquet(other.staging("_staging/x")).collect()] == ["b"]
    assert not list(staging.iterdir())
    for folder in ("score", "12", "beside-old", "beside-new"):
        (staging / folder / "x").mkdir(parents=True)
    os.utime(staging / "beside-old", (time.time() - WEEK - 60,) * 2)
    with lake.used_by("score", print):
        lake.hold()
        assert [folder.name for folder in staging.iterdir()] == ["beside-new"]


def test_a_command_that_was_asleep_adds_nothing(lake: Lake, other: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    with lake.used_by("ingest", print), other.used_by("ingest", print):
        lake.append(tables.VERDICTS, rows(lake, "a"), Recipe("ingest"))
        asleep(lake)
        other.append(tables.VERDICTS, rows(other, "b"), Recipe("ingest"))
        with pytest.raises(LakeInUseError, match="taken over by `winnow ingest`"):
            lake.append(tables.VERDICTS, rows(lake, "c"), Recipe("ingest"))

        # It may also fall asleep after its last look at the lease: then Delta refuses the commit.
        with monkeypatch.context() as unseen:
            unseen.setattr(lake, "_require_alone", lambda table: None)
            with pytest.raises(LakeInUseError, match="taken over by `winnow ingest`"):
                lake.append(tables.VERDICTS, rows(lake, "d"), Recipe("ingest"))
    assert ids(lake) == ["a", "b"]


def test_a_table_that_another_program_changed_meanwhile_is_not_written(lake: Lake, other: Lake) -> None:
    with lake.used_by("filter", print):
        lake.append(tables.VERDICTS, rows(lake, "a"), Recipe("filter"))
        lake.spark.sql(f"OPTIMIZE delta.`{lake.path('verdicts')}`").collect()
        lake.append(tables.VERDICTS, rows(lake, "b"), Recipe("filter"))
        other.append(tables.VERDICTS, rows(other, "c"), Recipe("filter"))
        with pytest.raises(LakeInUseError, match="verdicts was changed by another program"):
            lake.append(tables.VERDICTS, rows(lake, "d"), Recipe("filter"))
    assert ids(lake) == ["a", "b", "c"]


def test_an_append_that_delta_skips_is_an_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if the folder of leases were older than the tables, so that its numbers begin below theirs.
    monkeypatch.setattr(Lease, "transaction", lambda _: ("winnow-same", 7))
    with lake.used_by("ingest", print):
        lake.append(tables.VERDICTS, rows(lake, "a"), Recipe("ingest"))
        with pytest.raises(WinnowError, match=r"verdicts was not written: .*delete .*/_lease, then try again"):
            lake.append(tables.VERDICTS, rows(lake, "b"), Recipe("ingest"))
    assert ids(lake) == ["a"]
