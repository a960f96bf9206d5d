"""Executors that die in each stage of `dedup` change no row."""

import os
import signal
import threading
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
from tests.builders.standalone_cluster import executors, standalone_cluster, submitted

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

COMPARED = tables.PAIRS, tables.DUPLICATES, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.NEAR_MISSES
OVERRIDES = ["dedup.hash=pdq", "dedup.recall=0.999", 'dedup.rank=["resolution", "caption"]', "dedup.in_memory=0"]


def test_executors_killed_in_each_stage_change_no_row(spark: SparkSession, tmp_path: Path) -> None:
    here, there = (Lake(spark, str(tmp_path / name)) for name in ("here", "there"))
    job = job_of(here, "dedup.in_memory=0")
    for lake in (here, there):
        fill(lake, mixture(), current_encoder(job).digest)
    dedup.run(job)
    # Speculation runs a task twice, and takes the result of the first that ends.
    options = [*OVERRIDES, *SMALL, "spark.conf.spark.speculation=true"]
    settings = [part for text in options for part in ("--set", text)]

    with standalone_cluster(tmp_path) as cluster:
        process = submitted(cluster, tmp_path, ["dedup", "--lake", there.uri, *settings])
        assert process.stdout is not None and process.stderr is not None
        # Spark's log fills its pipe. The lines of Winnow come to the output of spark-submit.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        printed, killed = [], []
        for line in process.stdout:
            printed.append(line)
            # The end of a step is the beginning of the next.
            if "✓ dedup:" in line:
                time.sleep(1)
                killed.append(executors(tmp_path))
                for executor in killed[-1]:
                    os.kill(executor, signal.SIGKILL)
        assert process.wait(timeout=900) == 0, "".join(printed)[-4000:]

    assert len(killed) >= 4 and sum(map(bool, killed)) >= 3, "".join(printed)[-4000:]
    for table in COMPARED:
        mine, theirs = (lake.read(table) for lake in (here, there))
        assert mine.exceptAll(theirs).isEmpty() and theirs.exceptAll(mine).isEmpty(), f"{table.name} differs"
    assert not there.read(tables.DUPLICATES).isEmpty()
