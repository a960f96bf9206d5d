"""Regurgitation: planted copies among generated images, from the files to the contact sheet."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import Row, SparkSession
from pyspark.sql import functions as F
from typer.testing import CliRunner

from jobs.cli import app
from jobs.commands import ingest, score
from jobs.commands.regurgitation import command as regurgitation
from jobs.commands.regurgitation import contact_sheet, prompts
from jobs.commands.regurgitation.contact_sheet import SheetPair
from jobs.facts.regurgitated import Trials, trials
from jobs.facts.regurgitated import regurgitation as regurgitation_facts
from jobs.facts.sentences import copy_rate, regurgitated
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.matching.rule import Rule
from jobs.pages.thumbnails import Thumbnail
from jobs.runtime import config
from jobs.runtime.config import Settings
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.images import pattern
from tests.builders.spark_settings import SPARK

IMAGES, COPIES, OTHERS = 24, 6, 6


def copy_of(seed: int, kind: int) -> Image.Image:
    """Returns the image of a seed: unchanged for kind 0, cropped by 10 % for 1, recoloured for 2."""
    image = Image.fromarray(pattern(seed, 128))
    if kind == 1:
        return image.crop((6, 6, 122, 122))
    if kind == 2:
        return Image.fromarray((np.asarray(image) * [0.9, 1.0, 0.8] + 12).clip(0, 255).astype(np.uint8))
    return image


@pytest.fixture(scope="module")
def settings() -> Settings:
    return config.load(overrides=SPARK)


@pytest.fixture(scope="module")
def job(spark: SparkSession, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A scored lake, of which one image was filtered."""
    folder = tmp_path_factory.mktemp("lake")
    (folder / "pictures").mkdir()
    for seed in range(IMAGES):
        Image.fromarray(pattern(seed, 128)).save(folder / "pictures" / f"{seed}.png")
        (folder / "pictures" / f"{seed}.txt").write_text(f"picture {seed}")
    job = Job(Lake(spark, str(folder / "lake")), settings, Progress())
    ingest.run(job, [str(folder / "pictures")])
    score.run(job)
    columns = ("image_id", "key != '2' as kept", "array('x') as reasons", "null as kept_because")
    verdicts = job.lake.read(tables.IMAGES).selectExpr(*columns)
    job.lake.replace(tables.VERDICTS, verdicts, Recipe("filter"))
    return job


@pytest.fixture(scope="module")
def generated(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of copies and others as JPEG, the first copy with the image_id of its prompt, and a broken file."""
    folder = tmp_path_factory.mktemp("generated")
    own = job.lake.read(tables.IMAGES).where("key = '0'").first()
    assert own is not None
    with (folder / "metadata.jsonl").open("w") as metadata:
        for seed in range(COPIES):
            copy_of(seed, seed % 3).save(folder / f"copy{seed}.jpg", quality=70)
            fields = {"file_name": f"copy{seed}.jpg", "text": "<script>alert(1)</script>"}
            metadata.write(json.dumps(fields | ({"image_id": own.image_id} if seed == 0 else {})) + "\n")
    for seed in range(1000, 1000 + OTHERS):
        Image.fromarray(pattern(seed, 128)).save(folder / f"other{seed}.jpg", quality=90)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    return folder


@pytest.fixture(scope="module")
def summary(job: Job, generated: Path) -> dict[str, int | float | str]:
    return regurgitation.run(job, [str(generated)])


def test_planted_copies_are_found_and_others_are_not_copies(job: Job, summary: dict[str, object]) -> None:
    rows = job.lake.read(tables.REGURGITATION)
    keys = {row.image_id: row.key for row in job.lake.read(tables.IMAGES).select("image_id", "key").collect()}
    copies = {(row.generated_key, keys[row.image_id]) for row in rows.where("copy").collect()}
    assert copies == {(f"copy{seed}", str(seed)) for seed in range(COPIES)}
    assert summary["copies"] == COPIES and summary["compared"] == COPIES + OTHERS
    assert summary["copies of the prompt's own image"] == 1
    rate = "at most 76 % of images generated from prompts like these are copies (95 % confidence)"
    assert summary["rate of copies"] == rate
    assert "prompts" not in summary


def test_a_copy_is_within_the_distance_and_has_the_likeness(job: Job, summary: dict[str, object]) -> None:
    rows = job.lake.read(tables.REGURGITATION)
    assert {row.copy for row in rows.where("likeness >= 0.98 or (likeness >= 0.9 and distance <= 24)").collect()} == {
        True
    }
    assert rows.where("copy").agg({"likeness": "min"}).first()[0] > 0.95
    assert rows.where("likeness is not null").count() >= COPIES
    assert rows.where("likeness is not null and distance > 54").count() == 0
    assert "54 bits of 256, with a likeness of at least 0.9 (0.98 beyond 24 bits)" in str(summary["a copy is within"])


def test_pairs_with_close_hashes_but_low_likeness_are_not_copies(spark: SparkSession) -> None:
    columns = "generated_id string, image_id string, distance int, rank int, same boolean, candidate boolean"
    measured = spark.createDataFrame(
        [
            ("alike", "i", 20, 1, False, True),
            ("looks", "i", 20, 1, False, True),
            ("gone", "i", 20, 1, False, True),
            ("close", "i", 24, 1, False, True),
            ("rings", "i", 25, 1, False, True),
            ("bytes", "i", 0, 1, True, False),
            ("far", "i", 90, 1, False, False),
        ],
        columns,
    )
    left = [f for f in tables.REGURGITATION.schema.fields if f.name not in (*measured.columns, "copy", "likeness")]
    pairs = measured.select("*", *[F.lit(None).cast(f.dataType).alias(f.name) for f in left])
    seen = {"alike": 0.97, "looks": 0.7, "gone": None, "close": 0.96, "rings": 0.96}
    looks = spark.createDataFrame(
        [(name, "i", likeness) for name, likeness in seen.items()],
        "generated_id string, image_id string, likeness float",
    )

    def copies(least: float) -> set[str]:
        comparison = regurgitation.CopyRule(Rule("embedding", "e", 54, 4), 54, least, 5)
        return {row.generated_id for row in regurgitation.judged(pairs, looks, comparison).where("copy").collect()}

    assert copies(0.9) == {"alike", "close", "bytes"}
    assert copies(0.75) == {"alike", "close", "rings", "bytes"}
    assert copies(0.0) == {*seen, "bytes"}


def test_each_generated_image_has_its_nearest_by_hash_and_by_embedding_most_similar_first(
    job: Job, summary: dict[str, object], settings: Settings
) -> None:
    by_image: dict[str, list[Row]] = {}
    for row in job.lake.read(tables.REGURGITATION).orderBy("generated_key", "rank").collect():
        by_image.setdefault(row.generated_key, []).append(row)
    k = settings.regurgitation.neighbours
    assert len(by_image) == COPIES + OTHERS
    for rows in by_image.values():
        assert [row.rank for row in rows] == list(range(1, len(rows) + 1))
        assert [row.similarity for row in rows] == sorted((row.similarity for row in rows), reverse=True)
        assert sum("embedding" in row.nearest_by for row in rows) == sum("hash" in row.nearest_by for row in rows) == k
        assert all("embedding" in row.nearest_by for row in rows[:k])


def test_a_broken_image_is_recorded_and_the_lake_is_unchanged(job: Job, summary: dict[str, object]) -> None:
    (fault,) = job.lake.read(tables.REGURGITATION_FAULTS).collect()
    assert fault.key == "broken" and fault.reason
    assert summary["not decodable"] == 1 and summary["generated images"] == COPIES + OTHERS + 1
    assert job.lake.read(tables.IMAGES).count() == IMAGES
    assert job.lake.read(tables.QUARANTINE).count() == 0
    assert not job.lake.has_file(regurgitation.STAGING)


def test_a_second_run_writes_nothing(job: Job, generated: Path, summary: dict[str, object]) -> None:
    before = job.lake.snapshot().version(tables.REGURGITATION)
    assert regurgitation.run(job, [str(generated)]) == summary
    assert job.lake.snapshot().version(tables.REGURGITATION) == before


@pytest.mark.slow
def test_each_single_file_gets_one_line(job: Job, generated: Path) -> None:
    before = job.lake.snapshot().version(tables.REGURGITATION)
    paths = [str(generated / name) for name in ("copy2.jpg", "other1000.jpg", "broken.jpg")]
    assert regurgitation.is_question(paths) and not regurgitation.is_question([str(generated)])
    copy, other, broken = regurgitation.answers(job, paths)
    assert "copy2.jpg: copy of image " in copy and ", 2 of " in copy and "(filtered)" in copy
    assert "other1000.jpg: not a copy (a copy is within 54 bits" in other and "similarity" in other
    assert "cannot be compared" in broken
    assert job.lake.snapshot().version(tables.REGURGITATION) == before


def test_unscored_images_are_refused(job: Job, generated: Path, tmp_path: Path) -> None:
    lake = Lake(job.lake.spark, str(tmp_path / "lake"))
    lake.append(tables.IMAGES, job.lake.read(tables.IMAGES), Recipe("ingest"))
    lake.append(tables.SIGNALS, job.lake.read(tables.SIGNALS).limit(IMAGES - 3), Recipe("score"))
    with pytest.raises(WinnowError, match=r"^3 of \d+ images have no signals .* run `winnow score`"):
        regurgitation.run(Job(lake, job.settings, Progress()), [str(generated)])


def test_the_sheet_is_written_and_blurs_filtered_images(job: Job, summary: dict[str, object]) -> None:
    page = job.lake.read_file(contact_sheet.FILE).decode()
    assert page.count("<article") == COPIES + OTHERS
    assert page.count('class="pair veiled"') >= 1 and page.count("data:image/webp") == 2 * (COPIES + OTHERS)
    assert "<script" not in page


def test_the_report_finds_the_pairs_in_the_lake(job: Job, summary: dict[str, object]) -> None:
    pairs = job.lake.read(tables.REGURGITATION_PAIRS).orderBy("place").collect()
    assert [pair.copy for pair in pairs] == [True] * COPIES + [False] * OTHERS
    assert sorted(pair.generated_key for pair in pairs[:COPIES]) == [f"copy{seed}" for seed in range(COPIES)]
    assert {Image.open(io.BytesIO(pair.thumbnail)).size for pair in pairs} == {(128, 128), (116, 116)}
    given = regurgitation_facts(job.lake, job.settings)
    assert (given.compared, given.copies, given.own, given.undecodable) == (COPIES + OTHERS, COPIES, 1, 1)
    assert given.trials == Trials(COPIES + OTHERS, COPIES, are_prompts=False)
    assert copy_rate(given.trials, given.confidence) == summary["rate of copies"]


def test_if_prompts_repeat_the_bound_counts_prompts(spark: SparkSession) -> None:
    repeated = [("a", True), ("a", True), ("a", False), ("b", False), ("b", False), ("c", False)]
    unknown = [(None, True), (None, False), (" ", False), ("", True)]

    def counted(rows: list[tuple[str | None, bool]]) -> Trials:
        return trials(spark.createDataFrame(rows, "prompt_id string, copy boolean"))

    assert counted(repeated) == Trials(3, 1, are_prompts=True)
    assert counted(unknown) == Trials(4, 2, are_prompts=False)
    assert counted([("a", True), ("b", False), ("c", True)]) == Trials(3, 2, are_prompts=False)
    assert counted(repeated + unknown) == Trials(7, 3, are_prompts=True)
    assert counted([]) == Trials(0, 0, are_prompts=False) and counted([]).bound(0.95) == 1.0


def test_images_of_one_memorised_prompt_do_not_make_the_bound_tighter(spark: SparkSession) -> None:
    each = [(str(n // 10), n < 8) for n in range(1000)]

    found = trials(spark.createDataFrame(each, "prompt_id string, copy boolean"))

    assert found.bound(0.95) == pytest.approx(0.0466, abs=1e-4)  # exact binomial, 1 of 100; of 8 of 1,000 it is 0.0144


@pytest.mark.slow
def test_the_sheet_and_the_report_count_prompts_with_a_copy_and_images(job: Job, generated: Path) -> None:
    folder, lake = generated.parent / "repeated", Lake(job.lake.spark, f"{generated.parent}/lake")
    folder.mkdir(exist_ok=True)
    names = [f"copy{seed}.jpg" for seed in range(3)] + [f"other{seed}.jpg" for seed in range(1000, 1003)]
    lines = [json.dumps({"file_name": name, "image_id": f"p{place // 2}"}) for place, name in enumerate(names)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    for name in names:
        (folder / name).write_bytes((generated / name).read_bytes())
    for table in (tables.IMAGES, tables.SIGNALS):
        lake.append(table, job.lake.read(table), Recipe("score"))

    found = regurgitation.run(Job(lake, job.settings, Progress()), [str(folder)])

    assert (found["copies"], found["compared"]) == (3, 6)
    assert (found["prompts that gave a copy"], found["prompts"]) == (2, 3)
    said = "and 2 of 3 prompts gave a copy: at most "
    assert said in lake.read_file(contact_sheet.FILE).decode().replace("\u00a0", " ")
    given = regurgitation_facts(lake, job.settings)
    assert given.trials == Trials(3, 2, are_prompts=True) and said in regurgitated(given)
    assert given.bound == pytest.approx(0.95 ** (1 / 3))  # exact binomial, 2 of 3


def test_the_sheet_escapes_captions_and_names() -> None:
    evil = "\"'><script>alert(1)</script>\x00"
    values = dict.fromkeys(tables.REGURGITATION.schema.names, evil) | {
        "distance": 3,
        "similarity": 0.9,
        "copy": True,
        "likeness": 0.98,
    }
    facts = Row(**values, key=evil, source=evil, fate="kept")
    picture = Thumbnail(None, evil, 8, 8)
    figures = ("copies", "compared", "images searched", "rate of copies", "a copy is within")
    page = contact_sheet.render(
        evil, (SheetPair(facts, picture, picture),), dict.fromkeys(figures[:3], 1) | dict.fromkeys(figures[3:], evil)
    )
    assert "<script" not in page and page.count("&lt;script&gt;") >= 5


def test_the_sheet_shows_the_start_of_a_long_key() -> None:
    key = "data:image/png;base64," + "A" * 1_000_000
    values = dict.fromkeys(tables.REGURGITATION.schema.names, "x") | {"distance": 3, "copy": True, "likeness": 0.98}
    facts = Row(**values | {"generated_key": key}, key=key, source="s", fate="kept")
    picture = Thumbnail("data:,", "a caption", 8, 8)
    figures = ("copies", "compared", "images searched", "rate of copies", "a copy is within")
    summary = dict.fromkeys(figures[:3], 1) | dict.fromkeys(figures[3:], "5")

    page = contact_sheet.render("lake", (SheetPair(facts, picture, picture),), summary)

    assert page.count(f"{key[:159]}…") == 6 and key[:160] not in page


def test_half_of_the_prompts_are_of_the_largest_groups_and_half_are_random(spark: SparkSession, job: Job) -> None:
    images = spark.createDataFrame(
        [(f"i{n:02}", f"caption {n}") for n in range(40)] + [("blank", " "), ("none", None)],
        "image_id string, caption string",
    )
    removed = [(f"i{n:02}", "i00") for n in range(30, 35)] + [(f"i{n:02}", "i01") for n in range(35, 37)]
    duplicates = spark.createDataFrame([*removed, ("i37", "i02")], "removed_id string, kept_id string")
    verdicts = spark.createDataFrame([("i02", False), ("i03", False), ("i04", True)], "image_id string, kept boolean")
    rows = prompts.prompts(images, verdicts, duplicates, 10, seed=0).collect()
    assert [(r.image_id, r.group_size, r.reason) for r in rows if r.group_size > 1] == [
        ("i01", 3, prompts.LARGEST),
        ("i00", 6, prompts.RANDOM),  # random, so not listed again for its group
    ]
    assert [r.reason for r in rows] == [prompts.LARGEST] + [prompts.RANDOM] * 8
    ids = [r.image_id for r in rows]
    assert len(set(ids)) == 9 and not set(ids) & {"i02", "i03", "blank", "none", *(r for r, _ in removed)}
    assert ids == [
        r.image_id for r in prompts.prompts(images.repartition(3), verdicts, duplicates, 10, seed=0).collect()
    ]
    assert ids != [r.image_id for r in prompts.prompts(images, verdicts, duplicates, 10, seed=1).collect()]
    assert prompts.prompts(images, verdicts, duplicates, 1000, seed=0).count() == 40 - 2 - 8


def test_random_prompts_are_drawn_from_all_images_including_the_largest_groups(spark: SparkSession) -> None:
    images = spark.createDataFrame([(f"i{n:02}", f"caption {n}") for n in range(40)], "image_id string, caption string")
    removed = [(f"r{n:02}-{copy}", f"i{n:02}") for n in range(40) for copy in range(1 + n % 3)]
    grouped = spark.createDataFrame(removed, "removed_id string, kept_id string")
    alone, verdicts = grouped.limit(0), spark.createDataFrame([], "image_id string, kept boolean")
    all_by_chance = [row.image_id for row in prompts.prompts(images, verdicts, alone, 20, seed=0).collect()]

    rows = prompts.prompts(images, verdicts, grouped, 20, seed=0).collect()

    by_chance = [row for row in rows if row.reason == prompts.RANDOM]
    assert [row.image_id for row in by_chance] == all_by_chance[:10]
    assert max(row.group_size for row in by_chance) == 4
    largest = [row for row in rows if row.reason == prompts.LARGEST]
    assert len(largest) == 10 and len({row.image_id for row in rows}) == 20
    left = set(range(2, 40, 3)) - {int(row.image_id[1:]) for row in by_chance}
    assert [row.image_id for row in largest][: len(left)] == [f"i{n:02}" for n in sorted(left)][:10]


def test_prompts_are_written_as_csv_and_json_lines(job: Job, tmp_path: Path) -> None:
    printed = list(csv.DictReader(io.StringIO(prompts.run(job, 4, None))))
    assert len(printed) == 4 and set(printed[0]) == set(prompts.COLUMNS)
    prompts.run(job, 4, str(tmp_path / "p.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [line["image_id"] for line in lines] == [row["image_id"] for row in printed]
    with pytest.raises(WinnowError, match=r"cannot be written to p\.txt: choose a name that ends in \.csv or \.jsonl"):
        prompts.run(job, 4, "p.txt")


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["pictures"], "search"),
        (["--set", "seed=1", "pictures"], "search"),
        (["prompts"], "prompts"),
        (["--set=seed=1", "--debug", "prompts", "--count", "3"], "prompts"),
        (["./prompts"], "search"),
    ],
)
def test_the_first_word_selects_search_or_prompts(words: list[str], command: str) -> None:
    shown = CliRunner().invoke(app, ["regurgitation", *words])
    assert shown.exit_code == 2 and f"regurgitation {command} " in shown.output and "--lake" in shown.output
