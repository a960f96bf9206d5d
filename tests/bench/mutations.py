"""Reads tens of thousands of mutated files of each kind, and reports crashes, hangs, lost rows, memory and time.

python -m tests.bench.mutations [--kinds image tar parquet metadata settings] [--count 10000] [--seed 0]

Each kind runs in a process of its own. A trial that takes over `--seconds` counts as a hang.
"""

import argparse
import multiprocessing
import resource
import signal
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType

from tests.builders.mutations import TRIALS

COUNTS = {"image": 10_000, "tar": 500, "parquet": 300, "metadata": 500, "settings": 500}
_SHOWN = 5


class Hang(BaseException):
    """A trial took too long."""


def _stop(_number: int, _frame: FrameType | None) -> None:
    raise Hang


def measure(kind: str, seeds: range, seconds: int) -> None:
    """Runs the trials of one kind and prints what came out.

    Args:
        kind: One of `TRIALS`.
        seeds: The seeds of the trials.
        seconds: The longest time of a trial.
    """
    fates: Counter[str] = Counter()
    failed: list[str] = []
    slowest, began = (0.0, -1), time.perf_counter()
    signal.signal(signal.SIGALRM, _stop)
    with tempfile.TemporaryDirectory() as folder:
        TRIALS[kind](seeds.start, Path(folder))
        before = _memory()
        for seed in seeds:
            signal.alarm(seconds)
            started = time.perf_counter()
            try:
                fates[TRIALS[kind](seed, Path(folder))] += 1
            except Hang:
                failed.append(f"seed {seed}: no end after {seconds} s")
            except Exception as error:  # the search for such exceptions is what this is for
                where = traceback.extract_tb(error.__traceback__)[-1]
                failed.append(f"seed {seed}: {type(error).__name__}: {error} ({where.filename}:{where.lineno})"[:400])
            finally:
                signal.alarm(0)
            slowest = max(slowest, (time.perf_counter() - started, seed))
    took = time.perf_counter() - began
    print(
        f"{kind}: {len(seeds):,} mutated, {len(failed)} failed; {took:.0f} s, the slowest {slowest[0]:.2f} s (seed "
        f"{slowest[1]}); memory {before:,} MB after the first, {_memory():,} MB at most"
    )
    print("  " + ", ".join(f"{name} {count:,}" for name, count in fates.most_common()))
    for line in failed[:_SHOWN]:
        print(f"  {line}")


def _memory() -> int:
    """Returns the most memory that this process had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10


def main() -> None:
    """Runs the trials of each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--count", type=int, help="Trials of each kind.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    for kind in args.kinds:
        seeds = range(args.seed, args.seed + (args.count or COUNTS[kind]))
        process = multiprocessing.get_context("spawn").Process(target=measure, args=(kind, seeds, args.seconds))
        process.start()
        process.join()
        if process.exitcode:
            print(f"{kind}: the process ended with {process.exitcode}")


if __name__ == "__main__":
    main()
