"""The labelling loop against random labelling, by a simulated labeller who is always right.

Embeddings of 64 dimensions stand for pictures: 20,000 of them, in 40 groups. A category at 3 % has four modes, each
beside one of the groups; one mode has 20 pictures (0.1 %) and is unlike the other three. `label next`, `train`, `score`
and `calibrate` are the commands themselves, over a lake.

python -m tests.bench.active_learning [--plot docs/active_learning.png]
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jobs import calibrate, config, label_next, score, tables, train
from jobs.job import Job
from jobs.label_next import Request
from jobs.lake import Lake, Recipe
from jobs.progress import Progress
from jobs.score import HEAD
from jobs.session import get_session
from models.encoder import projection
from models.head import Head

mpl.use("Agg")
from matplotlib import pyplot as plt

PICTURES, DIMS, GROUPS = 20_000, 64, 40
MODES, RARE = (194, 193, 193, 20), 3
NOISE, ALIKE = 0.8, 0.6
CALIBRATION = 2_500
RANDOM = (250, 500, 1000, 2000, 3000, 4000, 5000, 6000)
ROUNDS = {
    "seed": [("seed",)] * 7,
    "precision": [("seed",), *[("precision",)] * 6],
    "recall": [("seed",), *[("recall",)] * 6],
    "loop": [("seed",), *[("recall", "precision")] * 6],
}
EACH = 200
COLOURS = {"random": "#888888", "seed": "#e69f00", "precision": "#56b4e9", "recall": "#d55e00", "loop": "#009e73"}
TICKS = (200, 500, 1000, 2000, 5000)
HEADER = """\
| strategy | labels | positives | of the rare mode | precision at 99 % recall | recall at 50 % precision |
|---|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class World:
    """Pictures and their truth: embeddings of shape (n, 64), whether of the category, and of which mode (or -1)."""

    ids: NDArray[np.str_]
    embeddings: NDArray[np.float32]
    truth: NDArray[np.bool_]
    mode: NDArray[np.int64]


@dataclass(frozen=True)
class Point:
    """What a number of labels came to."""

    labels: int
    positives: int
    rare: int
    precision: float
    recall: float


@dataclass
class Labeller:
    """Answers for one category, and remembers what was asked."""

    job: Job
    world: World
    category: str
    asked: list[int] = field(default_factory=list)

    def answer(self, rows: Sequence[int], origin: str) -> None:
        now = datetime.now(UTC)
        truth = self.world.truth[list(rows)].tolist()
        given = [
            (f"{row:08d}", self.category, value, origin, "truth", now) for row, value in zip(rows, truth, strict=True)
        ]
        made = self.job.lake.spark.createDataFrame(given, tables.LABELS.schema)
        self.job.lake.append(tables.LABELS, made, Recipe("bench"))
        if origin != "random":
            self.asked.extend(rows)

    def pick(self, strategy: str, count: int) -> None:
        picked = label_next.run(self.job, Request(self.category, strategy, count))
        self.answer([int(pick.image_id) for pick in picked.picks], strategy)

    def trained(self) -> Point:
        train.run(self.job, self.category)
        head = Head.load(self.job.lake.read_file(HEAD.format(self.category)), "bench", DIMS)
        precision, recall = quality(head.score(self.world.embeddings), self.world.truth)
        seen = np.array(self.asked)
        rare = int((self.world.mode[seen] == RARE).sum())
        return Point(len(seen), int(self.world.truth[seen].sum()), rare, precision, recall)


def drawn(seed: int = 0) -> World:
    """Groups and modes around random directions, in random order."""
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
    return World(ids, rows[order].astype(np.float32), truth, np.where(truth, which, -1))


def quality(scores: NDArray[np.float32], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """Precision where recall is 99 %, and recall where precision is 50 %, over all pictures."""
    found = np.cumsum(truth[np.argsort(-scores, kind="stable")])
    recall, precision = found / truth.sum(), found / np.arange(1, len(truth) + 1)
    half = np.flatnonzero(precision >= 0.5)
    return float(precision[np.searchsorted(recall, 0.99)]), float(recall[half[-1]]) if len(half) else 0.0


def fill(lake: Lake, world: World, folder: Path) -> None:
    """Writes signals and images."""
    bits = np.packbits(world.embeddings @ projection(DIMS) > 0, axis=1)
    table = {
        "image_id": world.ids,
        "embedding": pa.FixedSizeListArray.from_arrays(world.embeddings.ravel(), DIMS).cast(pa.list_(pa.float32())),
        "embedding_hash": pa.array([row.tobytes() for row in bits], pa.binary()),
    }
    pq.write_table(pa.table(table), folder / "signals.parquet")
    rows = lake.spark.read.parquet(str(folder / "signals.parquet"))
    for made, known in ((tables.SIGNALS, {"encoder": "'bench'"}), (tables.IMAGES, {"key": "image_id", "part": "0"})):
        names = [name for name in made.schema.names if name not in (*rows.columns, *known)]
        blank = [f"{known[name]} as {name}" for name in known] + [f"null as {name}" for name in names]
        lake.append(made, rows.selectExpr("*", *blank), Recipe("bench"))


def curve(labeller: Labeller) -> Iterator[Point]:
    """What each round comes to."""
    if labeller.category == "random":
        order = np.random.default_rng(1).permutation(PICTURES).tolist()
        for count in RANDOM:
            labeller.answer(order[len(labeller.asked) : count], "seed")
            yield labeller.trained()
        return
    for strategies in ROUNDS[labeller.category]:
        for strategy in strategies:
            labeller.pick(strategy, EACH // len(strategies))
        yield labeller.trained()


def calibrated(job: Job, world: World) -> None:
    """Prints what `calibrate` says of the loop's filter, and what is true."""
    score.run(job)
    for name, value in calibrate.run(job).items():
        print(f"- {name}: {value}")
    threshold = job.lake.read(tables.THRESHOLDS).collect()[0].threshold
    head = Head.load(job.lake.read_file(HEAD.format("loop")), "bench", DIMS)
    dropped = head.score(world.embeddings).astype(np.float64) >= threshold
    found = int((dropped & world.truth).sum())
    print(f"- in truth: recall {found / world.truth.sum():.4f}, precision {found / dropped.sum():.3f}")
    print(f"- in truth: {(world.truth & ~dropped).mean():.3%} of all images escape")


def plot(curves: dict[str, list[Point]], file: str) -> None:
    """Three panels by labels spent."""
    _, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for name, points in curves.items():
        labels = [point.labels for point in points]
        style = {"color": COLOURS[name], "label": name, "marker": "o", "markersize": 3}
        panels[0].plot(labels, [point.recall for point in points], **style)
        panels[1].plot(labels, [point.precision for point in points], **style)
        panels[2].plot(labels, [point.rare for point in points], **style)
    titles = ("recall at 50 % precision", "precision at 99 % recall", f"labelled of the rare mode's {MODES[RARE]}")
    for panel, title in zip(panels, titles, strict=True):
        panel.set(title=title, xlabel="labels spent on training", xscale="log")
        panel.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
        panel.minorticks_off()
        panel.grid(alpha=0.3, which="both")
    panels[0].set_ylim(0.8, 1.005)
    panels[0].legend()
    plt.savefig(file, dpi=110)


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True))


def _settings(categories: Sequence[str]) -> config.Settings:
    overrides = ['spark.master="local[2]"', "spark.shuffle_partitions=2", "spark.driver_memory=2g"]
    return config.load(
        overrides=[*overrides, *[f'categories.{name}={{definition="simulated"}}' for name in categories]]
    )


def main() -> None:
    """Prints the table of docs/benchmarks.md and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", default="docs/active_learning.png")
    parser.add_argument("--only", nargs="*", default=["random", *ROUNDS])
    options = parser.parse_args()
    encoder = SimpleNamespace(digest="bench", dims=DIMS, max_distance=54)
    for module in (label_next, train, score):
        module.current_encoder = lambda job: encoder
    world, settings = drawn(), _settings(options.only)
    curves: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress())
        fill(job.lake, world, Path(scratch))
        print(HEADER)
        for name in options.only:
            labeller = Labeller(job, world, name)
            if name == "loop":
                # First, so that it is a sample of all pictures.
                labeller.pick("random", CALIBRATION)
            curves[name] = []
            for point in curve(labeller):
                curves[name].append(point)
                told = (
                    f"{point.labels:,} | {point.positives} | {point.rare} | {point.precision:.3f} | {point.recall:.4f}"
                )
                print(f"| {name} | {told} |", flush=True)
        plot(curves, options.plot)
        if "loop" in options.only:
            calibrated(Job(job.lake, _settings(["loop"]), job.progress), world)
        job.lake.spark.stop()


if __name__ == "__main__":
    main()
