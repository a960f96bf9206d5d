"""Measures which mirrored copies `dedup.mirrored` finds, by change, and which different images it takes for them.

    python -m tests.bench.mirrored --images FOLDER_OR_TAR... [--strangers FOLDER_OR_TAR...] [--limit N] [--sheet FILE]

It is `tests.bench.looks` for copies that are changed *and* mirrored: the distances follow from the pairs of images with
each other and with each other's mirror images.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.inference import encoder
from models.inference.encoder import Encoder
from models.stats.strangers import FARTHEST, Limits, SampledPairs, upper_shares
from tests.bench.copies import CHANGES, load
from tests.bench.looks import _LOOKS, _ROWS, Seen, at_sizes, draw_pairs
from udfs.images.agreement import AGREE, agreement
from udfs.images.appearance import mirrored

_NOT_COPIES = ("mirrored", "rotate 90°")


def near_pairs(left: Seen, right: Seen) -> NDArray[np.int64]:
    """Returns the pairs of images within `FARTHEST` bits: int64 of shape (3, n): a, b, distance."""
    found = []
    for begin in range(0, len(left.signs), _ROWS):
        apart = ((256 - left.signs[begin : begin + _ROWS] @ right.signs.T) / 2).astype(np.int64)
        own, other = np.nonzero(apart <= FARTHEST)
        found.append(np.stack([own + begin, other, apart[own, other]])[:, own + begin != other])
    return np.concatenate(found, axis=1)


def nearest_way(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Returns each pair once, a < b, with the smaller distance of both directions."""
    ends = np.sort(pairs[:2], axis=0)
    order = np.lexsort((pairs[2], ends[1], ends[0]))
    ends, distance = ends[:, order], pairs[2, order]
    first = np.concatenate([[True], (ends[:, 1:] != ends[:, :-1]).any(axis=0)])[: ends.shape[1]]
    return np.concatenate([ends, distance[None]])[:, first]


def agreements(own: Seen, pairs: NDArray[np.int64], turned: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Returns how well the thumbnails of pairs agree, the second one mirrored where `turned` says so."""
    left, right = own.thumbnails[pairs[0]], own.thumbnails[pairs[1]].copy()
    right[turned] = mirrored(right[turned])
    return agreement(left, right)


def curve(own: Seen, pairs: NDArray[np.int64], turned: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Returns the share of the pairs of different images within each distance, upper ends of intervals."""
    count = len(own.signs)
    near = np.zeros((count, FARTHEST + 1), np.int64)
    np.add.at(near, (pairs[0], pairs[2]), 1)
    order = np.random.default_rng(0).permutation(pairs.shape[1])
    mixed, flags = pairs[:, order], turned[order]
    places = np.concatenate([np.flatnonzero(mixed[2] == distance)[:_LOOKS] for distance in range(FARTHEST + 1)])
    chosen = mixed[:, places]
    different = agreements(own, chosen, flags[places]) < AGREE
    upper = upper_shares(SampledPairs(near, count - 1, chosen[0], chosen[2], different), 0, 0.95)
    if upper is None:
        raise SystemExit("too few near pairs: give more images")
    return upper


def main() -> None:
    """Prints the distances, the recall by change, and the number of different images taken for mirrored copies."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", nargs="+", type=Path, required=True)
    parser.add_argument("--strangers", nargs="+", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--sheet", type=Path, help="PNG to write, with mirrored pairs that agree")
    given = parser.parse_args()
    model = Encoder.load(encoder.shipped())
    pictures = load(given.images, given.limit)
    others = load(given.strangers, None) if given.strangers else pictures
    own, turned = Seen.of(model, others), Seen.of(model, [ImageOps.mirror(one) for one in others])
    plain, flipped = near_pairs(own, own), near_pairs(own, turned)
    every = np.concatenate([plain, flipped, flipped[[1, 0, 2]]], axis=1)  # mirrored pairs in both directions
    flags = np.arange(every.shape[1]) >= plain.shape[1]
    alone = at_sizes(curve(own, plain, np.zeros(plain.shape[1], np.bool_)))
    chosen = at_sizes(curve(own, every, flags))
    print(f"{len(pictures)} images; distances from {len(others)} images:")
    for size, one in chosen.items():
        print(
            f"{size}: {one.safe} and {one.outer} bits; without mirror images {alone[size].safe} and {alone[size].outer}"
        )
    recall_by_change(model, own if others is pictures else Seen.of(model, pictures), pictures, chosen)
    once = nearest_way(flipped)
    for size, limits in chosen.items():
        within = once[:, once[2] <= limits.outer]
        agrees = agreements(own, within, np.ones(within.shape[1], np.bool_))
        counts = (within[2] <= limits.safe) | (agrees >= AGREE)
        print(
            f"{size}: of {within.shape[1]:,} mirrored pairs within the outer distance {counts.sum():,} count as copies"
        )
        if given.sheet and size == next(iter(chosen)):
            draw_pairs(within[:, counts], agrees[counts], others, given.sheet)


def recall_by_change(model: Encoder, originals: Seen, pictures: list[Image.Image], chosen: dict[str, Limits]) -> None:
    """Prints the share of the mirrored copies that are found, for each change and size."""
    heads = [f"{size}: {how}" for size in chosen for how in ("unseen", "with looks")]
    print(f"\n| change | {' | '.join(heads)} |\n|---|{'---:|' * len(heads)}")
    flipped = Seen.of(model, [ImageOps.mirror(one) for one in pictures])
    totals = []
    for name, change in CHANGES.items():
        if name in _NOT_COPIES:
            continue
        rng = [np.random.default_rng([7, place]) for place in range(len(pictures))]
        copies = [change(ImageOps.mirror(one), own) for one, own in zip(pictures, rng, strict=True)]
        seen, back = Seen.of(model, copies), Seen.of(model, [ImageOps.mirror(one) for one in copies])
        both = [
            (256 - (a * b).sum(axis=1)) / 2 for a, b in ((originals.signs, back.signs), (flipped.signs, seen.signs))
        ]
        apart = np.minimum(*both)
        agrees = agreement(originals.thumbnails, mirrored(seen.thumbnails)) >= AGREE
        row = []
        for limits in chosen.values():
            unseen = apart <= limits.safe
            row += [unseen.mean(), (unseen | (agrees & (apart <= limits.outer))).mean()]
        totals.append(row)
        print(f"| {name} | {' | '.join(f'{100 * one:.1f}' for one in row)} |", flush=True)
    print(f"| mean | {' | '.join(f'{100 * one:.1f}' for one in np.mean(totals, axis=0))} |\n", flush=True)


if __name__ == "__main__":
    main()
