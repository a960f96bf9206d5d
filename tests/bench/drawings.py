"""Measures an encoder's distances of copies, siblings and different drawings in a generated picture set.

python -m tests.bench.drawings --pictures DIR [--encoder FILE.onnx]
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.images import decoding, resizing
from models.images.resizing import View
from models.inference import encoder
from models.inference.encoder import HASH_BITS, Encoder
from udfs.hashes.hamming import distances, words
from udfs.hashes.pdq import PDQ_SIDE

DISTANCES = (31, 48, 54, 60, 61, 70)
_CHUNK = 500


@dataclass(frozen=True)
class Histograms:
    """Numbers of pairs by distance, 0 to 256 bits; `copies` are pairs of a copy and its original."""

    copies: NDArray[np.int64]
    groups: NDArray[np.int64]
    siblings: NDArray[np.int64]
    different: NDArray[np.int64]


def thumbnail(path: Path, size: int) -> NDArray[np.uint8]:
    """Returns the encoder's input from the scoring pass."""
    return resizing.thumbnail(decoding.decode(path.read_bytes(), PDQ_SIDE), View((size, size)))


def hashes(files: list[Path], own: Encoder) -> NDArray[np.uint64]:
    """Returns hashes as uint64 of shape (n, 4)."""
    with ProcessPoolExecutor() as pool:
        thumbs = np.stack(list(pool.map(thumbnail, files, [own.size[0]] * len(files), chunksize=64)))
    return words(own.encode(thumbs)[1])


def measured(bits: NDArray[np.uint64], truth: pd.DataFrame) -> Histograms:
    """Compares every picture with all others.

    Args:
        bits: Hashes, in the truth's order.
        truth: key, group, original and sibling_group of each picture.
    """
    count = {name: np.zeros(HASH_BITS + 1, np.int64) for name in ("groups", "siblings", "different")}
    group, sibling = truth["group"].to_numpy(), pd.factorize(truth["sibling_group"])[0]
    # A copy belongs to the siblings of its original.
    by_key = dict(zip(truth["key"], sibling, strict=True))
    sibling = np.array([by_key[g] for g in group])
    for begin in range(0, len(bits), _CHUNK):
        rows = slice(begin, begin + _CHUNK)
        apart = distances(bits[rows, None], bits[None])
        later = np.arange(len(bits))[None] > np.arange(len(bits))[rows, None]
        same = group[rows, None] == group[None]
        alike = (sibling[rows, None] == sibling[None]) & (sibling[rows, None] >= 0)
        for name, chosen in (("groups", same), ("siblings", alike & ~same), ("different", ~same & ~alike)):
            count[name] += np.bincount(apart[chosen & later], minlength=HASH_BITS + 1)
    place = {key: number for number, key in enumerate(truth["key"])}
    copies = truth[truth["original"].notna()]
    pairs = distances(bits[copies.index], bits[[place[key] for key in copies["original"]]])
    return Histograms(np.bincount(pairs, minlength=HASH_BITS + 1), **count)


def main() -> None:
    """Prints the table of the model card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by `winnow generate`")
    parser.add_argument("--encoder", type=Path)
    options = parser.parse_args()
    own = Encoder.load(options.encoder.read_bytes() if options.encoder else encoder.shipped())
    truth = pd.read_parquet(options.pictures / "truth.parquet")
    found = measured(hashes([options.pictures / name for name in truth["file_name"]], own), truth)
    print("| within | copies near their original | pairs within groups | pairs of different drawings |")
    print("|---:|---:|---:|---:|")
    for limit in DISTANCES:
        near, inside = (100 * h[: limit + 1].sum() / h.sum() for h in (found.copies, found.groups))
        wrong = found.different[: limit + 1].sum()
        rate = 1e6 * wrong / found.different.sum()
        print(f"| {limit} | {near:.1f} % | {inside:.2f} % | {wrong} ({rate:.2f} in a million) |")
    cumulative = found.siblings.cumsum() / max(found.siblings.sum(), 1)
    middle, most = (int(np.searchsorted(cumulative, share)) for share in (0.5, 0.9))
    print(f"copies {found.copies.sum()}, pairs in groups {found.groups.sum()}, different {found.different.sum()}")
    print(f"siblings: {found.siblings.sum()} pairs, median {middle} bits, 90 % within {most}")


if __name__ == "__main__":
    main()
