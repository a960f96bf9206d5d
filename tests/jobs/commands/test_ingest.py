import hashlib
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands import ingest
from jobs.job import Job
from jobs.lake import image_files, tables
from jobs.runtime.progress import Progress
from jobs.sources import inspect
from models.errors import LostRowsError
from tests.builders.sources import (
    CAPTIONS,
    Picture,
    encoded,
    members_of,
    pictures,
    write_folder,
    write_parquet,
    write_tar,
    write_tars,
)


def images_of(job: Job) -> dict[str, dict[str, object]]:
    return {row["image_id"]: row.asDict() for row in job.lake.read(tables.IMAGES).collect()}


def faults_of(job: Job) -> list[tuple[str, str, str]]:
    rows = job.lake.read(tables.QUARANTINE).collect()
    return sorted((row["key"], row["stage"], row["reason"]) for row in rows)


def expected_id(picture: Picture) -> str:
    text = hashlib.sha256(picture.image).hexdigest() + (picture.caption or "")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def test_every_format_and_sharding_gives_the_same_ids_and_captions(job: Job, tmp_path: Path) -> None:
    rows = pictures()
    ways = [
        write_tars(tmp_path / "one", rows, 1),
        write_tars(tmp_path / "three", reversed(rows), 3),
        write_folder(tmp_path / "folder", rows),
        write_parquet(tmp_path / "rows.parquet", rows),
    ]
    expected = {expected_id(row): row for row in rows}

    for number, way in enumerate(ways):
        one = Job(type(job.lake)(job.lake.spark, str(tmp_path / f"lake{number}")), job.settings, job.progress)
        summary = ingest.run(one, [str(way)], None)

        found = images_of(one)
        assert set(found) == set(expected), way
        assert summary["images"] == summary["rows_read"] == len(rows)
        for image_id, row in found.items():
            assert row["caption"] == expected[image_id].caption
            assert bytes(row["image"]) == expected[image_id].image
            assert (row["key"], row["width"], row["height"], row["format"]) == (expected[image_id].key, 8, 6, "PNG")


@pytest.mark.slow
def test_the_same_data_again_adds_nothing(job: Job, tmp_path: Path) -> None:
    rows = [*pictures(), Picture("bad", b"text", "x")]
    first = write_tars(tmp_path / "tars", rows, 2)
    ingest.run(job, [str(first)], None)
    versions = job.lake.snapshot().inputs(tables.IMAGES, tables.QUARANTINE, tables.SOURCES)

    again = ingest.run(job, [str(first)], None)
    assert again["unchanged"] == 2 and again["rows_read"] == 0
    assert job.lake.snapshot().inputs(tables.IMAGES, tables.QUARANTINE, tables.SOURCES) == versions

    moved = ingest.run(job, [str(write_folder(tmp_path / "folder", rows))], None)
    assert (moved["images"], moved["repeats"], moved["quarantined"]) == (0, len(CAPTIONS), 1)
    assert len(images_of(job)) == len(CAPTIONS)
    assert job.lake.snapshot().inputs(tables.IMAGES) == {"images": versions["images"]}


@pytest.mark.slow
def test_sources_are_read_again_if_the_table_images_was_dropped(job: Job, tmp_path: Path) -> None:
    first, second = (
        write_tars(tmp_path / name, rows, 1) for name, rows in (("a", pictures()[:2]), ("b", pictures()[2:]))
    )
    ingest.run(job, [str(first), str(second)], None)
    job.lake.drop(tables.IMAGES)

    ingest.run(job, [str(first)], None)
    ingest.run(job, [str(second)], None)

    assert len(images_of(job)) == len(CAPTIONS)
    read = job.lake.read(tables.SOURCES).agg(F.sum("rows_read"), F.sum("images")).collect()[0]
    assert tuple(read) == (len(CAPTIONS), len(CAPTIONS))


@pytest.mark.slow
def test_a_changed_source_adds_new_images_and_replaces_its_quarantine_rows(job: Job, tmp_path: Path) -> None:
    shard = tmp_path / "a.tar"
    good, bad = Picture("good", encoded("red"), "a"), Picture("bad", b"\xff\xd8\xff", "b")
    write_tar(shard, members_of(good) | members_of(bad))
    ingest.run(job, [str(shard)], None)
    assert faults_of(job) == [("bad", "decode", "corrupt")]

    new = Picture("new", encoded("blue"), "c")
    write_tar(shard, members_of(good) | members_of(bad) | members_of(new))
    second = ingest.run(job, [str(shard)], None)
    assert (second["images"], second["repeats"], second["quarantined"]) == (1, 1, 1)
    assert faults_of(job) == [("bad", "decode", "corrupt")]

    mended = Picture("bad", encoded("lime"), "b")
    write_tar(shard, members_of(good) | members_of(mended) | members_of(new))
    ingest.run(job, [str(shard)], None)
    assert faults_of(job) == []
    assert {row["key"] for row in images_of(job).values()} == {"good", "bad", "new"}


@pytest.mark.slow
def test_a_raised_limit_accepts_larger_images(job: Job, tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", {"big.png": encoded("red", size=(2000, 1000))})
    strict = job.settings.model_copy(update={"ingest": job.settings.ingest.model_copy(update={"max_megapixels": 1.0})})

    ingest.run(Job(job.lake, strict, job.progress), [str(shard)], None)
    assert faults_of(job) == [("big", "decode", "decompression bomb")]

    ingest.run(job, [str(shard)], None)
    assert faults_of(job) == [] and len(images_of(job)) == 1


def test_the_first_repeat_by_source_and_key_is_stored(job: Job, tmp_path: Path) -> None:
    same = encoded("red")
    write_tar(tmp_path / "t" / "b.tar", members_of(Picture("a", same, "x")))
    write_tar(tmp_path / "t" / "a.tar", members_of(Picture("z", same, "x")) | members_of(Picture("y", same, "x")))

    summary = ingest.run(job, [str(tmp_path / "t" / "b.tar"), str(tmp_path / "t" / "a.tar")], None)

    assert (summary["rows_read"], summary["images"], summary["repeats"]) == (3, 1, 2)
    (row,) = images_of(job).values()
    assert (row["source"], row["key"]) == (str(tmp_path / "t" / "a.tar"), "y")


def test_rows_without_an_image_are_not_shuffled_into_one_task(job: Job, tmp_path: Path) -> None:
    spark = job.lake.spark
    schema = (
        "source string, key string, image_id string, meta string, stage string, reason string, "
        "info struct<reason: string>"
    )
    lost = [("s", f"k{n}", None, "{}", "read", "no image", None) for n in range(40)]
    good = [("s", key, "i", "{}", None, None, (None,)) for key in ("b", "a")]
    broken = [("s", key, "j", "{}", None, None, ("corrupt",)) for key in ("c", "d")]
    place = (F.lit("part-0").alias("file"), F.monotonically_increasing_id().alias("row"))
    staged = spark.createDataFrame([*lost, *good, *broken], schema).repartition(4).select("*", *place)
    known = spark.createDataFrame([("j",)], "image_id string")

    found = ingest.fates(staged, known).withColumn("task", F.spark_partition_id()).collect()

    fates = sorted(row["fate"] for row in found)
    assert fates == ["image"] + ["quarantined"] * 42 + ["repeat"]
    assert len({row["task"] for row in found if row["fate"] == "quarantined"}) == 4


def test_the_same_bytes_with_another_caption_are_another_image(job: Job, tmp_path: Path) -> None:
    image = encoded("red")
    shard = write_tar(
        tmp_path / "a.tar", members_of(Picture("a", image, "ab")) | members_of(Picture("b", image + b"a", "b"))
    )

    ingest.run(job, [str(shard)], None)

    assert len(images_of(job)) == 2


def test_every_bad_file_gives_one_quarantine_row(job: Job, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", pictures())
    jpeg = encoded("red", "JPEG", (200, 200))
    bad = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "none.jpg": b"",
        "text.jpg": b"just some text",
        "gif.jpg": encoded("red", "GIF"),
    }
    for name, data in bad.items():
        (folder / name).write_bytes(data)
    (folder / "notes.md").write_text("ignored")

    summary = ingest.run(job, [str(folder)], None)

    assert faults_of(job) == [
        ("cut", "decode", "truncated"),
        ("none", "decode", "empty"),
        ("text", "decode", "not an image"),
    ]
    assert summary["rows_read"] == len(CAPTIONS) + 4 and summary["images"] == len(CAPTIONS) + 1
    assert {row["format"] for row in images_of(job).values() if row["key"] == "gif"} == {"GIF"}


def test_files_that_are_not_read_and_images_without_a_caption_are_reported(job: Job, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", pictures())
    for name in ("notes.md", "a.mp4", "b.MP4", "README", "x.nfo", "lost.txt"):
        (folder / name).write_text("ignored")
    (folder / "broken.png").write_bytes(b"")  # not an image, so its missing caption does not count

    console = Console(file=io.StringIO(), width=500)
    ingest.run(Job(job.lake, job.settings, Progress(console)), [str(folder)], None)

    printed = console.file.getvalue()
    assert (
        "ignored 5 files, by name neither images nor metadata: 2 .mp4, 1 without a usual extension, 1 .md, 1 more"
        in printed
    )
    assert "ignored 1 text or JSON file: no image has that name" in printed
    assert "images without a caption: 2 of 7" in printed  # one is null, one is empty
    assert "captions from: column text\n" in printed


def test_where_captions_were_found_is_reported(job: Job, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "in", pictures()[:1])
    for name in ("a", "b"):
        (folder / f"{name}.png").write_bytes(encoded("red", size=(9, 20 + ord(name))))
    (folder / "a.txt").write_text("a square")
    (folder / "b.json").write_text('{"TEXT": "a square"}')
    image = {"jpg": [encoded("blue")], "Caption": ["a sea"]}
    pq.write_table(pa.table(image), tmp_path / "b.parquet")

    console = Console(file=io.StringIO(), width=500)
    sources = [str(folder), str(tmp_path / "b.parquet"), str(write_tars(tmp_path / "tars", pictures()[1:2], 1))]
    ingest.run(Job(job.lake, job.settings, Progress(console)), sources, None)

    found = ".txt members, column Caption, column text, field TEXT of JSON files, text files"
    assert f"captions from: {found}\n" in console.file.getvalue()


@pytest.mark.slow
def test_counts_of_each_source_add_up(job: Job, tmp_path: Path) -> None:
    rows = [*pictures(), Picture("bad", b"text", None), Picture("twin", encoded("red"), CAPTIONS[0])]
    ingest.run(job, [str(write_tars(tmp_path / "in", rows, 3))], None)

    sources = job.lake.read(tables.SOURCES).collect()

    assert len(sources) == 3
    assert all(s["rows_read"] == s["images"] + s["repeats"] + s["quarantined"] == 3 for s in sources)
    assert sum(s["images"] for s in sources) == job.lake.read(tables.IMAGES).count()
    assert sum(s["quarantined"] for s in sources) == job.lake.read(tables.QUARANTINE).count() == 1
    assert sum(s["repeats"] for s in sources) == 1


def test_lost_rows_stop_the_job_before_it_writes(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = inspect.inspected
    monkeypatch.setattr(ingest, "inspected", lambda rows, limit: real(rows, limit).where("key != 'p3'"))

    with pytest.raises(LostRowsError, match="7 rows were read, but 6 images"):
        ingest.run(job, [str(write_tars(tmp_path / "in", pictures(), 1))], None)

    assert not job.lake.exists(tables.IMAGES)


@pytest.mark.slow
def test_an_unexpected_exception_stops_the_job_before_it_writes(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a fault of the program")

    shard = write_tars(tmp_path / "in", pictures(), 1)
    with monkeypatch.context() as patched:
        patched.setattr(inspect, "_inspect_one", broken)
        # The worker imports the module again, so the function itself must be sent to it.
        patched.setattr(inspect, "_inspect", lambda _: F.arrow_udf(lambda images: broken(images), inspect._INFO))
        with pytest.raises(Exception, match="a fault of the program"):
            ingest.run(job, [str(shard)], None)

    assert not job.lake.exists(tables.IMAGES)
    assert ingest.run(job, [str(shard)], None)["images"] == len(CAPTIONS)


def test_the_next_run_completes_one_killed_before_its_counts(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_tars(tmp_path / "in", [*pictures(), Picture("bad", b"text", None)], 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ingest, "_record", killed)
        ingest.run(job, [str(shard)], None)
    assert len(images_of(job)) == len(CAPTIONS) and not job.lake.exists(tables.SOURCES)

    summary = ingest.run(job, [str(shard)], None)

    assert summary["unchanged"] == 1
    (row,) = job.lake.read(tables.SOURCES).collect()
    assert (row["rows_read"], row["images"], row["quarantined"]) == (8, 7, 1)
    assert job.lake.read(tables.QUARANTINE).count() == 1


@pytest.mark.slow
def test_the_next_run_cleans_up_after_one_killed_before_its_images(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard = write_tars(tmp_path / "in", [*pictures(), Picture("bad", b"text", None)], 1)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ingest, "_chosen", killed)
        ingest.run(job, [str(shard)], None)
    assert not job.lake.exists(tables.IMAGES) and job.lake.has_file(ingest.STAGING)

    ingest.run(job, [str(shard)], None)

    assert len(images_of(job)) == len(CAPTIONS) and len(faults_of(job)) == 1
    assert not job.lake.has_file(ingest.STAGING)


@pytest.mark.slow
def test_several_chunks_give_the_same_rows(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_CHUNK_SOURCES", 1)
    rows = [*pictures(), Picture("twin", encoded("red"), CAPTIONS[0])]

    summary = ingest.run(job, [str(write_tars(tmp_path / "in", rows, 2))], None)

    assert (summary["rows_read"], summary["images"], summary["repeats"]) == (8, 7, 1)
    assert set(images_of(job)) == {expected_id(row) for row in rows}


@pytest.mark.slow
def test_files_stay_small_enough_to_be_read_in_parallel(job: Job, tmp_path: Path) -> None:
    settings = job.settings.model_copy(update={"ingest": job.settings.ingest.model_copy(update={"file_mb": 4})})
    padding = {f"n{i:02d}.png": encoded("red") + os.urandom(1 << 20) for i in range(24)}

    ingest.run(Job(job.lake, settings, job.progress), [str(write_tar(tmp_path / "a.tar", padding))], None)

    files = list((tmp_path / "lake" / "images").rglob("*.parquet"))
    assert len(files) >= 2 and max(file.stat().st_size for file in files) < 17 << 20
    assert len(images_of(job)) == 24


def test_json_fields_are_kept_verbatim(job: Job, tmp_path: Path) -> None:
    fields = {"url": "http://x", "n": 1.0, "big": 2**60, "none": None, "list": [1, {"a": "ü"}], "caption": "in json"}
    shard = write_tar(tmp_path / "a.tar", members_of(Picture("a", encoded("red"), "in txt"), **fields))

    ingest.run(job, [str(shard)], None)

    (row,) = images_of(job).values()
    assert row["caption"] == "in txt" and row["meta"] == json.dumps(fields)


def test_row_groups_have_a_bloom_filter_for_ids_only(job: Job, tmp_path: Path) -> None:
    rows = [Picture(f"p{n}", encoded(f"#{n:06x}"), None) for n in range(40)]

    ingest.run(job, [str(write_tars(tmp_path / "tars", rows, 1))], None)

    file = next((tmp_path / "lake" / "images").rglob("*.parquet"))
    group = pq.ParquetFile(file).metadata.row_group(0)
    if not hasattr(group.column(0), "bloom_filter_offset"):
        pytest.skip("this version of pyarrow does not show Bloom filters")
    columns = {group.column(n).path_in_schema: group.column(n).bloom_filter_offset for n in range(group.num_columns)}
    assert columns.pop("image_id") is not None
    assert set(columns.values()) == {None}
    assert job.lake.spark.conf.get(f"{image_files.BLOOM}.enabled#image_id", None) is None
