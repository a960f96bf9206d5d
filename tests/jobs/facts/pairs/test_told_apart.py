"""What people say of pairs that thumbnails told apart: the sample, the share of copies, and how many copies stay."""

from datetime import timedelta

import pytest

from jobs.facts.pairs.precision import answers
from jobs.facts.pairs.sample import place
from jobs.facts.pairs.told_apart import ToldApart, told_apart
from jobs.lake import tables
from jobs.lake.lake import Lake
from models.stats import thresholds
from tests.builders.lake_rows import write_rows
from tests.jobs.facts.pairs.test_precision import NOW, SEED, ends, label, queued

COUNT = 5000


def write_told_apart(lake: Lake, numbers: list[int]) -> None:
    write_rows(lake, tables.TOLD_APART, [(*ends(n), 20 + n % 9, False) for n in numbers], mode="overwrite")


def in_order(lake: Lake) -> list[int]:
    rows = lake.read(tables.TOLD_APART).orderBy(place(SEED), "a_id").select("a_id").collect()
    return [int(row.a_id[1:]) for row in rows]


def found_in(lake: Lake) -> ToldApart:
    found = told_apart(lake, COUNT, answers(lake.read(tables.PAIR_LABELS), "newest"))
    assert found is not None
    return found


def test_the_sample_is_the_order_up_to_the_last_answer_of_its_own_strategy(lake: Lake) -> None:
    write_told_apart(lake, list(range(40)))
    order = in_order(lake)
    drawn = [n for n in order[:6] if n != order[3]]
    # The last pair of the order was labelled when another strategy drew it: it must not extend the sample.
    write_rows(lake, tables.PAIR_QUEUE, [*queued(drawn, "told-apart"), *queued([order[-1]], "threshold", None)])
    said = dict(zip(drawn, ("different", "same", "unsure", None, "different"), strict=True))
    rows = [label(n, answer, origin="told-apart") for n, answer in said.items() if answer]
    write_rows(lake, tables.PAIR_LABELS, [*rows, label(order[-1], "same", origin="threshold")])

    found = found_in(lake)

    assert (found.same, found.different, found.unsure, found.waiting, found.undrawn) == (1, 2, 1, 1, 1)
    assert found.sampled == 6 and found.count == COUNT
    share, low, high = found.share_same
    assert share == 1 / 3
    assert (low, high) == (thresholds.interval(1, 6, 0.95)[0], thresholds.interval(4, 6, 0.95)[1])
    assert found.stayed == pytest.approx((COUNT / 3, COUNT * low, COUNT * high))
    # Both pairs that people call the same are shown, near ones first.
    assert [int(row.a_id[1:]) for row in found.copies] == sorted([drawn[1], order[-1]], key=lambda n: (n % 9, n))


def test_a_pair_of_which_people_drop_an_image_stays_in_the_sample(lake: Lake) -> None:
    write_told_apart(lake, list(range(20)))
    drawn = in_order(lake)[:8]
    write_rows(lake, tables.PAIR_QUEUE, queued(drawn, "told-apart"))
    write_rows(lake, tables.PAIR_LABELS, [label(n, "same" if i < 3 else "different") for i, n in enumerate(drawn)])
    decided = [
        (ends(drawn[0])[1], "drop", "a copy", "ann", NOW), (ends(drawn[1])[0], "drop", "a copy", "ann", NOW),
        (ends(drawn[2])[0], "drop", "a copy", "ann", NOW),
        (ends(drawn[2])[0], "withdrawn", "a mistake", "ann", NOW + timedelta(minutes=1)),
        (ends(drawn[7])[0], "drop", "dull", "ann", NOW),
    ]  # fmt: skip
    write_rows(lake, tables.DECISIONS, decided)
    before = found_in(lake)
    # The next dedup no longer stores pairs of images that were dropped, nor one of which it removed an image.
    write_told_apart(lake, [n for n in range(20) if n not in (drawn[0], drawn[1], drawn[7], drawn[6])])
    after = found_in(lake)

    assert (before.same, before.different, before.count) == (3, 5, COUNT)
    assert (after.same, after.different, after.count) == (3, 4, COUNT + 3)
    assert before.dropped == after.dropped == 2
    assert before.stayed[0] == pytest.approx(COUNT * 3 / 8 - 2)
    assert after.stayed[0] == pytest.approx((COUNT + 3) * 3 / 7 - 2)
    assert [row.a_id for row in before.copies] == [row.a_id for row in after.copies] == [ends(drawn[2])[0]]


def test_fewer_than_no_copies_never_stay() -> None:
    found = ToldApart(1, 99, 0, 0, 0, 100, 1, ())
    assert found.stayed[:2] == (0.0, 0.0) and found.stayed[2] > 4


def test_a_lake_of_an_earlier_version_says_nothing(lake: Lake) -> None:
    no_labels = lake.read(tables.PAIR_LABELS)
    assert told_apart(lake, None, answers(no_labels, "newest")) is None
    write_told_apart(lake, [1, 2])
    unlabelled = told_apart(lake, 2, answers(no_labels, "newest"))
    assert unlabelled is not None and (unlabelled.count, unlabelled.sampled) == (2, 0)
