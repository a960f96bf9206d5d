"""Trains the encoder that ships with Winnow, on synthetic images and on photographs.

winnow generate DIR --count 20000 --seed 1000
python -m models.training.ship --pictures DIR --photographs TAR --start models/encoder.onnx --out NEW.onnx
"""

import argparse
import hashlib
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from models.images import decoding, resizing
from models.images.resizing import View
from models.training import noise
from models.training.encoder import SOURCE_SIDE, TrainingPlan, fit
from models.training.measure import Thumbs

HELD_OUT = 1500
"""Photographs that are only measured on."""

_NOISE_SEED = 100
_SAME_WITHIN = 24  # bits; photographs of one thing in a series count as the same image


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


def photographs(archive: Path) -> tuple[list[bytes], list[bytes]]:
    """Returns the JPEG files of a tar file: those to train on, and those held out for measurements.

    The `HELD_OUT` photographs whose names have the smallest SHA-256 digests are held out, whatever their order.

    Args:
        archive: The tar file.

    Returns:
        The files of the two parts, each in the order of the digests of their names.
    """
    with tarfile.open(archive) as tar:
        named = [(member.name, tar.extractfile(member)) for member in tar if member.name.endswith(".jpg")]
        ordered = sorted((hashlib.sha256(name.encode()).digest(), file.read()) for name, file in named if file)
    data = [content for _, content in ordered]
    return data[HELD_OUT:], data[:HELD_OUT]


def with_quarters(files: Sequence[bytes]) -> Thumbs:
    """Returns photographs and their four quarters. A quarter shows other things than the whole, so it is no copy.

    Args:
        files: JPEG files.

    Returns:
        uint8 of shape (5 n, 96, 96, 3).
    """
    return np.stack([view for data in files for view in _whole_and_quarters(decoding.decode(data, 4 * SOURCE_SIDE))])


def _whole_and_quarters(image: Image.Image) -> list[Thumbs]:
    half_width, half_height = image.width // 2, image.height // 2
    corners = [(x, y) for x in (0, image.width - half_width) for y in (0, image.height - half_height)]
    parts = [image.crop((x, y, x + half_width, y + half_height)) for x, y in corners]
    return [resizing.thumbnail(part, View((SOURCE_SIDE, SOURCE_SIDE))) for part in (image, *parts)]


def main() -> None:
    """Reads the command line, trains and writes the model."""
    parser = argparse.ArgumentParser(description="Train the encoder that ships with Winnow.")
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by `winnow generate`")
    parser.add_argument(
        "--noise", type=int, default=20000, help="number of additional pictures of random shapes and textures"
    )
    parser.add_argument("--photographs", type=Path, help="tar file of JPEG photographs; 1,500 of them are held out")
    parser.add_argument("--start", type=Path, help="encoder that gives the initial weights and finds similar images")
    parser.add_argument("--steps", type=int, default=3500, help="number of training batches")
    parser.add_argument("--batch", type=int, default=256, help="pictures in a batch")
    parser.add_argument("--out", type=Path, required=True, help="ONNX file to write")
    arguments = parser.parse_args()
    parts = [noise.pictures(_NOISE_SEED, arguments.noise, SOURCE_SIDE), drawings(arguments.pictures)]
    if arguments.photographs:
        parts.append(with_quarters(photographs(arguments.photographs)[0]))
    start = arguments.start.read_bytes() if arguments.start else None
    plan = TrainingPlan(0, arguments.batch, seed=0, steps=arguments.steps, same_within=_SAME_WITHIN)
    fitted = fit(
        np.concatenate(parts),
        plan,
        lambda done, loss: print(f"{done:4.0%}  loss {loss:.3f}", flush=True),  # noqa: T201
        start,
    )
    arguments.out.write_bytes(fitted.model)


if __name__ == "__main__":
    main()
