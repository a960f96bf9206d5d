import numpy as np
from numpy.typing import NDArray

from udfs.hamming import distances, words
from udfs.lsh import ORDER_BYTES, Matching, Packing
from udfs.minhash import Bands, band_keys, choose_bands, jaccard, signatures


def random_hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def flipped(hashes: NDArray[np.uint8], bits: int, seed: int = 1) -> NDArray[np.uint8]:
    generator = np.random.default_rng(seed)
    unpacked = np.unpackbits(hashes, axis=1)
    for row in unpacked:
        row[generator.choice(256, bits, replace=False)] ^= 1
    return np.packbits(unpacked, axis=1)


def entries_of(hashes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    order = np.arange(len(hashes), dtype=">u8").view(np.uint8).reshape(-1, 8)
    return np.concatenate([hashes, order, np.zeros((len(hashes), ORDER_BYTES - 8), np.uint8)], axis=1)


def test_signature_is_the_first_set_bit_under_each_permutation() -> None:
    hashes = random_hashes(50)
    got = signatures(hashes, 5, seed=3)
    bits = np.unpackbits(hashes, axis=1)
    generator = np.random.Generator(np.random.PCG64([3, 256]))
    for column in range(5):
        permutation = generator.permutation(256)
        expected = [next(p for p in range(256) if row[permutation[p]]) for row in bits]
        assert got[:, column].tolist() == expected


def test_signatures_agree_as_often_as_the_jaccard_similarity_says() -> None:
    hashes = random_hashes(400)
    near = flipped(hashes, 40)
    agreement = (signatures(hashes, 200) == signatures(near, 200)).mean()
    assert abs(agreement - jaccard(np.array(40))) < 0.01


def test_a_hash_with_one_late_bit_is_still_signed() -> None:
    lonely = np.zeros((1, 32), np.uint8)
    lonely[0, 31] = 1
    assert (signatures(lonely, 50) > 0).any()


def test_bands_find_the_share_of_pairs_that_the_arithmetic_says() -> None:
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


def test_more_data_asks_for_longer_bands() -> None:
    few, many = (choose_bands(count, 31, 0.99) for count in (5_000, 5_000_000))
    assert few.recall(31) >= 0.99 and many.recall(31) >= 0.99
    assert few.rows < many.rows


def test_packing_loses_no_key_and_no_entry() -> None:
    import pyarrow as pa

    hashes, bands = random_hashes(100), Bands(3, 4)
    entries = entries_of(hashes)
    batch = pa.record_batch(
        [pa.array([h.tobytes() for h in hashes]), pa.array([e[32:].tobytes() for e in entries])],
        names=["hash", "order"],
    )
    (packed,) = Packing(bands, buckets=7)(iter([batch]))
    keys = np.concatenate([np.frombuffer(cell, np.uint64) for cell in packed.column("keys").to_pylist()])
    rows = np.concatenate(
        [np.frombuffer(cell, np.uint8).reshape(-1, 56) for cell in packed.column("entries").to_pylist()]
    )
    assert sorted(keys.tolist()) == sorted(band_keys(hashes, bands).ravel().tolist())
    by_hash = {row[:32].tobytes(): row[32:].tobytes() for row in rows}
    assert by_hash == {e[:32].tobytes(): e[32:].tobytes() for e in entries}


def test_matching_finds_exactly_the_near_pairs_under_a_key() -> None:
    hashes = np.concatenate([random_hashes(30), flipped(random_hashes(30), 10)])
    keys = np.repeat(np.arange(6, dtype=np.uint64), 10)
    found = Matching(max_distance=31, max_bucket=100).match(keys, entries_of(hashes))
    apart = distances(words(hashes)[:, None], words(hashes)[None])
    expected = {
        tuple(sorted((hashes[i].tobytes(), hashes[j].tobytes())))
        for i in range(60)
        for j in range(i)
        if keys[i] == keys[j] and apart[i, j] <= 31
    }
    pairs = {(a.tobytes(), b.tobytes()) for a, b in zip(found.a, found.b, strict=True)}
    assert pairs == expected and found.compared == 6 * 45 and found.skipped == 0


def test_a_pile_of_near_copies_is_settled_by_its_best_in_linear_time() -> None:
    popular = np.repeat(random_hashes(1), 20_000, axis=0)
    copies = np.unique(flipped(popular, 4), axis=0)
    found = Matching(max_distance=31, max_bucket=100).match(np.zeros(len(copies), np.uint64), entries_of(copies))
    best = copies[0].tobytes()
    assert len(found.a) == len(copies) - 1
    assert all(best in (a.tobytes(), b.tobytes()) for a, b in zip(found.a, found.b, strict=True))
    assert found.compared == len(copies) - 1 and found.skipped > 0


def test_a_pile_of_unlike_hashes_is_split_and_still_finds_its_pairs() -> None:
    hashes = random_hashes(3000)
    hashes[1500:] = flipped(hashes[:1500], 3)
    found = Matching(max_distance=31, max_bucket=200).match(np.zeros(3000, np.uint64), entries_of(hashes))
    unique = {(a.tobytes(), b.tobytes()) for a, b in zip(found.a, found.b, strict=True)}
    assert len(unique) > 1200
    assert found.compared < 3000 * 2999 // 4
