"""Cuts many small images out of large ones, to make a set of small photographs for fitting an encoder.

    python -m tests.bench.squares --images FOLDER_OR_TAR... --out DIR --count 60000

Each image is cut by grids of four cell sizes. Squares of one grid do not overlap, and a square of a finer grid holds
less than two fifths of one of a coarser grid. So no two squares are copies of each other.
"""

import argparse
import io
import itertools
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bench.copies import load

SIDE = 64
CELLS = (166, 104, 64, 40)
"""Sides of the squares in pixels, the largest first: they are the fewest, and most similar to whole photographs."""

_PER_SHARD = 10_000


def squares(pictures: list[Image.Image], count: int, seed: int = 0) -> Iterator[Image.Image]:
    """Returns at most `count` squares of `SIDE` pixels, in random order; larger squares are used first."""
    rng = np.random.default_rng(seed)
    chosen: list[tuple[int, int, int, int]] = []
    for cell in CELLS:
        found = [(i, x, y, cell) for i, picture in enumerate(pictures) for x, y in _corners(picture, cell)]
        chosen += [found[k] for k in rng.permutation(len(found))[: count - len(chosen)]]
    for k in rng.permutation(len(chosen)):
        i, x, y, cell = chosen[k]
        yield pictures[i].crop((x, y, x + cell, y + cell)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _corners(picture: Image.Image, cell: int) -> Iterator[tuple[int, int]]:
    """Returns the upper left corners of a grid's cells, spread over the whole image."""
    across, down = picture.width // cell, picture.height // cell
    for column, row in itertools.product(range(across), range(down)):
        yield picture.width * column // across, picture.height * row // down


def main() -> None:
    """Writes WebDataset shards of JPEG files without captions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=60_000)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    numbered = enumerate(squares(load(given.images, None), given.count))
    for shard, batch in itertools.groupby(numbered, lambda item: item[0] // _PER_SHARD):
        with tarfile.open(given.out / f"squares-{shard:05d}.tar", "w") as archive:
            for number, square in batch:
                buffer = io.BytesIO()
                square.save(buffer, "JPEG", quality=92)
                entry = tarfile.TarInfo(f"{number:08d}.jpg")
                entry.size = buffer.tell()
                archive.addfile(entry, io.BytesIO(buffer.getvalue()))


if __name__ == "__main__":
    main()
