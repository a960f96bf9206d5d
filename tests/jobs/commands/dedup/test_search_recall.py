import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from jobs.commands.dedup.in_memory import recall
from jobs.commands.dedup.in_memory.pairs import Pairs
from jobs.commands.dedup.verify import search_recall
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


def test_only_pairs_that_look_the_same_count_for_the_recall(spark: SparkSession) -> None:
    # a, b, distance, whether the search found it, whether it counts: within 10 bits unseen, beyond if b is even.
    pairs = [
        (0, 1, 5, True, True), (0, 2, 20, True, True), (0, 3, 20, True, False),  # found
        (1, 3, 10, False, True), (1, 4, 11, False, True), (1, 5, 11, False, False),  # missed
    ]  # fmt: skip
    counted = [pair[:2] for pair in pairs if pair[4]]
    found, near = ([pair for pair in pairs if pair[3]], [pair for pair in pairs if pair[3] and pair[4]])

    schema = "a long, b long, distance int"
    within = spark.createDataFrame([(*p[:3], 1 if p[3] else None) for p in pairs], f"{schema}, hit int")
    verified = spark.createDataFrame([p[:3] for p in near], schema)
    looks = search_recall.Looks(verified, 10, lambda unsure: unsure.where("b % 2 = 0"))
    rows = search_recall._near_duplicates(within, looks).select("a", "b").collect()
    assert sorted(tuple(row) for row in rows) == counted

    def in_memory(part: list[tuple[int, int, int, bool, bool]]) -> Pairs:
        a, b, distance = np.array([pair[:3] for pair in part]).T
        return Pairs.of(a, b, distance, np.full(len(part), "lsh"))

    sample = pa.table(dict(zip(("a", "b", "distance"), np.array([p[:3] for p in pairs]).T, strict=True)))
    memory_looks = recall.Looks(in_memory(near), 10, lambda unsure: unsure.take(unsure.b % 2 == 0))
    mask = recall._near_duplicates(sample, in_memory(pairs).keys, in_memory(found), memory_looks)
    assert [pair[:2] for pair, is_one in zip(pairs, mask, strict=True) if is_one] == counted
