"""Executors that die in each stage of `dedup` change no row."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from tests.builders.killed_dedup import assert_same_rows, command_line, two_lakes
from tests.builders.standalone_cluster import executors, standalone_cluster, submitted

pytestmark = [pytest.mark.slow, pytest.mark.cluster]


def test_executors_killed_in_each_stage_change_no_row(spark: SparkSession, tmp_path: Path) -> None:
    here, there = two_lakes(spark, tmp_path)
    # Speculation runs a task twice, and takes the result of the first that ends.
    words = command_line(there, "spark.conf.spark.speculation=true")

    with standalone_cluster(tmp_path) as cluster:
        process = submitted(cluster, tmp_path, words)
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
    assert_same_rows(here, there)
