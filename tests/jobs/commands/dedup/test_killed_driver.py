"""A `dedup` that is killed while it searches continues after its last group of bands, with the same rows."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.lake.lake import Lake
from tests.builders.killed_dedup import assert_same_rows, command_line, two_lakes

pytestmark = pytest.mark.slow

# Each shuffle bucket is a group of its own.
PROGRAM = """
from jobs.commands.dedup.candidates import bands
bands.MOST_BUCKETS = 1
from jobs.cli import main
main()
"""


def started(lake: Lake) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, *command_line(lake)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_killed_search_continues_after_its_last_group_of_bands(spark: SparkSession, tmp_path: Path) -> None:
    here, there = two_lakes(spark, tmp_path)

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
    assert_same_rows(here, there)
