"""What people say of pairs: which answer counts, which pairs are the random sample, and the shares by distance."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from pyspark.sql import SparkSession

from jobs.facts.pairs import sample
from jobs.facts.pairs.precision import PairLabels, PairShare, answers, pair_labels, shares
from jobs.facts.pairs.sample import other_files, place, removals
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime.config import Settings
from models.stats import thresholds
from tests.builders.lake_rows import write_rows

NOW = datetime(2026, 1, 2, tzinfo=UTC)
SEED = 5


def ends(number: int) -> tuple[str, str]:
    """The ids of pair `number`: the removed image is the second one of even pairs and the first one of odd pairs."""
    return f"a{number:03d}", f"b{number:03d}"


def removed_row(number: int, distance: int = 20) -> tuple[str, str, int, str]:
    a, b = ends(number)
    return (b, a, distance, "lsh") if number % 2 == 0 else (a, b, distance, "lsh")


def label(number: int, answer: str, who: str = "ann", minutes: int = 0, origin: str = "random") -> tuple[object, ...]:
    return *ends(number), answer, origin, who, NOW + timedelta(minutes=minutes)


def queued(numbers: Iterable[int], strategy: str = "random", seed: int | None = SEED) -> list[tuple[object, ...]]:
    return [(*ends(n), 20, strategy, "why", seed, i, f"batch {strategy}", NOW) for i, n in enumerate(numbers)]


def in_order(lake: Lake, seed: int = SEED) -> list[int]:
    """Returns the numbers of the removed pairs in the random order."""
    rows = removals(lake.read(tables.DUPLICATES)).orderBy(place(seed), "a_id").select("a_id").collect()
    return [int(row.a_id[1:]) for row in rows]


def write_duplicates(lake: Lake, distances: dict[int, int]) -> None:
    write_rows(lake, tables.DUPLICATES, [removed_row(n, d) for n, d in distances.items()], mode="overwrite")


def labels_of(lake: Lake, settings: Settings) -> PairLabels:
    return pair_labels(lake, answers(lake.read(tables.PAIR_LABELS), settings.labels.contradictions), max_distance=24)


def test_a_later_answer_of_a_person_counts_and_unsure_only_if_nobody_is_sure(spark: SparkSession) -> None:
    rows = [
        label(1, "same"), label(1, "different", minutes=1),
        label(2, "unsure", minutes=2), label(2, "same", "bob"),
        label(3, "same"), label(3, "unsure", minutes=1),
        label(4, "same"), label(4, "same", "bob", 1), label(4, "different", "cy", 2),
        label(5, "same"), label(5, "different", "bob", 1), label(5, "unsure", "cy", 2),
    ]  # fmt: skip
    labels = spark.createDataFrame(rows, tables.PAIR_LABELS.schema)

    newest, majority = (
        {int(row.a_id[1:]): row.answer for row in answers(labels, by).collect()} for by in ("newest", "majority")
    )

    assert newest == {1: "different", 2: "same", 3: "unsure", 4: "different", 5: "different"}
    assert majority == {**newest, 4: "same"}


def test_pairs_of_equal_files_need_no_label(spark: SparkSession) -> None:
    signals = spark.createDataFrame(
        [(f"{side}{n:03d}", "one" if n in (1, 2) else f"{side}{n}") for n in (1, 2, 3) for side in "ab"]
        + [("a004", None), ("b004", None)],
        "image_id string, content string",
    )
    pairs = spark.createDataFrame(
        [(*ends(n), d) for n, d in ((1, 0), (2, 3), (3, 0), (4, 0))], "a_id string, b_id string, distance int"
    )

    left = other_files(pairs, signals.unionByName(signals))  # signals of two encoders

    assert sorted(row.a_id for row in left.collect()) == ["a002", "a003", "a004"]


def test_the_sample_is_the_order_up_to_the_last_random_answer(lake: Lake, settings: Settings) -> None:
    write_duplicates(lake, dict.fromkeys(range(40), 20))
    order = in_order(lake)
    drawn = order[:6]
    # The pair in the middle of the order is near the threshold: it is labelled and must not extend the sample.
    write_rows(lake, tables.PAIR_QUEUE, [*queued(drawn), *queued([order[20], order[1]], "threshold", None)])
    said = dict(zip(drawn, ("same", "same", "different", "unsure", None, "same"), strict=True))
    rows = [label(n, answer) for n, answer in said.items() if answer]
    write_rows(lake, tables.PAIR_LABELS, [*rows, label(order[20], "different", origin="threshold")])

    found = labels_of(lake, settings)

    assert (found.same, found.different, found.unsure, found.waiting, found.undrawn) == (3, 1, 1, 1, 0)
    assert found.sampled == 6 and found.unpaired == 0
    share, low, high = found.precision
    assert share == 3 / 4
    assert (low, high) == (thresholds.interval(3, 6, 0.95)[0], thresholds.interval(5, 6, 0.95)[1])
    assert found.shares == (PairShare(17, 24, 3, 2, 1),)
    assert {row.removed_id for row in found.wrong} == {removed_row(n)[0] for n in (drawn[2], order[20])}


def test_pairs_of_a_later_run_are_in_the_sample_and_those_that_are_gone_are_not(lake: Lake, settings: Settings) -> None:
    write_duplicates(lake, dict.fromkeys(range(30), 20))
    drawn = in_order(lake)[:8]
    write_rows(lake, tables.PAIR_QUEUE, queued(drawn))
    write_rows(lake, tables.PAIR_LABELS, [label(n, "same") for n in drawn])
    write_duplicates(lake, dict.fromkeys([n for n in range(60) if n != drawn[0]], 20))
    order = in_order(lake)
    came = [n for n in order[: order.index(drawn[-1])] if n not in drawn]
    assert came  # else the test shows nothing

    found = labels_of(lake, settings)

    assert (found.same, found.undrawn, found.waiting, found.unpaired) == (7, len(came), 0, 1)
    assert found.precision[1] == pytest.approx(thresholds.interval(7, 7 + len(came), 0.95)[0])
    assert found.precision[2] == 1.0


def test_near_misses_count_only_by_distance(lake: Lake, settings: Settings) -> None:
    write_duplicates(lake, {1: 3, 2: 24})
    write_rows(lake, tables.NEAR_MISSES, [(*ends(7), 25), (*ends(8), 40)])
    write_rows(lake, tables.PAIR_QUEUE, queued([1, 2, 7, 8], "threshold", None))
    said = {1: "same", 2: "different", 7: "same", 8: "unsure"}
    write_rows(lake, tables.PAIR_LABELS, [label(n, answer, origin="threshold") for n, answer in said.items()])

    found = labels_of(lake, settings)

    assert found.sampled == 0
    assert found.shares == (
        PairShare(1, 8, 1, 0, 0), PairShare(17, 24, 0, 1, 0), PairShare(25, 32, 1, 0, 0), PairShare(33, 40, 0, 0, 1),
    )  # fmt: skip
    assert [row.removed_id for row in found.wrong] == [removed_row(2)[0]]


def test_pairs_told_apart_count_neither_in_the_precision_nor_by_distance(lake: Lake, settings: Settings) -> None:
    write_duplicates(lake, {1: 3})
    write_rows(lake, tables.TOLD_APART, [(*ends(5), 20, False)])
    write_rows(lake, tables.PAIR_QUEUE, [*queued([1]), *queued([5], "told-apart")])
    write_rows(
        lake, tables.PAIR_LABELS, [label(1, "same"), label(5, "different", origin="told-apart"), label(9, "same")]
    )

    found = labels_of(lake, settings)

    assert (found.same, found.sampled, found.unpaired) == (1, 1, 1)
    assert found.shares == (PairShare(1, 8, 1, 0, 0),) and not found.wrong


def test_a_step_ends_at_the_threshold() -> None:
    counts = [(d, "same", 1) for d in range(40)]

    found = shares(counts, 19)

    assert [(s.low, s.high, s.same) for s in found] == [
        (0, 3, 4), (4, 11, 8), (12, 19, 8), (20, 27, 8), (28, 35, 8), (36, 43, 4),
    ]  # fmt: skip


def test_the_share_by_distance_has_an_exact_interval() -> None:
    assert PairShare(0, 7, 8, 2, 0).measured == (0.8, *thresholds.interval(8, 10, 0.95))
    low, high = PairShare(0, 7, 8, 2, 5).measured[1:]
    assert (low, high) == (thresholds.interval(8, 15, 0.95)[0], thresholds.interval(13, 15, 0.95)[1])


def test_no_answer_is_no_sample() -> None:
    assert PairLabels(0, 0, 0, 0, 0, (), 0, ()).sampled == 0


def test_later_draws_keep_the_seed_of_the_first(lake: Lake) -> None:
    queue = lake.read(tables.PAIR_QUEUE)
    assert sample.sample_seed(queue, 9) == 9
    write_rows(lake, tables.PAIR_QUEUE, queued([1], "threshold", None))
    assert sample.sample_seed(lake.read(tables.PAIR_QUEUE), 9) == 9
    write_rows(lake, tables.PAIR_QUEUE, queued([2]))
    assert sample.sample_seed(lake.read(tables.PAIR_QUEUE), 9) == SEED
