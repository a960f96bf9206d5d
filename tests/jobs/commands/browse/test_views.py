"""Conditions, similar images, decisions, labels and pairs in the index of `browse`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.commands.browse.distances import Distances
from jobs.commands.browse.index import IMAGE_COLUMNS, Index, NotComparableError
from jobs.commands.browse.likeness import packed, principal
from jobs.commands.browse.view import View

IDS = [f"{n:032x}" for n in range(6)]
# What the images show, in two dimensions; the last one has no features.
SHOWS = np.array([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]], np.float32)
FOLLOWED = {2: "keep", 3: "drop"}


def facts(number: int, **more: Any) -> tuple[Any, ...]:
    row: dict[str, Any] = {
        "image_id": IDS[number], "key": f"k{number}", "width": 100 * number, "height": 100, "state": "kept",
        "meta": f'{{"year": {2000 + number}}}' if number else "not JSON", "hash": bytes([2**number - 1]) + bytes(31),
        "decision": FOLLOWED.get(number), "followed": FOLLOWED.get(number), "why": FOLLOWED.get(number) and "before",
        **more,
    }  # fmt: skip
    return tuple(row.get(name) for name in IMAGE_COLUMNS)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index.sqlite")
    made.begin()
    made.add_images(facts(n, state="filtered" if n == 1 else "kept") for n in range(6))
    made.add_scores([("cats", IDS[n], n / 10) for n in range(6)])
    made.add_labels([("cats", 0.9, True), ("cats", 0.3, True), ("cats", 0.8, False), ("cats", 0.1, False)])
    made.add_vectors(
        (one, row.tobytes()) for one, row in zip(IDS, packed(SHOWS, np.eye(2, dtype=np.float32)), strict=False)
    )
    made.note("distances", Distances(8, 8, 10, 10, {4: 1, 8: 1}, {}, {12: (1, 0)}).as_json())
    made.add_pairs([(IDS[0], IDS[1], 4, "found"), (IDS[0], IDS[2], 8, "found"), (IDS[3], IDS[4], 12, "beyond")])
    made.finish("a test")
    yield made
    made.close()


def ids(found: dict[str, Any]) -> list[int]:
    return [IDS.index(one["image_id"]) for one in found["images"]]


def test_a_condition_narrows_a_view(index: Index) -> None:
    assert ids(index.images(View(where="meta.year >= 2004"), 0, 10)) == [4, 5]
    assert ids(index.images(View(state="filtered", where="width < 300"), 0, 10)) == [1]
    assert index.images(View(where="score.cats > 0.35"), 0, 1)["total"] == 2
    assert index.counts()["fields"] == ["year"]


def test_similar_images_come_first_within_a_view(index: Index) -> None:
    found = index.images(View(like=IDS[0]), 0, 3)
    assert ids(found) == [0, 1, 2] and found["total"] == 5, "an image without features is left out"
    assert [one["likeness"] for one in found["images"]] == pytest.approx([1, 0.8, 0.6], abs=0.002)
    assert ids(index.images(View(like=IDS[0]), 3, 3)) == [3, 4]
    assert ids(index.images(View(like=IDS[0], state="kept", where="width > 100"), 0, 9)) == [2, 3, 4]
    copies = index.images(View(like=IDS[5], by="copies"), 0, 3)
    assert ids(copies) == [5, 4, 3] and [one["apart"] for one in copies["images"]] == [0, 1, 2]


def test_an_image_that_cannot_be_compared_says_why(index: Index) -> None:
    with pytest.raises(NotComparableError, match=r"this image has no features: .*winnow score"):
        index.images(View(like=IDS[5]), 0, 9)
    with pytest.raises(NotComparableError, match="drop its file in again"):
        index.images(View(like="f" * 32, by="copies"), 0, 9)


def test_a_file_that_was_dropped_in_is_compared(index: Index) -> None:
    name = index.drop_in(bytes([31]) + bytes(31), packed(SHOWS[3:4], np.eye(2, dtype=np.float32))[0])
    assert ids(index.images(View(like=name), 0, 2)) == [3, 2]
    assert ids(index.images(View(like=name, by="copies"), 0, 1)) == [5]
    bare, first = (index.drop_in(bytes(32), None) for _ in range(2))
    with pytest.raises(NotComparableError, match="this lake has no features"):
        index.images(View(like=bare), 0, 1)
    for _ in range(32):
        index.drop_in(bytes(32), None)
    with pytest.raises(NotComparableError, match="drop its file in again"):
        index.images(View(like=first, by="copies"), 0, 1)


def test_a_withdrawal_is_pending_only_where_filter_followed_a_decision(index: Index) -> None:
    index.decide(IDS, "withdraw", "a mistake")
    shown = [one["decision"] for one in index.some(IDS)]
    assert shown == [None, None, "pending withdraw", "pending withdraw", None, None]
    assert index.counts()["pending"] == 2 and index.some(IDS[:1])[0]["why"] is None
    index.decide(IDS[:4], "drop", "dull")
    assert [one["decision"] for one in index.some(IDS[:4])] == [*["pending drop"] * 3, "drop"]
    index.decide(IDS[:1], "withdraw", "a mistake")
    assert index.some(IDS[:1])[0]["decision"] is None, "a decision that filter never saw is simply gone"


def test_queued_images_are_shown(index: Index) -> None:
    index.queue(IDS[:2], "cats")
    index.queue(IDS[1:2], "dogs")
    assert index.counts()["queued"] == 2
    assert ids(index.images(View(queued=True), 0, 9)) == [0, 1]
    assert [one["queued"] for one in index.some(IDS[:3])] == ["cats", "cats, dogs", None]


def test_the_random_sample_says_what_a_threshold_misses(index: Index) -> None:
    assert index.recall("dogs", 0.5, 0.95) is None
    found = index.recall("cats", 0.5, 0.95)
    assert found is not None
    assert (found["positives"], found["missed"], found["removed"], found["precision"]) == (2, 1, 1, 0.5)
    assert found["at_least"] == pytest.approx(1 - 0.95**0.5)
    assert index.recall("cats", 0.95, 0.95)["precision"] is None  # type: ignore[index]


def test_pairs_that_would_change_sides(index: Index) -> None:
    def distances(bits: int) -> list[int]:
        return [one["distance"] for one in index.pairs(bits, 8, 9)]

    assert (distances(3), distances(4), distances(7)) == ([4, 8], [8], [8])
    assert (distances(8), distances(11), distances(12)) == ([8, 12, 4], [], [12])
    found = index.pairs(12, 8, 9)[0]
    assert (found["a"]["key"], found["b"]["key"], found["kind"]) == ("k3", "k4", "beyond")
    assert index.distances().farthest == 12  # type: ignore[union-attr]


def test_principal_directions_keep_what_differs_most() -> None:
    rng = np.random.default_rng(0)
    low = rng.standard_normal((500, 4)) @ rng.standard_normal((4, 40)) + 0.01 * rng.standard_normal((500, 40))
    vectors = (low / np.linalg.norm(low, axis=1, keepdims=True)).astype(np.float32)
    short = packed(vectors, principal(vectors, 4)).astype(np.float32)
    assert np.abs(short @ short.T - vectors @ vectors.T).max() < 0.02
