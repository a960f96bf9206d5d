"""Which parts the image pass processes in one commit: without Spark."""

from pyspark.sql import Row

from jobs.scoring import image_pass
from jobs.scoring.image_pass import Batch, batches

KINDS = ("signals", "score_0")


def part(number: int, images: int, missing: int, signals: int, score: int) -> Row:
    return Row(part=number, images=images, missing=missing, lacks_signals=signals, lacks_score_0=score)


def test_parts_share_a_batch_up_to_its_size_and_a_larger_part_has_its_own():
    counts = [part(n, size, size, size, size) for n, size in ((4, 9), (0, 4), (1, 6), (2, 1), (3, 25))]

    found = batches(counts, KINDS, most=10)

    assert [one.parts for one in found] == [(0, 1), (2,), (3,), (4,)]
    assert [one.missing for one in found] == [10, 1, 25, 9]
    assert {(one.kinds, one.done, one.is_uniform) for one in found} == {(KINDS, 0, True)}


def test_only_parts_that_lack_the_same_share_a_batch():
    new, other = part(0, 5, 5, 5, 5), part(5, 3, 3, 3, 3)
    rescored, with_broken = part(1, 5, 5, 0, 5), part(2, 5, 4, 0, 4)
    mixed = part(3, 5, 5, 2, 4)

    found = batches([new, rescored, with_broken, mixed, other], KINDS, most=100)

    assert sorted(found, key=lambda one: one.parts) == [
        Batch((0, 5), KINDS, 8, 0, True),
        Batch((1,), ("score_0",), 5, 0, True),
        Batch((2,), ("score_0",), 4, 1, True),
        Batch((3,), KINDS, 5, 0, False),
    ]


def test_a_batch_broadcasts_a_limited_number_of_ids(monkeypatch):
    monkeypatch.setattr(image_pass, "_BROADCAST_IDS", 5)
    few_done = [part(n, 100, 97, 97, 97) for n in range(4)]
    few_missing = [part(n, 100, 2, 2, 2) for n in range(4, 8)]

    assert [one.parts for one in batches(few_done, KINDS, most=1000)] == [(0,), (1,), (2,), (3,)]
    assert [one.parts for one in batches(few_missing, KINDS, most=1000)] == [(4, 5), (6, 7)]
