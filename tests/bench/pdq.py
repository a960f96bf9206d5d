"""Compares Winnow's PDQ with the package `pdqhash`: bits, qualities, rounding errors, and CPU time in one process.

OMP_NUM_THREADS=1 python -m tests.bench.pdq --images FOLDER_OR_TAR... [--limit 1000] [--timed 100] [--repeats 10]

The CPU time of an image is the shortest of several runs, which alternate between both, so other work on the machine
hardly changes it.
"""

import argparse
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pdqhash
from numpy.typing import NDArray

from models.images import decoding
from models.images.resizing import View, thumbnail
from tests.bench import copies
from udfs.hashes import pdq

Kernel = Callable[[NDArray[np.uint8]], tuple[bytes, int]]


@dataclass
class Agreement:
    """Counts of images, and the largest rounding errors of `pdqhash` as a share of Winnow's margins."""

    images: int = 0
    other_hash: int = 0
    other_bits: int = 0
    other_quality: int = 0
    in_float32: int = 0
    coefficient_error: float = 0
    gradient_error: float = 0

    def add(self, rgb: NDArray[np.uint8]) -> None:
        bits, quality = by_package(rgb)
        found, own_quality = pdq.pdq_of_thumbnail(rgb)
        apart = np.unpackbits(np.frombuffer(bits, np.uint8) ^ np.frombuffer(found, np.uint8)).sum()
        self.images += 1
        self.other_hash += int(apart > 0)
        self.other_bits += int(apart)
        self.other_quality += int(quality != own_quality)
        self.in_float32 += pdq._pdq_if_certain(rgb) is None
        exact, rounded = pdq._reduced(rgb), pdq._reduced_in_float32(rgb)
        error = np.abs(pdqhash.compute_float(rgb)[0][::-1] - pdq._coefficients(exact).ravel())
        self.coefficient_error = max(self.coefficient_error, (error / pdq._coefficient_margins()).max())
        error = np.abs(pdq._gradients(rounded) - pdq._gradients(exact))
        self.gradient_error = max(self.gradient_error, error.max() / pdq._GRADIENT_MARGIN)


def by_package(rgb: NDArray[np.uint8]) -> tuple[bytes, int]:
    """Returns hash and quality by `pdqhash`, as Winnow computed them before."""
    bits, quality = pdqhash.compute(rgb)
    return np.packbits(np.asarray(bits, dtype=np.uint8)).tobytes(), int(quality)


def milliseconds(kernels: list[Kernel], images: list[NDArray[np.uint8]], repeats: int) -> NDArray[np.float64]:
    """Returns the mean CPU time of an image for each kernel, from the shortest of its runs."""
    times = np.full((len(kernels), len(images)), np.inf)
    for _, (place, rgb), (row, kernel) in itertools.product(range(repeats), enumerate(images), enumerate(kernels)):
        started = time.process_time_ns()
        kernel(rgb)
        times[row, place] = min(times[row, place], (time.process_time_ns() - started) / 1e6)
    return times.mean(axis=1)


def thumbnails(places: list[Path], limit: int | None) -> Iterator[NDArray[np.uint8]]:
    """Yields the thumbnails of all images that can be decoded."""
    view = View((pdq.PDQ_SIDE, pdq.PDQ_SIDE))
    for data in itertools.islice(itertools.chain.from_iterable(copies.files(place) for place in places), limit):
        try:
            yield thumbnail(decoding.decode(data, pdq.PDQ_SIDE, decoding.MAX_MEGAPIXELS), view)
        except decoding.ImageFault as fault:
            print(f"skipped: {fault}", flush=True)


def main() -> None:
    """Prints one table of the agreement and one of the times."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", nargs="+", type=Path, required=True, help="folders or tar files")
    parser.add_argument("--limit", type=int, help="largest number of images")
    parser.add_argument("--timed", type=int, default=100, help="number of images whose CPU time is measured")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each, of which the shortest counts")
    options = parser.parse_args()
    agreement, timed = Agreement(), []
    for rgb in thumbnails(options.images, options.limit):
        agreement.add(rgb)
        if len(timed) < options.timed:
            timed.append(rgb)
        if agreement.images % 500 == 0:
            print(agreement, flush=True)
    print(agreement)
    package, winnow = milliseconds([by_package, pdq.pdq_of_thumbnail], timed, options.repeats)
    print("| images | pdqhash, ms | winnow, ms | ratio |\n|---:|---:|---:|---:|")
    print(f"| {len(timed)} | {package:.3f} | {winnow:.3f} | {package / winnow:.1f} |")


if __name__ == "__main__":
    main()
