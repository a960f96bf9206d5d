"""The Parquet reader without Spark: its row groups and their rows."""

import errno
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest

from jobs.runtime import config
from jobs.sources import files, parquet
from jobs.sources.find import Source
from jobs.sources.rows import Row
from models.errors import WinnowError

INGEST = config.load().ingest


def read(*paths: Path) -> list[Row]:
    """Returns the rows of files, as the two stages of the reader give them."""
    roots = [str(path.parent) for path in paths]
    names = pa.RecordBatch.from_pydict({"path": [str(path) for path in paths], "root": roots})
    groups = [group for batch in parquet._row_groups(iter([names])) for group in batch.to_pylist()]
    return [row for group in groups for row in parquet._rows(group, INGEST)]


def written(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), path, **options)
    return path


def test_each_file_is_read_by_its_own_columns(tmp_path: Path) -> None:
    laion = {"image": [b"1"], "TEXT": ["one"], "URL": ["u"], "score": [1]}
    other = {"image": [{"bytes": b"2", "path": "2.png"}], "caption": ["two"], "key": [7], "score": ["high"]}

    first, second = read(written(tmp_path / "part1.parquet", laion), written(tmp_path / "part[1].parquet", other))

    assert (first.key, first.caption, first.image, json.loads(first.meta)) == ("u", "one", b"1", {"score": 1})
    assert (second.key, second.caption, second.image) == ("7", "two", b"2")
    assert json.loads(second.meta) == {"image": {"path": "2.png"}, "score": "high"}
    assert second.source == str(tmp_path / "part[1].parquet")


def test_the_first_of_a_list_of_captions_counts_and_all_are_kept(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2", b"3"], "caption": [["one", "uno"], [], None]}

    got = read(written(tmp_path / "a.parquet", columns))

    assert [row.caption for row in got] == ["one", None, None]
    assert json.loads(got[0].meta) == {"caption": ["one", "uno"]}


def test_damage_costs_the_rest_of_its_row_group(tmp_path: Path) -> None:
    columns = {"image": [bytes([n]) * 5000 for n in range(20)], "text": [str(n) for n in range(20)]}
    path = written(
        tmp_path / "a.parquet",
        columns,
        row_group_size=5,
        use_dictionary=False,
        compression="none",
        write_page_checksum=True,
    )
    group = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[group.data_page_offset + 2000 : group.data_page_offset + 2010] = b"\0" * 10
    path.write_bytes(bytes(data))

    got = read(path)

    assert [row.caption for row in got if row.reason is None] == [str(n) for n in range(20) if n not in range(5, 10)]
    bad = [row for row in got if row.reason]
    assert [(row.key, row.reason) for row in bad] == [(f"a.parquet:{n}", "corrupt file") for n in range(5, 10)]
    assert str(bad[0].detail).startswith("row group 1 is damaged from row 5 on: ") and "\n" not in str(bad[0].detail)


def test_unusual_types_go_to_meta_or_are_null(tmp_path: Path) -> None:
    columns = {
        "image": pa.array([b"1"], pa.large_binary()), "text": _not_utf8(b"Zo\xeb"), "note": _not_utf8(b"\xff"),
        "clip": pa.array([[np.float16(0.5)]], pa.list_(pa.float16())), "kind": pa.array(["a"]).dictionary_encode(),
        "taken": pa.array([datetime(2024, 1, 2)], pa.timestamp("ns")),
        "far": pa.array([2**62], pa.timestamp("us")), "a.b": [1], "": ["x"],
    }  # fmt: skip

    (row,) = read(written(tmp_path / "a.parquet", columns))

    assert (row.caption, row.image, row.reason) == ("Zo�", b"1", None)
    meta = json.loads(row.meta)
    assert meta["caption_fault"] == "bytes that are not UTF-8 were replaced" and meta["note"] == "/w=="
    assert meta["kind"] == "a" and meta["a.b"] == 1 and meta[""] == "x" and meta["taken"].startswith("2024-01-02")
    assert {"clip", "far"} <= meta.keys()


def _not_utf8(data: bytes) -> pa.Array:
    """Returns an array with one text that is not UTF-8, as other programs write it."""
    offsets = np.array([0, len(data)], np.int32).tobytes()
    return pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))


def test_an_image_without_bytes_is_read_from_its_path(tmp_path: Path) -> None:
    (tmp_path / "here.png").write_bytes(b"png")
    images = [
        {"bytes": None, "path": name} for name in ("here.png", str(tmp_path / "here.png"), "gone.png", "a\0b", None)
    ]

    got = read(written(tmp_path / "a.parquet", {"image": images}))

    assert [row.image for row in got] == [b"png", b"png", None, None, None]
    assert [row.reason for row in got] == [None, None, "missing file", "missing file", "no image"]
    assert "gone.png cannot be read: No such file" in str(got[2].detail)


def test_a_path_outside_the_folder_of_the_file_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes(b"png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link.png").symlink_to(tmp_path / "private.png")
    names = ["../private.png", str(tmp_path / "private.png"), "link.png"]
    images = pa.array(
        [{"bytes": None, "path": name} for name in names], pa.struct([("bytes", "binary"), ("path", "string")])
    )

    got = read(written(tmp_path / "data" / "a.parquet", {"image": images}))

    assert [(row.image, row.reason) for row in got] == [(None, "missing file")] * 3
    assert str(got[0].detail).endswith("../private.png is not in the folder of the file")


@pytest.mark.parametrize(
    ("named", "image"),
    [
        ("deep/a.png", b"png"),
        ("../a.png", None),
        ("deep/../a.png", None),
        ("/a.png", None),
        ("s3a://other/a.png", None),
    ],
)
def test_a_path_in_an_object_store_stays_below_the_file(
    named: str, image: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "data/a.png", "data/deep/a.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"png")
    local = str(tmp_path)
    monkeypatch.setattr(
        files, "filesystem_of", lambda path: (pa.fs.LocalFileSystem(), path.replace("s3a://bucket", local))
    )
    written(tmp_path / "data" / "a.parquet", {"image": [{"bytes": None, "path": named}]})

    ((group,),) = [list(parquet._groups("s3a://bucket/data/a.parquet"))]
    (row,) = parquet._rows(group | {"root": "s3a://bucket/data"}, INGEST)

    assert (row.image, row.reason) == (image, None if image else "missing file")


def test_a_column_of_texts_beside_files_with_images_is_named(tmp_path: Path) -> None:
    for name, column in (("image", ["https://example.org/a.jpg"]), ("note", ["x"])):
        (row,) = read(written(tmp_path / f"{name}.parquet", {name: column, "caption": ["a dog"]}))
        told = "; the column image holds text: download URLs (as img2dataset does) or decode base64 first"

        assert (row.reason, row.caption) == ("no image", "a dog")
        assert row.detail == f"the file has no column of images{told if name == 'image' else ''}"


def test_folders_that_name_a_value_add_it_to_meta(tmp_path: Path) -> None:
    (tmp_path / "lang=en" / "kind=a%2Fb").mkdir(parents=True)
    path = written(tmp_path / "lang=en" / "kind=a%2Fb" / "0.parquet", {"image": [b"1"], "n": [1]})

    ((group,),) = [list(parquet._groups(str(path)))]
    (row,) = parquet._rows(group | {"root": str(tmp_path)}, INGEST)

    assert json.loads(row.meta) == {"lang": "en", "kind": "a/b", "n": 1}


def test_numbers_of_32_bits_keep_their_decimals(tmp_path: Path) -> None:
    columns = {"image": [b"1", b"2"], "punsafe": pa.array([0.9, None], pa.float32())}

    first, second = read(written(tmp_path / "a.parquet", columns))

    assert (first.meta, second.meta) == ('{"punsafe": 0.9}', '{"punsafe": null}')


def test_views_of_texts_and_bytes_are_read(tmp_path: Path) -> None:
    columns = {"image": pa.array([b"1"], pa.binary_view()), "text": pa.array(["x"], pa.string_view())}

    (row,) = read(written(tmp_path / "a.parquet", columns))

    assert (row.image, row.caption) == (b"1", "x")


def test_a_text_that_is_not_utf8_beside_the_bytes_costs_nothing(tmp_path: Path) -> None:
    image = pa.StructArray.from_arrays([pa.array([b"1"]), _not_utf8(b"\xff")], ["bytes", "path"])
    captions = pa.ListArray.from_arrays([0, 1], _not_utf8(b"Zo\xeb"))

    (row,) = read(written(tmp_path / "a.parquet", {"image": image, "text": captions}))

    assert (row.image, row.caption) == (b"1", "Zo�")


def test_rows_without_an_image_say_why(tmp_path: Path) -> None:
    failed = {"jpg": [None, None], "status": ["failed", None], "error_message": ["HTTP Error 404", None]}
    paths = [
        written(tmp_path / "a.parquet", failed | {"jpg": pa.array([None, None], pa.binary())}),
        written(tmp_path / "b.parquet", {"text": ["x"]}),
    ]

    got = read(*paths)

    assert {row.reason for row in got} == {"no image"}
    none = "the file has no column of images"
    assert [row.detail for row in got] == ["failed: HTTP Error 404", "the image column is null", none]


def test_a_file_that_is_no_parquet_is_one_row(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.parquet", {"image": [b"1"]}).read_bytes()
    (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])

    (row,) = read(tmp_path / "b.parquet")

    assert (row.key, row.reason) == ("b.parquet", "corrupt file")


def test_a_file_that_vanishes_after_its_footer_was_read_costs_its_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"image": [b"1", b"2"]})
    groups = list(parquet._groups(str(path)))
    path.unlink()

    got = [row for group in groups for row in parquet._rows(group | {"root": str(tmp_path)}, INGEST)]

    assert [(row.key, row.reason) for row in got] == [("a.parquet:0", "corrupt file"), ("a.parquet:1", "corrupt file")]


def test_a_failing_disk_fails_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "a.parquet", {"image": [b"1" * 50_000]}, compression="none")
    (group,) = parquet._groups(str(path))

    class Failing(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            if self.tell() < 40_000:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(-1 if size is None else size)

    monkeypatch.setattr(files, "random_access", lambda place: Failing(place))

    with pytest.raises(OSError, match="Input/output error"):
        list(parquet._rows(group | {"root": str(tmp_path)}, INGEST))


def test_a_folder_without_a_column_of_images_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", {"url": ["http://x"], "n": [1]})
    source = Source(str(path), "parquet", str(tmp_path), 1, 0, "")

    with pytest.raises(WinnowError) as caught:
        parquet.require_images([source], INGEST)

    said = str(caught.value)
    assert "a.parquet has no binary column named image, jpg" in said and "it has url string, n int64" in said
    assert "the column url holds text: download URLs (as img2dataset does)" in said
    written(tmp_path / "b.parquet", {"jpg": [b"1"]})
    parquet.require_images([source, Source(str(tmp_path / "b.parquet"), "parquet", str(tmp_path), 1, 0, "")], INGEST)


def test_images_that_sort_after_many_files_without_images_are_found(tmp_path: Path) -> None:
    names = [f"captions-{number:02d}.parquet" for number in range(40)]
    paths = [written(tmp_path / name, {"key": ["1"], "text": ["a dog"]}) for name in names]
    sources = [Source(str(path), "parquet", str(tmp_path), 1, 0, "") for path in paths]
    with pytest.raises(WinnowError, match="captions-00"):
        parquet.require_images(sources, INGEST)
    images = written(tmp_path / "images.parquet", {"key": ["1"], "jpg": [b"1"]})
    parquet.require_images([*sources, Source(str(images), "parquet", str(tmp_path), 1, 0, "")], INGEST)
