"""Executors that die while they write shards change no byte of an export."""

import os
import random
import signal
import time
from hashlib import sha256
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from jobs.commands.export import command as export
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.lake_rows import write_rows
from tests.builders.spark_settings import SMALL, SPARK
from tests.builders.standalone_cluster import executors, standalone_cluster, submitted

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

PARTS, IMAGES = 4, 400
SAMPLES = "export.shard_samples=150"


def large_lake(spark: SparkSession, folder: Path) -> Lake:
    """A lake of 4 parts with 40 MB each, so that writing the shards of a part takes a while."""
    lake, draw = Lake(spark, str(folder / "lake")), random.Random(0)
    for part in range(PARTS):
        ids = [f"{draw.getrandbits(128):032x}" for _ in range(IMAGES)]
        place = [(i, i, "file:/s", "a caption") for i in ids]
        images = [(*row, draw.randbytes(100_000), 8, 6, "PNG", "{}", part) for row in place]
        write_rows(lake, tables.IMAGES, images)
        write_rows(lake, tables.CURATED, [(i, part, 1.0, i, "file:/s", "a caption", 8, 6, "PNG", "{}") for i in ids])
    return lake


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name[0].isdigit()}


def test_killed_executors_change_no_shard(spark, tmp_path):
    lake = large_lake(spark, tmp_path)
    job = Job(lake, config.load(overrides=[*SPARK, SAMPLES]), Progress())
    export.run(job, str(tmp_path / "here"), "webdataset")
    expected = digests(tmp_path / "here")
    settings = [part for text in (*SMALL, SAMPLES) for part in ("--set", text)]
    made = tmp_path / "made"
    arguments = ["export", str(made), "--format", "webdataset", "--lake", lake.uri, *settings]

    with standalone_cluster(tmp_path) as cluster:
        process = submitted(cluster, tmp_path, arguments)
        deadline = time.monotonic() + 600
        while not (writing := list(made.glob("0*.part"))):
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[1][-4000:]
            time.sleep(0.01)
        killed = executors(tmp_path)
        for executor in killed:
            os.kill(executor, signal.SIGKILL)
        complete = list(made.glob("*_stats.json"))
        _, printed = process.communicate(timeout=900)

    assert process.returncode == 0, printed[-4000:]
    assert killed and writing and len(complete) < len(list(made.glob("*_stats.json"))) == PARTS * 3
    assert digests(made) == expected
    assert (made / export.MANIFEST).exists()
