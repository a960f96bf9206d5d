"""Runs the whole way from labels to verdicts on labelled photos, by the commands, with simulated answers.

    python -m tests.bench.photo_loop PHOTOS.tar LABELS.csv [--categories dress roses] [--random 1200] [--seeds 0 1 2]

For each category and seed: a random sample for calibration, 100 labels of `seed`, then two rounds of 100 labels each of
`recall` and `precision`, with `train` and `score` between them, then `calibrate` and `filter`. `labels at random`
spends the same number of training labels on random photos instead. The figures are those of photos without a label: the
classifier alone decides on them. LABELS.csv has the columns key and label; photos without a label are left out.
"""

import argparse
import csv
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from jobs.commands import ingest, score, train
from jobs.commands.calibrate import command as calibrate
from jobs.commands.filter import command as filter_
from jobs.commands.label import next as label_next
from jobs.commands.label import simulate
from jobs.commands.label.next import PickRequest
from jobs.commands.label.simulate import SimulationRequest
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from models.errors import WinnowError
from udfs.labels.simulated_labeller import SimulatedLabeller

MACHINE = ['spark.master="local[2]"', "spark.shuffle_partitions=2"]
ROUND = 100
ROUNDS = ("recall", "precision", "recall", "precision")
RECALL = 0.9


@dataclass(frozen=True)
class Course:
    """A way to label: strategies of the training labels, each for `ROUND` images."""

    name: str
    first: str
    rounds: tuple[str, ...]


COURSES = (Course("by strategies", "seed", ROUNDS), Course("labels at random", "at random", ("at random",) * 4))


@dataclass(frozen=True)
class Photos:
    """Labelled photos as a Parquet source, with their truth as `label simulate` reads it."""

    source: Path
    truth: Path


def prepared(archive: str, table: str, folder: Path) -> Photos:
    """Writes the labelled photos and their truth as Parquet files."""
    with open(table, newline="") as lines:  # noqa: PTH123 - csv asks for this
        labels = {row["key"]: row["label"] for row in csv.DictReader(lines)}
    rows: dict[str, list[object]] = {"key": [], "image": [], "caption": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            content, name = tar.extractfile(member), Path(member.name)
            if content is not None and name.suffix == ".jpg" and labels.get(name.stem):
                for column, value in zip(rows, (name.stem, content.read(), labels[name.stem]), strict=True):
                    rows[column].append(value)
    photos = Photos(folder / "photos.parquet", folder / "truth.parquet")
    pq.write_table(pa.table(rows), photos.source)
    categories = [[labels[str(key)]] for key in rows["key"]]
    pq.write_table(pa.table({"key": rows["key"], "categories": categories}), photos.truth)
    return photos


@dataclass(frozen=True)
class Labeller:
    """A simulated labeller of one category."""

    job: Job
    category: str
    truth: Path
    seed: int

    def label(self, strategy: str, count: int) -> None:
        """Picks images by a strategy and answers them."""
        if strategy == "at random":
            self._at_random(count)
        else:
            label_next.run(self.job, PickRequest(self.category, strategy, count))
        person = SimulatedLabeller(0.0, self.seed, "truth")
        simulate.run(self.job, SimulationRequest(self.category, str(self.truth), person))

    def _at_random(self, count: int) -> None:
        """Queues random unlabelled images for training."""
        queue = self.job.lake.read(tables.LABEL_QUEUE)
        left = self.job.lake.read(tables.IMAGES).select("image_id").join(queue, "image_id", "left_anti")
        rows = left.orderBy(F.xxhash64(F.lit(self.seed), "image_id")).limit(count)
        columns = {"category": F.lit(self.category), "strategy": F.lit("seed"), "batch": F.lit("bench")}
        blank = [columns.get(f.name, F.lit(None)).cast(f.dataType).alias(f.name) for f in tables.LABEL_QUEUE.schema[1:]]
        self.job.lake.append(tables.LABEL_QUEUE, rows.select("image_id", *blank), Recipe("bench"))

    def learn(self) -> None:
        """Trains the head and scores all images with it."""
        train.run(self.job, self.category)
        score.run(self.job)


def outcome(job: Job, category: str) -> list[str]:
    """Returns the figures of the images without a label: threshold, stated and reached recall, precision, share."""
    threshold = job.lake.read(tables.THRESHOLDS).collect()[0]
    labelled = job.lake.read(tables.LABELS).select("image_id").distinct()
    rest = job.lake.read(tables.IMAGES).join(labelled, "image_id", "left_anti")
    judged = rest.join(job.lake.read(tables.SCORES).where(F.col("model") == threshold.model), "image_id")
    rows = judged.select("caption", "score").toPandas()
    truth, dropped = rows["caption"] == category, rows["score"].astype(float) >= threshold.threshold
    found = int((truth & dropped).sum())
    return [
        f"{threshold.recall_lower:.3f}", f"{found / max(1, truth.sum()):.3f} of {truth.sum()}",
        f"{found / max(1, dropped.sum()):.3f}", f"{dropped.mean():.1%}",
    ]  # fmt: skip


def run(job: Job, labeller: Labeller, course: Course, random: int) -> list[str]:
    """Runs one course and returns the cells of its row."""
    labeller.label("random", random)
    labeller.label(course.first, ROUND)
    for strategy in course.rounds:
        labeller.learn()
        labeller.label(strategy, ROUND)
    labeller.learn()
    try:
        calibrate.run(job)
        cells = outcome(job, labeller.category)
        filter_.run(job)
        return [*cells, "filtered"]
    except WinnowError as error:
        return [*(outcome(job, labeller.category) if job.lake.exists(tables.THRESHOLDS) else ["–"] * 4), str(error)]


def results(job: Job, photos: Photos, options: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    """Yields the row of each category, seed and course."""
    for category in options.categories:
        for seed in options.seeds:
            for course in COURSES:
                lake = folder / f"{category}-{seed}-{course.first}"
                shutil.copytree(job.lake.uri, lake)
                own = [f"seed={seed}", f'categories.{category}={{definition="{category}", recall={RECALL}}}']
                settings = config.load(overrides=[*MACHINE, *own])
                here = Job(Lake(job.lake.spark, str(lake)), settings, Progress.silent())
                labeller = Labeller(here, category, photos.truth, seed)
                yield [category, str(seed), course.name, *run(here, labeller, course, options.random)]
                shutil.rmtree(lake)


def main() -> None:
    """Prints one row for each category, seed and course."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("labels")
    parser.add_argument("--categories", nargs="*", default=["dress", "roses"])
    parser.add_argument("--random", type=int, default=1200)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    options = parser.parse_args()
    settings = config.load(overrides=[*MACHINE, 'weigh.features=["embedding"]'])
    print("| category | seed | labels | recall stated | reached | precision | dropped | filter |")
    print("|---|---:|---|---:|---:|---:|---:|---|")
    with tempfile.TemporaryDirectory() as scratch:
        photos = prepared(options.photos, options.labels, Path(scratch))
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress.silent())
        ingest.run(job, [str(photos.source)])
        score.run(job)
        for cells in results(job, photos, options, Path(scratch)):
            print(f"| {' | '.join(cells)} |", flush=True)
        job.lake.spark.stop()


if __name__ == "__main__":
    main()
