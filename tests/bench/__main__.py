"""`make bench`: runs the benchmarks that need no user data; each prints a table for docs/benchmarks.md.

`tests.bench.score`, `.copies`, `.fitting` and `.pdq` need images: run them with `--images FOLDER_OR_TAR...`.
"""

import subprocess
import sys

RUNS = (
    ["tests.bench.dedup", "--rows", "100000", "--distance", "31"],
    ["tests.bench.dedup", "--rows", "100000", "--distance", "54"],
    ["tests.bench.dedup", "--rows", "1000000", "--distance", "31", "--queries", "50000"],
    ["tests.bench.dedup", "--rows", "1000000", "--distance", "31", "--skew", "--no-faiss"],
    ["tests.bench.dedup_peers"],
    ["tests.bench.calibration"],
    ["tests.bench.weigh"],
    ["tests.bench.recall_round"],
    ["tests.bench.active_learning"],
    ["tests.bench.label_page"],
    ["tests.bench.mutations"],
)


def main() -> None:
    """Runs each benchmark in its own process, so that they share no memory or session."""
    for run in RUNS:
        print(f"\n$ python -m {' '.join(run)}", flush=True)
        subprocess.run([sys.executable, "-m", *run], check=True)


if __name__ == "__main__":
    main()
