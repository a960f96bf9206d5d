"""Export: bytes are unchanged, partitions do not matter, and a partial export is never taken for a complete one."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pytest
import webdataset as wds
from pyspark.errors import PythonException
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands import ingest
from jobs.commands.export import card, croissant, layout, webdataset
from jobs.commands.export import command as export
from jobs.facts import origin
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import LostRowsError, WinnowError
from tests.builders.lake_rows import write_rows
from tests.builders.sources import CAPTIONS, Picture, encoded, members_of, write_tar
from tests.builders.spark_settings import SPARK, overridden

HTML = '<script>alert("1")</script> | **bold** `code`'
COLOURS = ("red", "lime", "blue", "cyan", "magenta", "yellow", "black", "white")
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PNG", "PNG")
UID = "00ff" * 8
META = [
    '{"url": "http://x/a.jpg", "score": 1.50, "big": 12345678901234567890, "nested": {"a": [1, null, "é"]}}',
    '{"weight": "heavy", "image_id": 7, "original_width": 640}',
    f'{{"uid": "{UID}", "sha256": "of the download"}}',
    "{ }",
]


def members() -> dict[str, bytes]:
    """Returns samples of every format, with hostile captions and JSON whose text must stay unchanged."""
    found: dict[str, bytes] = {}
    for number, (colour, fmt, caption) in enumerate(zip(COLOURS, FORMATS, (*CAPTIONS, HTML), strict=True)):
        key = f"{number:06d}"
        found[f"{key}.{webdataset.ENDINGS[fmt]}"] = encoded(colour, fmt)
        if caption is not None:
            found[f"{key}.txt"] = caption.encode()
        if number < len(META):
            found[f"{key}.json"] = META[number].encode()
    return found


def job_on(lake: Lake, *overrides: str) -> Job:
    console = Console(file=io.StringIO(), width=500)
    return Job(lake, config.load(overrides=[*SPARK, "export.shard_samples=3", *overrides]), Progress(console))


def curate(lake: Lake) -> None:
    """Writes the table curated: all images, with different weights."""
    images = lake.read(tables.IMAGES)
    weight = (F.pmod(F.xxhash64("image_id"), F.lit(7)) / 7 + 0.5).alias("weight")
    recipe = Recipe(
        "weigh", lake.snapshot().inputs(tables.IMAGES), {"encoder": "digest-of-an-encoder", "max_weight": 10.0}
    )
    lake.replace(tables.CURATED, images.select("*", weight), recipe)


@pytest.fixture(scope="module")
def source(spark, tmp_path_factory) -> tuple[Lake, dict[str, bytes]]:
    """A lake of two shards that share a key."""
    folder = tmp_path_factory.mktemp("source")
    write_tar(folder / "a" / "00000.tar", members())
    write_tar(folder / "b" / "00000.tar", members_of(Picture("000000", encoded("orange"), "another"), url="u"))
    lake = Lake(spark, str(folder / "lake"))
    ingest.run(job_on(lake), [str(folder / "a"), str(folder / "b")])
    curate(lake)
    return lake, members()


@pytest.fixture(scope="module")
def shards(source, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "set"
    export.run(job_on(source[0]), str(folder), "webdataset")
    return folder


def samples_of(folder: Path) -> dict[str, dict[str, bytes]]:
    """Returns the members of all shards by sample."""
    found: dict[str, dict[str, bytes]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, ending = member.name.partition(".")
                found.setdefault(key, {})[ending] = tar.extractfile(member).read()
    return found


def data_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name[0].isdigit()}


def test_images_captions_and_fields_are_unchanged(source, shards):
    given: dict[str, dict[str, bytes]] = {}
    for name, data in source[1].items():
        key, _, ending = name.partition(".")
        given.setdefault(key, {})[ending] = data

    found = samples_of(shards)

    for key, parts in given.items():
        name = next(k for k in found if k.startswith(key) and next(iter(parts.values())) in found[k].values())
        ours = found[name]
        assert set(ours) == {*parts, "json"}
        assert all(ours[ending] == data for ending, data in parts.items() if ending != "json")
        fields = json.loads(ours["json"])
        for field, value in json.loads(parts.get("json", b"{}")).items():
            assert (
                fields["winnow"]["input"][field] == value if field in ("weight", "image_id") else fields[field] == value
            )
    assert META[0][:-1].encode() in next(parts["json"] for parts in found.values() if b"nested" in parts["json"])


def test_a_key_of_two_sources_is_made_unique_and_other_keys_stay(shards):
    keys = list(samples_of(shards))

    assert len(keys) == len(COLOURS) + 1
    assert {f"{n:06d}" for n in range(len(COLOURS))} <= set(keys)
    (made,) = [key for key in keys if "_" in key]
    fields = json.loads(samples_of(shards)[made]["json"])
    assert made == f"000000_{fields['image_id']}"
    assert fields["winnow"]["key"] == "000000"


def test_webdataset_and_pandas_read_the_shards(source, shards):
    weights = {row.image_id: row.weight for row in source[0].read(tables.CURATED).collect()}

    urls = [str(path) for path in sorted(shards.glob("*.tar"))]
    read = list(wds.WebDataset(urls, shardshuffle=False).decode())
    beside = pd.concat(pd.read_parquet(path) for path in sorted(shards.glob("*.parquet")))

    assert {sample["json"]["image_id"]: sample["json"]["weight"] for sample in read} == weights
    assert [sample["__key__"] for sample in read] == list(beside["key"])
    assert dict(zip(beside["image_id"], beside["weight"], strict=True)) == weights
    row = beside[beside["key"] == "000001"].iloc[0]
    assert (row["original_width"], row["width"], row["status"]) == (640, 8, "success")
    assert [json.loads(p.read_text())["count"] for p in sorted(shards.glob("*_stats.json"))] == [3, 3, 3]


@pytest.mark.slow
def test_partitions_and_a_killed_run_change_no_byte(source, shards, spark, tmp_path):
    lake = source[0]
    settings = ("spark.shuffle_partitions=5", "export.shard_samples=3")
    with overridden(spark, {"spark.sql.shuffle.partitions": "5", "spark.sql.files.maxPartitionBytes": "2000"}):
        folder = tmp_path / "set"
        export.run(job_on(lake, *settings), str(folder), "webdataset")
    whole = data_of(folder)
    assert whole == data_of(shards)

    # The state after a kill: one shard without its statistics and half-written, no manifest.
    made = json.loads((folder / export.MANIFEST).read_text())["made_from"]
    (folder / export.MANIFEST).unlink()
    (folder / "README.md").unlink()
    (folder / export.STARTED).write_text(json.dumps({"made_from": made}))
    (folder / "00001_stats.json").unlink()
    (folder / "00001.tar").write_bytes(b"half")
    (folder / "00001.tar.deadbeef.part").write_bytes(b"half")
    untouched = (folder / "00000.tar").stat().st_mtime_ns

    summary = export.run(job_on(lake), str(folder), "webdataset")

    assert data_of(folder) == whole
    assert (folder / "00000.tar").stat().st_mtime_ns == untouched
    assert summary["images"] == len(COLOURS) + 1
    assert not list(folder.glob("*.part")) and not (folder / export.STARTED).exists()


def test_complete_shards_are_kept_and_missing_files_are_written_again(source, shards):
    job, before = job_on(source[0]), data_of(shards)
    first = export.run(job, str(shards), "webdataset")
    assert "up to date" in job.progress.console.file.getvalue()

    (shards / "00002.parquet").unlink()

    assert export.run(job_on(source[0]), str(shards), "webdataset") == first
    assert data_of(shards) == before


def shards_of(folder: Path) -> dict[str, set[str]]:
    """Returns the image_ids of each shard."""
    return {path.name: set(pd.read_parquet(path)["image_id"]) for path in folder.glob("*.parquet")}


@pytest.mark.slow
def test_other_files_of_the_same_parts_give_shards_with_the_same_images(source, shards, spark, tmp_path):
    again = Lake(spark, str(tmp_path / "lake"))
    again.replace(tables.IMAGES, source[0].read(tables.IMAGES).repartition(5, "caption"), Recipe("ingest"))
    curated = source[0].read(tables.CURATED).repartition(7, "caption").orderBy(F.desc("image_id"))
    again.replace(tables.CURATED, curated, Recipe("weigh"))

    export.run(job_on(again), str(tmp_path / "set"), "webdataset")

    assert shards_of(tmp_path / "set") == shards_of(shards)


@pytest.mark.slow
def test_a_lake_without_parts_is_exported(source, spark, tmp_path):
    """As Winnow 0.1.0 made them: no table has the column part."""
    old = Lake(spark, str(tmp_path / "lake"))
    old.mark()
    images, curated = (source[0].read(table).drop("part") for table in (tables.IMAGES, tables.CURATED))
    images.write.format("delta").save(old.path("images"))
    curated.join(images.select("image_id", "image"), "image_id").write.format("delta").save(old.path("curated"))

    export.run(job_on(old), str(tmp_path / "set"), "parquet")

    found = set().union(*shards_of(tmp_path / "set").values())
    assert found == {row.image_id for row in images.select("image_id").collect()}


@pytest.mark.slow
def test_images_that_are_not_in_their_part_are_not_lost_silently(source, spark, tmp_path):
    lake = Lake(spark, str(tmp_path / "lake"))
    lake.replace(tables.IMAGES, source[0].read(tables.IMAGES).where("key != '000001'"), Recipe("ingest"))
    lake.replace(tables.CURATED, source[0].read(tables.CURATED).where("key != '000002'"), Recipe("weigh"))

    with pytest.raises(PythonException, match=r"1 images of curated, such as [0-9a-f]{32}, are not in the files"):
        export.run(job_on(lake), str(tmp_path / "set"), "parquet")

    assert not list((tmp_path / "set").glob("*_stats.json")) and not (tmp_path / "set" / export.MANIFEST).exists()


@pytest.mark.slow
def test_an_export_of_another_layout_is_not_continued(source, tmp_path):
    folder = tmp_path / "set"
    export.run(job_on(source[0]), str(folder), "parquet")
    manifest = json.loads((folder / export.MANIFEST).read_text())
    del manifest["made_from"]["layout"]
    (folder / export.MANIFEST).write_text(json.dumps(manifest))

    with pytest.raises(WinnowError, match=r"3 images per shard, by another version of Winnow.*, not an export"):
        export.run(job_on(source[0]), str(folder), "parquet")


@pytest.mark.slow
def test_parquet_holds_the_images_and_can_be_ingested(source, spark, tmp_path):
    lake = source[0]
    export.run(job_on(lake), str(tmp_path / "set"), "parquet")

    read = pd.concat(pd.read_parquet(path) for path in sorted((tmp_path / "set").glob("*.parquet")))
    back = Lake(spark, str(tmp_path / "back"))
    ingest.run(job_on(back), [str(tmp_path / "set")])

    given = {row.image_id: (bytes(row.image), row.caption) for row in lake.read(tables.IMAGES).collect()}
    assert {row.image_id: (row.image, row.caption) for row in read.itertuples()} == given
    assert not mlcroissant.Dataset(jsonld=str(tmp_path / "set" / "croissant.json")).metadata.ctx.issues.errors
    assert list(read["sha256"]) == [hashlib.sha256(data).hexdigest() for data in read["image"]]
    images = back.read(tables.IMAGES).collect()
    assert {row.image_id: (bytes(row.image), row.caption) for row in images} == given


@pytest.mark.slow
def test_datacomp_gets_sorted_uids(source, tmp_path):
    lake = source[0]
    export.run(job_on(lake), str(tmp_path / "set"), "datacomp")
    mine = [tmp_path / "set" / name for name in ("mine.sorted", "holiday.20240101.part")]
    for file in mine:
        file.write_text("dear")
    (tmp_path / "set" / "croissant.json").unlink()  # so that the export runs again
    export.run(job_on(lake), str(tmp_path / "set"), "datacomp")
    assert [file.read_text() for file in mine] == ["dear", "dear"]
    for file in mine:
        file.unlink()

    found = np.load(tmp_path / "set" / "subset.npy", mmap_mode="r")

    ids = {row.image_id for row in lake.read(tables.CURATED).where("meta not like '%\"uid\"%'").collect()} | {UID}
    wanted = np.array(sorted((int(i[:16], 16), int(i[16:], 16)) for i in ids), np.dtype("u8,u8"))
    assert found.dtype == wanted.dtype
    assert not mlcroissant.Dataset(jsonld=str(tmp_path / "set" / "croissant.json")).metadata.ctx.issues.errors
    assert found.tolist() == wanted.tolist()
    assert sorted(p.name for p in (tmp_path / "set").iterdir()) == [
        "README.md", "croissant.json", "subset.npy", "winnow.json",
    ]  # fmt: skip


def test_the_metadata_is_valid_croissant_and_the_manifest_describes_the_set(source, shards):
    found = mlcroissant.Dataset(jsonld=str(shards / "croissant.json"))
    written = json.loads((shards / "croissant.json").read_text())
    manifest = json.loads((shards / "winnow.json").read_text())

    assert not found.metadata.ctx.issues.errors
    assert written["conformsTo"] == "http://mlcommons.org/croissant/1.1"
    keys = [row["images/key"].decode() for row in found.records("images")]
    assert keys == list(samples_of(shards))
    assert "digest-of-an-encoder" in written["description"]
    assert len(written["prov:wasDerivedFrom"]) == 2
    assert manifest["counts"] == {
        "rows_read": 9, "repeats": 0, "quarantined": 0, "images": 9, "filtered": None, "duplicates": None, "curated": 9,
    }  # fmt: skip
    assert manifest["tables"]["curated"]["settings"]["max_weight"] == 10.0
    assert manifest["tables"]["images"]["version"] == source[0].snapshot().version(tables.IMAGES)
    assert [f["sha256"] for f in manifest["files"]] == [
        hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(shards.glob("*.tar"))
    ]


def test_the_card_has_the_headings_and_escapes_markup(shards):
    manifest = json.loads((shards / "winnow.json").read_text())
    manifest["card"] |= {"name": f"set: {HTML}\n---", "license": "CC-BY-4.0", "creator": None}

    text = card.render(manifest)

    front = text.split("---\n")[1]
    assert f"pretty_name: {json.dumps('set: ' + HTML + ' ---')}" in front
    assert "license: other" in front
    for heading in ("Motivation", "Composition", "Collection process", "Preprocessing", "Uses", "Distribution",
                    "Maintenance"):  # fmt: skip
        assert f"\n## {heading}" in text
    assert "<script>" not in text.split("---\n", 2)[2]
    assert "| = **curated** | **9** |" in text
    assert "digest-of-an-encoder" in text


def test_the_card_says_that_the_recall_of_a_set_threshold_is_unknown(shards):
    manifest = json.loads((shards / "winnow.json").read_text())
    limit = {"category": "cats", "model": "m1", "threshold": 0.8, "recall_lower": None, "confidence": 0.95}
    chosen = {**limit, "category": "dogs", "recall_lower": 0.9537, "chosen_by": "labels"}

    text = card.render(manifest | {"thresholds": [{**limit, "chosen_by": "settings"}, chosen]})

    assert "| cats | `m1` | 0.8000 (set by hand) | unknown | 95 % |" in text
    assert "| dogs | `m1` | 0.8000 | 95.3 % | 95 % |" in text


def keyword(name: str, shift: float, half: float, captions: int, adjusted: float) -> tuple[object, ...]:
    """Returns a row of keyword_shift whose intervals are ± half."""
    ends = (shift, shift - half, shift + half, 0.0, -half, half)
    return (name, 0.1, 0.1, 0.1, *ends, captions, "people", False, adjusted, 300)


def test_card_and_croissant_name_significant_words_and_not_the_largest_shifts(spark, shards):
    rows = [keyword("woman", -0.1, 0.02, 1234, 0.001), keyword("nun", -0.6, 0.3, 4, 0.4),
            keyword("zebra", -0.3, 0.31, 9, 0.01)]  # fmt: skip
    shifts = spark.createDataFrame(rows, tables.KEYWORD_SHIFT.schema)
    manifest = json.loads((shards / "winnow.json").read_text()) | {"keywords": origin.moved(shifts)}

    biases = croissant.metadata(manifest)["rai:dataBiases"]
    text = card.render(manifest)

    assert biases == [
        "“woman” −10.0 % [−12.0, −8.0] after filtering, 0.0 % [−2.0, +2.0] after weighing; in 1,234 captions"
    ]
    assert "| woman | 1,234 | −10.0 % [−12.0, −8.0] | 0.0 % [−2.0, +2.0] |" in text
    assert "nun" not in text.split("## Collection")[0]


def test_card_and_croissant_say_if_no_word_moved_significantly(shards):
    manifest = json.loads((shards / "winnow.json").read_text())
    without_audit = croissant.metadata(manifest)
    manifest["tables"]["keyword_shift"] = manifest["tables"]["curated"]

    assert "rai:dataBiases" not in without_audit
    assert croissant.metadata(manifest)["rai:dataBiases"] == ["the share of no keyword changed significantly"]
    assert "The share of no keyword changed significantly." in card.render(manifest)


def test_the_card_counts_the_decisions_of_people(shards):
    manifest = json.loads((shards / "winnow.json").read_text())

    assert manifest["decisions"] is None and "decision of people" not in card.render(manifest)
    text = card.render(manifest | {"decisions": {"kept": 1, "dropped": 1200}})
    assert "By decision of people, 1 image is kept whatever the filter says, and 1,200 images are filtered." in text


def test_the_card_compares_the_share_beyond_reach_with_chance(shards):
    manifest = json.loads((shards / "winnow.json").read_text())
    quality = {"effective_sample_size": 8.0, "kept": 9, "clipped": 0, "max_weight": 2.0, "beyond_reach": 0.056}
    excess = {"beyond_reach_excess": 0.006, "beyond_reach_excess_low": -0.01, "beyond_reach_excess_high": 0.03}

    text = card.render(manifest | {"weights": quality | excess})

    assert (
        "5.6 % of the filtered images have no similar image left; chance alone would give 5 %, and the "
        "difference is not significant." in text
    )
    assert "Weights cannot replace" not in text
    assert "no similar image left" not in card.render(manifest | {"weights": quality})


@pytest.mark.parametrize(
    ("key", "plain"),
    [
        ("000001", "000001"),
        ("photos/cat.final.JPG", "photos/cat_final"),
        ("../../etc/passwd", "__/__/etc/passwd"),
        ("http://x/a.b?c=1", "http_/x/a_b_c=1"),
        ("/abs\x00olute\n", "abs_olute_"),
        ("Ünï 🦊", "Ünï 🦊"),
    ],
)
def test_keys_that_are_invalid_for_a_tar_member_are_changed(spark, key, plain):
    made = spark.createDataFrame([(key,)], "key string").select(layout.plain_key(F.col("key")).alias("plain"))

    assert made.first().plain == plain


def export_keys(spark: SparkSession, keys: dict[str, str]) -> dict[str, str]:
    """Returns export keys by image_id for images with these keys, all of one source."""
    curated = spark.createDataFrame(
        [(i, 0, key, "s") for i, key in keys.items()], "image_id string, part int, key string, source string"
    )
    plan = layout.lay_out(curated, 10)
    return {row.image_id: row.export_key for row in layout.keyed(curated, curated, plan).collect()}


FIRST, SECOND, THIRD, FOURTH = (digit * 32 for digit in "1234")


def test_a_key_that_is_made_unique_is_not_the_key_of_another_image(spark):
    taken = export_keys(spark, {FIRST: "cat", SECOND: "cat", THIRD: f"cat_{SECOND}"})
    nameless = export_keys(spark, {FIRST: ".jpg", SECOND: FIRST, THIRD: f"_{FIRST}"})

    assert taken == {FIRST: "cat", SECOND: f"cat_{SECOND}", THIRD: f"cat_{SECOND}_{THIRD}"}
    assert nameless == {FIRST: f"_{FIRST}", SECOND: FIRST, THIRD: f"_{FIRST}_{THIRD}"}


@pytest.mark.parametrize(
    ("key", "made"),
    [
        ("a" * 160, "a" * 160),
        ("a" * 161, "a" * 160 + f"_{FIRST}"),
        ("猫" * 83, "猫" * 83),
        ("猫" * 84, "猫" * 72 + f"_{FIRST}"),
        ("猫" * 84 + "/" + "é" * 70, "猫" * 72 + "/" + "é" * 70 + f"_{FIRST}"),
        ("🦊" * 200, "🦊" * 54 + f"_{FIRST}"),
        (f"photos/{SECOND}", f"photos/{SECOND}"),
        ("set_0123456789abcdef", "set_0123456789abcdef"),
    ],
    ids=["longest", "too long", "249 bytes", "252 bytes", "folder", "four bytes each", "uid in a folder", "number"],
)
def test_a_key_that_is_too_long_for_a_file_name_is_cut(spark, tmp_path, key, made):
    assert export_keys(spark, {FIRST: key}) == {FIRST: made}
    for ending in (*webdataset.ENDINGS.values(), "txt", "json"):
        file = tmp_path / f"{made}.{ending}"
        file.parent.mkdir(exist_ok=True)
        file.touch()


def test_long_keys_of_several_images_are_cut_and_stay_distinct(spark):
    made = export_keys(spark, {FIRST: "猫" * 84, SECOND: "猫" * 84, THIRD: "猫" * 83, FOURTH: "猫" * 83})

    suffixed = {i: "猫" * 72 + f"_{i}" for i in (FIRST, SECOND, FOURTH)}
    assert made == {**suffixed, THIRD: "猫" * 83}


def test_an_export_that_cannot_be_made_is_refused_with_a_message(source, shards, lake, tmp_path):
    with pytest.raises(WinnowError, match=r"no table 'curated': run `winnow weigh` first"):
        export.run(job_on(lake), str(tmp_path / "set"), "webdataset")
    write_rows(lake, tables.CURATED, [], Recipe("weigh"), mode="overwrite")
    with pytest.raises(WinnowError, match="curated holds no image"):
        export.run(job_on(lake), str(tmp_path / "set"), "webdataset")
    assert not (tmp_path / "set").exists()
    with pytest.raises(WinnowError, match="--format zip is unknown: use one of webdataset, parquet, datacomp"):
        export.run(job_on(lake), str(tmp_path / "set"), "zip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.part").write_text("dear")
    with pytest.raises(WinnowError, match=r"holds 1 other file \(thesis.part\): name an empty folder"):
        export.run(job_on(source[0]), str(tmp_path / "mine"), "webdataset")
    (tmp_path / "mine" / "thesis.part").rename(tmp_path / "mine" / "holiday.20240101.part")
    with pytest.raises(WinnowError, match=r"holds 1 other file \(holiday.20240101.part\): name an empty folder"):
        export.run(job_on(source[0]), str(tmp_path / "mine"), "webdataset")
    with pytest.raises(WinnowError, match=r"holds an export as webdataset .*, not an export as parquet"):
        export.run(job_on(source[0]), str(shards), "parquet")


def test_a_stale_curated_set_is_not_exported(source, lake, tmp_path):
    rows = source[0].read(tables.CURATED).limit(1)
    lake.replace(tables.CURATED, rows, Recipe("weigh", {"verdicts": 3}))

    with pytest.raises(WinnowError, match="'curated' is older than verdicts: run `winnow weigh` first"):
        export.run(job_on(lake), str(tmp_path / "set"), "datacomp")

    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("kind", ["rules", "words", "keep_top"])
def test_if_the_filter_removes_every_image_export_says_why_and_what_to_change(source, lake, tmp_path, kind):
    images = source[0].read(tables.IMAGES).limit(2)
    lake.replace(tables.IMAGES, images, Recipe("ingest"))
    reasons = F.array(F.lit("small: least(width, height) < 256"))
    nobody = F.lit(None).alias("kept_because")
    verdicts = images.select("image_id", F.lit(False).alias("kept"), reasons.alias("reasons"), nobody)
    lake.replace(tables.VERDICTS, verdicts, Recipe("filter", settings={"models": {}, kind: {"small": "…"}}))

    with pytest.raises(WinnowError) as error:
        export.run(job_on(lake), str(tmp_path / "set"), "webdataset")

    assert str(error.value).endswith(
        f"the filter removed every image (small 2): change filter.{kind}.small, then run "
        "`winnow filter`, `winnow dedup` and `winnow weigh`"
    )


COUNTS = {
    "rows_read": 10, "repeats": 1, "quarantined": 2, "images": 7, "filtered": 3, "duplicates": 1, "curated": 3,
}  # fmt: skip


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (COUNTS, None),
        ({"curated": 3}, None),
        ({**COUNTS, "rows_read": None, "repeats": None, "quarantined": None}, None),
        ({**COUNTS, "filtered": None, "duplicates": None, "curated": 7}, None),
        ({**COUNTS, "curated": 5}, "7 images are not 3 filtered \\+ 1 duplicates \\+ 5 curated"),
        ({**COUNTS, "rows_read": 11}, "11 rows read are not 1 repeats \\+ 2 quarantined \\+ 7 images"),
    ],
)
def test_counts_that_do_not_add_up_are_refused(counts, message):
    if message is None:
        export.check_counts(counts)
        return
    with pytest.raises(LostRowsError, match=message):
        export.check_counts(counts)


def test_counts_are_checked_before_a_file_is_written(source, lake, tmp_path):
    lake.replace(tables.IMAGES, source[0].read(tables.IMAGES), Recipe("ingest"))
    lake.replace(tables.CURATED, source[0].read(tables.CURATED).limit(1), Recipe("weigh"))

    with pytest.raises(LostRowsError, match="9 images are not 0 filtered \\+ 0 duplicates \\+ 1 curated"):
        export.run(job_on(lake), str(tmp_path / "set"), "webdataset")

    assert not (tmp_path / "set").exists()


def test_tar_headers_have_no_time_and_no_owner(shards):
    with tarfile.open(sorted(shards.glob("*.tar"))[0]) as tar:
        headers = {(m.mtime, m.uid, m.gid, m.uname, m.mode) for m in tar}

    assert headers == {(0, 0, 0, "", 0o644)}
