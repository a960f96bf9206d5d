"""Measures the recall of the union of clusterings, for one clustering, two, …, and for more centroids in each.

python -m tests.bench.clusters --lake LAKE [--clusterings 5] [--sample 5000] [--set dedup.hash=pdq]

The lake must be scored. The benchmark runs `dedup` several times, and the lake keeps the result of the last run. Recall
is measured on the pairs of the sampled hashes with all others. A row shows the union of its clusterings.
"""

import argparse
from collections.abc import Sequence

from pyspark.sql import Row

from jobs.commands.dedup import command as dedup
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session

NEAREST = (2, 3, 5)
HEADER = """\
| method | clusterings | nearest centroids | clusters | recall | pairs compared |
|---|---:|---:|---:|---:|---:|"""


def searched(lake: Lake, overrides: Sequence[str]) -> list[Row]:
    """Runs a search and returns its rows of dedup_quality, the whole search last."""
    dedup.run(Job(lake, config.load(overrides=overrides), Progress()))
    return lake.read(tables.DEDUP_QUALITY).orderBy("whole", "clusterings").collect()


def line(row: Row, nearest: int | None) -> str:
    """Returns one row of the table."""
    found = f"{row.recall:.4f} [{row.recall_low:.4f}, {row.recall_high:.4f}] of {row.exhaustive_pairs:,}"
    cells = (row.method, row.clusterings or "–", nearest or "–", row.clusters or "–", found, f"{row.compared:,}")
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="a scored lake")
    parser.add_argument("--clusterings", type=int, default=5)
    parser.add_argument("--sample", type=int, default=5000)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    options = parser.parse_args()
    settings = [f"dedup.sample={options.sample}", *options.overrides]
    lake = Lake(get_session(config.load(overrides=options.overrides).spark), options.lake)
    several = ["dedup.method=clusters", f"dedup.clusterings={options.clusterings}", "dedup.nearest=1"]
    lines = [line(row, 1) for row in searched(lake, [*settings, *several])[:-1]]
    for nearest in NEAREST:
        one = ["dedup.method=clusters", "dedup.clusterings=1", f"dedup.nearest={nearest}"]
        lines.append(line(searched(lake, [*settings, *one])[-1], nearest))
    lines.append(line(searched(lake, [*settings, "dedup.method=lsh"])[-1], None))
    print(HEADER)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
