"""Trains the encoder that ships with Winnow, on generated pictures only.

winnow generate DIR --count 20000 --seed 1000
python -m models.training.ship --pictures DIR --out models/encoder.onnx
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from models.images import decoding, resizing
from models.images.resizing import View
from models.training import noise
from models.training.encoder import SOURCE_SIDE, TrainingPlan, fit
from models.training.measure import Thumbs

_NOISE_SEED = 100


def drawings(folder: Path) -> Thumbs:
    """Returns the distinct drawings of a generated picture set.

    Args:
        folder: The folder that `winnow generate` wrote.

    Returns:
        uint8 of shape (n, 96, 96, 3), in the order of their names.
    """
    return np.stack([thumbnail(file.read_bytes()) for file in originals(folder)])


def originals(folder: Path) -> list[Path]:
    """Returns the files of a generated picture set, without planted copies and with one of each group of siblings.

    Siblings differ in one detail. Whether they count as the same image is a matter of taste, so the encoder does not
    train on them.

    Args:
        folder: The folder that `winnow generate` wrote.

    Returns:
        The files, in the order of their names.
    """
    truth = pq.read_table(folder / "truth.parquet", columns=["file_name", "original", "sibling_group"])
    drawn = truth.filter(pc.is_null(truth["original"])).sort_by("file_name").to_pylist()
    first: dict[str, str] = {}
    for row in drawn:
        first.setdefault(row["sibling_group"] or row["file_name"], row["file_name"])
    return [folder / name for name in sorted(first.values())]


def thumbnail(data: bytes) -> Thumbs:
    """Returns an image file as training reads it, uint8 of shape (96, 96, 3)."""
    return resizing.thumbnail(decoding.decode(data, SOURCE_SIDE), View((SOURCE_SIDE, SOURCE_SIDE)))


def main() -> None:
    """Reads the command line, trains and writes the model."""
    parser = argparse.ArgumentParser(description="Train the encoder that ships with Winnow.")
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by `winnow generate`")
    parser.add_argument(
        "--noise", type=int, default=20000, help="number of additional pictures of random shapes and textures"
    )
    parser.add_argument("--steps", type=int, default=3500, help="number of training batches")
    parser.add_argument("--batch", type=int, default=256, help="pictures in a batch")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    arguments = parser.parse_args()
    shapes = noise.pictures(_NOISE_SEED, arguments.noise, SOURCE_SIDE)
    thumbs = np.concatenate([shapes, drawings(arguments.pictures)])
    plan = TrainingPlan(minutes=0, batch=arguments.batch, seed=0, steps=arguments.steps)
    fitted = fit(thumbs, plan, lambda done, loss: print(f"{done:4.0%}  loss {loss:.3f}", flush=True))  # noqa: T201
    arguments.out.write_bytes(fitted.model)


if __name__ == "__main__":
    main()
