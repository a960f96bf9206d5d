"""Pairs whose thumbnails show different images: which are stored, how many, and what a lake that grows keeps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup.threshold import choice
from jobs.commands.dedup.verify import told_apart
from jobs.commands.dedup.verify.told_apart import ToldApart, sampled, without_removed
from jobs.facts.pairs.sample import place
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder
from tests.builders.hash_lakes import Picture, fill, hashes, near, pair_rows, quality_rows, removed, rows_of
from tests.builders.lake_rows import write_rows
from tests.jobs.commands.dedup import test_looks
from tests.jobs.commands.dedup.test_dedup_strict import clock
from tests.jobs.commands.dedup.test_looks import copies_of, impostors_of, printed, scenes

SEED = 3
FAR = 76  # bits, beyond the safe distance of a few images by the model card
BY_SPARK = "dedup.in_memory=0"

Rows = Sequence[tuple[int, bool]]


def pairs_of(spark: SparkSession, rows: Rows) -> DataFrame:
    """Returns pairs: their numbers, and whether they are from the earlier sample."""
    made = [(f"a{n:04d}", f"b{n:04d}", n, False, known) for n, known in rows]
    return spark.createDataFrame(made, "a_id string, b_id string, distance int, mirrored boolean, known boolean")


def earlier_of(spark: SparkSession, numbers: Sequence[int], count: int) -> ToldApart:
    return ToldApart(pairs_of(spark, [(n, True) for n in numbers]).drop("known"), count)


def in_order(spark: SparkSession, numbers: Sequence[int]) -> list[int]:
    rows = pairs_of(spark, [(n, False) for n in numbers])
    return [row.distance for row in rows.orderBy(place(SEED)).collect()]


def drawn(found: ToldApart) -> set[int]:
    assert found.sample.schema == tables.TOLD_APART.schema
    return {row.distance for row in found.sample.collect()}


def test_the_sample_is_the_beginning_of_the_random_order(spark: SparkSession) -> None:
    rows = [(n, False) for n in range(100)]
    few, all_ = (sampled(pairs_of(spark, rows), None, SEED, most) for most in (30, 100))
    assert drawn(few) == set(in_order(spark, range(100))[:30]) and few.count == 100
    assert drawn(all_) == set(range(100)) and all_.count == 100
    assert drawn(sampled(pairs_of(spark, rows).repartition(7), None, SEED, 30)) == drawn(few)
    assert drawn(sampled(pairs_of(spark, rows), None, SEED + 1, 30)) != drawn(few)


def test_the_sample_of_an_earlier_run_stays_as_far_as_it_holds(spark: SparkSession) -> None:
    order = in_order(spark, range(200))
    old, new = [n for n in order if n < 100], [n for n in order if n >= 100]
    stored = old[:40]
    held = stored[:10] + stored[20:]  # ten of the forty pairs no longer hold
    last = order.index(stored[-1])
    rows = [*((n, True) for n in held), *((n, False) for n in new)]

    found = sampled(pairs_of(spark, rows), earlier_of(spark, stored, 100), SEED, 60)

    # No new pair comes after the end of the earlier sample: the old ones there are not known.
    before_end = [n for n in order[: last + 1] if n in (*held, *new)]
    assert drawn(found) == set(before_end[:60])
    assert found.count == 100 + 75
    small = sampled(pairs_of(spark, rows), earlier_of(spark, stored, 100), SEED, 20)
    assert drawn(small) == set(before_end[:20]) and small.count == 175


def test_if_all_pairs_were_stored_the_number_stays_exact(spark: SparkSession) -> None:
    rows = [*((n, True) for n in range(7)), *((n, False) for n in range(50, 60))]
    found = sampled(pairs_of(spark, rows), earlier_of(spark, range(9), 9), SEED, 50)
    assert drawn(found) == {*range(7), *range(50, 60)} and found.count == 17
    few = sampled(pairs_of(spark, rows), earlier_of(spark, range(9), 9), SEED, 5)
    assert len(drawn(few)) == 5 and few.count == 17


def test_no_pair_is_told_apart(spark: SparkSession) -> None:
    found = sampled(pairs_of(spark, []), None, SEED)
    assert drawn(found) == set() and found.count == 0
    gone = sampled(pairs_of(spark, []), earlier_of(spark, range(4), 40), SEED)
    assert drawn(gone) == set() and gone.count == 0


def test_pairs_of_removed_images_are_left_out(spark: SparkSession) -> None:
    rows = pairs_of(spark, [(1, False), (2, False), (3, False)])
    removed_ids = spark.createDataFrame([("a0001",), ("b0003",)], "removed_id string")
    assert [row.distance for row in without_removed(rows, removed_ids).collect()] == [2]


# The command --------------------------------------------------------------------------------------------------------


def job_of(lake: Lake, *overrides: str) -> Job:
    """Returns a job whose search misses hardly a pair."""
    return test_looks.job_of(lake, "dedup.recall=0.999", *overrides)


def originals(count: int = 60) -> list[Picture]:
    shown = scenes(count, seed=1)
    return [
        Picture(i, one.tobytes(), 900 - i, thumbnail=shown[i]) for i, one in enumerate(hashes(count, seed=3))
    ]  # fmt: skip


def run(job: Job, pictures: Sequence[Picture]) -> None:
    fill(job.lake, list(pictures), current_encoder(job).digest)
    dedup.run(job)


def grow(job: Job, pictures: Sequence[Picture]) -> None:
    for table, rows in rows_of(list(pictures), current_encoder(job).digest).items():
        write_rows(job.lake, table, rows)
    dedup.run(job)


def stored(lake: Lake) -> set[tuple[str, str, int]]:
    rows = lake.read(tables.TOLD_APART).collect()
    assert all(row.a_id < row.b_id and row.mirrored is False for row in rows)
    return {(row.a_id, row.b_id, row.distance) for row in rows}


def ids(first: Picture, second: Picture) -> tuple[str, str, int]:
    return (*sorted((first.image_id, second.image_id)), FAR)


@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=1000"])
def test_pairs_told_apart_are_stored_if_both_images_are_kept(lake: Lake, where: str) -> None:
    own = originals()
    copies = copies_of(own[:8], FAR, 1_000)
    others = impostors_of(own[10:20], FAR, 2_000)
    filtered = [replace(others[0], passed=False), *others[1:]]
    # A copy of the second impostor is larger, so the impostor is removed.
    larger = replace(copies_of(filtered[1:2], 3, 3_000)[0], width=5_000)

    job = job_of(lake, where)
    run(job, [*own, *copies, *filtered, larger])

    assert filtered[1].image_id in removed(lake)
    assert {ids(a, b) for a, b in zip(own[12:20], filtered[2:], strict=True)} <= stored(lake)
    gone = {filtered[0].image_id, *removed(lake)}
    assert not {end for row in stored(lake) for end in row[:2]} & gone
    assert not {row[:2] for row in stored(lake)} & {row[:2] for row in pair_rows(lake)}
    whole = quality_rows(lake)[-1]
    assert whole.told_apart > whole.told_apart_kept == len(stored(lake))


def test_a_distance_that_is_set_stores_nothing(lake: Lake) -> None:
    run(job_of(lake, "dedup.max_distance=31"), [*originals(10), *impostors_of(originals(3), 20, 2_000)])
    assert stored(lake) == set() and lake.exists(tables.TOLD_APART)
    assert quality_rows(lake)[-1].told_apart_kept is None


def test_strict_mode_stores_pairs_of_equal_hashes(lake: Lake) -> None:
    own = originals(10)
    clocks = [replace(own[0], thumbnail=clock(1)), Picture(2_000, own[0].hash, 10, thumbnail=clock(3))]
    # In strict mode, nodes are told apart by the digests of their bytes, which have one length.
    pictures = [replace(one, content=f"{one.number:064x}") for one in [*clocks, *own[1:]]]
    run(job_of(lake, "dedup.strict=true"), pictures)
    assert stored(lake) == {(clocks[0].image_id, clocks[1].image_id, 0)}


@pytest.mark.slow
@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=1000"])
def test_a_lake_that_grows_keeps_the_sample(lake: Lake, where: str) -> None:
    own = originals()
    first, second = impostors_of(own[:20], FAR, 2_000), impostors_of(own[20:30], FAR, 4_000)
    run(job_of(lake, where), [*own, *first])
    before = stored(lake)
    # A larger copy of an original takes its place, and one with the same hash becomes the image of its pair.
    larger = replace(copies_of(own[:1], 3, 5_000)[0], width=5_000)
    same_hash = replace(own[1], number=6_000, width=6_000)

    grow(job_of(lake, where, "dedup.keep_kept=false"), [*second, larger, same_hash])

    after = stored(lake)
    assert {ids(a, b) for a, b in zip(own[20:30], second, strict=True)} <= after - before
    assert own[0].image_id in removed(lake) and own[1].image_id in removed(lake)
    assert ids(own[0], first[0]) in before - after
    assert ids(own[1], first[1]) in before - after and ids(same_hash, first[1]) in after
    assert {row for row in before if not {own[0].image_id, own[1].image_id} & set(row)} <= after
    whole = quality_rows(lake)[-1]
    assert whole.told_apart_kept == len(after) and whole.looked < 40
    other = Lake(lake.spark, f"{lake.uri}/whole")
    run(job_of(other, where), [*own, *first, *second, larger, same_hash])
    assert stored(other) == after


@pytest.mark.slow
@pytest.mark.parametrize("where", [BY_SPARK, "dedup.in_memory=1000"])
def test_a_lake_of_an_earlier_version_is_compared_again_and_keeps_its_images(lake: Lake, where: str) -> None:
    own = originals()
    first = impostors_of(own[:20], FAR, 2_000)
    copies = copies_of(own[30:40], 5, 3_000)
    run(job_of(lake, where), [*own, *first, *copies])
    before, lost = stored(lake), removed(lake)
    lake.drop(tables.TOLD_APART)
    job = job_of(lake, where)
    better = [replace(one, number=one.number + 1_000, width=5_000) for one in copies_of(own[30:31], 4, 4_000)]
    grow(job, better)
    assert before <= stored(lake)
    assert set(lost) <= set(removed(lake)) and better[0].image_id in removed(lake)  # what was kept stays
    assert "stored no pairs that thumbnails told apart: compares all images again" in printed(job)


@pytest.mark.slow
def test_mirrored_pairs_are_told_apart_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_limits", lambda *given: choice.Limits(40, 80))
    own = originals(20)
    base = np.frombuffer(own[0].hash, np.uint8)
    mirrors = [row.tobytes() for row in hashes(20, seed=9)]
    own = [replace(p, mirror=m) for p, m in zip(own, mirrors, strict=True)]
    # Near the image in its own hash, and near another one by the hash of its mirror image.
    shown = scenes(2, 55)
    both = Picture(2_000, near(base, 70, 1).tobytes(), 10, thumbnail=shown[0], mirror=near(base, 60, 2).tobytes())
    turned = Picture(
        2_001, hashes(1, seed=44)[0].tobytes(), 10, thumbnail=shown[1],
        mirror=near(np.frombuffer(own[5].hash, np.uint8), 60, 3).tobytes(),
    )  # fmt: skip
    found = []
    for name, where in (("spark", BY_SPARK), ("memory", "dedup.in_memory=1000")):
        other = Lake(lake.spark, f"{lake.uri}/{name}")
        run(job_of(other, "dedup.mirrored=true", where), [*own, both, turned])
        found.append({tuple(row) for row in other.read(tables.TOLD_APART).collect()})
    assert found[0] == found[1]
    assert {(own[0].image_id, both.image_id, 70, False), (own[5].image_id, turned.image_id, 60, True)} <= found[0]
    assert len({row[:2] for row in found[0]}) == len(found[0])


def test_the_table_holds_as_many_pairs_as_its_description_says() -> None:
    assert f"{told_apart.MOST:,} at most" in tables.TOLD_APART.meaning
