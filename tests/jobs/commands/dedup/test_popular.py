"""Copies are resolved against popular images, and the kept images are the same as without this step."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pyspark.sql import DataFrame, SparkSession

from jobs.commands.dedup.candidates import popular
from jobs.commands.dedup.candidates.popular import PopularConfig
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.scratch import Scratch
from tests.builders.hash_lakes import LIMIT, Picture, hashes, in_two_runs, near, plain_greedy, run
from udfs.hashes.hamming import distances, words

CROWD = 60


def cloud(base: NDArray[np.uint8], count: int, bits: int) -> list[bytes]:
    return [near(base, bits, seed=i).tobytes() for i in range(count)]


def pictures() -> list[Picture]:
    """Returns two narrow clouds, a wide one with members far from each other, and single images, in random ranks."""
    first, second, third, *singles = hashes(60, seed=3)
    rows = [*cloud(first, 150, 6), *cloud(second, 100, 9), *cloud(third, 120, 16), *(row.tobytes() for row in singles)]
    generator = np.random.default_rng(9)
    order = generator.permutation(len(rows))
    return [Picture(i, rows[place], int(generator.integers(1, 50)), passed=i % 9 > 0) for i, place in enumerate(order)]


def frame(spark: SparkSession, rows: list[bytes], partitions: int) -> DataFrame:
    listed = [(row, rank, False) for rank, row in enumerate(rows)]
    return spark.createDataFrame(listed, "hash binary, rank long, known boolean").repartition(partitions)


@pytest.mark.parametrize(("partitions", "clustered"), [(1, False), (5, True)])
def test_leaders_have_no_better_match_and_their_matches_are_resolved_against_them(
    spark: SparkSession, tmp_path: Path, partitions: int, clustered: bool
) -> None:
    rows = [picture.hash for picture in pictures()]
    with Scratch(spark, str(tmp_path)) as scratch:
        found = popular.split_popular(
            frame(spark, rows, partitions), len(rows), PopularConfig(LIMIT, CROWD, clustered), scratch
        )
        assert found is not None
        pairs = {row.b: (row.a, row.distance) for row in found.found.where("a is not null").collect()}
        rest = {row.rank for row in found.rest.collect()}
        assert found.resolved == len(pairs) > 300 and rest == set(range(len(rows))) - set(pairs)
        bits = words(np.stack([np.frombuffer(row, np.uint8) for row in rows]))
        apart = distances(bits[:, None], bits[None])
        leaders = {leader for leader, _ in pairs.values()}
        assert all(not (apart[leader, :leader] <= LIMIT).any() for leader in leaders)
        for rank in range(len(rows)):
            better = [leader for leader in sorted(leaders) if leader < rank and apart[leader, rank] <= LIMIT]
            assert (rank in pairs) == bool(better)
            if better:
                assert pairs[rank] == (better[0], apart[better[0], rank])
        (counts,) = found.found.where("a is null").collect()
        followers = np.unique([leader for leader, _ in pairs.values()], return_counts=True)[1]
        assert {row.clustering for row in found.found.collect()} == {0 if clustered else None}
        assert counts.compared == len(rows) * found.popular and counts.method == popular.POPULAR
        assert counts.skipped == (followers * (followers - 1) // 2).sum()


def test_without_popular_images_there_is_no_split(spark: SparkSession, tmp_path: Path) -> None:
    rows = [row.tobytes() for row in hashes(200)]
    with Scratch(spark, str(tmp_path)) as scratch:
        for crowd in (CROWD, 1000):
            assert (
                popular.split_popular(frame(spark, rows, 2), 200, PopularConfig(LIMIT, crowd, False), scratch) is None
            )


@pytest.mark.slow
def test_the_kept_images_equal_the_plain_greedy_algorithm(lake: Lake) -> None:
    removed = run(lake, pictures(), f"dedup.max_bucket={CROWD}")
    passed = {p.image_id for p in pictures() if p.passed}
    assert set(removed) == plain_greedy(pictures()) & passed
    assert sum(by == popular.POPULAR for _, _, by in removed.values()) > 200
    quality = lake.read(tables.DEDUP_QUALITY).where("whole").collect()[0]
    # Recall counts only the pairs that were searched, not those among resolved hashes.
    assert quality.recall > 0.98 and quality.both_kept == 0 and quality.skipped > 10_000


@pytest.mark.slow
def test_followers_are_compared_again_when_their_leader_loses_to_a_new_image(lake: Lake) -> None:
    base = hashes(1)[0]
    followers = [Picture(2 * i, row, width=100) for i, row in enumerate(cloud(base, 150, 8))]
    leader = Picture(300, base.tobytes(), width=500)
    flat = np.unpackbits(base)
    flat[:28] ^= 1
    better = Picture(301, np.packbits(flat).tobytes(), width=900)
    every_image = [p for pair in zip([*followers, leader], hashes(151, seed=8), strict=True) for p in (
        pair[0], Picture(1001 + pair[0].number, pair[1].tobytes()))]  # fmt: skip
    every_image[-1] = better
    settings = ("dedup.keep_kept=false", f"dedup.max_bucket={CROWD}")
    grown = in_two_runs(lake, every_image, *settings)
    assert set(grown) == plain_greedy(every_image)
    assert grown[leader.image_id][0] == better.image_id
