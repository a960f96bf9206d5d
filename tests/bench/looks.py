"""Measures which copies `dedup` finds at the distances that follow for lakes of several sizes, by change.

    python -m tests.bench.looks --images FOLDER_OR_TAR... [--strangers FOLDER_OR_TAR...] [--encoder FILE] [--limit N]

The distances follow from the pairs of all images of `--strangers` (without it, of `--images`), as in `dedup`. A copy
counts as found *unseen* if its hash is within the safe distance of its original's, and as found *with looks* if it is
within the outer distance and, beyond the safe one, its thumbnail agrees. The second table shows how many of the nearest
pairs of different images a look takes for copies: nobody marked the true copies among them, so look at them yourself
with `--sheet FILE.png`.
"""

import argparse
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder
from models.inference.encoder import Encoder
from models.stats.strangers import FARTHEST, Limits, SampledPairs, limits, upper_shares
from tests.bench.copies import CHANGES, _twice, load
from udfs.hashes.minhash import affordable_distance
from udfs.images.agreement import AGREE, FALSE_ACCEPTS, agreement

SIZES = (10_000, 1_000_000, 1_000_000_000)
_ROWS = 256
_LOOKS = 400  # pairs at each distance
_NEAREST = 12_000
_SHOWN = 100


@dataclass(frozen=True)
class Seen:
    """The signals of n images: hashes as −1 and 1, float32 (n, 256), and thumbnails, uint8 (n, 64, 64)."""

    signs: NDArray[np.float32]
    thumbnails: NDArray[np.uint8]

    @classmethod
    def of(cls, model: Encoder, pictures: list[Image.Image]) -> "Seen":
        """Returns the signals that `score` stores."""
        side = (decoding.GREY_SIDE, decoding.GREY_SIDE)
        signs, thumbnails = [], []
        for begin in range(0, len(pictures), _ROWS):
            some = pictures[begin : begin + _ROWS]
            hashes = model.encode(np.stack([thumbnail(one, View(model.size)) for one in some]))[1]
            signs.append(np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1)
            thumbnails.append(decoding.grey(np.stack([thumbnail(one, View(side)) for one in some])))
        return cls(np.concatenate(signs), np.concatenate(thumbnails))


def near_pairs(seen: Seen) -> NDArray[np.int64]:
    """Returns the pairs within `FARTHEST` bits, both ways, nearest first: int64 of shape (3, n): a, b, distance."""
    found = []
    for begin in range(0, len(seen.signs), _ROWS):
        apart = ((256 - seen.signs[begin : begin + _ROWS] @ seen.signs.T) / 2).astype(np.int64)
        own, other = np.nonzero(apart <= FARTHEST)
        found.append(np.stack([own + begin, other, apart[own, other]])[:, own + begin != other])
    pairs = np.concatenate(found, axis=1)
    return pairs[:, np.argsort(pairs[2], kind="stable")]


def curve(seen: Seen, pairs: NDArray[np.int64], seed: int = 0) -> NDArray[np.float64]:
    """Returns the share of the pairs of different images within each distance, upper ends of intervals."""
    count = len(seen.signs)
    near = np.zeros((count, FARTHEST + 1), np.int64)
    np.add.at(near, (pairs[0], pairs[2]), 1)
    mixed = pairs[:, np.random.default_rng(seed).permutation(pairs.shape[1])]
    places = [np.flatnonzero(mixed[2] == distance)[:_LOOKS] for distance in range(FARTHEST + 1)]
    a, b, distance = mixed[:, np.concatenate(places)]
    different = agreement(seen.thumbnails[a], seen.thumbnails[b]) < AGREE
    upper = upper_shares(SampledPairs(near, count - 1, a, distance, different), seed, 0.95)
    if upper is None:
        raise SystemExit("too few near pairs: give more images")
    return upper


def at_sizes(share: NDArray[np.float64], recall: float = 0.99) -> dict[str, Limits]:
    """Returns the distances for each size, as the default settings choose them; `clusters` searches at any distance."""
    chosen = {}
    for size in SIZES:
        power = 1 << (size - 1).bit_length()
        whole = limits(share, power, 0.001, 1.0, FALSE_ACCEPTS)
        cheap = Limits(whole.safe, max(whole.safe, min(whole.outer, affordable_distance(power, recall))))
        chosen[f"10^{len(str(size)) - 1}"] = cheap
        if cheap != whole:
            chosen[f"10^{len(str(size)) - 1}, clusters"] = whole
    return chosen


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", nargs="+", type=Path, required=True)
    parser.add_argument("--strangers", nargs="+", type=Path)
    parser.add_argument("--encoder", type=Path, help="ONNX file; the shipped one without it")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--sheet", type=Path, help="PNG to write, with the pairs that agree best")
    given = parser.parse_args()
    model = Encoder.load(given.encoder.read_bytes() if given.encoder else encoder.shipped())
    pictures = load(given.images, given.limit)
    others = load(given.strangers, None) if given.strangers else pictures
    strangers = Seen.of(model, others)
    pairs = near_pairs(strangers)
    chosen = at_sizes(curve(strangers, pairs))
    print(f"{len(pictures)} images; distances from {len(others)} images:")
    print("; ".join(f"{size}: {one.safe} and {one.outer} bits" for size, one in chosen.items()), flush=True)
    recall_by_change(model, pictures, chosen)
    nearest(strangers, pairs, others, given.sheet)


def recall_by_change(model: Encoder, pictures: list[Image.Image], chosen: dict[str, Limits]) -> None:
    """Prints the share of the copies that are found, for each change and size."""
    originals = Seen.of(model, pictures)
    heads = [f"{size}: {how}" for size in chosen for how in ("unseen", "with looks")]
    print(f"\n| change | {' | '.join(heads)} | agree | median bits |\n|---|{'---:|' * (len(heads) + 2)}")
    sums: list[list[float]] = []
    for name, change in [*CHANGES.items(), ("two changes", _twice)]:
        copies = Seen.of(model, [change(one, np.random.default_rng([7, i])) for i, one in enumerate(pictures)])
        apart = (originals.signs != copies.signs).sum(axis=1)
        agree = agreement(originals.thumbnails, copies.thumbnails) >= AGREE
        cells = []
        for one in chosen.values():
            cells += [(apart <= one.safe).mean(), ((apart <= one.safe) | ((apart <= one.outer) & agree)).mean()]
        if name not in ("mirrored", "rotate 90°"):
            sums.append(cells)
        shown = " | ".join(f"{100 * cell:.1f}" for cell in cells)
        print(f"| {name} | {shown} | {100 * agree.mean():.1f} | {np.median(apart):.0f} |", flush=True)
    mean = np.mean(sums, axis=0)
    print(f"| *mean* | {' | '.join(f'{100 * cell:.1f}' for cell in mean)} | | |")


def nearest(seen: Seen, pairs: NDArray[np.int64], pictures: list[Image.Image], sheet: Path | None) -> None:
    """Prints how many of the nearest pairs agree, by distance, and draws those that agree best."""
    once = pairs[:, pairs[0] < pairs[1]][:, :_NEAREST]
    found = agreement(seen.thumbnails[once[0]], seen.thumbnails[once[1]])
    print("\n| bits apart | pairs | agree |\n|---|---:|---:|")
    edges = (0, 31, 40, 48, 54, 60, 66, 72, 80, 90, FARTHEST)
    for low, high in itertools.pairwise(edges):
        own = (once[2] > low) & (once[2] <= high)
        if own.any():
            print(f"| {low + 1} to {high} | {own.sum():,} | {(found[own] >= AGREE).sum():,} |")
    if sheet:
        draw_pairs(once, found, pictures, sheet)


def draw_pairs(pairs: NDArray[np.int64], found: NDArray[np.float32], pictures: list[Image.Image], sheet: Path) -> None:
    """Draws the pairs that agree best: a contact sheet."""
    canvas = Image.new("RGB", (1800, 1000), "white")
    draw = ImageDraw.Draw(canvas)
    for place, pair in enumerate(np.argsort(-found)[:_SHOWN]):
        x, y = place % 10 * 180, place // 10 * 100
        for end in (0, 1):
            canvas.paste(pictures[pairs[end, pair]].convert("RGB").resize((88, 88)), (x + 90 * end, y))
        draw.text((x, y + 88), f"{pairs[2, pair]} bits, {found[pair]:.2f}", fill="red")
    canvas.save(sheet)


if __name__ == "__main__":
    main()
