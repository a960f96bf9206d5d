import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from udfs.hashes.hamming import distances, words
from udfs.search.matching import packed_entries
from udfs.search.strangers import NearPairs


def rows_of(hashes: NDArray[np.uint8], ranks: NDArray[np.int64]) -> pa.RecordBatch:
    columns = [pa.array([one.tobytes() for one in hashes]), pa.array(ranks), pa.array([False] * len(ranks))]
    return pa.record_batch(columns, names=["hash", "rank", "known"])


def test_every_near_pair_of_the_sample_is_counted_and_a_few_are_chosen_whatever_the_batches() -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (400, 256), dtype=np.uint8)
    bits[:, 100:] = bits[0, 100:]  # so that pairs are about 50 bits apart
    hashes, ranks = np.packbits(bits, axis=1), np.sort(rng.choice(10_000, 400, replace=False))
    apart = np.stack([distances(words(hashes)[place], words(hashes)) for place in range(20)])
    sample = packed_entries(*rows_of(hashes[:20], ranks[:20]).columns)
    found = []
    for size in (400, 37):
        batches = [rows_of(hashes[i : i + size], ranks[i : i + size]) for i in range(0, 400, size)]
        rows = pa.Table.from_batches(NearPairs(sample, farthest=60, looks=3)(iter(batches))).to_pylist()
        counted = {(row["sampled"], row["distance"]): row["pairs"] for row in rows if row["other"] is None}
        chosen = sorted((row["distance"], row["sampled"], row["other"]) for row in rows if row["other"] is not None)
        found.append((counted, chosen))
    counted, chosen = found[0]
    assert found[0] == found[1]
    expected = {
        (int(ranks[place]), distance): int((apart[place] == distance).sum() - (distance == 0))
        for place in range(20)
        for distance in range(61)
    }
    assert counted == {key: count for key, count in expected.items() if count}
    place = {int(rank): row for row, rank in enumerate(ranks)}
    for distance in range(61):
        some = [(a, b) for at, a, b in chosen if at == distance]
        assert len(some) == min(3, sum(expected[int(rank), distance] for rank in ranks[:20]))
        assert all(apart[place[a], place[b]] == distance and a != b for a, b in some)


def test_the_chosen_pairs_of_a_crowded_distance_are_those_with_the_smallest_order() -> None:
    hashes, ranks = np.random.default_rng(1).integers(0, 256, (3000, 32), dtype=np.uint8), np.arange(3000)
    sample = packed_entries(*rows_of(hashes[:40], ranks[:40]).columns)
    found = [
        pa.Table.from_batches(NearPairs(sample, 140, looks)(iter([rows_of(hashes, ranks)]))).to_pylist()
        for looks in (5, 10_000)
    ]
    few, every = ([row for row in rows if row["other"] is not None] for rows in found)
    for distance in (110, 128, 140):
        first = sorted(row["order"] for row in every if row["distance"] == distance)[:5]
        assert sorted(row["order"] for row in few if row["distance"] == distance) == first and len(first) == 5


def test_no_rows_give_no_pairs() -> None:
    hashes, ranks = np.zeros((2, 32), np.uint8), np.arange(2)
    sample = packed_entries(*rows_of(hashes, ranks).columns)
    assert (
        not list(NearPairs(sample, 10, 3)(iter([])))
        or not pa.Table.from_batches(NearPairs(sample, 10, 3)(iter([]))).num_rows
    )


def test_mirror_images_are_compared_but_not_with_their_own_image() -> None:
    rng = np.random.default_rng(2)
    hashes, ranks = rng.integers(0, 256, (6, 32), dtype=np.uint8), np.arange(10, 16)
    sample = packed_entries(*rows_of(hashes, ranks).columns)
    # The mirror image of each image is near the next image, and that of the last one near itself.
    mirrors = np.concatenate([hashes[1:], hashes[-1:]]) ^ np.uint8(1)
    turned = rows_of(mirrors, ranks).set_column(2, "known", pa.array([True] * 6))
    rows = pa.Table.from_batches(NearPairs(sample, 40, 9)(iter([rows_of(hashes, ranks), turned]))).to_pylist()
    assert sorted((r["sampled"], r["distance"], r["pairs"]) for r in rows if r["other"] is None) == [
        (rank + 1, 32, 1) for rank in range(10, 15)
    ]
    looked = [(r["sampled"], r["other"], r["mirrored"]) for r in rows if r["other"] is not None]
    assert sorted(looked) == [(rank + 1, rank, True) for rank in range(10, 15)]
    # With the mirror images of the sample, each pair is seen from both sides, but no pair of two mirror images.
    both = np.concatenate([sample, packed_entries(*turned.columns)])
    rows = pa.Table.from_batches(NearPairs(both, 40, 9)(iter([turned, rows_of(hashes, ranks)]))).to_pylist()
    counts = {r["sampled"]: r["pairs"] for r in rows if r["other"] is None}
    assert counts == {10: 1, 11: 2, 12: 2, 13: 2, 14: 2, 15: 1}
