"""Winnow works in a session of its own: the user's session, its settings, views and functions stay the user's."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from jobs.cli import app
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import SparkSettings
from jobs.runtime.session import DELTA_JAR, fit_shuffles, get_session, in_session, running_session, with_settings
from models.errors import WinnowError
from tests.builders.sources import Picture, encoded, write_folder
from winnow import hamming, open_lake

ROOT = Path(__file__).parents[3]
SETTINGS = SparkSettings(driver_memory="3g")
MINE = {
    "spark.databricks.delta.snapshotPartitions": "7",
    "spark.sql.files.maxPartitionBytes": "1234567",
    "spark.sql.parquet.enableVectorizedReader": "true",
    "spark.sql.session.timeZone": "America/New_York",
    "spark.sql.ansi.enabled": "false",
    "spark.sql.shuffle.partitions": "3",
    "spark.sql.execution.arrow.pyspark.enabled": "false",
}
NEEDED = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
}


@pytest.fixture
def user(spark: SparkSession) -> Iterator[SparkSession]:
    """A session that a user started, with settings of their own; the active one."""
    before = {name: spark.conf.get(name, None) for name in MINE}
    for name, value in MINE.items():
        spark.conf.set(name, value)
    yield spark
    for name, old in before.items():
        spark.conf.unset(name) if old is None else spark.conf.set(name, old)
    spark.createDataFrame([], "none int")


def test_settings_of_the_users_session_stay_and_only_what_winnow_needs_differs_in_its_own(user: SparkSession) -> None:
    before = user.conf.getAll

    own = get_session(SETTINGS)

    assert {name: own.conf.get(name) for name in MINE} == MINE | NEEDED
    assert own is not user and user.conf.getAll == before
    user.range(1).createOrReplaceTempView("of_the_user")
    assert not own.catalog.tableExists("of_the_user") and user.catalog.tableExists("of_the_user")
    user.catalog.dropTempView("of_the_user")


def test_settings_of_winnow_count_in_its_own_session_and_what_it_needs_cannot_be_changed(user: SparkSession) -> None:
    asked = SparkSettings(driver_memory="3g", shuffle_partitions=9, conf={"spark.sql.files.maxPartitionBytes": "99"})
    own = get_session(asked)
    assert (own.conf.get("spark.sql.shuffle.partitions"), own.conf.get("spark.sql.files.maxPartitionBytes")) == (
        "9",
        "99",
    )
    for name, other in {"spark.sql.session.timeZone": "CET", "spark.sql.ansi.enabled": "false"}.items():
        with pytest.raises(WinnowError, match=rf"^Winnow needs {name}=.*: remove this setting from spark\.conf$"):
            get_session(SparkSettings(driver_memory="3g", conf={name: other}))
    with pytest.raises(WinnowError, match=r"spark\.executor\.memory cannot be set once Spark runs"):
        get_session(SparkSettings(driver_memory="3g", conf={"spark.executor.memory": "17g"}))


def test_a_command_in_a_users_program_leaves_their_session_running_active_and_unchanged(
    user: SparkSession, tmp_path: Path
) -> None:
    before, lake = user.conf.getAll, str(tmp_path / "lake")
    source = write_folder(
        tmp_path / "photos", [Picture("a", encoded("red"), "red"), Picture("b", encoded("blue"), "b")]
    )

    for words in (["ingest", str(source)], ["status"]):
        said = CliRunner().invoke(app, [*words, "--lake", lake])
        assert said.exit_code == 0, said.output
    refused = CliRunner().invoke(app, ["filter", "--lake", str(tmp_path / "none")])

    assert refused.exit_code == 1 and running_session() is user
    assert user.conf.getAll == before and user.range(3).count() == 3
    jvm_session = user._jvm.org.apache.spark.sql.classic.SparkSession
    assert jvm_session.getActiveSession().get().equals(user._jsparkSession)

    opened = open_lake(lake)
    opened.spark("images").createOrReplaceTempView("images_of_winnow")
    user.udf.register("hamming_of_winnow", hamming)
    query = (
        "select hamming_of_winnow(unhex('00'), unhex('03')) as bits, count(*) as rows from images_of_winnow group by 1"
    )
    assert opened.session is user
    assert [
        row["rows"]
        for row in user.sql(query.replace("'00'", f"'{'00' * 32}'").replace("'03'", f"'{'03' * 32}'")).collect()
    ] == [2]
    assert len(opened.pandas("images", ["key"])) == 2 and user.conf.getAll == before
    user.catalog.dropTempView("images_of_winnow")


def test_a_session_without_delta_is_refused_before_work_begins(user: SparkSession) -> None:
    catalog = "spark.sql.catalog.spark_catalog"
    value = user.conf.get(catalog)
    user.conf.unset(catalog)
    try:
        with pytest.raises(WinnowError, match="the running Spark session has no Delta: create it with"):
            get_session(SETTINGS)
    finally:
        user.conf.set(catalog, str(value))


def test_two_scans_at_once_have_each_their_own_settings(spark: SparkSession, tmp_path: Path) -> None:
    spark.range(0, 4_000, 1, 4).write.parquet(str(tmp_path / "rows"))
    fine = with_settings(spark, {"spark.sql.files.maxPartitionBytes": "500", "spark.sql.files.minPartitionNum": "8"})
    coarse = with_settings(spark, {"spark.sql.files.minPartitionNum": "1"})

    scans = [session.read.parquet(str(tmp_path / "rows")) for session in (fine, coarse)]

    tasks = [scan.rdd.getNumPartitions() for scan in scans]
    assert tasks[0] > 8 >= tasks[1] and spark.conf.get("spark.sql.files.minPartitionNum", None) is None


def test_rows_move_to_a_session_and_are_computed_by_its_settings(spark: SparkSession) -> None:
    rows = spark.createDataFrame([("1",), ("x",)], "text string")
    lenient = with_settings(spark, {"spark.sql.ansi.enabled": "false"})

    moved = in_session(rows, lenient)

    assert moved.sparkSession is lenient and in_session(moved, lenient) is moved
    assert [row[0] for row in moved.select(F.col("text").cast("int")).collect()] == [1, None]
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


@pytest.mark.parametrize(
    ("images", "partitions"), [(0, 4), (400_000, 4), (400_001, 5), (10**7, 100), (5 * 10**9, 20_000)]
)
def test_shuffle_partitions_follow_the_number_of_images(spark: SparkSession, images: int, partitions: int) -> None:
    chosen = with_settings(
        spark, {"spark.sql.shuffle.partitions": "4", "spark.winnow.choosesShufflePartitions": "true"}
    )
    fit_shuffles(chosen, images)
    assert chosen.conf.get("spark.sql.shuffle.partitions") == str(partitions)


def test_shuffle_partitions_that_the_user_set_stay(user: SparkSession) -> None:
    for own, partitions in (
        (get_session(SETTINGS), "3"),
        (get_session(SparkSettings(driver_memory="3g", shuffle_partitions=2)), "2"),
    ):
        fit_shuffles(own, 10**9)
        assert own.conf.get("spark.sql.shuffle.partitions") == partitions


def test_a_lake_with_other_settings_writes_the_same_tables_and_leaves_the_session(lake: Lake) -> None:
    from jobs.lake.recipe import Recipe

    rows = lake.spark.createDataFrame([("a", True, [], None)], tables.VERDICTS.schema)
    conf = {"spark.sql.parquet.compression.codec": "uncompressed"}

    lake.within(conf).replace(tables.VERDICTS, rows, Recipe("filter"))

    (file,) = Path(lake.path("verdicts")).glob("*.parquet")
    assert "snappy" not in file.name and lake.spark.conf.get(*conf, None) != "uncompressed"
    assert lake.read(tables.VERDICTS).count() == 1


GIVEN = {
    "spark.sql.extensions": "org.example.NoSuchExtension",
    "spark.sql.catalog.spark_catalog": "org.example.NoSuchCatalog",
    **MINE,
}
SHOWS = """
import json, sys
from jobs.runtime.config import SparkSettings
from jobs.runtime.session import get_session, leave, running_session
user = running_session()
own = get_session(SparkSettings(driver_memory="1g"))
print("SHOWN", json.dumps([own.conf.get(name) for name in json.loads(sys.argv[1])]))
leave(own, user)
"""


@pytest.mark.slow
def test_settings_of_spark_submit_stay(tmp_path: Path) -> None:
    script = tmp_path / "shows.py"
    script.write_text(SHOWS)
    conf = [word for name, value in GIVEN.items() for word in ("--conf", f"{name}={value}")]
    submit = str(Path(pyspark.__file__).parent / "bin" / "spark-submit")
    ran = subprocess.run(
        [submit, "--master", "local[1]", "--packages", DELTA_JAR, *conf, str(script), json.dumps(list(GIVEN))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    (shown,) = [line for line in ran.stdout.splitlines() if line.startswith("SHOWN ")] or [ran.stderr[-3000:]]
    both = "io.delta.sql.DeltaSparkSessionExtension,org.example.NoSuchExtension"
    assert json.loads(shown.removeprefix("SHOWN ")) == list((GIVEN | NEEDED | {"spark.sql.extensions": both}).values())
