"""Wrong calls end with one line that names what to do, before Spark starts."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.lake import marker, tables
from jobs.lake.lake import Lake
from jobs.lake.table import Table
from jobs.prerequisites import NEEDED
from tests.test_architecture import ROOT

OWN = '[categories.own]\ndefinition = "own"\n'
ORDER = (tables.IMAGES, tables.SIGNALS, tables.SCORES, tables.THRESHOLDS, tables.VERDICTS, tables.DUPLICATES)


def written(lake: Path, *made: Table) -> Path:
    """Makes a lake whose tables have no rows, without Spark."""
    lake.mkdir(exist_ok=True)
    (lake / marker.FILE).write_bytes(marker.written())
    for table in made:
        log = lake / table.name / "_delta_log"
        log.mkdir(parents=True)
        metadata = {"id": table.name, "schemaString": table.schema.json(), "partitionColumns": list(table.partition)}
        actions = (
            {"commitInfo": {"operation": "WRITE"}},
            {"protocol": {"minReaderVersion": 1}},
            {"metaData": metadata},
        )
        (log / f"{0:020d}.json").write_text("\n".join(map(json.dumps, actions)))
    return lake


@pytest.fixture(autouse=True)
def without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object) -> None:
        raise AssertionError("Spark was to start")

    monkeypatch.setattr("jobs.runtime.session.get_session", started)


def error(*words: str) -> str:
    """Returns the line of the error that a call ends with."""
    said = CliRunner().invoke(app, list(words))
    assert said.exit_code == 1 and said.exception.__class__ is SystemExit, said.exception
    (line,) = [line for line in said.stderr.splitlines() if line.startswith("error: ")]
    return line


ARGUMENTS = {
    "label next": ["own", "--strategy", "random"],
    "label serve": ["own"],
    "label simulate": ["own", "--truth", "truth.parquet"],
    "label import": ["labels.csv"],
    "label export": ["labels.csv"],
    "train": ["own"],
    "explain": ["0123abcd"],
    "keep": ["0123abcd", "--why", "w"],
    "drop": ["0123abcd", "--why", "w"],
    "export": ["out"],
    "regurgitation search": ["made/"],
}


@pytest.mark.parametrize("command", NEEDED)
def test_each_command_names_the_command_that_makes_the_first_missing_table(command: str, tmp_path: Path) -> None:
    lake, needed = tmp_path / "a lake", NEEDED[command]
    words = [*command.split(), *ARGUMENTS.get(command, [])]
    for number, table in enumerate(needed):
        written(lake, *needed[max(number - 1, 0) : number])
        maker = f"winnow {table.maker} --lake '{lake}' --set seed=1"
        said = error(*words, "--lake", str(lake), "--set", "seed=1")
        assert said.endswith(f"has no table '{table.name}': run `{maker}` first")


def test_a_category_without_labels_and_a_queue_without_its_rows_are_found(tmp_path: Path) -> None:
    conf = tmp_path / "own.toml"
    conf.write_text(OWN)
    options = ["--lake", str(written(tmp_path / "lake", *ORDER)), "--conf", str(conf)]
    whole = f"--lake {tmp_path / 'lake'} --conf {conf}`"
    assert f"`winnow label next own --strategy random {whole}" in error("train", "own", *options)
    assert f"`winnow label next own --strategy random {whole}" in error("calibrate", *options)
    # A threshold of one's own needs no random sample.
    limit = "categories.own.threshold=0.5"
    assert "`winnow label next own --strategy seed " in error("train", "own", *options, "--set", limit)
    for _ in range(2):
        assert "nothing is queued for own: run `winnow label next own" in error("label", "serve", "own", *options)
        written(tmp_path / "lake", *([] if (tmp_path / "lake" / "label_queue").exists() else [tables.LABEL_QUEUE]))
    assert "nothing is queued for duplicates" in error("label", "serve", "duplicates", *options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ingest", "nosuch"], "nosuch does not exist"),
        (["ingest", "text.txt"], "neither .tar nor .parquet"),
        (["ingest", "images", "--format", "webdatset"], "there is no format 'webdatset'"),
        (["run", "nosuch", "--category", "nsfw"], "nosuch does not exist"),
        (["run", "lake/images"], "lies in the lake"),
        (["run", "images", "--labels", "nosuch.csv"], "label file nosuch.csv cannot be read"),
        (["label", "import", "nosuch.csv"], "label file nosuch.csv cannot be read"),
        (["label", "export", "labels.doc"], "unknown ending"),
        (["label", "next", "nsfw", "--category", "nsfw", "--strategy", "precison"], "no strategy 'precison'"),
        (["score", "--set", "encoder.model=nosuch.onnx"], "nosuch.onnx"),
        (["score", "--set", "encoder.model=text.txt"], "text.txt"),
        (["score", "--set", "spark.driver_memory=64m"], "set spark.driver_memory to 1g or more"),
        (["score", "--set", "spark.driver_memory=999999g"], "but this machine has"),
        (["regurgitation", "nosuch/"], "nosuch does not exist"),
        (["explain", "0123abcd"], "unknown image 0123abcd"),
        (["keep", "0123abcd", "--why", "w"], "unknown image 0123abcd"),
        (["drop", "--from", "nosuch", "--why", "w"], "the list nosuch cannot be read"),
        (["compare", "lake", "nosuch"], "nosuch is not a Winnow lake"),
    ],
)
def test_wrong_arguments_and_settings_are_found(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "lake", *ORDER)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(b"")
    (tmp_path / "text.txt").write_text("text")
    assert message in error(*words, *([] if words[0] == "compare" else ["--lake", "lake"]))


def test_a_used_folder_and_the_lake_are_no_places_to_export_to(tmp_path: Path) -> None:
    lake = written(tmp_path / "lake", *NEEDED["export"])
    assert f"{lake}/out lies in the lake" in error("export", f"{lake}/out", "--lake", str(lake))
    assert "is not empty" in error("export", str(ROOT / "conf"), "--lake", str(lake))


def test_a_later_version_and_a_missing_java_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = written(tmp_path / "lake", tables.IMAGES)
    (lake / marker.FILE).write_text('{"winnow": "9.9", "layout": 99}')
    assert "use Winnow 9.9 or later" in error("status", "--lake", str(lake))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert "no Java found under JAVA_HOME" in error("status", "--lake", str(lake))


def test_a_lake_is_small_by_its_log_and_by_the_sources_that_are_read(tmp_path: Path) -> None:
    def lake(rows: int | None, added: int | None) -> Lake:
        folder = tmp_path / f"{rows} {added}"
        if rows is not None:
            written(folder, tables.IMAGES)
            stats = json.dumps({"numRecords": rows})
            add = {"add": {"path": "part=0/a.parquet", "partitionValues": {"part": "0"}, "stats": stats}}
            (folder / "images" / "_delta_log" / f"{1:020d}.json").write_text(json.dumps(add))
        found = Lake(lambda few: pytest.fail("Spark was to start"), str(folder))
        if added is not None:
            found.adds(added)
        return found

    small, large = 512 << 20, (512 << 20) + 1
    assert lake(5000, None).is_small and lake(5000, small).is_small and lake(None, small).is_small
    assert not any(one.is_small for one in (lake(5001, None), lake(0, large), lake(None, large), lake(None, None)))
    assert not Lake(lambda few: pytest.fail("Spark was to start"), "s3a://bucket/lake").is_small


def test_few_rows_are_read_without_spark_and_many_are_not(tmp_path: Path) -> None:
    lake = Lake(lambda few: pytest.fail("Spark was to start"), str(written(tmp_path / "lake", tables.LABELS)))
    assert lake.few_rows(tables.LABELS, "category") == {"category": []} == lake.few_rows(tables.LABEL_QUEUE, "category")

    def append(number: int, rows: int) -> None:
        name = f"{number}.parquet"
        pq.write_table(pa.table({"image_id": [f"{number}"], "category": ["own"]}), tmp_path / "lake" / "labels" / name)
        add = {"add": {"path": name, "partitionValues": {}, "stats": json.dumps({"numRecords": rows})}}
        (tmp_path / "lake" / "labels" / "_delta_log" / f"{number:020d}.json").write_text(json.dumps(add))

    append(1, 1)
    append(2, 1)
    assert lake.few_rows(tables.LABELS, "category", "image_id") == {"category": ["own"] * 2, "image_id": ["1", "2"]}
    append(3, 100_000)
    assert lake.few_rows(tables.LABELS, "category") is None
