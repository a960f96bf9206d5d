"""`dedup.against`: images near another set are removed by the filter."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.commands import ingest, score
from jobs.commands.filter import against
from jobs.commands.filter import command as filter
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.hash_lakes import near
from tests.builders.images import pattern
from tests.builders.spark_settings import SPARK


def picture(seed: int) -> Image.Image:
    return Image.fromarray(pattern(seed, 128))


@pytest.fixture(scope="module")
def lake(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A scored lake of eight images, one of which is blank."""
    folder = tmp_path_factory.mktemp("against")
    (folder / "pictures").mkdir()
    for seed in range(7):
        picture(seed).save(folder / "pictures" / f"{seed}.png")
    Image.new("RGB", (128, 128), "white").save(folder / "pictures" / "blank.png")
    job = Job(Lake(spark, str(folder / "lake")), config.load(overrides=SPARK), Progress())
    ingest.run(job, [str(folder / "pictures")])
    score.run(job)
    return job.lake


def job_on(lake: Lake, *sets: Path, **more: object) -> Job:
    names = ", ".join(f"'{path}'" for path in sets)
    settings = config.load(overrides=[*SPARK, f"dedup.against=[{names}]", *(f"{k}={v}" for k, v in more.items())])
    return Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))


def reasons(lake: Lake) -> dict[str, str]:
    keys = lake.read(tables.IMAGES).select("image_id", "key")
    rows = lake.read(tables.VERDICTS).where("not kept").join(keys, "image_id").collect()
    return {row.key: "; ".join(row.reasons) for row in rows}


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Returns a folder with a darker copy of one image, a blank image, another image, and a broken file."""
    folder = tmp_path / "evaluation"
    folder.mkdir()
    darker = (np.asarray(picture(3)) * 0.8).astype(np.uint8)
    Image.fromarray(darker).save(folder / "copy.jpg", quality=90)
    picture(50).save(folder / "other.png")
    Image.new("RGB", (128, 128), "white").save(folder / "blank.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def test_copies_of_another_set_are_removed_and_the_table_says_of_what(lake: Lake, evaluation: Path) -> None:
    job = job_on(lake, evaluation)
    summary = filter.run(job)
    found = reasons(lake)
    assert set(found) == {"3", "blank"} and summary[f"filtered, {against.REASON}"] == 2
    # A blank image matches only the same bytes.
    assert found["blank"] == f"near another set: 0 bits from blank of {evaluation}"
    assert found["3"].endswith(f" bits from copy of {evaluation}")
    assert {row.key for row in lake.read(tables.AGAINST).collect()} == {"copy", "blank"}
    assert "1 image of dedup.against cannot be decoded" in str(job.progress.console.file.getvalue())
    # Nothing is read again until something changes.
    version = lake.snapshot().version(tables.AGAINST)
    assert filter.run(job_on(lake, evaluation))["kept"] == 6
    assert lake.snapshot().version(tables.AGAINST) == version and not lake.has_file(against.STAGING)
    picture(5).save(evaluation / "more.png")
    assert filter.run(job_on(lake, evaluation))["kept"] == 5 and "5" in reasons(lake)


def test_hashes_of_a_list_need_no_images(lake: Lake, tmp_path: Path) -> None:
    keys = lake.read(tables.IMAGES).select("image_id", "key")
    stored = {row.key: bytes(row.pdq) for row in lake.read(tables.SIGNALS).join(keys, "image_id").collect()}

    def flipped(key: str, count: int) -> str:
        return near(np.frombuffer(stored[key], np.uint8), count, seed=1).tobytes().hex()

    lines = [f"{flipped('4', 31)},case 7", "", flipped("2", 32).upper()]
    listed = tmp_path / "hashes.csv"
    listed.write_text("\n".join(["hash,name", *lines]))
    filter.run(_forgetting(lake, listed))
    found = reasons(lake)
    assert set(found) == {"4"} and "from case 7 of" in found["4"]
    listed.write_text(f"{lines[0]}\nnot a hash\n")
    with pytest.raises(WinnowError, match="line 2: 'not a hash' does not begin with a PDQ hash"):
        filter.run(_forgetting(lake, listed))
    listed.write_text(lines[0])


def _forgetting(lake: Lake, listed: Path) -> Job:
    """Returns a job that wants the other sets of earlier runs no longer."""
    before = lake.snapshot().recipe(tables.VERDICTS)
    names = ", ".join(f"'{name}'" for name in (before.settings.get("against", {}) if before else {}))
    return job_on(lake, listed, **{"filter.forget": f"[{names}]"})


def test_a_set_that_is_no_longer_named_is_not_forgotten_in_silence(lake: Lake, evaluation: Path) -> None:
    before = lake.snapshot().recipe(tables.VERDICTS)
    names = [Path(name) for name in (before.settings.get("against", {}) if before else {})]
    filter.run(job_on(lake, evaluation, *names))
    with pytest.raises(WinnowError, match=f"the lake was filtered for .*{evaluation}"):
        filter.run(job_on(lake))


def test_a_dry_run_writes_no_table(lake: Lake, evaluation: Path) -> None:
    picture(6).save(evaluation / "six.png")
    before = lake.snapshot().recipe(tables.VERDICTS)
    names = [Path(name) for name in (before.settings.get("against", {}) if before else {})]
    versions = [lake.snapshot().version(table) for table in (tables.VERDICTS, tables.AGAINST)]
    found = filter.preview(job_on(lake, evaluation, *names))
    assert found["newly removed"] >= 1 and any(str(value).startswith("6 (") for value in found.values())
    assert versions == [lake.snapshot().version(table) for table in (tables.VERDICTS, tables.AGAINST)]


@pytest.mark.parametrize("name", ["missing", "missing.txt"])
def test_a_set_that_does_not_exist_is_named_before_work_begins(lake: Lake, tmp_path: Path, name: str) -> None:
    with pytest.raises((WinnowError, OSError), match=name):
        filter.run(job_on(lake, tmp_path / name))
