"""A pair is returned by the first band in which it agrees, and no pair is lost because of it."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from tests.builders.hashes import flipped, random_hashes
from udfs.hashes.hamming import words
from udfs.hashes.minhash import Bands, band_keys, share_early_band
from udfs.search.lsh import Completing, Matching
from udfs.search.packing import PACKED, BandLayout, EachBucket, Packing, Repacking

LIMIT = 31
BANDS = Bands(18, 6)


def rows_of(hashes: NDArray[np.uint8], known: int = 0) -> pa.RecordBatch:
    ranks = np.arange(len(hashes))
    flags = ranks >= len(hashes) - known
    return pa.record_batch({"hash": [row.tobytes() for row in hashes], "rank": ranks, "known": flags.tolist()})


def by_bucket(packed: list[pa.RecordBatch], function: Matching | Completing) -> pa.Table:
    return pa.Table.from_batches(list(EachBucket(function)(iter(packed))))


def pairs_of(found: pa.Table) -> Counter[tuple[int, int, int]]:
    pairs = found.filter(pc.is_valid(found["a"]))
    return Counter(zip(*(pairs[name].to_pylist() for name in ("a", "b", "distance")), strict=True))


def searched(rows: pa.RecordBatch, layout: BandLayout, max_bucket: int) -> tuple[pa.Table, pa.Table | None]:
    """Returns what the first search finds, and what the second one adds."""
    limits = LIMIT, max_bucket, 20_000
    found = by_bucket(list(Packing(layout)(iter([rows]))), Matching(*limits, layout=layout))
    omitting = found.filter(pc.is_valid(found["bucket"])).select(PACKED.names)
    if not omitting.num_rows:
        return found, None
    return found, by_bucket(list(Repacking(layout)(iter(omitting.to_batches()))), Completing(LIMIT))


def every_band(rows: pa.RecordBatch, layout: BandLayout, max_bucket: int) -> pa.Table:
    """Returns what all bands find, each on its own."""
    return by_bucket(list(Packing(layout)(iter([rows]))), Matching(LIMIT, max_bucket, 20_000))


def crowd(count: int, bits: int, seed: int) -> NDArray[np.uint8]:
    return np.unique(flipped(np.repeat(random_hashes(1, seed), count, axis=0), bits, seed), axis=0)


def pairs_at_many_distances(count: int) -> NDArray[np.uint8]:
    base = random_hashes(count, seed=5)
    near = np.concatenate([flipped(base[i::8], 2 + 4 * i, seed=i) for i in range(8)])
    return np.concatenate([base, near])


@pytest.mark.parametrize("count", [300, 3000])
@pytest.mark.parametrize("first", [0, 1, 7, 18])
def test_pairs_share_an_early_band_if_a_key_is_equal(count: int, first: int) -> None:
    left = random_hashes(count)
    right = flipped(left, 25)
    equal = band_keys(left, BANDS) == band_keys(right, BANDS)
    ends = (np.ascontiguousarray(words(hashes).T) for hashes in (left, right))
    assert np.array_equal(share_early_band(*ends, BANDS, first), equal[:, :first].any(axis=1))


def test_keys_of_some_bands_are_those_of_all() -> None:
    hashes = random_hashes(100)
    assert np.array_equal(band_keys(hashes, BANDS, 3, 8), band_keys(hashes, BANDS)[:, 3:8])


@pytest.mark.parametrize("layout", [BandLayout(BANDS, 1, 1), BandLayout(BANDS, 4, 1), BandLayout(BANDS, 1, 5)])
def test_each_pair_is_returned_once(layout: BandLayout) -> None:
    rows = rows_of(pairs_at_many_distances(800), known=100)
    found, added = searched(rows, layout, 1000)
    every = every_band(rows, layout, 1000)
    assert pairs_of(found).keys() == pairs_of(every).keys() and len(pairs_of(found)) > 700
    assert set(pairs_of(found).values()) == {1} and added is None
    assert sum(pairs_of(every).values()) > 3 * len(pairs_of(found))
    assert pc.sum(found["compared"]) == pc.sum(every["compared"])


@pytest.mark.parametrize("layout", [BandLayout(BANDS, 1, 1), BandLayout(BANDS, 4, 1), BandLayout(BANDS, 1, 5)])
@pytest.mark.parametrize("max_bucket", [100, 20_000])
def test_pairs_that_a_large_or_crowded_run_omits_are_returned_by_other_bands(
    layout: BandLayout, max_bucket: int
) -> None:
    # Copies far from their centre: few agree in a band, and those of one band are other ones in the next.
    hashes = np.concatenate([crowd(700, 12, seed=1), crowd(400, 14, seed=2), pairs_at_many_distances(300)])
    rows = rows_of(hashes[np.random.default_rng(0).permutation(len(hashes))], known=200)
    found, added = searched(rows, layout, max_bucket)
    assert added is not None
    every = pairs_of(every_band(rows, layout, max_bucket))
    assert pairs_of(found).keys() < every.keys()
    assert pairs_of(found).keys() | pairs_of(added).keys() == every.keys()
    assert (pc.sum(found["skipped"]).as_py() or 0) > 0 and not pc.sum(added["compared"]).as_py()


def test_the_number_of_a_bucket_tells_its_bands() -> None:
    keys = band_keys(random_hashes(400), BANDS)
    for layout in (BandLayout(BANDS, 4, 1), BandLayout(BANDS, 1, 5), BandLayout.for_data(2_500_000, BANDS)):
        buckets = layout.of_keys(keys, 0)
        assert np.array_equal(np.unique(buckets), np.arange(layout.buckets))
        for bucket in range(layout.buckets):
            bands = np.unique(np.nonzero(buckets == bucket)[1])
            assert bands[0] == layout.first_band(bucket) and len(bands) <= layout.together
        assert np.array_equal(layout.of_keys(keys[:, 7:], 7), buckets[:, 7:])


def test_packing_makes_batches_of_bounded_size() -> None:
    layout = BandLayout.for_data(10**9, Bands(971, 14))
    sizes = [batch.nbytes for batch in Packing(layout, 0, 200)(iter([rows_of(random_hashes(20_000))]))]
    assert sum(sizes) > 200 * 20_000 * 44 and len(sizes) > 1 and max(sizes) < 1.3 * (32 << 20)


def test_groups_of_bands_pack_what_all_bands_pack() -> None:
    layout = BandLayout(BANDS, 4, 1)
    rows = rows_of(random_hashes(500))
    parts = [
        by_bucket(list(Packing(layout, first, first + 8)(iter([rows]))), Matching(200, 10**6)) for first in (0, 8, 16)
    ]
    whole = by_bucket(list(Packing(layout)(iter([rows]))), Matching(200, 10**6))
    assert pairs_of(pa.concat_tables(parts)) == pairs_of(whole)
