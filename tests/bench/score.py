"""Compares `score` with a bare Python loop on the same Parquet bytes: same decoding, hash, session and processes.

python -m tests.bench.score --images FOLDER_OR_TAR... [--semantic] [--repeat 8] [--rounds 3] [--set spark.conf.KEY=VAL]

With `--semantic`, both also compute the embeddings of the semantic encoder.
"""

import argparse
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.commands import ingest, score
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from models.images import decoding
from models.images.resizing import thumbnail, thumbnail_of_file
from models.inference import encoder
from models.inference.encoder import Encoder
from udfs.hashes.pdq import PDQ_SIDE, pdq_of

CORES = 2
BATCH = 32


def bare_loop(pieces: list[tuple[str, int]], semantic: bool) -> int:
    """Decodes, hashes and embeds the images of some row groups; returns their number."""
    model, done = Encoder.load(encoder.shipped(), batch=BATCH), 0
    other = Encoder.load(encoder.shipped_semantic(), batch=BATCH) if semantic else None
    for path, group in pieces:
        cells = pq.ParquetFile(path).read_row_group(group, columns=["image"]).column("image")
        for begin in range(0, len(cells), BATCH):
            thumbs, seen = [], []
            for cell in cells[begin : begin + BATCH]:
                file = decoding.Decoder(cell.as_py())
                image = file.at_least(PDQ_SIDE)
                pdq_of(image)
                thumbs.append(thumbnail(image, model.input.view))
                if other:
                    seen.append(thumbnail_of_file(file, other.input.view, PDQ_SIDE))
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


def spark_rate(job: Job) -> float:
    """Returns the images per second of the whole command, on an unscored lake."""
    for table in (tables.SIGNALS, tables.FEATURES, tables.SCORES):
        job.lake.drop(table)
    started = time.perf_counter()
    done = score.run(job)["images scored"]
    return float(done) / (time.perf_counter() - started)


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
        pq.write_table(table, folder / f"{number}.parquet")
    ingest.run(job, [str(folder / "*.parquet")], "parquet")


def main() -> None:
    """Prints both rates and their ratio for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="+", required=True)
    parser.add_argument("--semantic", action="store_true")
    parser.add_argument("--repeat", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    wanted = ['weigh.features=["embedding"]'] if options.semantic else []
    settings = config.load(overrides=[f'spark.master="local[{CORES}]"', *wanted, *options.overrides])
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        (Path(scratch) / "source").mkdir()
        repeated(job, options.images, options.repeat, Path(scratch) / "source")
        spark_rate(job)
        print("| bare loop, images/s | score, images/s | ratio |\n|---:|---:|---:|")
        for _ in range(options.rounds):
            bare, spark = bare_rate(job.lake.uri, options.semantic), spark_rate(job)
            print(f"| {bare:.0f} | {spark:.0f} | {spark / bare:.2f} |", flush=True)
        job.lake.spark.stop()


if __name__ == "__main__":
    main()
