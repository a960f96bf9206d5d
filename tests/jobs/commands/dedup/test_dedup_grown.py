from typing import Any

import pytest

from jobs.commands.dedup import command as dedup
from jobs.lake import tables
from jobs.lake.lake import Lake, Table
from jobs.lake.recipe import Recipe
from tests.builders.hash_lakes import (
    Picture,
    grown,
    hashes,
    in_two_runs,
    job_of,
    mixture,
    near,
    pair_rows,
    plain_greedy,
    quality_rows,
    removed,
    run,
)
from tests.builders.lake_rows import write_rows


@pytest.mark.slow
def test_a_lake_that_grew_gives_the_same_result_as_one_run(lake: Lake) -> None:
    pictures = mixture()
    in_two = in_two_runs(lake, pictures, "dedup.keep_kept=false")
    pairs, compared = pair_rows(lake), lake.read(tables.DEDUP_QUALITY).collect()[0].compared
    other = Lake(lake.spark, f"{lake.uri}/whole")
    assert in_two == run(other, pictures, "dedup.keep_kept=false") and len(in_two) > 50
    assert pairs == pair_rows(other)
    # Old images are not compared with each other again.
    assert 0 < compared < 0.9 * other.read(tables.DEDUP_QUALITY).collect()[0].compared


@pytest.mark.slow
def test_kept_images_stay_when_better_copies_arrive(lake: Lake) -> None:
    base = hashes(2)
    old, better = Picture(1, base[0].tobytes(), 100), Picture(2, near(base[0], 5, 1).tobytes(), 900)
    other, repeat = Picture(3, base[1].tobytes(), 100), Picture(4, base[1].tobytes(), 900)
    assert in_two_runs(lake, [old, better, other, repeat]) == {
        better.image_id: (old.image_id, 5, "lsh"),
        repeat.image_id: (other.image_id, 0, "exact"),
    }


@pytest.mark.slow
def test_another_distance_compares_all_images_again(lake: Lake) -> None:
    pictures = mixture()
    run(lake, pictures, "dedup.max_distance=10")
    job = job_of(lake, "dedup.max_distance=31")
    dedup.run(job)
    wide = {row.removed_id for row in lake.read(tables.DUPLICATES).collect()}
    assert wide == {i for i in plain_greedy(pictures) if {p.image_id: p for p in pictures}[i].passed}


def image_and_better_copy() -> list[Picture]:
    base = hashes(2)
    old, better = Picture(1, base[0].tobytes(), 100), Picture(2, near(base[0], 5, 1).tobytes(), 900)
    return [old, Picture(3, base[1].tobytes(), 100), better]


@pytest.mark.slow
def test_kept_images_stay_after_a_run_was_killed_before_its_last_table(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, other, better = image_and_better_copy()
    run(lake, [old, other])
    job, replace = grown(lake, [better]), lake.replace

    def replace_until(table: Table, *others: Any) -> None:
        if table == tables.DUPLICATES:
            raise KeyboardInterrupt
        replace(table, *others)

    with monkeypatch.context() as killed:
        killed.setattr(lake, "replace", replace_until)
        with pytest.raises(KeyboardInterrupt):
            dedup.run(job)

    dedup.run(job)

    assert removed(lake) == {better.image_id: (old.image_id, 5, "lsh")}


@pytest.mark.slow
def test_a_new_table_of_signals_is_compared_completely(lake: Lake) -> None:
    pictures = mixture()
    run(lake, pictures[::2])
    scored = lake.read(tables.SIGNALS).collect()
    lake.drop(tables.SIGNALS)
    job = grown(lake, pictures[1::2])
    write_rows(lake, tables.SIGNALS, scored)

    dedup.run(job)

    expected = plain_greedy(pictures) & {picture.image_id for picture in pictures if picture.passed}
    assert set(removed(lake)) == expected and quality_rows(lake)[-1].recall == 1.0


@pytest.mark.slow
def test_copies_of_a_popular_image_are_compared_after_it_is_filtered(lake: Lake) -> None:
    # So many repeats that only the pair of the best images is stored for each pair of hashes.
    base, crowd = hashes(1)[0], 80

    def pictures(passed: bool) -> list[Picture]:
        repeats = [Picture(i, base.tobytes(), width=500, passed=passed) for i in range(501)]
        copies = [near(base, 22, seed=i // 2).tobytes() for i in range(2 * crowd)]
        return repeats + [Picture(1000 + i, copy) for i, copy in enumerate(copies)]

    run(lake, pictures(passed=True), "dedup.max_bucket=60")
    verdicts = [(p.image_id, p.passed, []) for p in pictures(passed=False)]
    write_rows(lake, tables.VERDICTS, verdicts, Recipe("filter"), mode="overwrite")

    dedup.run(job_of(lake, "dedup.max_bucket=60"))

    expected = plain_greedy(pictures(passed=False)) & {p.image_id for p in pictures(passed=False) if p.passed}
    assert set(removed(lake)) == expected
