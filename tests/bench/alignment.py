"""Compares conditions that separate copies from similar images, for decision 0010. Needs no Spark.

python -m tests.bench.alignment --pictures DIR --others DIR... [--copies 1000] [--encoder FILE.onnx]

DIR are folders written by `winnow generate`. Copies are changed pictures of the first, as in tests.bench.regurgitation.
"""

import argparse
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from jobs.matching.rule import EMBEDDING_QUALITY
from models.images import decoding, resizing
from models.images.resizing import View
from models.inference import encoder
from models.inference.encoder import HASH_BITS, Encoder
from tests.bench.regurgitation import CHANGES, pictures
from udfs.hashes.hamming import distances, words
from udfs.hashes.pdq import PDQ_DISTANCE, PDQ_SIDE, pdq_of
from udfs.images.alignment import likeness, thumbnail

NEIGHBOURS = 5
LIKENESSES = (0.7, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True)
class Signals:
    """Hashes as uint64 of shape (n, 4), embeddings, PDQ hashes and qualities, and thumbnails to align."""

    hashes: NDArray[np.uint64]
    embeddings: NDArray[np.float32]
    pdq: NDArray[np.uint64]
    quality: NDArray[np.int64]
    thumbnails: NDArray[np.uint8]


@dataclass(frozen=True)
class Pairs:
    """The nearest image of the pool for each image: its number, both distances, cosine, likeness of candidates."""

    picture: NDArray[np.int64]
    distance: NDArray[np.int64]
    cosine: NDArray[np.float32]
    pdq: NDArray[np.int64]
    likeness: NDArray[np.float64]


def signals(files: list[bytes], own: Encoder) -> Signals:
    """Returns the signals that the scoring pass computes for image files."""
    seen, pdq = [], []
    for data in files:
        image = decoding.decode(data, PDQ_SIDE)
        seen.append(resizing.thumbnail(image, View(own.size)))
        pdq.append(pdq_of(image))
    embeddings, hashes = own.encode(np.stack(seen))
    bits = np.stack([np.frombuffer(one, np.uint8) for one, _ in pdq])
    laid = np.stack([thumbnail(data) for data in files])
    return Signals(words(hashes), embeddings, words(bits), np.array([quality for _, quality in pdq]), laid)


def planted(folder: Path, count: int, seed: int) -> list[bytes]:
    """Returns changed copies of random images of a folder, each change equally often."""
    files = pictures(folder)
    chosen = np.random.default_rng(seed).choice(len(files), count, replace=False)
    copies = []
    for number, place in enumerate(chosen):
        change, quality = list(CHANGES.values())[number % len(CHANGES)]
        buffer = io.BytesIO()
        change(Image.open(files[place]).convert("RGB")).save(buffer, "JPEG", quality=quality)
        copies.append(buffer.getvalue())
    return copies


def nearest(asked: Signals, pool: Signals, max_distance: int) -> Pairs:
    """Returns the pairs that `regurgitation` compares: the nearest by hash and by embedding, without plain images."""
    found: list[tuple[int, int, float, int, float]] = []
    for i in np.flatnonzero(asked.quality >= EMBEDDING_QUALITY):
        apart, cosine = distances(asked.hashes[i], pool.hashes), pool.embeddings @ asked.embeddings[i]
        near = {*np.argsort(apart, kind="stable")[:NEIGHBOURS], *np.argsort(-cosine)[:NEIGHBOURS]}
        for j in sorted(int(j) for j in near if pool.quality[j] >= EMBEDDING_QUALITY):
            close = apart[j] <= max_distance
            alike = likeness(pool.thumbnails[j], asked.thumbnails[i]) if close else math.nan
            found.append((int(i), int(apart[j]), float(cosine[j]), int(distances(asked.pdq[i], pool.pdq[j])), alike))
    columns = [np.array(column) for column in zip(*found, strict=True)]
    return Pairs(*columns)


def conditions(max_distance: int) -> dict[str, Callable[[Pairs], NDArray[np.bool_]]]:
    """Returns the conditions, by name."""
    cosine = math.cos(math.pi * max_distance / HASH_BITS)
    half = max_distance // 2
    found: dict[str, Callable[[Pairs], NDArray[np.bool_]]] = {
        f"within {max_distance} bits": lambda p: p.distance <= max_distance,
        f"within {half} bits": lambda p: p.distance <= half,
        f"within {max_distance} bits, cosine ≥ {cosine:.2f}": lambda p: (
            (p.distance <= max_distance) & (p.cosine >= cosine)
        ),
        f"PDQ within {PDQ_DISTANCE} bits": lambda p: p.pdq <= PDQ_DISTANCE,
    }
    for least in LIKENESSES:
        found[f"within {max_distance} bits, likeness ≥ {least}"] = lambda p, least=least: p.likeness >= least
    return found


def main() -> None:
    """Prints the table of decision 0010."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--others", type=Path, nargs="+", required=True)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--encoder", type=Path)
    options = parser.parse_args()
    own = Encoder.load(options.encoder.read_bytes() if options.encoder else encoder.shipped())
    pool = signals([file.read_bytes() for file in pictures(options.pictures)], own)
    copies = signals(planted(options.pictures, options.copies, seed=0), own)
    others = signals([file.read_bytes() for folder in options.others for file in pictures(folder)], own)
    sets = [(len(s.quality), nearest(s, pool, own.max_distance)) for s in (copies, others)]
    print(f"{len(pool.quality):,} pictures, encoder {own.digest}")
    print(f"| condition | of {sets[0][0]:,} copies | of {sets[1][0]:,} others |\n|---|---:|---:|")
    for name, passes in conditions(own.max_distance).items():
        print(f"| {name} |", " | ".join(f"{len(np.unique(p.picture[passes(p)])):,}" for _, p in sets), "|")
    print(
        "likeness of the others' candidates, highest:",
        np.round(np.sort(sets[1][1].likeness[~np.isnan(sets[1][1].likeness)])[::-1][:5], 3),
    )


if __name__ == "__main__":
    main()
