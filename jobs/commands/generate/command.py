"""`generate`: a picture set with known truth, drawn in parallel, as an image folder."""

import json
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commands.generate.pictures.plan import PictureSet
from jobs.commands.generate.pictures.shard import TRUTH, make_shard
from jobs.job import Summary
from jobs.runtime.progress import Progress
from models.errors import WinnowError

MARKER = ".generate.json"
DRAWING = 2
"""Version of the drawings: a folder begun by another version is not continued."""


def run(directory: str, count: int, seed: int, progress: Progress) -> Summary:
    """Draws a picture set with known truth, or continues one.

    Args:
        directory: A local folder, empty or new, or one that was begun with the same count and seed.
        count: Pictures.
        seed: From 0; the same seed gives the same bytes.
        progress: Shows how many are drawn.

    Returns:
        Counts of what was planted.

    Raises:
        WinnowError: The folder holds something else, or a number cannot be used.
    """
    if count < 1 or seed < 0:
        raise WinnowError(f"generate was given --count {count} --seed {seed}: count must be 1 or more, seed 0 or more")
    return write(directory, PictureSet(count, seed), os.cpu_count() or 1, progress)


def write(directory: str, pictures: PictureSet, workers: int, progress: Progress) -> Summary:
    """Writes all sub-folders that are missing, then truth.parquet.

    Args:
        directory: A local folder.
        pictures: What to draw.
        workers: Processes; their number changes no byte.
        progress: Shows how many are drawn.

    Raises:
        WinnowError: The folder holds something else.
    """
    folder = Path(directory)
    _claim(folder, pictures)
    summary: Summary = {"pictures": 0, "drawings": 0, "copies": 0, "siblings": 0, "fireworks": 0, "slime": 0}
    partial = folder / ".truth.parquet.part"
    tables = _tables(directory, pictures, workers)
    with progress.step(f"generate: {pictures.count} pictures"), pq.ParquetWriter(partial, TRUTH) as truth:
        for number in range(pictures.shards):
            with progress.step(f"generate: {number * pictures.shard} of {pictures.count} pictures drawn"):
                table = next(tables)
            truth.write_table(table)
            _add(summary, table)
    partial.replace(folder / "truth.parquet")
    return {**summary, "directory": directory, "truth": str(folder / "truth.parquet")}


def _claim(folder: Path, pictures: PictureSet) -> None:
    wanted = {"count": pictures.count, "seed": pictures.seed, "shard": pictures.shard, "drawing": DRAWING}
    marker = folder / MARKER
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.iterdir()):
        marker.write_text(json.dumps(wanted) + "\n")
        return
    if not marker.is_file():
        raise WinnowError(f"{folder} is not empty and was not begun by generate: give an empty or a new folder")
    found = json.loads(marker.read_text())
    if found != wanted:
        raise WinnowError(f"{folder} holds a picture set of {found}, not of {wanted}: give another folder or remove it")


def _tables(directory: str, pictures: PictureSet, workers: int) -> Iterator[pa.Table]:
    """The truth of each sub-folder in order; a few are drawn ahead, so that memory does not grow with their number."""
    # Spawned, since the parent may run threads (Spark's gateway, the progress display) that a fork would break.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[pa.Table]] = deque()
        for number in range(pictures.shards):
            waiting.append(pool.submit(make_shard, directory, pictures, number))
            if len(waiting) > 3 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _add(summary: Summary, table: pa.Table) -> None:
    rows = table.select(["original", "sibling_group", "categories"]).to_pylist()
    copies = sum(row["original"] is not None for row in rows)
    summary["pictures"] = int(summary["pictures"]) + len(rows)
    summary["copies"] = int(summary["copies"]) + copies
    summary["drawings"] = int(summary["drawings"]) + len(rows) - copies
    summary["siblings"] = int(summary["siblings"]) + sum(row["sibling_group"] is not None for row in rows)
    for category in ("fireworks", "slime"):
        summary[category] = int(summary[category]) + sum(category in row["categories"] for row in rows)
