"""`generate`: draws a picture set with known truth, in parallel, as an image folder."""

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
"""Version of the drawings. A folder that another version started is not continued."""


def run(directory: str, count: int, seed: int, progress: Progress) -> Summary:
    """Draws a picture set with known truth, or continues one.

    Args:
        directory: A local folder: new, empty, or started with the same count and seed.
        count: Number of pictures.
        seed: 0 or more; the same seed gives the same bytes.
        progress: Shows the number of drawn pictures.

    Returns:
        Counts of the drawn pictures.

    Raises:
        WinnowError: The folder holds other data, or a number is not allowed.
    """
    if count < 1 or seed < 0:
        raise WinnowError(f"--count {count} --seed {seed}: count must be 1 or more, and seed 0 or more")
    return write(directory, PictureSet(count, seed), os.cpu_count() or 1, progress)


def write(directory: str, pictures: PictureSet, workers: int, progress: Progress) -> Summary:
    """Writes all missing sub-folders, then truth.parquet.

    Args:
        directory: A local folder.
        pictures: The picture set.
        workers: Number of processes. It has no effect on the files.
        progress: Shows the number of drawn pictures.

    Raises:
        WinnowError: The folder holds other data.
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
        raise WinnowError(f"{folder} is not empty and not a picture set of `generate`: name a new or empty folder")
    found = json.loads(marker.read_text())
    if found != wanted:
        raise WinnowError(f"{folder} holds a picture set with {found}, not {wanted}: name another folder or delete it")


def _tables(directory: str, pictures: PictureSet, workers: int) -> Iterator[pa.Table]:
    """Yields the truth of each sub-folder, in order. Only a few are drawn ahead, which bounds the memory."""
    # Spawn the workers, since a fork would break the parent's threads (Spark's gateway, the progress display).
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
