"""Measures the time from a key press to the next image on the label page, in a real browser.

The lake has 420 images of the size of phone photographs. The whole command runs, with Spark, in headless Chromium. The
page itself measures the time from the key event to the first moment after the next image is painted.

python -m tests.bench.label_page
"""

import argparse
import io
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from jobs.commands.label import serve
from jobs.commands.label.serve import ServeOptions
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session

COUNT = 420
SIZE = (1600, 1200)
FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def picture(number: int) -> bytes:
    """Returns a JPEG of about 300 kB: blurred noise on two scales."""
    noise = np.random.default_rng(number)
    coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(SIZE, Image.Resampling.BICUBIC)
    fine = Image.fromarray(noise.integers(0, 256, (SIZE[1] // 4, SIZE[0] // 4, 3), dtype=np.uint8)).resize(SIZE)
    buffer = io.BytesIO()
    Image.blend(coarse, fine.filter(ImageFilter.GaussianBlur(2)), 0.4).save(buffer, "JPEG", quality=88)
    return buffer.getvalue()


def write_lake(lake: Lake) -> int:
    """Writes images and a queue of all of them; returns the mean size of a file in bytes."""
    now, different = datetime.now(UTC), [picture(n) for n in range(24)]
    images = [
        {"image_id": f"{n:032x}", "key": f"k{n}", "caption": f"caption {n}", "image": different[n % 24],
         "width": SIZE[0], "height": SIZE[1], "part": 0}
        for n in range(COUNT)
    ]  # fmt: skip
    queue = [(row["image_id"], "boats", "random", "by chance", n, "b", now) for n, row in enumerate(images)]
    rows = [tuple(row.get(name) for name in tables.IMAGES.schema.names) for row in images]
    lake.append(tables.IMAGES, lake.spark.createDataFrame(rows, tables.IMAGES.schema), Recipe("bench"))
    lake.append(tables.LABEL_QUEUE, lake.spark.createDataFrame(queue, tables.LABEL_QUEUE.schema), Recipe("bench"))
    return sum(map(len, different)) // len(different)


def decide(tab: Any, decisions: int, pause: float) -> list[float]:
    """Returns the times of decisions in milliseconds, with a pause in seconds before each."""
    before = tab.evaluate("performance.getEntriesByName('next image').length")
    for number in range(decisions):
        time.sleep(pause)
        tab.wait_for_selector("#image canvas")
        tab.keyboard.press("yn"[number % 2])
    time.sleep(0.5)
    times = tab.evaluate("performance.getEntriesByName('next image').map(e => e.duration)")[before:]
    assert len(times) == decisions
    return [float(one) for one in times]


def measure(address: str, decisions: int) -> list[tuple[str, list[float]]]:
    """Returns the times of decisions with blurred and with clear images."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        tab = browser.new_page(viewport={"width": 1280, "height": 860})
        tab.goto(f"{address}&name=bench")
        tab.wait_for_selector("#image canvas")
        time.sleep(2)
        blurred = decide(tab, decisions, 0.1)
        tab.keyboard.press("b")
        clear = decide(tab, decisions, 0.1)
        browser.close()
    return [("blurred, a decision each 0.1 s", blurred), ("clear, a decision each 0.1 s", clear)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=200)
    decisions = parser.parse_args().decisions
    if shutil.which("chromium") is None:
        print("skipped: no program `chromium` on PATH, and the page is measured in a browser")
        return
    overrides = ['spark.master="local[2]"', "spark.driver_memory=2g", 'categories.boats={definition="Boats."}']
    settings = config.load(overrides=overrides)
    spark = get_session(settings.spark, "winnow bench")
    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(spark, f"{folder}/lake")
        size = write_lake(lake)
        results: list[tuple[str, list[float]]] = []
        started = time.monotonic()
        opened: list[float] = []

        def body(address: str) -> None:
            opened.append(time.monotonic() - started)
            results.extend(measure(address, decisions))

        options = ServeOptions(port=0, state=Path(folder) / "state")
        summary = serve.serve(Job(lake, settings, Progress()), "boats", options, body)
        stored = lake.read(tables.LABELS).count()
    spark.stop()
    print(f"\n{COUNT} pictures of {SIZE[0]} x {SIZE[1]}, {size / 1000:.0f} kB; page open after {opened[0]:.1f} s")
    print(f"{summary['answers saved']} answers saved, {stored} labels in the table\n")
    print("| view | answers | median, ms | 95th percentile, ms | longest, ms |\n|---|---:|---:|---:|---:|")
    for name, times in results:
        median, late = np.percentile(times, [50, 95])
        print(f"| {name} | {len(times)} | {median:.0f} | {late:.0f} | {max(times):.0f} |")


if __name__ == "__main__":
    main()
