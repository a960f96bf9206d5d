"""Which folders may become a lake, and that Winnow overwrites and deletes only its own files."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from typer.testing import CliRunner

from jobs.cli import app
from jobs.commands import demo, ingest, report, run
from jobs.commands.regurgitation import command as regurgitation
from jobs.job import Job
from jobs.lake import marker as lake_marker
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.sources.apart import require_apart
from models.errors import WinnowError
from tests.builders.sources import pictures, write_folder, write_tars

Files = dict[str, bytes]


def files_below(folder: Path) -> Files:
    """Returns every file with its bytes, including those of hidden folders."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def job_in(job: Job, folder: Path) -> Job:
    return Job(Lake(job.lake.spark, str(folder)), job.settings, job.progress)


def make_delta(spark: SparkSession, folder: Path, rows: str) -> None:
    spark.sql(rows).write.format("delta").save(str(folder))


def rows_of(lake: Lake) -> Any:
    return lake.spark.createDataFrame([("a" * 32, True, [], None)], tables.VERDICTS.schema)


# Folders of the user --------------------------------------------------------------------------------------------------


def test_user_folders_named_sources_or_quarantine_stay_unchanged(job: Job, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_folder(project / "sources", pictures())
    write_folder(project / "quarantine", pictures())
    elsewhere, before = write_folder(tmp_path / "elsewhere", pictures()), files_below(project)

    for source in (project / "sources", elsewhere):
        with pytest.raises(WinnowError):
            ingest.run(job_in(job, project), [str(source)])

        assert files_below(project) == before


def test_a_file_as_lake_is_named_as_one(job: Job, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(b"mine")
    with pytest.raises(WinnowError, match=r"a\.tar is not a Winnow lake: it is a file"):
        job_in(job, tmp_path / "a.tar").lake.require_made()
    assert (tmp_path / "a.tar").read_bytes() == b"mine"


def test_no_table_is_written_into_a_folder_of_images(job: Job, tmp_path: Path) -> None:
    project = tmp_path / "project"
    write_folder(project / "images", pictures())
    elsewhere, before = write_folder(tmp_path / "elsewhere", pictures()), files_below(project)

    with pytest.raises(WinnowError, match=r"is not a Winnow lake and not empty: it holds images; nothing was written"):
        ingest.run(job_in(job, project), [str(elsewhere)])
    assert files_below(project) == before
    (project / lake_marker.FILE).write_bytes(lake_marker.written())
    with pytest.raises(WinnowError, match=r"images is not a Delta table and holds .*, but .* write the table 'images'"):
        ingest.run(job_in(job, project), [str(elsewhere)])

    (project / lake_marker.FILE).unlink()
    assert files_below(project) == before


@pytest.mark.parametrize("marked", [True, False])
def test_a_foreign_delta_table_under_a_tables_name_is_refused(job: Job, tmp_path: Path, marked: bool) -> None:
    project = tmp_path / "project"
    for name in ("images", "sources", "quarantine"):
        make_delta(job.lake.spark, project / name, "select 'http://x' as url, 'cat' as label")
    if marked:
        (project / lake_marker.FILE).write_bytes(lake_marker.written())
    elsewhere, before = write_folder(tmp_path / "elsewhere", pictures()), files_below(project)
    mine = job_in(job, project)

    said = r"without the columns image_id, .*not Winnow's table 'images'" if marked else "not empty: it holds images, q"
    with pytest.raises(WinnowError, match=said):
        ingest.run(mine, [str(elsewhere)])
    with pytest.raises(WinnowError, match="is a Delta table without the columns"):
        mine.lake.read(tables.IMAGES)
    with pytest.raises(WinnowError):
        mine.lake.replace(tables.IMAGES, mine.lake.spark.createDataFrame([], tables.IMAGES.schema), Recipe("x"))
    with pytest.raises(WinnowError):
        mine.lake.drop(tables.SOURCES)

    assert files_below(project) == before


def test_a_foreign_delta_table_is_not_a_lake_and_its_folders_are_not_tables(job: Job, tmp_path: Path) -> None:
    table = tmp_path / "table"
    make_delta(job.lake.spark, table, "select 1 as n")
    (table / "sources").mkdir()
    (table / "sources" / "mine.txt").write_text("dear")
    elsewhere, before = write_folder(tmp_path / "elsewhere", pictures()), files_below(table)

    assert not Lake(job.lake.spark, str(table)).exists(tables.SOURCES)
    with pytest.raises(WinnowError, match="is not a Winnow lake and not empty"):
        ingest.run(job_in(job, table), [str(elsewhere)])

    assert files_below(table) == before


def test_the_demo_does_not_replace_the_users_labels(job: Job, tmp_path: Path) -> None:
    (tmp_path / "labels.parquet").write_bytes(b"mine")

    with pytest.raises(WinnowError, match=r"labels.parquet was not written by the demo and would be replaced"):
        demo.run(job_in(job, tmp_path / "lake"), str(tmp_path), 500)

    assert files_below(tmp_path) == {"labels.parquet": b"mine"}


# What may become a lake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exists", [False, True], ids=["absent", "empty"])
def test_a_new_or_empty_folder_becomes_a_lake(lake: Lake, exists: bool) -> None:
    if exists:
        Path(lake.uri).mkdir()

    lake.append(tables.VERDICTS, rows_of(lake), Recipe("filter"))

    marker = json.loads(Path(lake.uri, lake_marker.FILE).read_bytes())
    assert marker["layout"] == 1 and marker["winnow"] and marker["created_at"].endswith("+00:00")
    lake.drop(tables.VERDICTS)
    again = Lake(lake.spark, lake.uri)
    again.require_made()
    again.append(tables.VERDICTS, rows_of(lake), Recipe("filter"))
    assert json.loads(Path(lake.uri, lake_marker.FILE).read_bytes()) == marker


def test_a_lake_of_an_earlier_version_is_marked_by_its_next_commit(lake: Lake) -> None:
    early = lake.spark.sql("select 'a' as image_id, binary('') as pdq, 1 as pdq_quality, 'x' as encoder, "
                           "array(0f) as embedding, binary('') as embedding_hash, 'mine' as more")  # fmt: skip
    early.write.format("delta").save(lake.path("signals"))
    Path(lake.uri, "notes.txt").write_text("mine")

    lake.require_made()
    assert lake.read(tables.SIGNALS).select("thumbnail").collect()[0][0] is None
    assert not Path(lake.uri, lake_marker.FILE).exists()
    lake.append(tables.VERDICTS, rows_of(lake), Recipe("filter"))

    assert Path(lake.uri, lake_marker.FILE).exists() and Path(lake.uri, "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        (
            '{"winnow": "9.1", "layout": 2}',
            r"layout 2, written by Winnow 9\.1; .* up to 1: use Winnow 9\.1 or later",
        ),
        ("mine", r"_winnow_lake\.json is not a valid lake marker"),
    ],
)
def test_a_lake_with_a_later_layout_or_a_broken_marker_stays_unchanged(lake: Lake, marker: str, said: str) -> None:
    Path(lake.uri).mkdir()
    Path(lake.uri, lake_marker.FILE).write_text(marker)

    for wanted in (lake.require_made, lake.require_room, lambda: lake.write_file("report.html", b"x")):
        with pytest.raises(WinnowError, match=said):
            wanted()

    assert files_below(Path(lake.uri)) == {lake_marker.FILE: marker.encode()}


def test_an_empty_address_is_refused_and_the_root_stays_the_root(spark: SparkSession) -> None:
    with pytest.raises(WinnowError, match="the address of the lake is empty"):
        Lake(spark, "")
    assert Lake(spark, "/").path("images") == "/images"


def test_delete_staging_deletes_only_scratch_folders(lake: Lake) -> None:
    lake.write_file("models/a.bin", b"x")

    for name in ("models", "_staging", "_staging/", "_staging/../models", ""):
        with pytest.raises(ValueError, match="is not below _staging/"):
            lake.delete_staging(name)
        with pytest.raises(ValueError, match="is not below _staging/"):
            lake.stage(name, lake.spark.range(1))

    assert lake.read_file("models/a.bin") == b"x"


# Commands that need a lake --------------------------------------------------------------------------------------------


def test_commands_report_a_missing_lake_and_write_nothing(spark: SparkSession, tmp_path: Path) -> None:
    photos, before = tmp_path / "photos", {}
    write_folder(photos, pictures())
    before = files_below(tmp_path)

    for words in (["report"], ["filter"], ["export", str(tmp_path / "out")], ["label", "next", "x", "--strategy=seed"]):
        for folder, found in ((photos, "it holds "), (tmp_path / "typo", "there is no such folder")):
            said = CliRunner().invoke(app, [*words, "--lake", str(folder)])
            line = said.stderr.splitlines()[-1]
            assert said.exit_code == 1 and f"error: {folder} is not a Winnow lake: {found}" in line
            assert "create a lake in a new folder with `winnow ingest SOURCE... --lake FOLDER`" in line

    with pytest.raises(WinnowError, match="not empty"):
        report.run(Job(Lake(spark, str(photos)), config.load(), Progress()))
    assert files_below(tmp_path) == before and not (tmp_path / "typo").exists()


# Sources and lakes are separate folders -------------------------------------------------------------------------------


def test_a_source_inside_or_around_the_lake_is_refused_before_any_write(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    write_folder(data / "photos", pictures())
    write_tars(data / "lake" / "tars", pictures(), 1)
    (data / "lake" / lake_marker.FILE).write_bytes(lake_marker.written())
    (tmp_path / "link").symlink_to(data / "lake")
    monkeypatch.chdir(data)
    before, mine = files_below(data), job_in(job, data / "lake")

    inside = ("lake/tars", f"file:{data}/lake/", str(tmp_path / "link" / "tars"), f"{data}/*/tars/*.tar", "lake/n*")
    around = (".", f"{data}/", f"file://{data}", f"{tmp_path}/da*")
    for sources, said in ((inside, "lies in the lake"), (around, "lies in source"), ((f"{data}/*",), "lies in")):
        for source in sources:
            for command in (ingest.run, run.run, regurgitation.run):
                with pytest.raises(WinnowError, match=f"{said}.*nothing was written") as raised:
                    command(mine, [source])
                assert "\n" not in str(raised.value)

    assert files_below(data) == before


@pytest.mark.parametrize(
    ("lake", "source"),
    [
        ("file:/a/b", "/a/bc"),
        ("file:/a/bc", "/a/b"),
        ("file:/a/lake", "/a/photos"),
        ("file:/a/lake", "/a/*.tar"),
        ("s3a://x/lake", "/x/lake"),
        ("hdfs://one/lake", "hdfs://two/lake"),
    ],
)
def test_a_path_beside_the_lake_is_accepted_as_a_source(
    lake: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.sources.files.kind", lambda _: None)
    monkeypatch.setattr("jobs.sources.files.expand", lambda path: [path] if "*" not in path else [])

    require_apart(lake, [source])


@pytest.mark.parametrize(
    ("lake", "source"),
    [
        ("s3a://x/a/lake", "s3://X/a/"),
        ("s3a://x/a/lake", "s3a://x/a/lake/images"),
        ("s3a://x/a/lake", "s3a://x/a/b/.."),
        ("abfss://c@store/a", "abfs://c@store/a/part-*.parquet"),
        ("file:/a/lake", "/a/l*"),
        ("file:/a/b/lake", "/a/*"),
    ],
)
def test_addresses_are_compared_as_stores_resolve_them(lake: str, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.sources.files.kind", lambda _: None)
    monkeypatch.setattr("jobs.sources.files.expand", lambda path: [path] if "*" not in path else [])

    with pytest.raises(WinnowError, match="lies in"):
        require_apart(lake, [source])


# Files are replaced atomically ----------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for a killed process."""


def crash(*_: object) -> None:
    raise KilledError


class Failing:
    """A file system whose rename fails."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return crash if name == "rename" else getattr(self._inner, name)  # type: ignore[no-any-return]


def test_a_crash_before_the_rename_leaves_the_old_file(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.write_file("models/a.bin", b"old")
    owner: Any = lake if hasattr(lake, "_hadoop") else lake._files
    found = owner._hadoop
    with monkeypatch.context() as killed:
        killed.setattr(owner, "_hadoop", lambda name: (Failing(found(name)[0]), found(name)[1]))
        killed.setattr(os, "replace", crash)
        killed.setattr(Path, "replace", crash)
        with pytest.raises(KilledError):
            lake.write_file("models/a.bin", b"new")

    assert lake.read_file("models/a.bin") == b"old"
    lake.write_file("models/a.bin", b"new")
    assert lake.read_file("models/a.bin") == b"new"


def test_a_file_with_a_hadoop_checksum_is_replaced(lake: Lake) -> None:
    lake.write_file("models/a.bin", b"x")
    filesystem, path = lake._files._hadoop("models/a.bin")
    stream = filesystem.create(path, True)
    stream.write(bytearray(b"by hadoop"))
    stream.close()
    assert Path(lake.uri, "models/.a.bin.crc").exists()

    lake.write_file("models/a.bin", b"by winnow")

    assert lake.read_file("models/a.bin") == b"by winnow"
