"""A `dedup` that is killed while it searches continues after its last group of bands, with the same rows."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.commands.dedup import command as dedup
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder
from tests.builders.hash_lakes import fill, job_of, mixture
from tests.builders.spark_settings import SMALL

pytestmark = pytest.mark.slow

COMPARED = tables.PAIRS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.NEAR_MISSES
OVERRIDES = ["dedup.hash=pdq", "dedup.recall=0.999", 'dedup.rank=["resolution", "caption"]', "dedup.in_memory=0"]
# Each shuffle bucket is a group of its own.
PROGRAM = """
from jobs.commands.dedup.candidates import bands
bands.MOST_BUCKETS = 1
from jobs.cli import main
main()
"""


def started(lake: Lake) -> "subprocess.Popen[str]":
    settings = [part for text in [*OVERRIDES, *SMALL] for part in ("--set", text)]
    command = [sys.executable, "-c", PROGRAM, "dedup", "--lake", lake.uri, *settings]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_search_continues_after_its_last_group_of_bands(spark: SparkSession, tmp_path: Path) -> None:
    here, there = (Lake(spark, str(tmp_path / name)) for name in ("here", "there"))
    job = job_of(here, "dedup.in_memory=0")
    for lake in (here, there):
        fill(lake, mixture(), current_encoder(job).digest)
    dedup.run(job)

    process = started(there)
    staging = tmp_path / "there" / "_staging"
    while len(done := list(staging.glob("committed-dedup-*/bands-*/_SUCCESS"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = list(staging.glob("committed-dedup-*/bands-*/_SUCCESS"))
    assert len(done) >= 2
    printed, _ = started(there).communicate(timeout=600)

    assert f"continues a run that was killed: {len(done)} of " in " ".join(printed.split()), printed[-4000:]
    assert not list(staging.glob("committed-*"))
    for table in COMPARED:
        mine, theirs = (lake.read(table) for lake in (here, there))
        assert mine.exceptAll(theirs).isEmpty() and theirs.exceptAll(mine).isEmpty(), f"{table.name} differs"
    assert not there.read(tables.DUPLICATES).isEmpty()
