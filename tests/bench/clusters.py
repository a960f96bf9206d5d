"""Recall of the clusters' union against an exhaustive search, for one clustering, two, … and for more centroids each.

python -m tests.bench.clusters --lake LAKE [--sample 5000]

The lake is one that has been scored; its tables of duplicates are made anew in a copy of the settings' runs.
"""

import argparse

from jobs import config, dedup, tables
from jobs.job import Job
from jobs.lake import Lake
from jobs.progress import Progress
from jobs.session import get_session

RUNS = [("clusters", n, 1) for n in (1, 2, 3, 5)] + [("clusters", 1, n) for n in (2, 3, 5)] + [("lsh", 1, 1)]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", required=True, help="a scored lake; its duplicates are found anew, again and again")
    parser.add_argument("--sample", type=int, default=5000)
    options = parser.parse_args()
    spark = get_session(config.load().spark)
    lines = []
    for method, clusterings, nearest in RUNS:
        choices = {"method": method, "clusterings": clusterings, "nearest": nearest, "sample": options.sample}
        settings = config.load(overrides=[f"dedup.{key}={value}" for key, value in choices.items()])
        lake = Lake(spark, options.lake)
        dedup.run(Job(lake, settings, Progress()))
        row = lake.read(tables.DEDUP_QUALITY).collect()[0]
        found = f"{row.recall:.4f} [{row.recall_low:.4f}, {row.recall_high:.4f}] of {row.exhaustive_pairs:,}"
        lines.append(f"| {method} | {clusterings} | {nearest} | {row.clusters or '–'} | {found} | {row.compared:,} |")
    print("| method | clusterings | nearest centroids | clusters | recall | pairs compared |")
    print("|---|---:|---:|---:|---:|---:|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
