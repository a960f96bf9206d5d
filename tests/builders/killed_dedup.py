"""Two equal lakes: `dedup` runs in one undisturbed, and in the other one it or its executors are killed."""

from pathlib import Path

from pyspark.sql import SparkSession

from jobs.commands.dedup import command as dedup
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder
from tests.builders.hash_lakes import fill, job_of, mixture
from tests.builders.spark_settings import SMALL

_COMPARED = (
    tables.PAIRS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.NEAR_MISSES,
    tables.TOLD_APART,
)  # fmt: skip
_OVERRIDES = ["dedup.hash=pdq", "dedup.recall=0.999", 'dedup.rank=["resolution", "caption"]', "dedup.in_memory=0"]


def two_lakes(spark: SparkSession, folder: Path) -> tuple[Lake, Lake]:
    """Returns a lake on which `dedup` has run by Spark, and an equal one on which it has not."""
    here, there = (Lake(spark, str(folder / name)) for name in ("here", "there"))
    job = job_of(here, "dedup.in_memory=0")
    for lake in (here, there):
        fill(lake, mixture(), current_encoder(job).digest)
    dedup.run(job)
    return here, there


def command_line(lake: Lake, *overrides: str) -> list[str]:
    """Returns the words that run `dedup` on a lake as `two_lakes` has run it on the other one."""
    settings = (part for text in [*_OVERRIDES, *SMALL, *overrides] for part in ("--set", text))
    return ["dedup", "--lake", lake.uri, *settings]


def assert_same_rows(here: Lake, there: Lake) -> None:
    """Asserts that both lakes have the same duplicates."""
    for table in _COMPARED:
        mine, theirs = (lake.read(table) for lake in (here, there))
        assert mine.exceptAll(theirs).isEmpty() and theirs.exceptAll(mine).isEmpty(), f"{table.name} differs"
    assert not there.read(tables.DUPLICATES).isEmpty()
