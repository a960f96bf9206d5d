"""Compares `score` with a bare Python loop of the same work on the same Parquet bytes, and with Daft.

python -m tests.bench.score --images FOLDER_OR_TAR... [--semantic] [--repeat 8] [--rounds 3] [--daft PYTHON]
    [--through-spark] [--set spark.conf.KEY=VAL]

With `--semantic`, both also compute the embeddings of the semantic encoder. `--daft` names a Python with the package
`daft`: it decodes the same images and computes pHashes of 256 bits, from Parquet to Parquet. With `--through-spark`,
Spark reads the bytes of the images, as on storage that pyarrow cannot read. All take turns in each round.
"""

import argparse
import hashlib
import json
import multiprocessing
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commands import ingest, score
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from jobs.scoring import image_bytes
from models.images import decoding, quality
from models.images.edges import edge_map
from models.images.resizing import View, thumbnail, thumbnail_of_file
from models.inference import encoder
from models.inference.encoder import Encoder
from udfs.hashes.pdq import PDQ_SIDE, pdq_of

CORES = 2
BATCH = 32
GREY = View((decoding.GREY_SIDE, decoding.GREY_SIDE))

HEADER = """
| bare loop, images/s | score | ratio | without planning and commit | score through Spark | ratio | Daft | ratio |
|---:|---:|---:|---:|---:|---:|---:|---:|"""
DAFT = """
import sys, time, json, daft
from daft.functions import decode_image, image_hash
started = time.perf_counter()
rows = daft.read_parquet(sys.argv[1])
hashed = image_hash(decode_image(rows["image"], on_error="null"), method="phash", hash_size=16)
rows.select(rows["key"], hashed.alias("hash")).write_parquet(sys.argv[2])
seconds = time.perf_counter() - started
print(json.dumps([daft.read_parquet(sys.argv[2]).count_rows(), seconds]))
"""


@dataclass(frozen=True)
class Rates:
    """Images per second in one round; None for what was not asked for."""

    bare: float
    score: float
    without_fixed: float
    through_spark: float | None
    daft: float | None


def bare_loop(pieces: list[tuple[str, int]], semantic: bool) -> int:
    """Decodes, hashes, measures and embeds the images of some row groups; returns their number."""
    model, done = Encoder.load(encoder.shipped(), batch=BATCH), 0
    other = Encoder.load(encoder.shipped_semantic(), batch=BATCH) if semantic else None
    for path, group in pieces:
        cells = pq.ParquetFile(path).read_row_group(group, columns=["image"]).column("image")
        for begin in range(0, len(cells), BATCH):
            thumbs, greys, seen = [], [], []
            for cell in cells[begin : begin + BATCH]:
                data = cell.as_py()
                hashlib.sha256(data).hexdigest()
                file = decoding.Decoder(data)
                image = file.at_least(PDQ_SIDE)
                pdq_of(image)
                luma = file.luma(quality.QUALITY_SIDE)
                quality.quality(luma, file.size)
                edge_map(luma)
                thumbs.append(thumbnail(image, model.input.view))
                greys.append(thumbs[-1] if model.input.view == GREY else thumbnail(image, GREY))
                if other:
                    seen.append(thumbnail_of_file(file, other.input.view, PDQ_SIDE))
            decoding.grey(np.stack(greys))
            quality.colourfulness(np.stack(greys))
            model.encode(np.stack(thumbs))
            if other:
                other.embed(np.stack(seen))
            done += len(thumbs)
    return done


def row_groups(lake: str) -> list[tuple[str, int]]:
    """Returns all row groups of the table images."""
    files = sorted(str(path) for path in Path(lake, "images").rglob("*.parquet"))
    return [(file, group) for file in files for group in range(pq.ParquetFile(file).num_row_groups)]


def bare_rate(lake: str, semantic: bool) -> float:
    """Returns the images per second of the bare loop, without the start of its processes."""
    pieces = row_groups(lake)
    with ProcessPoolExecutor(CORES, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(bare_loop, [[], []], [semantic] * CORES))
        started = time.perf_counter()
        done = sum(pool.map(bare_loop, [pieces[i::CORES] for i in range(CORES)], [semantic] * CORES))
        return done / (time.perf_counter() - started)


def timed(job: Job) -> tuple[int, float]:
    """Returns the number of images and the seconds of the whole command, on an unscored lake."""
    for table in (tables.SIGNALS, tables.FEATURES, tables.SCORES):
        job.lake.drop(table)
    started = time.perf_counter()
    done = int(score.run(job)["images scored"])
    return done, time.perf_counter() - started


def daft_rate(python: str, photos: str) -> float:
    """Returns the images per second of Daft, without the start of its process."""
    with tempfile.TemporaryDirectory() as out:
        run = subprocess.run([python, "-c", DAFT, photos, out], check=True, capture_output=True, text=True)
    done, seconds = json.loads(run.stdout.splitlines()[-1])
    return float(done / seconds)


def worker_megabytes() -> float:
    """Returns the largest memory that a Python worker of Spark has used since it started, in MB."""
    peaks = [0]
    for process in psutil.Process().children(recursive=True):
        if {"pyspark.daemon", "pyspark.worker"} & set(process.cmdline()):
            status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
            peaks.append(int(status["VmHWM"].split()[0]))
    return max(peaks) / 1024


def repeated(job: Job, sources: list[str], repeat: int, folder: Path) -> None:
    """Fills the lake with the images of the sources, several times with different captions."""
    ingest.run(job, sources)
    rows = job.lake.read(tables.IMAGES).select("key", "image").toPandas()
    job.lake.drop(tables.IMAGES)
    job.lake.drop(tables.SOURCES)
    for number in range(repeat):
        table = pa.table(
            {"key": rows["key"], "image": rows["image"], "caption": [f"{number} {k}" for k in rows["key"]]}
        )
        pq.write_table(table, folder / f"{number}.parquet", row_group_size=128)
    ingest.run(job, [str(folder / "*.parquet")], "parquet")


def of_one_image(job: Job, folder: Path) -> Job:
    """Returns a job on a lake of one image: what `score` takes there, it takes for planning and committing."""
    first = pq.ParquetFile(folder / "0.parquet").read_row_group(0).slice(0, 1)
    pq.write_table(first, folder.parent / "one.parquet")
    one = Job(Lake(job.lake.spark, f"{folder.parent}/one"), job.settings, job.progress)
    ingest.run(one, [str(folder.parent / "one.parquet")], "parquet")
    return one


def rates(job: Job, one: Job, photos: str, options: argparse.Namespace) -> Rates:
    """Returns the rates of one round."""
    bare = bare_rate(job.lake.uri, options.semantic)
    done, seconds = timed(job)
    fixed = timed(one)[1]
    through_spark = None
    if options.through_spark:
        with mock.patch.object(image_bytes, "can_read", lambda images: False):
            through_spark = done / timed(job)[1]
    daft = daft_rate(options.daft, photos) if options.daft else None
    return Rates(bare, done / seconds, done / (seconds - fixed), through_spark, daft)


def printed(made: Rates) -> str:
    """Returns a row of the table."""
    ratios = [made.score / made.bare, made.without_fixed / made.bare]
    cells = [f"{made.bare:.0f}", f"{made.score:.0f}", *(f"{ratio:.2f}" for ratio in ratios)]
    for rate in (made.through_spark, made.daft):
        cells += [f"{rate:.0f}", f"{made.score / rate:.2f}"] if rate else ["", ""]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the rates and ratios of each round, then the medians of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="+", required=True)
    parser.add_argument("--semantic", action="store_true")
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--daft", metavar="PYTHON")
    parser.add_argument("--through-spark", action="store_true")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    wanted = ['weigh.features=["embedding"]'] if options.semantic else []
    settings = config.load(overrides=[f'spark.master="local[{CORES}]"', *wanted, *options.overrides])
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        photos = Path(scratch, "source")
        photos.mkdir()
        repeated(job, options.images, options.repeat, photos)
        one = of_one_image(job, photos)
        timed(one)
        timed(job)
        print(HEADER)
        made = []
        for _ in range(options.rounds):
            made.append(rates(job, one, str(photos / "*.parquet"), options))
            print(printed(made[-1]), flush=True)
        ratios: dict[str, Callable[[Rates], float | None]] = {
            "score / bare loop": lambda one: one.score / one.bare,
            "without planning and commit": lambda one: one.without_fixed / one.bare,
            "score / through Spark": lambda one: one.through_spark and one.score / one.through_spark,
            "score / Daft": lambda one: one.daft and one.score / one.daft,
        }
        for name, ratio in ratios.items():
            if found := [value for one in made if (value := ratio(one))]:
                print(f"{name}: median {statistics.median(found):.2f}")
        print(f"peak memory of a Python worker: {worker_megabytes():.0f} MB")
        job.lake.spark.stop()


if __name__ == "__main__":
    main()
