"""Measures the effect of near images in a batch on fitting: the same number of batches with and without them.

    python -m tests.bench.fitting --images FOLDER_OR_FILE... [--batches 80] [--rate 2e-3]

The shipped encoder is fitted further on nine tenths of the images. The table shows the share of copies of the others
that it finds, at the distance where one in a million pairs of different images collide.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.inference import encoder
from models.training.encoder import TrainingPlan, fit, measured
from models.training.measure import MeasuredEncoder, Thumbs
from models.training.ship import thumbnail
from tests.bench import copies


def load(places: list[Path]) -> Thumbs:
    """Returns thumbnails from folders, tar files and image files, uint8 of shape (n, 96, 96, 3)."""
    return np.stack([thumbnail(data) for place in places for data in _files(place)])


def _files(place: Path) -> Iterator[bytes]:
    if place.suffix == ".tar":
        yield from copies.files(place)
    found = [place] if place.is_file() else sorted(place.rglob("*"))
    yield from (file.read_bytes() for file in found if file.suffix.lower() in copies.ENDINGS)


def row_of(name: str, found: MeasuredEncoder) -> str:
    return f"| {name} | {found.free_distance} | {100 * found.recall:.1f} % | {found.max_distance} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit an encoder with and without near images in a batch.")
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="folders, tar files or image files")
    parser.add_argument("--batches", type=int, default=80, help="number of batches")
    parser.add_argument("--rate", type=float, default=TrainingPlan.rate, help="highest learning rate")
    arguments = parser.parse_args()
    thumbs, shipped = load(arguments.images), encoder.shipped()
    same = encoder.Encoder.load(shipped).presumed_distance
    print(f"{len(thumbs)} pictures, {arguments.batches} batches")
    print("| encoder | bits at one in a million | copies found | its own distance |\n|---|---:|---:|---:|")
    plan = TrainingPlan(minutes=0, batch=256, seed=0, steps=arguments.batches, rate=arguments.rate, same_within=same)
    print(row_of("shipped", measured(shipped, thumbs, plan)), flush=True)
    for name, near in (("fitted, by chance", 0.0), ("fitted, half near", plan.near)):
        print(
            row_of(name, fit(thumbs, replace(plan, near=near), lambda done, loss: None, shipped).measured), flush=True
        )


if __name__ == "__main__":
    main()
