"""Finding sources, mapping columns, and each reader on its own."""

import csv
import errno
import gzip
import hashlib
import io
import json
import os
import tarfile
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import types as T

from jobs.runtime import config
from jobs.sources import beside, columns, delta, files, find, folder, parquet, webdataset
from jobs.sources.rows import FieldText, Row, batches, first_text, json_object, text, to_json
from models.errors import WinnowError
from tests.builders.sources import (
    CAPTIONS,
    encoded,
    members_of,
    pictures,
    tar_bytes,
    write_folder,
    write_parquet,
    write_tar,
)

READERS = {"folder": folder.read, "webdataset": webdataset.read, "parquet": parquet.read, "delta": delta.read}


def found(
    spark: SparkSession, settings: config.Settings, *paths: Path | str, fmt: str | None = None
) -> list[find.Source]:
    return find.find(lambda: spark, [str(path) for path in paths], fmt, settings.ingest)


def read(spark: SparkSession, settings: config.Settings, path: Path, fmt: str | None = None) -> list[dict[str, Any]]:
    sources = found(spark, settings, path, fmt=fmt)
    rows = READERS[sources[0].format](spark, sources, settings.ingest).collect()
    return sorted((row.asDict() for row in rows), key=lambda row: (row["key"] or "", row["caption"] or ""))


def by_key(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["key"]: row for row in rows}


# Finding --------------------------------------------------------------------------------------------------------------


def test_formats_are_guessed(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "deep" / "0.tar", members_of(pictures()[0]))
    pq.write_table(pa.table({"url": ["u"]}), tmp_path / "tars" / "0.parquet")  # as img2dataset writes beside its shards
    write_folder(tmp_path / "folder", pictures())
    write_parquet(tmp_path / "parquet" / "0.parquet", pictures())
    (tmp_path / "delta" / "_delta_log").mkdir(parents=True)

    assert [s.format for s in found(spark, settings, tmp_path / "tars")] == ["webdataset"]
    assert [s.format for s in found(spark, settings, tmp_path / "tars" / "*" / "*.tar")] == ["webdataset"]
    assert [s.format for s in found(spark, settings, tmp_path / "folder")] == ["folder"]
    assert [s.format for s in found(spark, settings, f"file://{tmp_path}/parquet")] == ["parquet"]
    with pytest.raises(WinnowError, match="not a Delta table"):
        found(spark, settings, tmp_path / "delta")


@pytest.mark.parametrize(
    ("name", "fmt", "message"),
    [
        ("nowhere", None, "does not exist"),
        ("*.tar", None, "no file matches"),
        ("empty", None, "holds no images"),
        ("both", None, "1 tar file and 1 image file:"),
        ("both", "parquet", r"holds no parquet files \(it has 2 other files\)"),
        ("both", "zip", "there is no format 'zip'"),
        ("both/a.png", None, "give the folder of an image"),
        ("both/a.tar", "folder", "give the folder that contains it"),
    ],
)
def test_unreadable_sources_give_a_one_line_error(
    spark: SparkSession, settings: config.Settings, tmp_path: Path, name: str, fmt: str | None, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    write_tar(tmp_path / "both" / "a.tar", {})
    (tmp_path / "both" / "a.png").write_bytes(encoded("red"))

    with pytest.raises(WinnowError, match=message.replace("*", r"\*")) as caught:
        found(spark, settings, tmp_path / name, fmt=fmt)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_changes_with_files_and_settings(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    write_folder(tmp_path / "in", pictures())
    (before,) = found(spark, settings, tmp_path / "in")
    (same,) = found(spark, settings, tmp_path / "in")
    other = config.load(overrides=["ingest.max_megapixels=1"])
    (limited,) = found(spark, other, tmp_path / "in")
    (tmp_path / "in" / "new.png").write_bytes(encoded("red"))
    (grown,) = found(spark, settings, tmp_path / "in")

    assert before == same
    assert len({before.fingerprint, limited.fingerprint, grown.fingerprint}) == 3


def test_a_link_to_a_parent_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "sub" / "a.png").write_bytes(b"1")
    (tmp_path / "in" / "sub" / "back").symlink_to(tmp_path / "in")

    assert [e.name for _, entries in files.walk(str(tmp_path / "in")) for e in entries] == ["a.png"]


def test_a_link_to_itself_is_listed_as_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")

    assert [list(entries) for _, entries in files.walk(str(tmp_path))] == [[files.FileEntry("a.png", 0, 0)]]


# Columns --------------------------------------------------------------------------------------------------------------


def test_columns_are_found_by_name_and_type() -> None:
    settings = config.load().ingest
    schema = T.StructType.fromDDL("image struct<bytes: binary, path: string>, Text string, id long, jpg binary")

    assert columns.match(schema, settings, "t") == columns.Mapping("image", "Text", "id")


def test_settings_name_other_columns() -> None:
    settings = config.load(overrides=['ingest.image_columns=["pixels"]', 'ingest.caption_columns=["legend"]']).ingest
    schema = T.StructType.fromDDL("pixels binary, legend string, image binary")

    assert columns.match(schema, settings, "t") == columns.Mapping("pixels", "legend", None)


def test_the_error_for_a_table_without_images_lists_its_columns() -> None:
    schema = T.StructType.fromDDL("url string, image string")

    told = r"it has url string, image string: set ingest\.image_columns.*; the column image holds text: download URLs"
    with pytest.raises(WinnowError, match=told):
        columns.match(schema, config.load().ingest, "t")


# Image folders --------------------------------------------------------------------------------------------------------


HALF = "half \ud83d"
DEEP = "[" * 100_000


def write_metadata(path: Path, records: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(records[0]))
            writer.writeheader()
            writer.writerows(records)
    else:
        pd.DataFrame(records).to_parquet(path)


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("column", ["text", "caption"])
def test_captions_from_metadata_are_unchanged(
    spark: SparkSession, settings: config.Settings, tmp_path: Path, ending: str, column: str
) -> None:
    rows = [picture for picture in pictures() if picture.caption is not None]
    for row in rows:
        (tmp_path / f"{row.key}.png").write_bytes(row.image)
    records = [{"file_name": f"{row.key}.png", column: row.caption, "n": 1} for row in rows]
    write_metadata(tmp_path / f"metadata.{ending}", records)

    got = by_key(read(spark, settings, tmp_path))

    assert {key: row["caption"] for key, row in got.items()} == {row.key: row.caption for row in rows}
    assert all(bytes(got[row.key]["image"]) == row.image for row in rows)
    assert json.loads(got["p0"]["meta"]) == {"file_name": "p0.png", "n": "1" if ending == "csv" else 1}


def test_metadata_of_sub_folders_odd_endings_and_missing_files(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    picture = encoded("red")
    (tmp_path / "sub" / "_deep").mkdir(parents=True)
    for name in ("sub/a.png", "sub/_deep/b.PNG", "sub/c.bin", "sub/not_named.txt", "d e+%20ü.jpg"):
        (tmp_path / name).write_bytes(picture)
    records = [
        {"file_name": "a.png", "text": "one"},
        {"file_name": "a.png", "text": "another"},
        {"file_name": "./_deep/b.PNG", "text": "deep"},
        {"file_name": "c.bin", "text": "no image's ending"},
        {"file_name": "gone.png", "text": "lost"},
        {"text": "no name"},
    ]
    write_metadata(tmp_path / "sub" / "metadata.jsonl", records)
    with (tmp_path / "sub" / "metadata.jsonl").open("a") as file:
        file.write("{broken\n")

    got = [(row["key"], row["caption"], row["reason"]) for row in read(spark, settings, tmp_path)]

    assert got == [
        ("d e+%20ü", None, None),
        ("sub/_deep/b", "deep", None),
        ("sub/a", "another", None),
        ("sub/a", "one", None),
        ("sub/c", "no image's ending", None),
        ("sub/gone", "lost", "missing file"),
        ("sub/metadata.jsonl:6", None, "bad metadata"),
        ("sub/metadata.jsonl:7", None, "bad metadata"),
    ]


def test_captions_in_files_beside_the_image(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    for name in ("txt", "json", "both", "latin", "none"):
        (tmp_path / f"{name}.png").write_bytes(encoded("red"))
    (tmp_path / "txt.txt").write_bytes(b"two\r\nlines \n")
    (tmp_path / "json.json").write_text('{"caption": "from json", "n": 1.0}')
    (tmp_path / "both.txt").write_text("from txt")
    (tmp_path / "both.json").write_text('{"caption": "from json"}')
    (tmp_path / "latin.txt").write_bytes(b"Zo\xeb")

    got = by_key(read(spark, settings, tmp_path))

    captions = {key: row["caption"] for key, row in got.items()}
    assert captions == {
        "txt": "two\r\nlines \n", "json": "from json", "both": "from txt", "latin": "Zo�", "none": None
    }  # fmt: skip
    assert json.loads(got["json"]["meta"]) == {"caption": "from json", "n": 1.0}
    assert "UTF-8" in json.loads(got["latin"]["meta"])["caption_fault"]


def test_captions_in_files_with_other_names_and_encodings(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    written = {
        "upper.TXT": b"upper case",
        "full.png.txt": b"full name",
        "kohya.caption": b"kohya",
        "gallery.png.json": b'{"caption": "gallery"}',
        "capital.JSON": b'{"Caption": "capital"}',
        "list.json": b'{"caption": ["first", "second"]}',
        "bom.txt": "Zoë".encode("utf-8-sig"),
        "wide.txt": "Zoë".encode("utf-16"),
        "bomjson.json": '{"caption": "Zoë"}'.encode("utf-8-sig"),
        "widejson.json": '{"caption": "Zoë"}'.encode("utf-16"),
    }
    for name, content in written.items():
        (tmp_path / name).write_bytes(content)
        (tmp_path / f"{name.partition('.')[0]}.png").write_bytes(encoded("red"))

    got = by_key(read(spark, settings, tmp_path))

    assert {key: row["caption"] for key, row in got.items()} == {
        "upper": "upper case", "full": "full name", "kohya": "kohya", "gallery": "gallery", "capital": "capital",
        "list": "first", "bom": "Zoë", "wide": "Zoë", "bomjson": "Zoë", "widejson": "Zoë",
    }  # fmt: skip
    assert json.loads(got["list"]["meta"]) == {"caption": ["first", "second"]}
    assert json.loads(got["bom"]["meta"]) == {}


def test_the_case_of_columns_and_of_metadata_names_does_not_matter(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.png").write_bytes(encoded("red"))
    write_metadata(tmp_path / "Metadata.csv", [{"File_Name": "a.png", "Caption": "capital"}])
    write_metadata(
        tmp_path / "metadata.jsonl",
        [{"FILE_NAME": "b.png", "TEXT": ["first", "second"]}, {"file_name": "c.png", "TeXt": "mixed"}],
    )

    got = by_key(read(spark, settings, tmp_path))

    assert {key: row["caption"] for key, row in got.items()} == {"a": "capital", "b": "first", "c": "mixed"}
    assert json.loads(got["a"]["meta"]) == {"File_Name": "a.png"}
    assert json.loads(got["b"]["meta"]) == {"FILE_NAME": "b.png", "TEXT": ["first", "second"]}


def test_names_that_differ_in_normalisation_are_the_same_file(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for sub in ("one", decomposed):
        (tmp_path / sub).mkdir()
        (tmp_path / sub / f"{decomposed}.png").write_bytes(encoded("red"))
    (tmp_path / "one" / f"{composed}s.png").write_bytes(encoded("lime"))
    lines = [
        {"file_name": f"one/{composed}.png", "text": "red"},
        {"file_name": f"one/{decomposed}s.png", "text": "lime"},
        {"file_name": f"{composed}/{composed}.png", "text": "deep"},
    ]
    write_metadata(tmp_path / "metadata.jsonl", lines)

    got = {row["key"]: (row["caption"], row["reason"]) for row in read(spark, settings, tmp_path)}

    assert got == {
        f"one/{decomposed}": ("red", None),
        f"one/{composed}s": ("lime", None),
        f"{decomposed}/{decomposed}": ("deep", None),
    }


def test_half_an_emoji_and_too_deep_json_affect_no_other_row(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    for name in ("line", "beside", "deep", "good"):
        (tmp_path / f"{name}.png").write_bytes(encoded("red"))
    lines = [{"file_name": "line.png", "text": HALF}, {"file_name": "good.png", "text": "\N{FOX FACE}"}]
    lines = [json.dumps(line) for line in lines]
    (tmp_path / "metadata.jsonl").write_text("\n".join([*lines, '{"file_name":' + DEEP, "[1]", "{"]))
    (tmp_path / "beside.json").write_text(json.dumps({"caption": "kept", "other": HALF}))
    (tmp_path / "deep.json").write_text(DEEP)

    got = by_key(read(spark, settings, tmp_path))

    assert (got["line"]["caption"], got["good"]["caption"]) == ("half �", "\N{FOX FACE}")
    assert (got["beside"]["caption"], json.loads(got["beside"]["meta"])["other"]) == ("kept", "half �")
    assert "surrogate" in json.loads(got["line"]["meta"])["json_fault"]
    assert json.loads(got["good"]["meta"]) == {"file_name": "good.png"}
    assert json.loads(got["deep"]["meta"])["json"] == DEEP and got["deep"]["image"] is not None
    faults = [got[f"metadata.jsonl:{number}"] for number in (3, 4, 5)]
    assert {row["reason"] for row in faults} == {"bad metadata"}
    assert [row["detail"][:22] for row in faults] == [
        "not readable as JSON: ",
        "not a JSON object",
        "not readable as JSON: ",
    ]


def test_only_file_errors_give_a_quarantine_row(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "a.png")
    listed = dict.fromkeys(["caption", "caption_from", "meta", "key", "detail", "text_file", "json_file"])
    listed |= {"root": str(tmp_path), "path": "a.png", "stored": b"a.png", "size": 0}

    row = folder._row(listed, settings.ingest)
    assert (row.key, row.reason, row.detail) == ("a", "unreadable file", "a.png: Too many levels of symbolic links")

    (tmp_path / "b.png").write_bytes(b"")
    (tmp_path / "b.txt").symlink_to(tmp_path / "b.txt")
    row = folder._row(listed | {"path": "b.png", "stored": b"b.png", "text_file": b"b.txt"}, settings.ingest)
    assert (row.key, row.reason, row.detail) == ("b", "unreadable file", "b.txt: Too many levels of symbolic links")

    for fault in (errno.EMFILE, errno.EIO, errno.ETIMEDOUT):

        def full(_: str, most: int, number: int = fault) -> bytes:
            raise OSError(number, "not of the file")

        monkeypatch.setattr(files, "read", full)
        with pytest.raises(OSError, match="not of the file"):
            folder._row(listed, settings.ingest)


def test_pipes_devices_and_too_large_files_give_quarantine_rows(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder, "MAX_FIELD_BYTES", 9)
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "long.jpg").write_bytes(b"1")
    (tmp_path / "long.txt").write_bytes(b"x" * 10)
    listed = dict.fromkeys(["caption", "caption_from", "meta", "key", "detail", "json_file"])
    listed |= {"root": str(tmp_path), "size": 0}

    rows = [
        folder._row(
            listed | {"path": f"{name}.jpg", "stored": f"{name}.jpg".encode(), "text_file": text}, settings.ingest
        )
        for name, text in (("pipe", None), ("zero", None), ("long", b"long.txt"))
    ]

    assert [(row.reason, row.detail) for row in rows] == [
        ("unreadable file", "pipe.jpg: neither a file nor a link to one"),
        ("unreadable file", "zero.jpg: neither a file nor a link to one"),
        ("unreadable file", "long.txt: 10 bytes, the limit is 9"),
    ]


def test_folders_that_link_to_each_other_are_walked_once(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f"{number:02}").mkdir()
        for name in "ab":
            (tmp_path / f"{number:02}" / name).symlink_to(tmp_path / f"{(number + 1) % 12:02}")

    assert len(list(files.walk(str(tmp_path)))) <= 1 + 12 + 12


def test_a_password_in_an_address_is_an_error(spark: SparkSession, settings: config.Settings) -> None:
    with pytest.raises(WinnowError, match="holds a password") as caught:
        found(spark, settings, "s3://KEY:SECRET@bucket/x.tar")
    assert "SECRET" not in str(caught.value)


def test_metadata_without_file_names_stops_the_job(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    write_metadata(tmp_path / "metadata.csv", [{"image": "a.png", "text": "x"}])

    with pytest.raises(WinnowError, match="no column file_name, which must name the image file; it has image, text"):
        read(spark, settings, tmp_path)


def test_unreadable_metadata_stops_the_job(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").symlink_to(tmp_path / "gone.csv")
    with pytest.raises(WinnowError, match=r"metadata\.csv cannot be read: .*[Nn]o such file"):
        read(spark, settings, tmp_path)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(WinnowError, match=r"metadata\.parquet is not a Parquet file"):
        read(spark, settings, tmp_path)


def test_partly_readable_metadata_affects_only_its_unreadable_rows(
    spark: SparkSession, settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    odd.mkdir()
    for place in (odd / "in.png", tmp_path / "good.png", tmp_path / "latin.png", tmp_path / "below" / "cut.png"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(encoded("red"))
    write_metadata(odd / "metadata.csv", [{"file_name": "in.png", "text": "in a folder whose name is no text"}])
    names, captions = ["latin.png", "good.png"], [b"Zo\xeb", "Zoë".encode()]
    text = pa.array(captions, pa.binary()).view(pa.string())
    pq.write_table(pa.table({"file_name": names, "text": text}), tmp_path / "metadata.parquet")
    write_metadata(tmp_path / "below" / "metadata.parquet", [{"file_name": "cut.png", "text": "x" * 99}])
    whole = (tmp_path / "below" / "metadata.parquet").read_bytes()
    (tmp_path / "below" / "metadata.parquet").write_bytes(whole[: len(whole) // 2])
    monkeypatch.setattr(folder, "_check_metadata", lambda root: None)  # as if there were too many files to check

    rows = [(row["key"], row["caption"], row["reason"]) for row in read(spark, settings, tmp_path)]

    assert rows == [
        ("below/cut", None, None),
        ("below/metadata.parquet", None, "bad metadata"),
        ("caf�/in", "in a folder whose name is no text", None),
        ("good", "Zoë", None),
        ("latin", "Zo�", None),
    ]


def test_odd_values_of_parquet_metadata_cost_no_row() -> None:
    name = pa.array([b"caf\xe9.png", b"b.png"], pa.binary()).view(pa.string())
    columns = {
        "file_name": name,
        "taken": pa.array([2**62, 0], pa.timestamp("us")),
        "score": pa.array([0.9, 1], pa.float32()),
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)

    (_, odd), (number, good) = folder.records(file, "metadata.parquet")

    assert odd == {"file_name": b"caf\xe9.png", "taken": "<value out of range: 4611686018427387904>", "score": 0.9}
    assert number == 2 and isinstance(good, dict) and good["file_name"] == "b.png"


def test_a_file_name_of_parquet_metadata_that_is_not_utf8_is_one_row(settings: config.Settings, tmp_path: Path) -> None:
    name = pa.array([b"caf\xe9.png"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"file_name": name, "text": ["a café"]}), tmp_path / "metadata.parquet")

    (row,) = folder._named(str(tmp_path), "metadata.parquet", settings.ingest)

    assert row[-2:] == ("metadata.parquet:1", "its file_name is not UTF-8: b'caf\\xe9.png'")


def test_csv_rows_may_be_short_or_long() -> None:
    data = io.BytesIO(b"file_name,text\na.png\nb.png,x,y\n")

    assert [record for _, record in folder.records(data, "metadata.csv")] == [
        {"file_name": "a.png", "text": None},
        {"file_name": "b.png", "text": "x", "more_fields": ["y"]},
    ]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_a_caption_that_is_no_utf8_says_so_and_others_do_not(
    settings: config.Settings, tmp_path: Path, name: str
) -> None:
    lines = ["file_name,text,note", "a.png,Zoë,x", "b.png,Zoe,ë"]
    if name.endswith("jsonl"):
        values = (line.split(",") for line in lines[1:])
        lines = [
            json.dumps(dict(zip(["file_name", "text", "note"], v, strict=True)), ensure_ascii=False) for v in values
        ]
    (tmp_path / name).write_bytes("\n".join(lines).encode("latin-1"))

    rows = [
        dict(zip(folder._NAMED.names, row, strict=True)) for row in folder._named(str(tmp_path), name, settings.ingest)
    ]

    assert [(row["path"], row["caption"]) for row in rows] == [("a.png", "Zo�"), ("b.png", "Zoe")]
    assert "caption_fault" in json.loads(rows[0]["meta"]) and "caption_fault" not in json.loads(rows[1]["meta"])
    assert json.loads(rows[1]["meta"])["note"] == "�"


def csv_records(content: str) -> list[tuple[int, dict[str, Any] | str]]:
    return list(folder.records(io.BytesIO(content.encode()), "metadata.csv"))


def test_a_quote_that_never_closes_becomes_a_fault() -> None:
    head, good = "file_name,text\n", 'a.png,"two\nlines"\n\n'
    first = (3, {"file_name": "a.png", "text": "two\nlines"})
    last = (8, {"file_name": "e.png", "text": "after"})

    # The quote of b.png ends where that of d.png begins.
    swallowed = csv_records(head + good + 'b.png,"27 inch\nc.png,car\nd.png,"a ""blue"" car"\ne.png,after\n')
    to_the_end = csv_records(head + good + 'b.png,"27 inch\nc.png,car\n')
    last_line = csv_records(head + good + 'b.png,"27 inch')

    fault = "the row that begins in line 5 opens a quote that never closes: cannot read "
    assert swallowed == [first, (7, fault + "lines 5 to 7"), last]
    assert to_the_end == [first, (6, fault + "lines 5 to 6")]
    assert last_line == [first, (5, fault + "line 5")]
    assert [number for number, found in csv_records('file_name,"text\na.png,x\n') if isinstance(found, str)] == [2]


def test_rows_with_sloppy_quotes_on_one_line_are_read() -> None:
    content = 'file_name,text\n\na.png,"a" dog\nb.png,27" wide\nc.png,"x ""y"" z"\n'

    assert csv_records(content) == [
        (3, {"file_name": "a.png", "text": "a dog"}),
        (4, {"file_name": "b.png", "text": '27" wide'}),
        (5, {"file_name": "c.png", "text": 'x "y" z'}),
    ]


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_metadata_may_begin_with_a_byte_order_mark(codec: str, name: str) -> None:
    content = "file_name\nZoë.png\n" if name.endswith("csv") else '{"file_name": "Zoë.png"}\n'

    assert [record for _, record in folder.records(io.BytesIO(content.encode(codec)), name)] == [
        {"file_name": "Zoë.png"}
    ]


def lines_and_files(*rows: tuple[str, str | None]) -> list[dict[str, Any]]:
    """Returns files (name, None) and lines of metadata (name, caption), in the order in which Spark sorts them."""
    empty = dict.fromkeys([*folder._LISTED.names, *folder._NAMED.names])
    found = [
        empty
        | {"root": "r", "path": name, "composed": unicodedata.normalize("NFC", name), "caption": caption}
        | ({"size": 1, "is_image": not name.endswith(".md")} if caption is None else {})
        for name, caption in rows
    ]
    return sorted(found, key=lambda row: (row["composed"], row["size"] is None, row["path"]))


def test_no_file_and_no_line_is_lost_or_doubled_by_pairing() -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    found = lines_and_files(
        ("a.png", None), ("a.png", "one"), ("a.png", "two"), ("b.png", None), ("c.md", None), ("gone.png", "lost"),
        ("d.md", None), ("d.md", "named"), ("�.png", None), ("�.png", None),
    )  # fmt: skip

    paired = [(row["path"], row["caption"], row["size"]) for row in folder._paired(found)]

    assert sorted(paired, key=str) == [
        ("a.png", "one", 1), ("a.png", "two", 1), ("b.png", None, 1), ("d.md", "named", 1), ("gone.png", "lost", None),
        ("�.png", None, 1), ("�.png", None, 1),
    ]  # fmt: skip
    for name, other in ((composed, decomposed), (decomposed, composed)):
        both, one = [(name, None), (other, None), (name, "x")], [(name, None), (other, "x")]
        assert {(row["path"], row["caption"]) for row in folder._paired(lines_and_files(*both))} == {
            (name, "x"), (other, None)
        }  # fmt: skip
        assert [(row["path"], row["caption"]) for row in folder._paired(lines_and_files(*one))] == [(name, "x")]


def test_faults_of_metadata_are_not_paired() -> None:
    fault = dict.fromkeys(["path", "composed", "size", "is_image", "caption"]) | {"root": "r", "detail": "no JSON"}

    assert list(folder._paired([fault, fault])) == [fault, fault]


def test_the_text_file_of_an_image_is_chosen_by_precedence() -> None:
    names = ["x.jpg", "x.caption", "x.jpg.Txt", "x.TXT", "x.JPG.json", "X.json", "y.txt"]

    chosen = []
    for gone in ("", "x.TXT", "x.jpg.Txt", "x.caption"):
        names = [name for name in names if name != gone]
        chosen.append(beside.text_file("x.jpg", beside.side_files(names)))

    assert chosen == ["x.TXT", "x.jpg.Txt", "x.caption", None]
    assert beside.json_file("x.jpg", beside.side_files(names)) is None  # another image's, which differs in case
    assert beside.json_file("x.JPG", beside.side_files([*names, "x.json"])) == "x.json"


def test_files_that_are_not_read_are_counted_by_kind(tmp_path: Path) -> None:
    names = ["a.png", "a.TXT", "a.caption", "a.json", "lost.txt", "b.MP4", "c.mp4", "README", f"d.{'x' * 99}"]
    for name in names:
        (tmp_path / name).write_bytes(b"1")

    (tmp_path / "0001").write_bytes(encoded("red", "JPEG"))
    (tmp_path / "0002").write_bytes(encoded("red", "WEBP"))

    source = find._folder_source(str(tmp_path), hashlib.sha256())

    assert (source.ignored, dict(source.kinds)) == (6, {"mp4": 2, "": 2, "JPEG": 1, "WEBP": 1})
    assert source.unused == 2  # lost.txt, and a.caption because of a.TXT


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"Caption": "x"}, FieldText("Caption", "x")),
        ({"TEXT": "upper", "text": "exact"}, FieldText("text", "exact")),
        ({"caption": None, "text": "x"}, FieldText("caption", None)),
        ({"caption": [None, 7, "x", "y"]}, FieldText("caption", "x", is_whole=False)),
        ({"caption": []}, FieldText("caption", None, is_whole=False)),
        ({"caption": {"en": "x"}}, FieldText("caption", '{"en": "x"}')),
        ({"url": "x"}, FieldText(None, None)),
    ],
)
def test_the_caption_of_a_record(fields: dict[str, Any], expected: FieldText) -> None:
    assert first_text(fields, ["caption", "text"]) == expected


def test_texts_that_cannot_be_decoded_are_replaced() -> None:
    assert text(b"\xef\xbb\xbfZo\xeb") == ("Zo�", True)
    assert text("Zo".encode("utf-16") + b"\xeb") == ("Zo�", True)
    assert text(b"\xfe\xff\x00Z\x00o") == ("Zo", False)
    assert text(b"\xff") == ("�", True)
    assert text(b"") == ("", False)


# WebDataset -----------------------------------------------------------------------------------------------------------


def header(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE) -> bytes:
    """Returns the header block of a member with any claimed size."""
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    "rest",
    [
        header("b.jpg", -1536),
        header("README", 1 << 70),
        header("b.jpg", 1 << 70),
        header("././@LongLink", 8, tarfile.GNUTYPE_LONGNAME).ljust(1024, b"x") * 400,
        header("b.jpg", 512, b"S")[:300].ljust(512, b"\xff"),
    ],
    ids=["negative size", "huge size of no sample", "huge size", "nested long names", "sparse"],
)
@pytest.mark.parametrize("first", [True, False])
def test_invalid_headers_lose_only_the_rest_of_their_shard(
    settings: config.Settings, tmp_path: Path, rest: bytes, first: bool
) -> None:
    begin = b"" if first else header("a.jpg", 3) + b"abc".ljust(512, b"\0")
    (tmp_path / "odd.tar").write_bytes(begin + rest + bytes(1024))

    rows = list(webdataset._rows(str(tmp_path / "odd.tar"), settings.ingest))

    assert [(row.key, row.image) for row in rows[:-1]] == ([] if first else [("a", b"abc")])
    assert rows[-1].reason in ("corrupt shard", "truncated shard")


def test_only_the_size_of_too_large_members_is_stored(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webdataset, "MAX_FIELD_BYTES", 10)
    members = {"a.jpg": b"0123456789ab", "a.txt": b"x" * 11, "a.mp4": b"v" * 99, "a.cls": b"7", "a.json": b'{"n": 1}'}
    write_tar(tmp_path / "a.tar", members)

    (row,) = webdataset._rows(str(tmp_path / "a.tar"), settings.ingest)

    assert row.caption is None and row.image == members["a.jpg"]
    assert json.loads(row.meta) == {"n": 1, "cls": "7", "txt_bytes": 11, "mp4_bytes": 99}


@pytest.mark.parametrize(
    ("content", "meta"),
    [
        (b'{"x": 0.990,  "y": "kept"}', '{"x": 0.990,  "y": "kept"}'),
        (b'{"x": 0.99, "y": NaN}', '{"x": 0.99, "y": "nan"}'),
        (b'{"x": 0.1, "x": 0.99}', '{"x": 0.99}'),
    ],
)
def test_ambiguous_json_is_normalised(settings: config.Settings, tmp_path: Path, content: bytes, meta: str) -> None:
    write_tar(tmp_path / "a.tar", {"a.jpg": b"1", "a.json": content})

    (row,) = webdataset._rows(str(tmp_path / "a.tar"), settings.ingest)

    assert row.meta == meta


def test_a_gzip_bomb_counts_as_truncated(
    settings: config.Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_UNPACKED_FREE", 1 << 16)
    write_tar(tmp_path / "a.tar", {"a.jpg": b"1", "b.jpg": bytes(100 << 20)})
    packed = gzip.compress((tmp_path / "a.tar").read_bytes())
    (tmp_path / "a.tar.gz").write_bytes(packed)

    rows = list(webdataset._rows(str(tmp_path / "a.tar.gz"), settings.ingest))

    assert [(row.key, row.reason) for row in rows] == [("a", None), ("b", "truncated shard")]


def test_samples_of_a_shard(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    image = encoded("red")
    members = {
        "d/a.jpg": image, "d/a.txt": b" kept \n", "d/a.json": b'{"n": 1.0}', "d/a.cls": b"7",
        "b.seg.png": b"\x00\xff", "b.webp": image,
        "c.txt": b"no picture", "e.JPG": image, "e.json": b"{broken", "README": b"x", "._e.jpg": b"x",
        "b.txt": b"far from its picture",
    }  # fmt: skip

    got = by_key(read(spark, settings, write_tar(tmp_path / "0.tar", members)))

    assert {key: (row["caption"], row["reason"]) for key, row in got.items()} == {
        "d/a": (" kept \n", None),
        "b": ("far from its picture", None),
        "c": ("no picture", "no image"),
        "e": (None, None),
    }
    assert json.loads(got["d/a"]["meta"]) == {"n": 1.0, "cls": "7"}
    assert json.loads(got["b"]["meta"]) == {"seg.png": "AP8="}
    assert json.loads(got["e"]["meta"])["json"] == "{broken"
    assert all(bytes(got[key]["image"]) == image for key in ("d/a", "b", "e"))
    assert got["c"]["source"] == str(tmp_path / "0.tar") and got["c"]["stage"] == "read"


def test_half_an_emoji_in_a_shard_is_replaced(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    image = encoded("red")
    fields = {"caption": HALF, "n": 1.0}
    members = {
        "a.png": image, "a.json": json.dumps(fields).encode(),
        "b.png": image, "b.json": json.dumps({"url": HALF}).encode(), "b.txt": b"whole",
        "c.png": image, "c.json": json.dumps({"url": HALF}).encode(), "c.cls": b"7",
        "d.png": image, "d.json": DEEP.encode(), "d.txt": b"deep",
        "e.png": image, "e.json": rb'{"caption": "\ud83e\udd8a \\ud83d"}',
    }  # fmt: skip

    got = by_key(read(spark, settings, write_tar(tmp_path / "0.tar", members)))

    captions = {key: (row["caption"], row["reason"]) for key, row in got.items()}
    assert captions == {
        "a": ("half �", None), "b": ("whole", None), "c": (None, None), "d": ("deep", None), "e": (r"🦊 \ud83d", None)
    }  # fmt: skip
    assert [json.loads(got[key]["meta"])["url"] for key in "bc"] == ["half �"] * 2
    assert "surrogate" in json.loads(got["a"]["meta"])["json_fault"]
    assert json.loads(got["d"]["meta"])["json"] == DEEP
    assert got["e"]["meta"] == members["e.json"].decode()


@pytest.mark.parametrize("depth", [199, 200, 985, 1500])
def test_parsed_json_can_be_written(depth: int) -> None:
    fields, faults = json_object('{"nan": NaN, "deep": ' + "[" * depth + "]" * depth + "}")

    assert (fields is not None) == (depth < 200)
    assert json.loads(to_json({**(fields or {}), **faults, "more": 1}))["more"] == 1


def keys_and_fault(data: bytes) -> tuple[list[str], tuple[str, str] | None]:
    found = webdataset.samples(io.BytesIO(data))
    faults = [(sample.key, sample.damage.reason) for sample in found if sample.damage is not None]
    assert len(faults) <= 1
    return [sample.key for sample in found if sample.damage is None], faults[0] if faults else None


def test_a_truncated_shard_keeps_its_complete_samples() -> None:
    one = {"a.png": b"x" * 600, "a.txt": b"a"}
    two = {"b.png": b"x" * 600, "b.txt": b"b"}
    whole = tar_bytes(one | two)
    first = 512 + 1024 + 512 + 512

    assert keys_and_fault(whole) == (["a", "b"], None)
    assert keys_and_fault(whole[: first + 512 + 300]) == (["a"], ("b", "truncated shard"))  # inside b.png
    assert keys_and_fault(whole[: first + 512 + 1024 + 200]) == (["a"], ("b", "truncated shard"))  # in b.txt's header
    assert keys_and_fault(whole[: first + 512 + 1024]) == (["a"], ("b", "truncated shard"))  # before that header
    assert keys_and_fault(whole[:first]) == (["a"], ("", "truncated shard"))  # between samples
    assert keys_and_fault(b"") == ([], ("", "corrupt shard"))
    assert keys_and_fault(b"no tar" * 300) == ([], ("", "corrupt shard"))
    damaged = whole[:first] + b"\xff" * 512 + whole[first + 512 :]
    assert keys_and_fault(damaged) == (["a", "b"], ("", "corrupt shard"))  # b.txt is found after the damage


def test_a_truncated_sample_with_a_non_utf8_name_has_a_printable_detail() -> None:
    data = tar_bytes({"\udce9.png": b"x" * 600})

    (cut,) = webdataset.samples(io.BytesIO(data[: 512 + 300]))

    assert cut.damage is not None and cut.damage.detail == "�.png: its last 300 bytes are missing"


def test_equal_names_in_concatenated_shards_are_separate_samples() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in [("a.png", b"1"), ("a.txt", b"one"), ("a.png", b"2"), ("a.txt", b"two")]:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

    whole = webdataset.samples(buffer)

    assert [sorted(sample.parts) for sample in whole] == [["png", "txt"], ["png", "txt"]]
    assert whole[0].parts["png"] != whole[1].parts["png"] and not any(sample.damage for sample in whole)


def test_a_truncated_gzip_shard_is_read_as_far_as_possible(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    packed = gzip.compress(tar_bytes(members_of(pictures()[0]) | members_of(pictures()[1])))
    (tmp_path / "whole.tar.gz").write_bytes(packed)
    (tmp_path / "cut.tgz").write_bytes(packed[: len(packed) // 2])

    whole = read(spark, settings, tmp_path / "whole.tar.gz")
    cut = read(spark, settings, tmp_path / "cut.tgz")

    assert [row["caption"] for row in whole] == [CAPTIONS[0], CAPTIONS[1]]
    assert "truncated shard" in [row["reason"] for row in cut]


# Parquet and Delta ----------------------------------------------------------------------------------------------------


def test_parquet_of_img2dataset(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    table = pa.table({
        "key": ["0", "1"], "url": ["http://x/0", "http://x/1"], "caption": ["kept", None],
        "jpg": [encoded("red", "JPEG"), None], "status": ["success", "failed_to_download"],
        "error_message": [None, "HTTP Error 404"], "width": [8, None],
    })  # fmt: skip
    pq.write_table(table, tmp_path / "a b+c%20.parquet")

    good, bad = read(spark, settings, tmp_path)

    assert (good["key"], good["caption"], good["reason"]) == ("0", "kept", None)
    assert bytes(good["image"]) == encoded("red", "JPEG")
    assert json.loads(good["meta"]) == {"url": "http://x/0", "status": "success", "error_message": None, "width": 8}
    assert good["source"] == str(tmp_path / "a b+c%20.parquet")
    assert (bad["reason"], bad["detail"]) == ("no image", "failed_to_download: HTTP Error 404")


def test_parquet_of_hugging_face_has_no_keys(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [{"bytes": b"123", "path": "a.png"}], "text": ["x"]}), tmp_path / "0.parquet")

    (row,) = read(spark, settings, tmp_path)

    assert (row["key"], row["caption"], bytes(row["image"])) == (None, "x", b"123")
    assert json.loads(row["meta"]) == {"image": {"path": "a.png"}}


def test_a_broken_parquet_file_gives_one_quarantine_row(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "a.parquet", pictures()[:2])
    whole = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])

    got = read(spark, settings, tmp_path)

    assert [(row["key"], row["reason"]) for row in got] == [("b.parquet", "corrupt file"), ("p0", None), ("p1", None)]


def test_an_unreadable_parquet_file_gives_one_quarantine_row(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    write_parquet(tmp_path / "a.parquet", pictures()[:1])
    (tmp_path / "b.parquet").symlink_to(tmp_path / "gone.parquet")
    (tmp_path / "c.parquet").symlink_to(tmp_path / "c.parquet")

    got = read(spark, settings, tmp_path)

    assert [(row["key"], row["reason"]) for row in got] == [
        ("b.parquet", "unreadable file"), ("c.parquet", "unreadable file"), ("p0", None)
    ]  # fmt: skip
    assert got[0]["detail"].startswith("FileNotFoundError: ")


def test_only_the_footer_of_a_remote_parquet_file_is_transferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"jpg": [bytes([n]) * 4 for n in range(200)] * 5000}), tmp_path / "a.parquet",
                   compression="none", use_dictionary=False)  # fmt: skip
    transferred = []

    class Remote(io.FileIO):
        def size(self) -> int:
            return os.fstat(self.fileno()).st_size

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(-1 if size is None else size)
            transferred.append(len(data))
            return data

    class Store:
        def open_input_file(self, path: str) -> io.FileIO:
            return Remote(path)

        def open_input_stream(self, path: str) -> io.FileIO:
            return Remote(path)

    monkeypatch.setattr(files, "filesystem_of", lambda _: (Store(), str(tmp_path / "a.parquet")))

    assert sum(group["count"] for group in parquet._groups("s3a://bucket/a.parquet")) == 1_000_000
    assert (tmp_path / "a.parquet").stat().st_size > 1 << 22 and sum(transferred) < 1 << 17


@pytest.mark.parametrize("fault", [OSError("AWS Error NETWORK_CONNECTION"), OSError(errno.ESTALE, "Stale file handle")])
def test_a_network_error_while_reading_a_footer_fails_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: OSError
) -> None:
    class Broken(io.BytesIO):
        def size(self) -> int:
            return 1000

        def read(self, size: int | None = -1) -> bytes:
            raise fault

    monkeypatch.setattr(files, "random_access", lambda _: Broken())

    with pytest.raises(OSError, match=r"AWS Error|Stale file"):
        list(parquet._groups("s3a://bucket/a.parquet"))


def test_parquet_files_may_differ_in_columns_and_types(
    spark: SparkSession, settings: config.Settings, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"jpg": [b"1"], "key": ["a"], "n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"jpg": [b"2"], "key": ["b"], "m": ["x"], "n": ["y"]}), tmp_path / "b[1].parquet")

    got = by_key(read(spark, settings, tmp_path))

    assert json.loads(got["a"]["meta"]) == {"n": 1} and json.loads(got["b"]["meta"]) == {"m": "x", "n": "y"}
    assert got["b"]["source"] == str(tmp_path / "b[1].parquet")


def test_a_delta_table(spark: SparkSession, settings: config.Settings, tmp_path: Path) -> None:
    rows = spark.createDataFrame([("k", bytearray(b"1"), "t", 5)], "uid string, content binary, alt string, n int")
    rows.write.format("delta").save(str(tmp_path / "table"))

    (row,) = read(spark, settings, tmp_path / "table")

    assert (row["source"], row["key"], row["caption"], bytes(row["image"])) == (str(tmp_path / "table"), "k", "t", b"1")
    assert json.loads(row["meta"]) == {"n": 5}


def test_batches_are_limited_in_bytes() -> None:
    rows = [Row("s", str(number), image=bytes(3 << 20)) for number in range(7)]

    assert [batch.num_rows for batch in batches(iter(rows))] == [3, 3, 1]
