import numpy as np
import pytest
from scipy import stats

from jobs.commands.dedup.verify.search_recall import SearchRecall
from jobs.lake import tables
from jobs.lake.lake import Lake
from tests.builders.hash_lakes import Picture, hashes, mixture, near, plain_greedy, quality_rows, run


@pytest.mark.slow
def test_the_union_of_several_clusterings_finds_nearly_all_pairs(lake: Lake) -> None:
    pictures = mixture()
    removed = run(lake, pictures, "dedup.method=clusters", "dedup.clusterings=4")
    *by_count, quality = quality_rows(lake)
    assert quality.method == "clusters" and quality.clusterings == 4 and quality.bands is None
    assert quality.recall > 0.9 and len(removed) > 50
    assert {method for _, _, method in removed.values()} == {"clusters", "exact"}
    assert [row.clusterings for row in by_count] == [1, 2, 3, 4] and not any(row.whole for row in by_count)
    assert [row.found_pairs for row in by_count] == sorted(row.found_pairs for row in by_count)
    assert (by_count[3].found_pairs, by_count[3].compared) == (quality.found_pairs, quality.compared)
    both = run(lake, pictures, "dedup.method=both", "dedup.clusterings=2")
    assert set(both) == {i for i in plain_greedy(pictures) if {p.image_id: p for p in pictures}[i].passed}
    *again, whole = quality_rows(lake)
    # The first clustering of two is the first of four, and bands find more than two clusterings.
    assert [(row.found_pairs, row.compared) for row in again] == [(r.found_pairs, r.compared) for r in by_count[:2]]
    assert whole.method == "both" and whole.recall == 1.0 and whole.compared > again[1].compared
    run(lake, pictures, "dedup.method=clusters", "dedup.clusterings=1")
    (one, alone) = quality_rows(lake)
    assert one.found_pairs == alone.found_pairs == by_count[0].found_pairs < quality.found_pairs


@pytest.mark.slow
def test_pairs_above_the_threshold_are_counted_and_the_nearest_are_shown(lake: Lake) -> None:
    bases = hashes(30, seed=3)
    pictures = [Picture(2 * i, base.tobytes(), width=200, passed=i > 2) for i, base in enumerate(bases)]
    pictures += [Picture(2 * i + 1, near(base, 25 + i, seed=i).tobytes()) for i, base in enumerate(bases)]
    removed = run(lake, pictures)
    distances_seen = {row.distance: row for row in lake.read(tables.DEDUP_DISTANCES).collect()}
    # 25 to 54 bits: the threshold is 31, and pairs are counted up to 55.
    assert set(distances_seen) == set(range(25, 55))
    assert all(row.exhaustive_pairs == 1 for row in distances_seen.values())
    assert {bits for bits, row in distances_seen.items() if row.found_pairs} == set(range(25, 32))
    misses = {(row.a_id, row.b_id, row.distance) for row in lake.read(tables.NEAR_MISSES).collect()}
    assert misses == {(pictures[i].image_id, pictures[30 + i].image_id, 25 + i) for i in range(7, 30)}
    assert not {end for a, b, _ in misses for end in (a, b)} & set(removed)


@pytest.mark.slow
def test_both_images_of_a_near_miss_are_kept(lake: Lake) -> None:
    first, other = hashes(2)
    pictures = [
        Picture(1, first.tobytes(), width=300),
        Picture(2, near(first, 10, 1).tobytes(), width=200),  # a copy of the first
        Picture(3, other.tobytes(), passed=False),
        Picture(4, near(other, 40, 2).tobytes()),
    ]
    flat = np.unpackbits(first)
    flat[np.flatnonzero(np.unpackbits(np.frombuffer(pictures[1].hash, np.uint8)) != flat)] ^= 1
    flat[np.flatnonzero(np.unpackbits(first) == flat)[:40]] ^= 1
    pictures.append(Picture(5, np.packbits(flat).tobytes(), width=100))  # 40 bits from the copy, 50 from the first
    run(lake, pictures)
    misses = [(row.a_id, row.b_id, row.distance) for row in lake.read(tables.NEAR_MISSES).collect()]
    assert misses == [(pictures[0].image_id, pictures[4].image_id, 50)]
    counted = {row.distance: row.exhaustive_pairs for row in lake.read(tables.DEDUP_DISTANCES).collect()}
    assert counted == {10: 1, 40: 2, 50: 1}


@pytest.mark.slow
@pytest.mark.parametrize("count", [0, 1, 3])
def test_clusters_work_with_very_few_hashes(lake: Lake, count: int) -> None:
    pictures = [Picture(i, bytes([i]) + bytes(31)) for i in range(count)]
    plain = [Picture(10 + i, bytes(32), quality=0) for i in range(3)]

    found = run(lake, pictures + plain, "dedup.method=clusters", "dedup.nearest=5")

    assert set(found) == {picture.image_id for picture in pictures[1:]}


def test_the_interval_of_recall_covers_grouped_pairs() -> None:
    generator = np.random.default_rng(0)
    # Hashes with many pairs; the pairs of some hashes are missed more often.
    pairs = np.minimum(generator.zipf(1.8, 20_000), 100)
    found = generator.binomial(pairs, np.where(generator.random(20_000) < 0.1, 0.9, 1.0))
    true = found.sum() / pairs.sum()
    samples = [generator.choice(20_000, 1000, replace=False) for _ in range(400)]
    measured = [SearchRecall.of(1000, pairs[chosen], found[chosen], 0.95) for chosen in samples]
    alone = [stats.binomtest(m.found, m.exhaustive).proportion_ci(0.95) for m in measured]

    assert np.mean([m.low <= true <= m.high for m in measured]) > 0.88
    assert np.mean([ci.low <= true <= ci.high for ci in alone]) < 0.7
