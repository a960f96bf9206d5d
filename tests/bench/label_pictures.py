"""Measures the cost of fetching a few images for the label page from a large table.

The table is written as `ingest` writes it, once with and once without a Bloom filter of the ids in each row group. The
table shows the seconds and the bytes that the JVM read, which grow with the number of fetched images.

python -m tests.bench.label_pictures
"""

import argparse
import io
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pyspark.sql import functions as F

from jobs.commands.label.page.images import PageImages
from jobs.lake import image_files, tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.session import get_session

SIDE = 1400


def picture(number: int) -> bytes:
    """Returns a JPEG of about 100 kB."""
    noise = np.random.default_rng(number).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((640, 480)).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def fill(lake: Lake, settings: config.Settings, count: int, bloom: bool) -> None:
    """Returns the table images, with 24 distinct images."""
    pictures = lake.spark.createDataFrame([(n, picture(n)) for n in range(24)], "number long, image binary")
    rows = lake.spark.range(0, count, 1, 8).withColumn("number", F.col("id") % 24).join(F.broadcast(pictures), "number")
    made = {"image_id": "substr(sha2(cast(id as string), 256), 1, 32)", "key": "cast(id as string)", "image": "image"}
    sizes = {"width": "640", "height": "480", "part": "0"}
    columns = made | sizes | {name: "null" for name in tables.IMAGES.schema.names if name not in made | sizes}
    conf = image_files.small_files(settings.ingest) | {f"{image_files.BLOOM}.enabled#image_id": str(bloom).lower()}
    images = rows.selectExpr(*[f"{sql} as {name}" for name, sql in columns.items()])
    lake.within(conf).append(tables.IMAGES, images, Recipe("b"))


def bytes_read(pid: int) -> int:
    """Returns the bytes that a process has read from the disk or its cache."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def fetch(lake: Lake, ids: list[str], pid: int) -> tuple[float, float]:
    """Returns the seconds and megabytes to fetch some images whose files are known."""
    images = PageImages(lake, SIDE)
    assert not images.locate(ids)
    before, started = bytes_read(pid), time.monotonic()
    assert not images.fetch(ids)
    return time.monotonic() - started, (bytes_read(pid) - before) / 1e6


def main() -> None:
    """Prints the table of docs/scaling.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--wanted", type=int, nargs="*", default=[10, 50])
    options = parser.parse_args()
    settings = config.load(overrides=['spark.master="local[2]"', "spark.driver_memory=2g"])
    spark = get_session(settings.spark, "winnow bench")
    pid = int(spark._jvm.ProcessHandle.current().pid())
    print("| images | Bloom filters | pictures fetched | seconds | MB read |\n|---:|---|---:|---:|---:|")
    for bloom in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            lake = Lake(spark, f"{folder}/lake")
            fill(lake, settings, options.images, bloom)
            ids = [row.image_id for row in lake.read(tables.IMAGES).select("image_id").orderBy("image_id").collect()]
            fetch(lake, ids[:1], pid)  # starts the workers
            for wanted in options.wanted:
                took, read = fetch(lake, ids[:: len(ids) // wanted][:wanted], pid)
                print(f"| {options.images:,} | {bloom} | {wanted} | {took:.1f} | {read:.0f} |", flush=True)
    spark.stop()


if __name__ == "__main__":
    main()
