import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jobs.commands.dedup.verify.search_recall import Exhaustive, HashSample
from udfs.search.matching import packed_entries


def batch_of(hashes: NDArray[np.uint8], first: int, stays: list[bool]) -> pa.RecordBatch:
    ranks = np.arange(first, first + len(hashes))
    known = [False] * len(hashes)
    return pa.record_batch({"hash": [h.tobytes() for h in hashes], "rank": ranks, "known": known, "stays": stays})


def sample_of(batch: pa.RecordBatch, rows: int) -> HashSample:
    part = batch.slice(0, rows)
    stays = part.column("stays").to_numpy(zero_copy_only=False)
    return HashSample(packed_entries(part.column("hash"), part.column("rank"), part.column("known")), stays)


def steps(count: int, bits: int) -> NDArray[np.uint8]:
    """Returns hashes, each of which differs from the next in `bits` bits."""
    flat = np.zeros((count, 256), np.uint8)
    for row in range(1, count):
        flat[row] = flat[row - 1]
        flat[row, bits * (row - 1) : bits * row] = 1
    return np.packbits(flat, axis=1)


def test_each_pair_counts_once_also_across_batches() -> None:
    hashes = steps(5, 10)
    first, second = batch_of(hashes[:3], 0, [True] * 3), batch_of(hashes[3:], 3, [True] * 2)
    rows = [row for b in Exhaustive(sample_of(first, 2), 15, 10)(iter([first, second])) for row in b.to_pylist()]
    within = [(row["a"], row["b"], row["distance"]) for row in rows if row["pairs"] == 1 and row["a"] is not None]
    assert within == [(0, 1, 10), (1, 2, 10)]
    assert [(row["distance"], row["pairs"]) for row in rows if row["a"] is None] == [(20, 1), (20, 1)]
    assert [(row["a"], row["b"]) for row in rows if row["pairs"] == 0] == [(0, 2), (1, 3)]


def test_near_misses_are_the_nearest_pairs_of_kept_images() -> None:
    hashes = steps(8, 5)
    batch = batch_of(hashes, 0, [True, True, False, True, True, True, True, True])
    (found,) = [pa.Table.from_batches(list(Exhaustive(sample_of(batch, 1), 4, 40, most=3)(iter([batch]))))]
    misses = [(r["a"], r["b"], r["distance"]) for r in found.to_pylist() if r["pairs"] == 0]
    assert misses == [(0, 1, 5), (0, 3, 15), (0, 4, 20)]
    counted = {r["distance"]: r["pairs"] for r in found.to_pylist() if r["a"] is None}
    assert counted == dict.fromkeys(range(5, 40, 5), 1)


def test_a_fixed_part_of_very_many_pairs_is_returned_for_any_batches() -> None:
    crowd = batch_of(np.zeros((400, 32), np.uint8), 0, [True] * 399 + [False])
    sample = sample_of(crowd, 10)

    def selected_pairs(one_in: int, batches: list[pa.RecordBatch]) -> list[tuple[int, int]]:
        found = pa.Table.from_batches(list(Exhaustive(sample, 5, one_in=one_in)(iter(batches)))).to_pylist()
        return sorted((row["a"], row["b"]) for row in found if row["pairs"] == 1 and row["a"] is not None)

    every = selected_pairs(1, [crowd])
    assert len(every) == 390 * 10 + 45
    part = selected_pairs(8, [crowd])
    assert set(part) < set(every) and 380 < len(part) < 620
    assert selected_pairs(8, [crowd.slice(0, 150), crowd.slice(150)]) == part


def test_pairs_of_kept_images_are_marked() -> None:
    crowd = batch_of(np.zeros((4, 32), np.uint8), 0, [True, True, False, True])
    (found,) = [pa.Table.from_batches(list(Exhaustive(sample_of(crowd, 1), 5)(iter([crowd]))))]
    assert [(row["b"], row["stay"]) for row in found.to_pylist()] == [(1, True), (2, False), (3, True)]
