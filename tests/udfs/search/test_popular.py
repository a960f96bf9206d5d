import numpy as np
import pyarrow as pa
import pytest

from tests.builders.hashes import entries_of, flipped, random_hashes
from udfs.arrays.arrow import cells
from udfs.hashes.hamming import distances, words
from udfs.search.matching import Entries, packed_entries
from udfs.search.popular import BestNear, Resolving, crowded

LIMIT = 31


@pytest.fixture(scope="module")
def batches() -> list[pa.RecordBatch]:
    """Returns two clouds among single hashes, in random order, in batches of 100, of which one is empty."""
    clouds = [flipped(np.repeat(random_hashes(1, seed), 150, axis=0), 8, seed) for seed in (1, 2)]
    hashes = np.concatenate([*clouds, random_hashes(100, seed=3)])
    hashes = hashes[np.random.default_rng(0).permutation(len(hashes))]
    rows = pa.table({"hash": cells(hashes), "rank": np.arange(len(hashes)), "known": np.zeros(len(hashes), np.bool_)})
    parts = rows.to_batches(max_chunksize=100)
    return [parts[0], parts[0].slice(0, 0), *parts[1:]]


def packed_of(batches: list[pa.RecordBatch]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.concatenate([packed_entries(*(b.column(n) for n in ("hash", "rank", "known"))) for b in batches])


def near_of(batches: list[pa.RecordBatch]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    hashes = words(packed_of(batches)[:, :4].copy().view(np.uint8))
    return distances(hashes[:, None], hashes[None]) <= LIMIT


def test_the_best_near_each_centre_is_found_over_all_batches(batches: list[pa.RecordBatch]) -> None:
    centres = np.array([0, 7, 399])
    packed = packed_of(batches)
    (result,) = BestNear(packed[centres], LIMIT)(iter(batches))
    near = near_of(batches)
    best = [int(np.flatnonzero(near[place])[0]) for place in centres]
    assert result.column("place").to_pylist() == [0, 1, 2] and result.column("rank").to_pylist() == best
    assert result.column("entry").to_pylist() == [packed[place].tobytes() for place in best]


def test_each_hash_loses_to_the_best_leader_in_range_and_leaders_to_none(
    batches: list[pa.RecordBatch],
) -> None:
    near = near_of(batches)
    first = {int(np.flatnonzero(row)[0]) for row in near}
    leaders = sorted(place for place in first if near[place].sum() > 1)
    result = pa.Table.from_batches(list(Resolving(packed_of(batches)[leaders[::-1]], LIMIT)(iter(batches)))).to_pylist()
    assert len(result) == 400 and len(leaders) >= 2
    for place, row in enumerate(result):
        better = [leader for leader in leaders if leader < place and near[leader, place]]
        assert row["rank"] == place and row["leader"] == (better[0] if better else None)
        assert (row["distance"] is None) == (not better) and (row["distance"] or 0) <= LIMIT
    assert sum(row["leader"] is not None for row in result) >= 298


def test_hashes_that_people_keep_lose_to_no_leader(batches: list[pa.RecordBatch]) -> None:
    decided, near = 200, near_of(batches)
    leader = int(np.flatnonzero(near.sum(axis=1) > 1)[0])
    resolving = Resolving(packed_of(batches)[[leader]], LIMIT, decided)
    rows = pa.Table.from_batches(list(resolving(iter(batches)))).to_pylist()
    lost = [row["rank"] for row in rows if row["leader"] is not None]
    matches = np.flatnonzero(near[leader])
    assert lost == matches[matches >= decided].tolist() and 0 < len(lost) < len(matches) - 1


def test_each_crowd_gives_one_centre_and_other_hashes_none(batches: list[pa.RecordBatch]) -> None:
    entries = Entries.unpacked(packed_of(batches))
    places = crowded(entries, LIMIT, needed=100, most=10)
    near = near_of(batches)
    assert len(places) == 2 and (near[places].sum(axis=1) >= 150).all() and not near[places[0], places[1]]
    assert len(crowded(entries, LIMIT, needed=100, most=1)) == 1
    assert not len(crowded(entries, LIMIT, needed=160, most=10))
    assert not len(crowded(entries_of(random_hashes(0)), LIMIT, needed=1, most=10))
