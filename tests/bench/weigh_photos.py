"""Weighs photos after a filter for roses, by caption words, by the semantic embedding and by both.

    python -m tests.bench.weigh_photos PHOTOS.tar LABELS.csv [--category roses] [--random 1200]

The filter is made as in `tests.bench.photo_loop`. The table has the shift of each frequent caption word other than the
category, after the filter and after weighing, with 95 % intervals.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobs.commands import ingest, score
from jobs.commands.audit import command as audit
from jobs.commands.calibrate import command as calibrate
from jobs.commands.dedup import command as dedup
from jobs.commands.filter import command as filter_
from jobs.commands.weigh import command as weigh
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.bench.photo_loop import MACHINE, RECALL, ROUND, ROUNDS, Labeller, prepared

WORDS = ("tulips", "daisy", "dandelion", "sunflowers", "dress", "shoes", "hat", "pants", "shirt", "longsleeve")
VARIANTS = (
    ["weigh.features=['caption']"],
    ["weigh.features=['caption']", "weigh.min_support=0.5"],
    ["weigh.features=['embedding']"],
    ["weigh.features=['caption', 'embedding']"],
)


def shifts(job: Job, overrides: list[str]) -> Iterator[list[str]]:
    """Yields a row for each variant of `weigh`: effective sample size, and the weighted shift of each word."""
    for variant in VARIANTS:
        settings = config.load(overrides=[*overrides, *variant])
        here = Job(job.lake, settings, job.progress)
        summary = weigh.run(here)
        audit.run(here)
        rows = {row.keyword: row for row in job.lake.read(tables.KEYWORD_SHIFT).collect()}
        if variant == VARIANTS[0]:
            filtered = (_cell(rows[word], "shift", "shift_low", "shift_high") for word in WORDS)
            yield ["filtered, not weighed", "–", "–", *filtered]
        quality = job.lake.read(tables.WEIGHT_QUALITY).collect()[0]
        weighted = [_cell(rows[word], "weighted_shift", "weighted_low", "weighted_high") for word in WORDS]
        yield [", ".join(variant), str(summary["effective sample size"]), f"{quality.probe_auc:.3f}", *weighted]


def _cell(row: object, value: str, low: str, high: str) -> str:
    found, *ends = (100 * float(getattr(row, name)) for name in (value, low, high))
    return f"{found:+.1f} [{ends[0]:+.1f}, {ends[1]:+.1f}]"


def main() -> None:
    """Prints one row for the filter alone and one for each variant of `weigh`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos")
    parser.add_argument("labels")
    parser.add_argument("--category", default="roses")
    parser.add_argument("--random", type=int, default=1200)
    options = parser.parse_args()
    words = ", ".join(f'"{word}"' for word in WORDS)
    own = [f'categories.{options.category}={{definition="d", recall={RECALL}}}', f"audit.keywords=[{words}]"]
    settings = config.load(overrides=[*MACHINE, *own])
    with tempfile.TemporaryDirectory() as scratch:
        photos = prepared(options.photos, options.labels, Path(scratch))
        job = Job(Lake(get_session(settings.spark), f"{scratch}/lake"), settings, Progress.silent())
        ingest.run(job, [str(photos.source)])
        score.run(job)
        labeller = Labeller(job, options.category, photos.truth, 0)
        labeller.label("random", options.random)
        for strategy in ("seed", *ROUNDS):
            labeller.label(strategy, ROUND)
            labeller.learn()
        for command in (calibrate, filter_, dedup):
            print(command.run(job), flush=True)
        heads = ["features", "effective sample size", "AUC of the probe", *(f"{word}, %" for word in WORDS)]
        print(f"| {' | '.join(heads)} |\n|---|{'---:|' * (len(heads) - 1)}")
        for cells in shifts(job, [*MACHINE, *own]):
            print(f"| {' | '.join(cells)} |", flush=True)
        job.lake.spark.stop()


if __name__ == "__main__":
    main()
