import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from tests.builders.hashes import entries_of, flipped, random_hashes
from udfs.hashes.hamming import distances, words
from udfs.hashes.minhash import Bands, band_keys, choose_bands, jaccard, signatures
from udfs.search.lsh import Matching, resolve
from udfs.search.matching import Entries, FoundPairs, near_between, packed_entries
from udfs.search.packing import BandLayout, Packing, packed_rows


def near_pairs(
    hashes: NDArray[np.uint8], limit: int, together: NDArray[np.bool_] | None = None
) -> set[tuple[int, int]]:
    near = distances(words(hashes)[:, None], words(hashes)[None]) <= limit
    if together is not None:
        near &= together
    return {(i, j) for i, j in zip(*np.nonzero(near), strict=True) if i < j}


def pairs_of(found: FoundPairs) -> set[tuple[int, int]]:
    return set(zip(found.a.tolist(), found.b.tolist(), strict=True))


def test_signature_is_the_first_set_bit_under_each_permutation() -> None:
    hashes = random_hashes(50)
    got = signatures(hashes, 5, seed=3)
    bits = np.unpackbits(hashes, axis=1)
    generator = np.random.Generator(np.random.PCG64([3, 256]))
    for column in range(5):
        permutation = generator.permutation(256)
        expected = [next(p for p in range(256) if row[permutation[p]]) for row in bits]
        assert got[:, column].tolist() == expected


def test_signatures_agree_as_often_as_the_jaccard_similarity() -> None:
    hashes = random_hashes(400)
    near = flipped(hashes, 40)
    agreement = (signatures(hashes, 200) == signatures(near, 200)).mean()
    assert abs(agreement - jaccard(np.array(40))) < 0.01


def test_a_hash_with_only_the_last_bit_has_a_signature() -> None:
    lonely = np.zeros((1, 32), np.uint8)
    lonely[0, 31] = 1
    assert (signatures(lonely, 50) > 0).any()


def test_bands_find_the_predicted_share_of_pairs() -> None:
    bands = Bands(bands=20, rows=8)
    hashes = random_hashes(2000)
    found = (band_keys(hashes, bands) == band_keys(flipped(hashes, 31), bands)).any(axis=1).mean()
    assert abs(found - bands.found(np.array(31))) < 0.03


def test_no_two_bands_share_a_key() -> None:
    keys = band_keys(random_hashes(500), Bands(bands=30, rows=2))
    owners: dict[int, set[int]] = {}
    for band in range(30):
        for key in keys[:, band].tolist():
            owners.setdefault(key, set()).add(band)
    assert all(len(bands) == 1 for bands in owners.values())


def test_more_hashes_need_longer_bands() -> None:
    few, many = (choose_bands(count, 31, 0.99) for count in (5_000, 5_000_000))
    assert few.recall(31) >= 0.99 and many.recall(31) >= 0.99
    assert few.rows < many.rows


def test_packing_loses_no_key_and_no_entry() -> None:
    hashes, bands = random_hashes(100), Bands(3, 4)
    known = np.arange(100) % 3 == 0
    batch = pa.record_batch({"hash": [h.tobytes() for h in hashes], "rank": np.arange(100), "known": known.tolist()})
    (packed,) = Packing(BandLayout(bands, 1, 7))(iter([batch]))
    keys = np.concatenate([np.frombuffer(cell, np.uint32) for cell in packed.column("keys").to_pylist()])
    rows = np.frombuffer(b"".join(packed.column("entries").to_pylist()), np.uint64).reshape(-1, 5)
    assert sorted(keys.tolist()) == sorted(band_keys(hashes, bands).astype(np.uint32).ravel().tolist())
    entries = Entries.unpacked(rows)
    assert np.array_equal(np.sort(entries.ranks), np.repeat(np.arange(100), 3))
    assert np.array_equal(entries.hashes(), hashes[entries.ranks])
    assert np.array_equal(entries.known, known[entries.ranks])


@pytest.mark.parametrize("size", [2, 10, 47, 48, 49, 200, 2500])
@pytest.mark.parametrize("known", [0, 20])
def test_matching_finds_exactly_the_near_pairs_under_a_key(size: int, known: int) -> None:
    hashes = np.concatenate([random_hashes(size), flipped(random_hashes(size), 10)])
    keys = (np.arange(2 * size) % 2).astype(np.uint32)
    fresh = np.arange(2 * size) < 2 * size - known
    together = (keys[:, None] == keys[None]) & (fresh[:, None] | fresh[None])
    found = Matching(max_distance=31, max_bucket=5000).match(keys, entries_of(hashes, known))
    assert pairs_of(found) == near_pairs(hashes, 31, together) and len(found.a) == len(pairs_of(found))
    assert found.compared == np.triu(together, 1).sum() and found.skipped == 0
    assert np.array_equal(found.distance, distances(words(hashes[found.a]), words(hashes[found.b])))


@pytest.mark.parametrize("limit", [31, 49, 50, 78, 255, 256])
def test_all_pairs_between_two_lists_are_found_at_any_distance(limit: int) -> None:
    left = random_hashes(70)
    right = np.concatenate([flipped(left[:40], limit if limit < 256 else 256), random_hashes(2100, seed=9)])
    i, j = near_between(np.ascontiguousarray(words(left).T), np.ascontiguousarray(words(right).T), limit)
    near = distances(words(left)[:, None], words(right)[None]) <= limit
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == set(
        zip(*map(np.ndarray.tolist, np.nonzero(near)), strict=True)
    )
    assert len(i) == near.sum() >= 40


def test_pairs_have_the_number_of_their_clustering() -> None:
    hashes = np.repeat(random_hashes(2), 2, axis=0)
    # Ten clusters in each clustering: 0 and 1 share a cluster of the first one, all four share one of the third.
    keys = np.array([[3, 25], [3, 25], [4, 25], [5, 25]], np.uint32)
    packed = packed_rows(keys, keys % np.uint32(1), packed_entries(*columns_of(hashes)))
    rows = Matching(31, 100, clusters=10)(pa.Table.from_batches([packed])).to_pylist()
    assert [(row["a"], row["b"], row["clustering"]) for row in rows if row["a"] is not None] == [
        (0, 1, 0),
        (0, 1, 2),
        (2, 3, 2),
    ]
    assert [(row["compared"], row["clustering"]) for row in rows if row["a"] is None] == [(1, 0), (6, 2)]


def columns_of(hashes: NDArray[np.uint8]) -> tuple[pa.Array, pa.Array, pa.Array]:
    count = len(hashes)
    return pa.array([h.tobytes() for h in hashes]), pa.array(np.arange(count)), pa.array([False] * count)


def test_a_hash_and_its_opposite_are_not_near() -> None:
    zeros_and_ones = np.concatenate([np.zeros((1, 32), np.uint8), np.full((1, 32), 255, np.uint8)])
    for copies in (1, 60):
        hashes = np.repeat(zeros_and_ones, copies, axis=0)
        found = Matching(max_distance=0, max_bucket=1000).match(np.zeros(2 * copies, np.uint32), entries_of(hashes))
        assert pairs_of(found) == near_pairs(hashes, 0)


def test_each_found_pair_is_returned_once_with_a_row_of_counts() -> None:
    hashes = np.repeat(random_hashes(1), 3, axis=0)
    entries = entries_of(np.concatenate([hashes, hashes]))
    rows = FoundPairs.union([Matching(31, 10).match(np.zeros(6, np.uint32), entries)] * 2).to_arrow().to_pylist()
    assert len(rows) == 15 + 1
    assert rows[-1] == {"a": None, "b": None, "distance": None, "compared": 30, "skipped": 0, "clustering": None,
                        "bucket": None, "keys": None, "entries": None}  # fmt: skip


def test_a_large_run_of_near_copies_is_resolved_against_its_best_in_linear_time() -> None:
    popular = np.repeat(random_hashes(1), 20_000, axis=0)
    copies = np.unique(flipped(popular, 4), axis=0)
    found = Matching(max_distance=31, max_bucket=100).match(np.zeros(len(copies), np.uint32), entries_of(copies))
    assert pairs_of(found) == {(0, i) for i in range(1, len(copies))}
    assert found.compared == len(copies) - 1 and found.skipped == (len(copies) - 1) * (len(copies) - 2) // 2


def test_a_large_run_of_different_hashes_is_split_and_finds_its_pairs() -> None:
    hashes = random_hashes(3000)
    hashes[1500:] = flipped(hashes[:1500], 3)
    found = Matching(max_distance=31, max_bucket=200).match(np.zeros(3000, np.uint32), entries_of(hashes))
    assert len(pairs_of(found)) > 1200
    assert found.compared < 3000 * 2999 // 4


def test_crowds_of_near_copies_are_resolved_against_their_best_instead_of_all_pairs() -> None:
    crowds = [flipped(np.repeat(random_hashes(1, seed), 2000, axis=0), 3, seed) for seed in (1, 2)]
    hashes = np.concatenate([*crowds, random_hashes(500, seed=3)])
    found = Matching(max_distance=31, max_bucket=20_000).match(np.zeros(4500, np.uint32), entries_of(hashes))
    assert pairs_of(found) == {(0, i) for i in range(1, 2000)} | {(2000, i) for i in range(2001, 4000)}
    among = 2 * (1999 * 1998 // 2)
    assert found.skipped == among + 1999 * 2500 + 1999 * 500
    assert found.compared == 4499 + 2499 + 500 * 499 // 2


def crowd_of(count: int, bits: int, seed: int) -> NDArray[np.uint8]:
    """Returns `count` different hashes, each at `bits` bits from the same random hash."""
    copies = flipped(np.repeat(random_hashes(1, seed), count + 9, axis=0), bits, seed)
    _, first = np.unique(copies, axis=0, return_index=True)
    return copies[np.sort(first)[:count]]


def kept(pairs: set[tuple[int, int]], count: int) -> set[int]:
    """Returns the places that no better kept place matches."""
    lost: set[int] = set()
    for a, b in sorted(pairs, key=lambda pair: pair[1]):
        if a not in lost:
            lost.add(b)
    return set(range(count)) - lost


@pytest.mark.parametrize("unlike", [1, 20])
@pytest.mark.parametrize("known", [0, 3000])
def test_a_crowd_is_resolved_against_its_best_among_better_different_hashes(unlike: int, known: int) -> None:
    hashes = np.concatenate([random_hashes(unlike), crowd_of(3000, 4, seed=1)])
    matching = Matching(max_distance=31, max_bucket=20_000, crowd_pairs=30_000)
    found = matching.match(np.zeros(len(hashes), np.uint32), entries_of(hashes, known))
    assert pairs_of(found) == {(unlike, i) for i in range(unlike + 1, len(hashes))}
    assert found.compared + found.skipped == len(hashes) * (len(hashes) - 1) // 2


@pytest.mark.parametrize("crowds", [2, 12])
def test_each_crowd_among_different_hashes_is_resolved_against_its_best(crowds: int) -> None:
    size = 3600 // crowds
    members = np.stack([crowd_of(size, 4, seed) for seed in range(crowds)], axis=1)
    # Best first: a different hash, one of each crowd, a different hash, and so on.
    hashes = np.concatenate([random_hashes(size, seed=99)[:, None], members], axis=1).reshape(-1, 32)
    matching = Matching(max_distance=31, max_bucket=20_000, crowd_pairs=30_000)
    found = matching.match(np.zeros(len(hashes), np.uint32), entries_of(hashes))
    step = crowds + 1
    assert pairs_of(found) == {(c, c + step * i) for c in range(1, step) for i in range(1, size)}
    assert found.compared + found.skipped == len(hashes) * (len(hashes) - 1) // 2


@pytest.mark.parametrize("bits", [14, 16, 18])
def test_a_crowded_run_keeps_the_same_hashes_as_all_its_pairs(bits: int) -> None:
    # Beyond 15 bits from the centre, few hashes match the best one, and those have matches of their own.
    hashes = np.concatenate([random_hashes(20, seed=2), crowd_of(1000, bits, seed=3)])
    every = near_pairs(hashes, 31)
    matching = Matching(max_distance=31, max_bucket=20_000, crowd_pairs=30_000)
    found = matching.match(np.zeros(len(hashes), np.uint32), entries_of(hashes))
    assert pairs_of(found) < every and len(found.a) < 24 * len(hashes) < len(every)
    assert kept(pairs_of(found), len(hashes)) == kept(every, len(hashes))


def test_a_large_run_is_resolved_against_the_best_of_its_crowd_among_better_hashes() -> None:
    hashes = np.concatenate([random_hashes(40), crowd_of(5000, 4, seed=1)])
    found = Matching(max_distance=31, max_bucket=100).match(np.zeros(len(hashes), np.uint32), entries_of(hashes))
    assert pairs_of(found) == {(40, i) for i in range(41, len(hashes))}
    assert found.compared + found.skipped == len(hashes) * (len(hashes) - 1) // 2


@pytest.mark.parametrize("max_bucket", [300, 20_000])
def test_the_result_does_not_depend_on_the_order_of_entries(max_bucket: int) -> None:
    crowds = [crowd_of(1000, bits, seed) for seed, bits in enumerate((4, 17))]
    entries = entries_of(np.concatenate([*crowds, random_hashes(500, seed=9)]), known=900)
    keys = (entries.ranks % 2).astype(np.uint32)
    matching = Matching(max_distance=31, max_bucket=max_bucket, crowd_pairs=30_000)
    found = matching.match(keys, entries).to_arrow()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(entries))
        assert matching.match(keys[order], entries.take(order)).to_arrow() == found


def test_a_split_run_counts_every_pair_as_compared_or_skipped() -> None:
    hashes = random_hashes(3000)
    found = Matching(max_distance=31, max_bucket=200).match(np.zeros(3000, np.uint32), entries_of(hashes))
    assert 0 < found.compared < found.skipped and found.compared + found.skipped == 3000 * 2999 // 2


def test_a_long_run_of_different_hashes_compares_all_pairs() -> None:
    hashes = random_hashes(3000)
    hashes[2999] = hashes[1]
    found = Matching(max_distance=31, max_bucket=20_000).match(np.zeros(3000, np.uint32), entries_of(hashes))
    assert pairs_of(found) == {(1, 2999)} and found.skipped == 0


def test_entries_that_people_keep_are_not_resolved() -> None:
    copies = flipped(np.repeat(random_hashes(1), 40, axis=0), 6, seed=1)
    entries = entries_of(np.concatenate([copies, random_hashes(5, seed=2)]))

    resolved = resolve(entries, 30, 31, decided=3)

    # Ranks 1 and 2 match the representative, rank 0. Their pairs with it are found, and they stay.
    assert resolved.rest.ranks.tolist() == [1, 2, *range(40, 45)]
    assert pairs_of(resolved.found) == {(0, other) for other in range(1, 40)}
    assert resolved.found.skipped == 37 * 36 // 2 + 37 * 7


@pytest.mark.parametrize("max_bucket", [100, 20_000])
def test_what_only_an_entry_that_people_keep_matches_is_found_in_a_crowd(max_bucket: int) -> None:
    copies = flipped(np.repeat(random_hashes(1), 1500, axis=0), 12, seed=1)
    beyond = flipped(copies[3:4], 26, seed=5)
    matching = Matching(max_distance=31, max_bucket=max_bucket, crowd_pairs=30_000, decided=5)

    hashes = np.concatenate([copies, beyond])
    found = pairs_of(matching.match(np.zeros(len(hashes), np.uint32), entries_of(hashes)))

    near = near_pairs(hashes, 31)
    of_beyond = {pair for pair in near if 1500 in pair}
    assert (0, 1500) not in near and (3, 1500) in found & of_beyond
    assert {pair for pair in near if max(pair) < 5} <= found and len(found) < len(near) // 10
