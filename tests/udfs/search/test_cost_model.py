"""The estimates of the cost model agree with counted entries, candidates and recall."""

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from udfs.hashes.minhash import Bands, choose_bands
from udfs.search.cost_model import cheapest, cluster_cost, minhash_cost, one_level, two_levels
from udfs.search.lsh import Matching
from udfs.search.packing import BandLayout, EachBucket, Packing

COUNT = 20_000


def hashes_with_spread(strength: float) -> NDArray[np.uint8]:
    """Returns random hashes; with a strength above 0, their bits depend on 16 hidden numbers."""
    generator = np.random.default_rng(0)
    hidden, own = (generator.standard_normal((COUNT, width)) for width in (16, 256))
    directions = generator.standard_normal((16, 256))
    directions /= np.linalg.norm(directions, axis=0)
    return np.packbits(np.sqrt(1 - strength) * own + np.sqrt(strength) * (hidden @ directions) > 0, axis=1)


def spread(hashes: NDArray[np.uint8]) -> float:
    a, b = np.random.default_rng(1).integers(0, len(hashes), (2, 100_000))
    apart = np.bitwise_count(hashes[a] ^ hashes[b]).sum(axis=1, dtype=np.int64)[a != b]
    return float(apart.std())


@pytest.mark.parametrize(("strength", "width"), [(0.0, 8.0), (0.3, 10.0)])
@pytest.mark.parametrize("bands", [Bands(12, 8), Bands(20, 10)])
def test_entries_and_candidates_are_those_of_a_search(strength: float, width: float, bands: Bands) -> None:
    hashes = hashes_with_spread(strength)
    assert abs(spread(hashes) - width) < 0.3
    ranks, known = np.arange(COUNT), np.zeros(COUNT, np.bool_)
    rows = pa.record_batch({"hash": [row.tobytes() for row in hashes], "rank": ranks, "known": known})
    packed = list(Packing(BandLayout(bands, 1, 1))(iter([rows])))

    found = pa.Table.from_batches(list(EachBucket(Matching(31, 10**6))(iter(packed))))

    cost = minhash_cost(bands, COUNT, 31, spread(hashes))
    moved = sum(batch.column(name).nbytes for batch in packed for name in ("keys", "entries"))
    assert cost.entries == COUNT * bands.bands
    assert cost.shuffled <= moved < 1.01 * cost.shuffled
    compared = sum(filter(None, found["compared"].to_pylist()))
    assert 0.7 < compared / cost.candidates < 1.4


def test_the_cheapest_bands_reach_the_recall() -> None:
    for name in ("minhash", "bits", "probes"):
        cost = cheapest(name, 1_000_000, 31, 0.99)
        assert cost is not None and cost.recall is not None and 0.99 <= cost.recall < 0.995


def test_candidates_grow_with_the_square_of_the_hashes() -> None:
    few, many = (minhash_cost(choose_bands(count, 54, 0.99), count, 54) for count in (10**6, 650_000_000))
    # The number of candidates grows with the square of the hashes, if the bands stay as they are.
    same = minhash_cost(Bands(33, 10), 2_000_000, 31).candidates / minhash_cost(Bands(33, 10), 1_000_000, 31).candidates
    assert abs(same - 4) < 0.001
    assert 5e13 < many.candidates < 3e14 and few.per_hash(10**6) < 512 < many.per_hash(650_000_000)


def test_two_levels_compare_a_hash_with_fewer_centroids() -> None:
    count = 650_000_000
    one, two = (cluster_cost(count, 512, 5, 1, levels) for levels in (one_level(count), two_levels(count, 25_000)))
    assert one.entries == two.entries == 5 * count and two.core_hours < one.core_hours / 5
    each = two_levels(count, 25_000)
    assert abs(count / (each[0] * each[1]) / 25_000 - 1) < 0.05
    # Each hash is compared with half of its cluster.
    assert abs(two.candidates / (5 * count * 25_000 / 2) - 1) < 0.05
