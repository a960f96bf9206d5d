"""Compares active labelling with random labelling, with a simulated labeller, on several simulated data sets (worlds).

Each world has 20,000 embeddings of 64 dimensions in 40 groups, in place of images. A category at 3 % has four modes,
each near one of the groups. One mode has 20 images (0.1 %) and is different from the other three. With --pictures,
20,000 pictures are drawn and scored; the category is fireworks and slime together: 3.2 %, eight modes, one of them
(rockets) with 20 pictures. The benchmark runs the commands `label next`, `train`, `score` and `calibrate` on a lake
for each world and strategy, two at the same time.

python -m tests.bench.active_learning [--seeds 0 1 2] [--errors 0.02] [--pictures DIR] [--plot docs/active_learning.png]
"""

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs.commands import ingest, score, train
from jobs.commands.calibrate import command as calibrate
from jobs.commands.generate import command as generate
from jobs.commands.label import next as label_next
from jobs.commands.label.next import PickRequest
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import HEAD, semantic_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from jobs.scoring.features import ensure_features
from models.errors import WinnowError
from models.inference.encoder import projection
from models.inference.head import Head
from udfs.labels.simulated_labeller import SimulatedLabeller

mpl.use("Agg")
from matplotlib import pyplot as plt

PICTURES, DIMS, GROUPS = 20_000, 64, 40
MODES, RARE = (194, 193, 193, 20), 3
NOISE, ALIKE = 0.8, 0.6
CALIBRATION = 2_500
RANDOM = (250, 500, 1000, 2000, 3000, 4000, 5000, 6000, 8000)
ROUNDS = {
    "seed": [("seed",)] * 7,
    "precision": [("seed",), *[("precision",)] * 6],
    "recall": [("seed",), *[("recall",)] * 6],
    "loop": [("seed",), *[("recall", "precision")] * 6],
}
EACH = 200
ENOUGH_OF_THE_RARE = 10
AT_ONCE = 2
COLOURS = {"random": "#888888", "seed": "#e69f00", "precision": "#56b4e9", "recall": "#d55e00", "loop": "#009e73"}
TICKS = (200, 500, 1000, 2000, 5000)


@dataclass(frozen=True)
class World:
    """Images with their truth: embeddings, hashes, whether in the category, and in which mode (or -1)."""

    ids: NDArray[np.str_]
    embeddings: NDArray[np.float32]
    hashes: NDArray[np.uint8]
    truth: NDArray[np.bool_]
    mode: NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """The result at a number of labels."""

    labels: int
    positives: int
    rare: int
    precision: float
    recall: float


@dataclass(frozen=True)
class Course:
    """The results of a strategy in one world.

    Attributes:
        points: After each round.
        closing: What `calibrate` says of the loop's filter, beside what is true.
    """

    points: tuple[Point, ...]
    closing: Mapping[str, str]

    def labels_until(self, enough: Callable[[Point], bool]) -> float:
        """Returns the number of labels at which the target was first reached; infinite if it never was."""
        return next((point.labels for point in self.points if enough(point)), math.inf)


@dataclass
class Labeller:
    """A simulated labeller for one category, which records its labels."""

    job: Job
    world: World
    category: str
    person: SimulatedLabeller
    asked: list[int] = field(default_factory=list)

    def answer(self, rows: Sequence[int], origin: str) -> None:
        now, keys = datetime.now(UTC), self.world.ids[list(rows)].tolist()
        said = self.person.answers(keys, self.world.truth[list(rows)], self.category).tolist()
        given = [
            (key, self.category, value, origin, self.person.name, now) for key, value in zip(keys, said, strict=True)
        ]
        made = self.job.lake.spark.createDataFrame(given, tables.LABELS.schema)
        self.job.lake.append(tables.LABELS, made, Recipe("bench"))
        if origin != "random":
            self.asked.extend(rows)

    def pick(self, strategy: str, count: int) -> None:
        picked = label_next.run(self.job, PickRequest(self.category, strategy, count))
        # The ids are sorted.
        self.answer(np.searchsorted(self.world.ids, [pick.image_id for pick in picked.picks]).tolist(), strategy)

    def trained(self) -> Point:
        train.run(self.job, self.category)
        precision, recall = quality(self.head().score(self.world.embeddings), self.world.truth)
        seen = np.array(self.asked)
        rare = int((self.world.mode[seen] == RARE).sum())
        return Point(len(seen), int(self.world.truth[seen].sum()), rare, precision, recall)

    def head(self) -> Head:
        dims = self.world.embeddings.shape[1]
        return Head.load(self.job.lake.read_file(HEAD.format(self.category)), "bench", dims)


def drawn(seed: int = 0) -> World:
    """Returns groups and modes around random directions, in random order."""
    rng = np.random.default_rng(seed)
    groups = _unit(rng.normal(size=(GROUPS, DIMS)))
    away = _unit(rng.normal(size=(len(MODES), DIMS)))
    modes = _unit(ALIKE * groups[: len(MODES)] + np.sqrt(1 - ALIKE**2) * away)
    others = rng.multinomial(PICTURES - sum(MODES), rng.dirichlet(np.full(GROUPS, 2.0)))
    which = np.repeat(np.arange(len(MODES) + GROUPS), [*MODES, *others])
    rows = _unit(np.concatenate([modes, groups])[which] + NOISE * rng.normal(size=(PICTURES, DIMS)) / np.sqrt(DIMS))
    order = rng.permutation(PICTURES)
    which, ids = which[order], np.array([f"{row:08d}" for row in range(PICTURES)])
    truth = which < len(MODES)
    embeddings = rows[order].astype(np.float32)
    hashes = np.packbits(embeddings @ projection(DIMS) > 0, axis=1)
    return World(ids, embeddings, hashes, truth, np.where(truth, which, -1))


def quality(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Returns the precision at 99 % recall, and the recall at 50 % precision, over all images."""
    found = np.cumsum(truth[np.argsort(-scores, kind="stable")])
    recall, precision = found / truth.sum(), found / np.arange(1, len(truth) + 1)
    half = np.flatnonzero(precision >= 0.5)
    return float(precision[np.searchsorted(recall, 0.99)]), float(recall[half[-1]]) if len(half) else 0.0


def fill(lake: Lake, world: World, folder: Path) -> None:
    """Writes signals, features and images."""
    dims = world.embeddings.shape[1]
    table = {
        "image_id": world.ids,
        "embedding": pa.FixedSizeListArray.from_arrays(world.embeddings.ravel(), dims).cast(pa.list_(pa.float32())),
        "embedding_hash": pa.array([row.tobytes() for row in world.hashes], pa.binary()),
    }
    pq.write_table(pa.table(table), folder / "signals.parquet")
    rows = lake.spark.read.parquet(str(folder / "signals.parquet"))
    own, keys = {"encoder": "'bench'"}, {"key": "image_id", "part": "0"}
    for made, known in ((tables.SIGNALS, own), (tables.FEATURES, own), (tables.IMAGES, keys)):
        names = [name for name in made.schema.names if name not in (*rows.columns, *known)]
        blank = [f"{known[name]} as {name}" for name in known] + [f"null as {name}" for name in names]
        lake.append(made, rows.selectExpr("*", *blank), Recipe("bench"))


def pictured(job: Job, folder: str) -> World:
    """Draws, ingests and scores synthetic images: 3.2 % fireworks and slime, of which 0.1 % rockets."""
    generate.run(folder, PICTURES, 0, job.progress)
    ingest.run(job, [folder], None)
    score.run(job)
    truth = pq.read_table(Path(folder, "truth.parquet"), columns=["key", "categories", "mode"]).to_pandas()
    keys = job.lake.read(tables.IMAGES).select("image_id", "key")
    hashes = job.lake.read(tables.SIGNALS).select("image_id", "embedding_hash")
    features = ensure_features(job, semantic_encoder(job), "bench")
    rows = features.join(hashes, "image_id").join(keys, "image_id")
    found = rows.toPandas().merge(truth, on="key", validate="one_to_one").sort_values("image_id")
    shown = np.array([len(names) > 0 for names in found["categories"]])
    return World(
        found["image_id"].to_numpy(str),
        np.stack(found["embedding"]).astype(np.float32),
        np.stack([np.frombuffer(bits, np.uint8) for bits in found["embedding_hash"]]),
        shown,
        np.where(shown, np.where(found["mode"] == "rocket", RARE, 0), -1),
    )


def curve(labeller: Labeller, seed: int) -> Iterator[Point]:
    """Yields the result of each round."""
    if labeller.category == "random":
        order = np.random.default_rng(seed + 1).permutation(PICTURES).tolist()
        for count in RANDOM:
            labeller.answer(order[len(labeller.asked) : count], "seed")
            yield labeller.trained()
        return
    for strategies in ROUNDS[labeller.category]:
        for strategy in strategies:
            try:
                labeller.pick(strategy, EACH // len(strategies))
            except WinnowError as nothing:
                print(f"- {labeller.category} stops at {len(labeller.asked):,} labels: {nothing}", flush=True)
                return
        yield labeller.trained()


def calibrated(labeller: Labeller) -> dict[str, str]:
    """Returns the bounds from `calibrate`, and the true values."""
    job, world = labeller.job, labeller.world
    score.run(job)
    said = calibrate.run(job)
    threshold = job.lake.read(tables.THRESHOLDS).collect()[0].threshold
    dropped = labeller.head().score(world.embeddings).astype(np.float64) >= threshold
    found = int((dropped & world.truth).sum())
    true = {
        "recall at least": f"{found / world.truth.sum():.4f}",
        "precision about": f"{found / dropped.sum():.3f}",
        "escapes at most": f"{(world.truth & ~dropped).mean():.3%}",
    }
    return {name: f"{said[f'{labeller.category}: {name}']}; in truth {value}" for name, value in true.items()}


def course(lake: Lake, name: str, world: World, seed: int, errors: float) -> Course:
    """Runs one strategy in one world."""
    overrides = [f'categories.{name}={{definition="simulated"}}', f"seed={seed}"]
    job = Job(lake, config.load(overrides=overrides), Progress())
    with tempfile.TemporaryDirectory() as scratch:
        fill(lake, world, Path(scratch))
    labeller = Labeller(job, world, name, SimulatedLabeller(errors, seed))
    if name == "loop":
        # First, so that it is a sample of all images.
        labeller.pick("random", CALIBRATION)
    points = tuple(curve(labeller, seed))
    told = [f"{point.labels}: {point.precision:.3f} {point.recall:.4f} {point.rare}" for point in points]
    job.progress.note(f"world {seed}, {name}: {'; '.join(told)}")
    return Course(points, calibrated(labeller) if name == "loop" else {})


def by_round(courses: Sequence[Course]) -> list[Point]:
    """Returns the medians over the worlds for each round that all of them reached."""
    rounds = zip(*(course.points for course in courses), strict=False)
    names = ("labels", "positives", "rare", "precision", "recall")
    return [Point(*(median(getattr(point, name) for point in points) for name in names)) for points in rounds]


def tell(courses: Mapping[str, list[Course]]) -> None:
    """Prints the tables of docs/benchmarks.md."""
    print("| strategy | labels | positives | of the rare mode | precision at 99 % recall | recall at 50 % precision |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, some in courses.items():
        for p in by_round(some):
            print(f"| {name} | {p.labels:,g} | {p.positives:g} | {p.rare:g} | {p.precision:.3f} | {p.recall:.4f} |")
    worlds = max(map(len, courses.values()))
    print(
        f"\n| strategy | labels for 99 % recall at 50 % precision, {worlds} worlds | median "
        f"| labels until {ENOUGH_OF_THE_RARE} of the rare mode are known | median |\n|---|---:|---:|---:|---:|"
    )
    for name, some in courses.items():
        good = [one.labels_until(lambda point: point.precision >= 0.5) for one in some]
        rare = [one.labels_until(lambda point: point.rare >= ENOUGH_OF_THE_RARE) for one in some]
        told = [" | ".join(["; ".join(map(_labels, spent)), _labels(median(spent))]) for spent in (good, rare)]
        print(f"| {name} | {told[0]} | {told[1]} |")
    for seed, one in enumerate(courses.get("loop", [])):
        print(f"\nWorld {seed + 1}, the loop's filter:")
        for what, value in one.closing.items():
            print(f"- {what} {value}")


def _labels(count: float) -> str:
    return "never" if math.isinf(count) else f"{count:,g}"


def plot(courses: Mapping[str, list[Course]], file: str) -> None:
    """Draws three panels by number of labels: each world as a thin line, the median as a thick line."""
    _, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name, some in courses.items():
        for points, style in [
            *((one.points, {"alpha": 0.3, "linewidth": 0.8}) for one in some),
            (by_round(some), {"label": name, "marker": "o", "markersize": 3}),
        ]:
            labels = [point.labels for point in points]
            for panel, value in zip(panels, ("recall", "precision", "rare"), strict=True):
                panel.plot(labels, [getattr(point, value) for point in points], color=COLOURS[name], **style)
    titles = ("recall at 50 % precision", "precision at 99 % recall", f"labelled of the rare mode's {MODES[RARE]}")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="labels spent on training", xscale="log")
        panel.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
        panel.minorticks_off()
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylim(0.8, 1.005)
    panels[1].axhline(0.5, color="black", linewidth=0.8, linestyle=":")
    panels[2].axhline(ENOUGH_OF_THE_RARE, color="black", linewidth=0.8, linestyle=":")
    panels[0].legend()
    plt.savefig(file, dpi=110)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def main() -> None:
    """Prints the tables of docs/benchmarks.md and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", default="docs/active_learning.png")
    parser.add_argument("--only", nargs="*", default=["random", *ROUNDS])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument(
        "--pictures", metavar="DIR", help="draw pictures in this folder and use them instead of embeddings"
    )
    parser.add_argument("--errors", type=float, default=0.0, help="fraction of labels to flip")
    options = parser.parse_args()
    started = time.monotonic()
    machine = ['spark.master="local[2]"', "spark.shuffle_partitions=2", "spark.driver_memory=2g"]
    settings = config.load(overrides=machine)
    spark = get_session(settings.spark)
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(AT_ONCE) as pool:
        if options.pictures:
            drawings = pictured(Job(Lake(spark, f"{scratch}/pictures"), settings, Progress()), options.pictures)
        worlds = {seed: drawings if options.pictures else drawn(seed) for seed in options.seeds}
        dims = next(iter(worlds.values())).embeddings.shape[1]
        encoder = SimpleNamespace(digest="bench", dims=dims, presumed_distance=54)
        for module in (label_next, score):
            module.current_encoder = lambda job: encoder
        for module in (label_next, train, score):
            module.semantic_encoder = lambda job: encoder
        running = {
            (name, seed): pool.submit(
                course, Lake(spark, f"{scratch}/{name}-{seed}"), name, world, seed, options.errors
            )
            for seed, world in worlds.items()
            for name in options.only
        }
        courses = {name: [running[name, seed].result() for seed in worlds] for name in options.only}
        spark.stop()
    tell(courses)
    print(f"\n{time.monotonic() - started:.0f} s")
    plot(courses, options.plot)


if __name__ == "__main__":
    main()
