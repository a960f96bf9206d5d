"""Measures which sibling pairs `dedup.strict` separates, and which copies it misses, on synthetic images.

python -m jobs generate DIR --count 10000 --seed 6 && python -m tests.bench.strict --pictures DIR [--limit 300]

Siblings are drawings that differ in one detail: clocks at another time, signs with another number. A copy is found if
its hash is within the encoder's distance of its original's and, in strict mode, if their thumbnails match.
"""

import argparse
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder
from models.inference.encoder import Encoder
from udfs.hashes.hamming import distances, words
from udfs.images.registration import ALIKE, largest_difference

BATCH = 64


@dataclass(frozen=True)
class Pair:
    """Two pictures, by key, and their kind of pair."""

    a: str
    b: str
    kind: str


@dataclass(frozen=True)
class Seen:
    """The signals of a picture for the comparison."""

    hash: NDArray[np.uint8]
    thumbnail: NDArray[np.uint8]


def siblings(truth: Sequence[Mapping[str, Any]]) -> Iterator[Pair]:
    """Returns all pairs of drawings within a group of siblings."""
    sets = defaultdict(list)
    for row in truth:
        if row["sibling_group"] and not row["original"]:
            sets[row["sibling_group"]].append(row)
    for members in sets.values():
        for a, b in itertools.combinations(members, 2):
            yield Pair(a["key"], b["key"], f"siblings: {a['kind']}s")


def copies(truth: Sequence[Mapping[str, Any]], limit: int) -> Iterator[Pair]:
    """Returns copies with their originals, at most `limit` for each change; copies with two changes are one kind."""
    seen: dict[str, int] = defaultdict(int)
    for row in truth:
        if row["original"]:
            kind = "two changes" if "+" in row["transform"] else row["transform"]
            seen[kind] += 1
            if seen[kind] <= limit:
                yield Pair(row["original"], row["key"], kind)


def look(model: Encoder, files: Mapping[str, Path], keys: Sequence[str]) -> dict[str, Seen]:
    """Returns the signals that the scoring pass stores for pictures."""
    made = {}
    for begin in range(0, len(keys), BATCH):
        some = keys[begin : begin + BATCH]
        pictures = [decoding.decode(files[key].read_bytes(), 256) for key in some]
        small = np.stack([thumbnail(picture, View((decoding.GREY_SIDE, decoding.GREY_SIDE))) for picture in pictures])
        sized = np.stack([thumbnail(picture, model.input.view) for picture in pictures])
        hashes = model.encode(sized)[1]
        made.update({key: Seen(*both) for key, *both in zip(some, hashes, decoding.grey(small), strict=True)})
    return made


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=Path, required=True, help="folder written by `winnow generate`")
    parser.add_argument("--limit", type=int, default=300, help="copies of each change")
    options = parser.parse_args()
    truth = pq.read_table(options.pictures / "truth.parquet").to_pylist()
    files = {row["key"]: options.pictures / row["file_name"] for row in truth}
    pairs = [*siblings(truth), *copies(truth, options.limit)]
    model = Encoder.load(encoder.shipped())
    seen = look(model, files, sorted({key for pair in pairs for key in (pair.a, pair.b)}))
    left, right = ([seen[key] for key in keys] for keys in ([p.a for p in pairs], [p.b for p in pairs]))
    apart = distances(*(words(np.stack([one.hash for one in side])) for side in (left, right)))
    started = time.process_time()
    thumbnails = [np.stack([one.thumbnail for one in side]) for side in (left, right)]
    blocks = [[side[i : i + BATCH] for side in thumbnails] for i in range(0, len(pairs), BATCH)]
    difference = np.concatenate([largest_difference(*block) for block in blocks])
    milliseconds = 1000 * (time.process_time() - started) / len(pairs)
    assert model.max_distance is not None
    near = apart <= model.max_distance
    report([pair.kind for pair in pairs], near, difference)
    is_sibling = np.array([pair.kind.startswith("siblings") for pair in pairs]) & near
    print(f"\nsibling pairs within {model.max_distance} bits separated: {(difference[is_sibling] > ALIKE).mean():.4f}")
    print(f"the limit that separates 95 %: {np.quantile(difference[is_sibling], 0.05):.3f} (current: {ALIKE})")
    print(f"{milliseconds:.1f} ms of one core for each pair, with a registration for all of them")


def report(kinds: Sequence[str], near: NDArray[np.bool_], difference: NDArray[np.float32]) -> None:
    """Prints the share of pairs that count as the same image, by kind, siblings first."""
    print("| pairs | number | strict off | strict on |\n|---|---:|---:|---:|")
    for kind in sorted(set(kinds), key=lambda name: (not name.startswith("siblings"), name)):
        own = np.array([name == kind for name in kinds])
        off, on = near[own].mean(), (near & (difference <= ALIKE))[own].mean()
        print(f"| {kind} | {own.sum():,} | {100 * off:.1f} % | {100 * on:.1f} % |")


if __name__ == "__main__":
    main()
