"""`open_lake` returns tables as frames, raises clear errors for missing tables and columns, and writes nothing."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.lake import reader, tables
from jobs.lake.lake import Lake
from jobs.lake.reader import open_lake
from jobs.lake.recipe import Recipe
from models.errors import WinnowError

VERDICTS = [("a", True, [], None), ("b", False, ["cats"], None)]
THRESHOLDS = [("cats", "m", 0.5, 0.9, 0.95, 60, 40, 1, 2, 0, "labels")]


class NoSession:
    """A user's session without Delta."""

    class conf:  # noqa: N801
        @staticmethod
        def get(name: str, default: str | None = None) -> str | None:
            return default


@pytest.fixture
def made(lake: Lake) -> Lake:
    old = [(name, True, [], None) for name in ("a", "b", "removed later")]
    lake.replace(tables.VERDICTS, lake.spark.createDataFrame(old, tables.VERDICTS.schema), Recipe("filter"))
    lake.replace(tables.VERDICTS, lake.spark.createDataFrame(VERDICTS, tables.VERDICTS.schema), Recipe("filter"))
    lake.replace(
        tables.THRESHOLDS, lake.spark.createDataFrame(THRESHOLDS, tables.THRESHOLDS.schema), Recipe("calibrate")
    )
    return lake


def files_below(folder: str) -> dict[str, tuple[int, int]]:
    return {str(f): (f.stat().st_size, f.stat().st_mtime_ns) for f in Path(folder).rglob("*")}


def test_tables_are_read_as_spark_and_pandas_frames_without_replaced_rows(made: Lake) -> None:
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


def test_errors_for_a_missing_table_or_column_list_the_existing_ones(made: Lake) -> None:
    opened = open_lake(made.uri, made.spark)

    with pytest.raises(WinnowError, match=r"no table 'verdict'; the tables of .* are: thresholds, verdicts$"):
        opened.spark("verdict")
    with pytest.raises(WinnowError, match="has no table 'weights': run `winnow weigh` first"):
        opened.pandas("weights")
    with pytest.raises(WinnowError, match="the table 'verdicts' has no column 'id'; it has image_id, kept, reasons"):
        opened.pandas("verdicts", columns=["image_id", "id"])


def test_a_folder_that_is_not_a_lake_is_refused_and_stays_unchanged(spark: SparkSession, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")

    with pytest.raises(WinnowError, match="is not a Winnow lake: it holds notes"):
        open_lake(str(tmp_path), spark)
    with pytest.raises(WinnowError, match="there is no such folder"):
        open_lake(str(tmp_path / "absent"), spark)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_error_for_a_session_without_delta_names_the_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(
        WinnowError, match=r"no Delta: create it with .*spark\.sql\.extensions=io\.delta.*spark_catalog="
    ) as raised:
        open_lake(str(tmp_path), NoSession())
    assert "\n" not in str(raised.value)

    monkeypatch.setattr(reader, "running_session", NoSession)
    with pytest.raises(WinnowError, match="no Delta"):
        open_lake(str(tmp_path))


def test_without_a_session_a_local_one_starts(made: Lake, monkeypatch: pytest.MonkeyPatch, spark: SparkSession) -> None:
    monkeypatch.setattr(reader, "running_session", lambda: None)
    monkeypatch.setattr(reader, "get_session", lambda settings: spark if settings.driver_memory else None)

    assert open_lake(made.uri).spark("verdicts").count() == len(VERDICTS)


def test_every_table_has_its_own_meaning() -> None:
    meanings = [table.meaning for table in tables.ALL]

    assert all(meanings) and len(set(meanings)) == len(meanings)
