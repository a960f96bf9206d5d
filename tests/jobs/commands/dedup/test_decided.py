"""Decisions of people in `dedup`: kept images are never removed, and a lake that ran before equals a fresh one."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup import earlier_run
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime.scratch import Scratch
from tests.builders.hash_lakes import (
    Picture,
    hashes,
    job_of,
    mixture,
    near,
    pair_rows,
    plain_greedy,
    quality_rows,
    removed,
    run,
    verdicts_of,
)
from tests.builders.lake_rows import write_rows


def decide(
    lake: Lake, pictures: list[Picture], changed: list[Picture], *overrides: str
) -> dict[str, tuple[str, int, str]]:
    """Writes new decisions on some images and the verdicts that follow, and deduplicates again."""
    at = datetime.now(UTC)
    rows = [
        (p.image_id, "keep" if p.decided else "drop" if not p.passed else "withdrawn", "w", "a", at) for p in changed
    ]
    write_rows(lake, tables.DECISIONS, rows)
    write_rows(lake, tables.VERDICTS, verdicts_of(pictures), Recipe("filter"), mode="overwrite")
    dedup.run(job_of(lake, *overrides))
    return removed(lake)


def with_decisions(pictures: list[Picture], kept: set[int], dropped: set[int]) -> list[Picture]:
    return [
        replace(p, decided=True, passed=True)
        if p.number in kept
        else replace(p, passed=False)
        if p.number in dropped
        else p
        for p in pictures
    ]


def group() -> list[Picture]:
    """Returns a group whose best image is the first, and a single image."""
    base, other = hashes(2)
    copies = [Picture(2 + i, near(base, 4 + i, seed=i).tobytes(), 300 - i) for i in range(3)]
    return [Picture(1, base.tobytes(), 900), *copies, Picture(9, other.tobytes())]


def test_kept_images_rank_first_and_a_pair_of_them_stays(lake: Lake) -> None:
    pictures = with_decisions(group(), kept={3, 4}, dropped=set())

    found = run(lake, pictures)

    assert set(found) == {pictures[0].image_id, pictures[1].image_id}
    assert {keeper for keeper, _, _ in found.values()} <= {pictures[2].image_id, pictures[3].image_id}
    quality = quality_rows(lake)[-1]
    assert quality.decided == 1 and quality.both_kept == 0
    result = lake.snapshot().recipe(tables.DUPLICATES).result  # type: ignore[union-attr]
    assert result["pairs that people keep by decision"] == 1 and result["kept"] == 3


def test_kept_repeats_of_one_hash_stay(lake: Lake) -> None:
    base = hashes(1)[0].tobytes()
    pictures = [Picture(1, base, 900), Picture(2, base, decided=True), Picture(3, base, 5, decided=True)]

    assert run(lake, pictures) == {pictures[0].image_id: (pictures[1].image_id, 0, "exact")}
    assert quality_rows(lake)[-1].decided == 1


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["independent", "component"])
def test_no_kept_image_is_removed_whatever_the_rule(lake: Lake, keep: str) -> None:
    pictures = with_decisions(mixture(), kept=set(range(0, 200, 3)), dropped=set(range(1, 200, 10)))
    by_id = {p.image_id: p for p in pictures}

    found = run(lake, pictures, f"dedup.keep={keep}")

    assert len(found) > 20 and not any(by_id[i].decided for i in found)
    assert all(keeper not in found and by_id[keeper].passed for keeper, _, _ in found.values())
    left = {i for i, p in by_id.items() if p.passed} - set(found)
    both = [(a, b) for a, b, _ in pair_rows(lake) if a in left and b in left]
    assert len(both) == quality_rows(lake)[-1].decided > 10
    assert all(by_id[a].decided and by_id[b].decided for a, b in both)
    if keep == "independent":
        assert set(found) == {i for i in plain_greedy(pictures) if by_id[i].passed}


# Kept and dropped images by number, run after run. The first one was removed as a duplicate; then all is taken back.
STEPS: list[tuple[set[int], set[int]]] = [({4}, set()), (set(), {1}), (set(), set())]


@pytest.mark.slow
def test_after_each_change_of_decisions_the_result_equals_a_fresh_run(lake: Lake) -> None:
    pictures = group()
    results = {str(STEPS[-1]): run(lake, pictures)}
    before = STEPS[-1]
    for now in STEPS:
        judged = with_decisions(pictures, *now)
        changed = [p for p in judged if p.number in before[0] | before[1] | now[0] | now[1]]
        if str(now) not in results:
            results[str(now)] = run(Lake(lake.spark, f"{lake.uri}/fresh{len(results)}"), judged)

        assert decide(lake, judged, changed) == results[str(now)]
        before = now
    assert len({str(sorted(result.items())) for result in results.values()}) == len(STEPS)


@pytest.mark.slow
def test_changed_decisions_in_a_large_lake_equal_a_fresh_run(lake: Lake) -> None:
    pictures, generator = mixture(), np.random.default_rng(3)
    kept = set(generator.choice(len(pictures), 40, replace=False).tolist())
    dropped = set(generator.choice(len(pictures), 40, replace=False).tolist()) - kept
    run(lake, pictures)
    judged = with_decisions(pictures, kept, dropped)
    # One in two is taken back.
    final = with_decisions(pictures, {i for i in kept if i % 2}, {i for i in dropped if i % 2})
    for step, changed in ((judged, kept | dropped), (final, {i for i in kept | dropped if not i % 2})):
        assert decide(lake, step, [p for p in step if p.number in changed]).keys() == {
            i for i in plain_greedy(step) if {p.image_id: p for p in step}[i].passed
        }
    other = Lake(lake.spark, f"{lake.uri}/whole")
    assert removed(lake) == run(other, final) and pair_rows(lake) == pair_rows(other)


@pytest.mark.slow
def test_images_of_other_groups_stay_when_a_decision_is_made(lake: Lake) -> None:
    base, other = hashes(2, seed=4)
    old, better = Picture(1, base.tobytes(), 100), Picture(2, near(base, 5, 1).tobytes(), 900)
    copy, best = Picture(3, other.tobytes(), 100), Picture(4, near(other, 5, 1).tobytes(), 900)
    run(lake, [old, copy, best])
    grown = [old, copy, best, better]
    write_rows(lake, tables.IMAGES, [(better.image_id, "2", "s", better.caption, b"", 900, 100, "PNG", "{}", 0)])
    signals = lake.read(tables.SIGNALS).collect()[0]
    row = (better.image_id, better.hash, 100, signals.encoder, [1.0], better.hash, "2", None)
    write_rows(lake, tables.SIGNALS, [row])
    judged = with_decisions(grown, {3}, set())

    assert set(decide(lake, judged, [judged[1]])) == {better.image_id, best.image_id}


@pytest.mark.slow
def test_copies_of_a_popular_image_that_people_keep_are_compared_with_everything(lake: Lake) -> None:
    base, crowd = hashes(1)[0], 60
    copies = [Picture(i, near(base, 14, seed=i).tobytes(), 500 - i) for i in range(1, 120)]
    singles = [Picture(1000 + i, row.tobytes()) for i, row in enumerate(hashes(20, seed=8))]
    # Near one copy, but not near the popular image.
    beyond = Picture(2000, near(np.frombuffer(copies[7].hash, np.uint8), 24, seed=99).tobytes(), 5)
    pictures = with_decisions([Picture(0, base.tobytes(), 900), *copies, *singles, beyond], {8, 20, 21}, set())

    found = run(lake, pictures, f"dedup.max_bucket={crowd}")

    assert set(found) == plain_greedy(pictures) and found[beyond.image_id][0] == copies[7].image_id
    assert any(by == "popular" for _, _, by in found.values())


def test_images_outside_groups_with_a_decision_are_not_new(spark: SparkSession, tmp_path: Path) -> None:
    images = spark.createDataFrame([(i,) for i in "abcdefg"], "image_id string")
    pairs = spark.createDataFrame([("a", "b"), ("b", "c"), ("d", "e")], "a_id string, b_id string")
    decided = spark.createDataFrame([("c",), ("f",)], "image_id string")

    with Scratch(spark, str(tmp_path)) as scratch:
        left = earlier_run._outside_groups(images, pairs, decided, scratch)
        assert sorted(row.image_id for row in left.collect()) == ["d", "e", "g"]
