"""A lake opened to be read: its tables as frames, the errors for what is not there, and that nothing is written."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.lake import reader, tables
from jobs.lake.lake import Lake
from jobs.lake.reader import open_lake
from jobs.lake.recipe import Recipe
from models.errors import WinnowError

VERDICTS = [("a", True, []), ("b", False, ["cats"])]
THRESHOLDS = [("cats", "m", 0.5, 0.9, 0.95, 60, 40, 1, 2)]


class NoSession:
    """A session of a user's that was built without Delta."""

    class conf:  # noqa: N801
        @staticmethod
        def get(name: str, default: str | None = None) -> str | None:
            return default


@pytest.fixture
def made(lake: Lake) -> Lake:
    old = [(name, True, []) for name in ("a", "b", "removed later")]
    lake.replace(tables.VERDICTS, lake.spark.createDataFrame(old, tables.VERDICTS.schema), Recipe("filter"))
    lake.replace(tables.VERDICTS, lake.spark.createDataFrame(VERDICTS, tables.VERDICTS.schema), Recipe("filter"))
    lake.replace(
        tables.THRESHOLDS, lake.spark.createDataFrame(THRESHOLDS, tables.THRESHOLDS.schema), Recipe("calibrate")
    )
    return lake


def files_below(folder: str) -> dict[str, tuple[int, int]]:
    return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in Path(folder).rglob("*")}


def test_tables_come_as_spark_and_as_pandas_frames_without_removed_rows(made: Lake) -> None:
    before = files_below(made.uri)

    opened = open_lake(made.uri)
    rows = opened.pandas("verdicts").sort_values("image_id")

    assert opened.session is made.spark
    assert sorted(tuple(row) for row in opened.spark("verdicts").collect()) == VERDICTS
    assert rows["image_id"].tolist() == ["a", "b"] and [list(found) for found in rows["reasons"]] == [[], ["cats"]]
    assert opened.pandas("thresholds", columns=["threshold", "category"]).to_dict("records") == [
        {"threshold": 0.5, "category": "cats"}
    ]
    assert opened.tables == {"thresholds": tables.THRESHOLDS.meaning, "verdicts": tables.VERDICTS.meaning}
    assert files_below(made.uri) == before


def test_a_session_without_arrow_gives_the_same_frame(made: Lake) -> None:
    made.spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "false")
    try:
        frame = open_lake(made.uri, made.spark).pandas("thresholds", columns=["positives"])
        assert made.spark.conf.get("spark.sql.execution.arrow.pyspark.enabled") == "false"
    finally:
        made.spark.conf.set("spark.sql.execution.arrow.pyspark.enabled", "true")
    assert frame["positives"].tolist() == [60]


def test_what_is_not_there_is_told_with_what_is(made: Lake) -> None:
    opened = open_lake(made.uri, made.spark)

    with pytest.raises(WinnowError, match=r"no table 'verdict'; the tables of .* are: thresholds, verdicts$"):
        opened.spark("verdict")
    with pytest.raises(WinnowError, match="holds no table 'weights': run `winnow weigh` first"):
        opened.pandas("weights")
    with pytest.raises(WinnowError, match="the table 'verdicts' has no column 'id'; it has image_id, kept, reasons"):
        opened.pandas("verdicts", columns=["image_id", "id"])


def test_a_folder_that_is_no_lake_is_refused_and_left_as_it_is(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(WinnowError, match="is no lake of Winnow's: it holds notes"):
        open_lake(str(tmp_path), spark)
    with pytest.raises(WinnowError, match="there is no such folder"):
        open_lake(str(tmp_path / "absent"), spark)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_session_without_delta_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(
        WinnowError, match=r"no Delta: build it with .*spark\.sql\.extensions=io\.delta.*spark_catalog="
    ) as told:
        open_lake(str(tmp_path), NoSession())
    assert "\n" not in str(told.value)

    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda cls: NoSession()))
    with pytest.raises(WinnowError, match="no Delta"):
        open_lake(str(tmp_path))


def test_without_a_session_a_local_one_starts(made: Lake, monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    monkeypatch.setattr(SparkSession, "getActiveSession", classmethod(lambda cls: None))
    monkeypatch.setattr(reader, "get_session", lambda settings: spark if settings.driver_memory else None)

    assert open_lake(made.uri).spark("verdicts").count() == len(VERDICTS)


def test_every_table_says_what_it_is() -> None:
    meanings = [table.meaning for table in tables.ALL]

    assert all(meanings) and len(set(meanings)) == len(meanings)
