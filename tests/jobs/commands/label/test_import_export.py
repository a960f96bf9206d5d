import io
import json
from datetime import UTC, datetime

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.commands.label import export_file, import_file
from jobs.job import Job
from jobs.labels import files, resolved
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError

BOATS = 'categories.boats={definition="Pictures of boats."}'
NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture
def images(spark):
    rows = [("id1", "a.jpg"), ("id2", "b.jpg"), ("id3", "twice.jpg"), ("id4", "twice.jpg")]
    return spark.createDataFrame(rows, "image_id string, key string")


@pytest.fixture
def job(lake, images):
    blank = [name for name in tables.IMAGES.schema.names if name not in images.columns]
    lake.append(tables.IMAGES, images.selectExpr("*", *[f"null as {name}" for name in blank]), Recipe("test"))
    return Job(lake, config.load(overrides=[BOATS]), Progress(Console(file=io.StringIO(), width=500)))


def screen(job):
    return job.progress.console.file.getvalue()


def rows_of_file(spark, *rows):
    """Rows as from `files.read`, from dicts; the category is boats by default."""
    names = (*files.COLUMNS, files.UNREADABLE)
    filled = [{"category": "boats", **row} for row in rows]
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in filled], files._TEXT)


def labels(spark, *rows):
    """Rows of the table labels from (image_id, label, day of January 2024 or None)."""
    full = [(i, "boats", value, "import", None, day and datetime(2024, 1, day, tzinfo=UTC)) for i, value, day in rows]
    return spark.createDataFrame(full, tables.LABELS.schema)


def write(tmp_path, name, text):
    file = tmp_path / name
    file.write_text(text)
    return str(file)


# Transforms ---------------------------------------------------------------------------------------------------------


def test_label_words_are_read_as_yes_or_no(spark, images):
    meaning = {"true": True, "1": True, "YES": True, " false ": False, "0": False, "no": False, "1.0": True, "2": None}

    found = import_file.checked_labels(
        rows_of_file(spark, *[{"key": "a.jpg", "label": w} for w in meaning]), images, ["boats"]
    )

    assert {row.label: row.value for row in found.collect()} == meaning


@pytest.mark.parametrize("categories", [["boats"], []])
def test_each_fault_has_its_own_reason(spark, images, categories):
    rows = rows_of_file(
        spark,
        {"annotator": "unreadable label", "image_id": "id1", "label": "maybe"},
        {"annotator": "unknown category", "image_id": "id1", "label": "yes", "category": "cars"},
        {"annotator": "unknown origin", "image_id": "id1", "label": "yes", "origin": "guess"},
        {"annotator": "unknown image", "image_id": "id9", "label": "yes"},
        {"annotator": "key of several images", "key": "twice.jpg", "label": "yes"},
        {"annotator": "names no image", "label": "yes"},
        {"annotator": "unreadable time", "image_id": "id1", "label": "yes", "labelled_at": "soon"},
        {"annotator": "unreadable line", "unreadable": "{"},
        {"annotator": None, "image_id": "id3", "key": "twice.jpg", "label": "yes", "origin": " Random "},
    )

    found = import_file.checked_labels(rows, images, categories).collect()

    assert len(found) == 9
    if categories:
        assert all(row.reason == row.annotator for row in found)
        assert {(row.found_id, row.origin) for row in found if row.reason is None} == {("id3", "random")}
    else:
        assert {row.reason for row in found} == {"unknown category", "names no image", "unreadable line"}


def test_known_labels_are_not_added_again(spark, images):
    existing = labels(spark, ("id1", True, 1), ("id1", False, 2), ("id2", True, 3))
    rows = rows_of_file(
        spark,
        {"image_id": "id1", "label": "no"},  # equals the newest label
        {"image_id": "id2", "label": "no"},  # corrects the newest label
        {"image_id": "id2", "label": "no"},  # a repetition
        {"image_id": "id2", "label": "yes", "labelled_at": "2024-01-03"},  # known with this time
        {"image_id": "id2", "label": "yes", "labelled_at": "2024-01-04T01:00:00+01:00"},  # not known with this time
    )

    found = import_file.new_labels(import_file.checked_labels(rows, images, ["boats"]), existing, NOW)

    times = {(row.image_id, row.label, row.at) for row in found.selectExpr("*", "string(labelled_at) as at").collect()}
    assert times == {("id2", False, "2024-06-01 00:00:00"), ("id2", True, "2024-01-04 00:00:00")}


def test_newest_label_counts_and_positive_wins_a_tie(spark):
    found = resolved.resolved(
        labels(
            spark,
            *[("newest", True, 1), ("newest", False, 2)],
            *[("timed", True, None), ("timed", False, 1)],
            *[("tied", False, 1), ("tied", True, 1)],
            *[("agreed", False, None), ("agreed", False, 3)],
        )
    )

    assert {row.image_id: (row.label, row.contradicted) for row in found.collect()} == {
        "newest": (False, True),
        "timed": (False, True),
        "tied": (True, True),
        "agreed": (False, False),
    }


# Files --------------------------------------------------------------------------------------------------------------


def test_broken_json_line_is_reported_and_others_are_read(spark, tmp_path):
    text = '{"key": "a.jpg", "category": "boats", "label": true, "annotator": "ann"}\n{"key": "b.jp\n'

    rows = files.read(spark, write(tmp_path, "labels.jsonl", text)).collect()

    assert [(row.key, row.label, row.annotator, row.unreadable) for row in rows] == [
        ("a.jpg", "true", "ann", None),
        (None, None, None, '{"key": "b.jp'),
    ]


def test_parquet_columns_are_read_as_text(spark, tmp_path):
    file = str(tmp_path / "labels.parquet")
    spark.createDataFrame([("id1", "boats", 1)], "Image_ID string, category string, label int").write.parquet(file)

    row = files.read(spark, file).first()

    assert (row.image_id, row.key, row.label) == ("id1", None, "1")


def test_label_studio_export_is_read(spark, tmp_path):
    def annotation(choice, **more):
        result = [{"from_name": "boats", "to_name": "image", "type": "choices", "value": {"choices": [choice]}}]
        return {"was_cancelled": False, "created_at": "2024-01-01T00:00:00Z", "result": result, **more}

    tasks = [
        {"id": 1, "data": {"image_id": "id1", "image": "x"}, "annotations": [annotation("yes", completed_by=7)]},
        {"id": 2, "data": {"image_id": "id2"}, "annotations": [annotation("yes", was_cancelled=True)]},
        {"id": 3, "data": {"key": "b.jpg"}, "annotations": [annotation("no", completed_by={"email": "a@b.org"})]},
        {"id": 4, "data": {"image_id": "id3"}, "annotations": []},
    ]

    rows = files.read(spark, write(tmp_path, "project.json", json.dumps(tasks))).collect()

    assert {(row.image_id, row.key, row.category, row.label, row.annotator, row.labelled_at) for row in rows} == {
        ("id1", None, "boats", "yes", "7", "2024-01-01T00:00:00Z"),
        (None, "b.jpg", "boats", "no", "a@b.org", "2024-01-01T00:00:00Z"),
    }


def test_written_files_have_all_columns(tmp_path):
    row = dict.fromkeys(files.COLUMNS) | {"image_id": "id1", "category": "boats", "label": True, "annotator": "Ä"}

    for name in ("a.jsonl", "a.parquet", "a.csv"):
        files.write([row, row], str(tmp_path / name))

    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == [row, row]
    assert pq.read_table(tmp_path / "a.parquet").to_pylist() == [row, row]
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == [",id1,boats,true,,Ä,"] * 2


def test_pairs_are_refused_with_the_table_that_holds_them(job, tmp_path):
    with pytest.raises(WinnowError, match="does not write pairs of duplicates: read the table pair_labels"):
        export_file.export_labels(job, str(tmp_path / "pairs.csv"), "duplicates")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("labels.txt", "", r"has an unknown ending: use one of \.csv"),
        ("labels.csv", "key,class\na,b\n", "lacks the columns category, label; it has key, class"),
        ("labels.csv", "category,label\na,b\n", r"lacks the columns image_id \(or key\); it has category, label"),
        ("labels.json", '{"key": "a"}\n{"key": "b"}\n', "not a JSON export of Label Studio"),
        ("labels.json", "[{", "not a JSON export of Label Studio"),
    ],
)
def test_unusable_label_files_are_refused(spark, tmp_path, name, text, message):
    with pytest.raises(WinnowError, match=message):
        files.read(spark, write(tmp_path, name, text))


@pytest.mark.parametrize("name", ["br[1].csv", "br{1,2}.jsonl", "what?.parquet", "100%25 ü.json"])
def test_names_of_label_files_are_taken_to_the_letter(spark, tmp_path, name):
    row = dict.fromkeys(files.COLUMNS) | {"image_id": "id1", "category": "boats", "label": True}
    if name.endswith(".json"):
        choice = {"from_name": "boats", "type": "choices", "value": {"choices": ["true"]}}
        write(tmp_path, name, json.dumps([{"data": {"image_id": "id1"}, "annotations": [{"result": [choice]}]}]))
    else:
        files.write([row], str(tmp_path / name))
    assert [r.image_id for r in files.read(spark, str(tmp_path / name)).collect()] == ["id1"]


def test_a_pattern_names_all_label_files_that_match(spark, tmp_path):
    for name in ("a1.csv", "a2.csv", "b.csv"):
        write(tmp_path, name, f"image_id,category,label\n{name},boats,yes\n")
    assert sorted(r.image_id for r in files.read(spark, str(tmp_path / "a*.csv")).collect()) == ["a1.csv", "a2.csv"]


def test_missing_label_file_is_reported(spark, tmp_path):
    with pytest.raises(WinnowError, match=r"gone\.csv cannot be read"):
        files.read(spark, str(tmp_path / "gone.csv"))


# The command --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_second_import_of_a_file_adds_nothing(job, tmp_path):
    text = "image_id,key,category,label\nid1,,boats,yes\n,b.jpg,boats,no\nid9,,boats,yes\nid2,,boats,maybe\n"
    file = write(tmp_path, "labels.csv", text)

    first = import_file.import_labels(job, file)
    versions = job.lake.snapshot().inputs(tables.LABELS, tables.LABEL_FAULTS)
    second = import_file.import_labels(job, file)

    stored = job.lake.read(tables.LABELS).select("image_id", "label", "origin").collect()
    assert sorted(tuple(row) for row in stored) == [("id1", True, "import"), ("id2", False, "import")]
    assert (first["labels read"], first["labels added"], first["not imported, unknown image"]) == (4, 2, 1)
    assert (second["labels added"], second["already there"], second["not imported, unreadable label"]) == (0, 2, 1)
    assert job.lake.snapshot().inputs(tables.LABELS, tables.LABEL_FAULTS) == versions
    assert {row.reason for row in job.lake.read(tables.LABEL_FAULTS).collect()} == {"unknown image", "unreadable label"}
    assert "skipped 1 labels (unreadable label): id2 boats=maybe; see the table label_faults" in screen(job)


@pytest.mark.slow
def test_corrected_file_changes_the_label_and_the_contradiction_is_reported(job, tmp_path):
    import_file.import_labels(job, write(tmp_path, "labels.csv", "key,category,label\na.jpg,boats,yes\n"))

    summary = import_file.import_labels(job, write(tmp_path, "labels.csv", "key,category,label\na.jpg,boats,no\n"))

    assert summary["contradicted images"] == 1
    assert 'labelled both yes and no; labels.contradictions = "newest" decides: id1 boats' in screen(job)
    assert resolved.resolved(job.lake.read(tables.LABELS)).first().label is False


@pytest.mark.slow
def test_import_of_an_export_adds_nothing(job, tmp_path):
    text = 'key,category,label,annotator\na.jpg,boats,yes,"Ann, ""A"""\nb.jpg,boats,no,\n'
    import_file.import_labels(job, write(tmp_path, "labels.csv", text))
    file = str(tmp_path / "out.csv")

    written = export_file.export_labels(job, file)
    summary = import_file.import_labels(job, file)

    assert written["labels exported"] == 2
    assert (summary["labels read"], summary["labels added"], summary["already there"]) == (2, 0, 2)


def test_export_without_labels_fails(job, tmp_path):
    with pytest.raises(WinnowError, match="no table 'labels'"):
        export_file.export_labels(job, str(tmp_path / "out.csv"))
