"""Runs of lakes too small for any statistic: each command ends with its result or with a one-line message."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

from jobs.commands import compare, report, run
from jobs.commands.audit import command as audit
from jobs.commands.export import command as export
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.spark_settings import SPARK

# No word is watched, so there is none to count.
QUICK = ["audit.lists=[]", "audit.resamples=20", "dedup.sample=10"]
ALL = "the filter removed every image"
NONE = "holds no image, because every row that was read is in the table quarantine"
CASES = {
    "one image": (1, [], None),
    "two images, one of them filtered": (2, ["filter.rules={wide='width > 70'}"], None),
    "five captions of one image": (-5, [], None),
    "all filtered": (2, ["filter.rules={everything='width > 0'}"], ALL),
    "nothing readable": (0, [], NONE),
}


def write(folder: Path, count: int) -> Path:
    """Writes images of noise with captions: `count` images, copies of one if negative, a file that is no image if 0."""
    folder.mkdir()
    for number in range(abs(count)):
        noise = np.random.default_rng(max(number, 0) if count > 0 else 0)
        pixels = noise.integers(0, 256, (8, 8 + number if count > 0 else 8, 3), np.uint8)
        image = Image.fromarray(pixels).resize((64 + 8 * number if count > 0 else 64, 64), Image.Resampling.BICUBIC)
        image.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a picture, number {number}")
    if not count:
        (folder / "broken.jpg").write_bytes(b"no image")
    return folder


def ended(command: Callable[[], object], refusal: str | None) -> None:
    """Runs a command, which must end with its result or with the expected one-line refusal."""
    if refusal is None:
        command()
        return
    with pytest.raises(WinnowError, match=refusal) as error:
        command()
    assert "\n" not in str(error.value) and "run `winnow " in str(error.value)


# One lake is tried in each run of the fast tests; the others take half a minute each, and more.
_FAST = "nothing readable"


@pytest.mark.parametrize(
    "name", [_FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in CASES if name != _FAST)]
)
def test_every_command_ends_with_its_result_or_with_one_line(name: str, spark: SparkSession, tmp_path: Path) -> None:
    count, overrides, refusal = CASES[name]
    lake = Lake(spark, str(tmp_path / "lake"))
    job = Job(lake, config.load(overrides=[*SPARK, *QUICK, *overrides]), Progress())

    ended(lambda: run.run(job, [str(write(tmp_path / "in", count))]), refusal)
    ended(lambda: audit.run(job), refusal)
    ended(lambda: export.run(job, str(tmp_path / "out"), "parquet"), refusal)
    report.run(job)
    compare.run(job, lake.uri, str(tmp_path / "compare.html"))

    pages = [Path(lake.path(report.FILE)), tmp_path / "compare.html", *tmp_path.glob("out/README.md")]
    assert len(pages) == (3 if refusal is None else 2)
    for page in pages:
        text = re.sub(r"<style>.*?</style>", "", page.read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(nan|inf)\b", text, re.IGNORECASE), page
    if refusal is None:
        quality = lake.read(tables.WEIGHT_QUALITY).collect()[0]
        assert (quality.probe_auc, quality.calibration_error, quality.beyond_reach) == (None, None, None)
        assert "All kept images have the same weight" in pages[0].read_text()
        assert lake.read(tables.DEDUP_QUALITY).where("recall is not null").isEmpty()
