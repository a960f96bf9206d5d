import hashlib
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.decisions import named_images
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime.scratch import Scratch
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows

FIRST, SECOND, THIRD, FOURTH = "abcd1111" + "0" * 24, "abcd2222" + "0" * 24, "9999" + "0" * 28, "7" * 32
KEYS = {FIRST: "cats/one", SECOND: "twin", THIRD: "twin", FOURTH: "abcd1"}
BYTES = b"the bytes of a file"


@pytest.fixture
def filled(job: Job) -> Job:
    content = hashlib.sha256(BYTES).hexdigest()[:32]
    images = [(image_id, key, "s", None, b"", 1, 1, "PNG", "{}", 0) for image_id, key in KEYS.items()]
    # SECOND has signals of two encoders, and shares its bytes with THIRD.
    shared = [(SECOND, "e1"), (SECOND, "e2"), (THIRD, "e1")]
    signals = [(image_id, bytes(32), 99, encoder, [1.0], bytes(32), content) for image_id, encoder in shared]
    write_rows(job.lake, tables.IMAGES, images)
    write_rows(job.lake, tables.SIGNALS, signals)
    return job


def found(job: Job, *names: str) -> set[tuple[str, str, str]]:
    with job.lake.scratch("test") as scratch:
        rows = named_images.find(job, names, scratch).collect()
    assert len({(row.name, row.image_id) for row in rows}) == len(rows)
    return {(row.name, row.by, row.image_id) for row in rows}


def test_an_image_is_named_by_id_first_digits_key_or_file(filled: Job, tmp_path: Path) -> None:
    file = tmp_path / "copy.jpg"
    file.write_bytes(BYTES)

    assert found(filled, FIRST, "ABCD2222", "9999", "cats/one", str(file)) == {
        (FIRST, "id", FIRST),
        ("ABCD2222", "first digits", SECOND),
        ("9999", "first digits", THIRD),
        ("cats/one", "key", FIRST),
        (str(file), "file", SECOND),
        (str(file), "file", THIRD),
    }


def test_a_key_comes_before_the_first_digits_of_another_image(filled: Job) -> None:
    assert found(filled, "abcd1") == {("abcd1", "key", FOURTH)}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["abcd"], f"^abcd is the first digits of 2 images \\({FIRST}, {SECOND}\\): give the id of one"),
        (["twin", FIRST], f"^twin is the key of 2 images \\({THIRD}, {SECOND}\\)"),
        (["9999", "nobody"], "^unknown image nobody: it is neither the id of an image of the lake, nor the first 4"),
        (["999"], "^unknown image 999: "),
        (["http://host/a.jpg", "x" * 5000], "^unknown image http://host/a.jpg: .*; unknown image xxxxxx"),
        (["e5", "e4", "e3", "e2", "e1"], "^unknown image e1: .*unknown image e3: .*; 2 more names. Nothing was"),
    ],
)  # fmt: skip
def test_a_name_of_no_image_or_of_several_is_named_in_one_line(filled: Job, names: list[str], message: str) -> None:
    with pytest.raises(WinnowError, match=message) as caught:
        found(filled, *names)

    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_in_the_lake_is_named(filled: Job, tmp_path: Path) -> None:
    other = tmp_path / "other.jpg"
    other.write_bytes(b"other bytes")

    with pytest.raises(WinnowError, match=r"other\.jpg: no image that `winnow score` has read has these bytes"):
        found(filled, str(other))


def test_many_names_are_found_at_once(spark: SparkSession, tmp_path: Path) -> None:
    ids = [f"{number:032x}" for number in range(0, 3000 << 100, 1 << 100)]
    images = spark.createDataFrame(
        [(image_id, f"key {i}") for i, image_id in enumerate(ids)], "image_id string, key string"
    )
    signals = spark.createDataFrame([], tables.SIGNALS.schema)
    names = {**dict.fromkeys(ids[::2]), **dict.fromkeys(f"key {i}" for i in range(1, 3000, 2))}

    with Scratch(spark, str(tmp_path)) as scratch:
        rows = scratch.keep(named_images.matches(names, images, signals)).collect()

    assert sorted(row.image_id for row in rows) == ids and {row.by for row in rows} == {"id", "key"}


def test_names_come_from_the_command_line_and_a_list_each_once(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("one\n\n  two words \r\nthree\none\n", "utf-8-sig")

    assert named_images.names(["three", "four"], str(listed)) == ["three", "four", "one", "two words"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "list.txt cannot be read: No such file or directory: write one IMAGE"),
        (b"\xff\xfe\x00", "list.txt cannot be read: it is not UTF-8 text"),
        (b" \n\n", "no image is named: give an id"),
    ],
)
def test_a_list_that_names_nothing_is_an_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    listed = tmp_path / "list.txt"
    if content is not None:
        listed.write_bytes(content)

    with pytest.raises(WinnowError, match=message):
        named_images.names([], str(listed))
