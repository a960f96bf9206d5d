"""Simulates calibrations with known truth and counts how often the stated bounds hold.

python -m tests.bench.calibration [--runs 500]
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.stats import thresholds
from models.stats.thresholds import Target

LABELS = 4_000
CONFIDENCE = 0.95
HEADER = """\
| scores of positives | recall wanted | positives | calibrated | recall bound holds | escape bound holds | recall |
|---|---:|---:|---:|---:|---:|---:|"""


@dataclass(frozen=True)
class Truth:
    """The score distribution of positives: `draw` returns n scores, `below` the share below a threshold."""

    name: str
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]]
    below: Callable[[float], float]


def _with_a_blind_spot(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return np.where(rng.random(n) < 0.02, 0.1 * rng.random(n), 0.3 + 0.7 * rng.random(n))


def _twenty(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    return rng.integers(0, 20, n) / 20


TRUTHS = (
    Truth("uniform", lambda rng, n: rng.random(n), lambda t: min(t, 1.0)),
    Truth("twenty values", _twenty, lambda t: float(np.mean(np.arange(20) / 20 < t))),
    Truth(
        "2 % in a blind spot",
        _with_a_blind_spot,
        lambda t: 0.02 * min(t / 0.1, 1.0) + 0.98 * max(0.0, (t - 0.3) / 0.7),
    ),
)


def simulated(truth: Truth, recall: float, share: float, runs: int) -> str:
    """Returns one row of the table: random samples with a share of positives, each calibrated separately."""
    rng, held, escapes, recalls = np.random.default_rng(11), 0, 0, []
    target = Target(recall, CONFIDENCE, 0.002)
    for _ in range(runs):
        positives = int(rng.binomial(LABELS, share))
        found = thresholds.calibrate(truth.draw(rng, positives), rng.beta(1, 6, LABELS - positives), target)
        if found is None:
            continue
        missed = truth.below(found.threshold)
        recalls.append(1 - missed)
        held += 1 - missed >= found.recall_lower
        escapes += share * missed <= found.escaped_upper
    done = len(recalls)
    shares = f"{held / done:.1%} | {escapes / done:.1%} | {np.mean(recalls):.4f}" if done else "| |"
    return f"| {truth.name} | {recall} | {LABELS * share:.0f} | {done} of {runs} | {shares} |"


def main() -> None:
    """Prints the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    runs = parser.parse_args().runs
    print(HEADER)
    for truth in TRUTHS:
        for recall, share in ((0.95, 0.03), (0.9, 0.1), (0.99, 0.1)):
            print(simulated(truth, recall, share, runs), flush=True)


if __name__ == "__main__":
    main()
