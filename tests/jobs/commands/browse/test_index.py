"""The local index of `browse`: views, orders, searches, decisions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.commands.browse.index import IMAGE_COLUMNS, Index
from jobs.commands.browse.view import SORTS, View

IDS = [f"{n:032x}" for n in range(6)]
HASHES = [bytes([n] + [0] * 31) for n in range(6)]


def row(number: int, **more: Any) -> tuple[Any, ...]:
    facts = {
        "image_id": IDS[number], "key": f"k{number}", "source": "a.tar", "caption": f"a photo of {number}", "width": 10,
        "height": 10 + number, "format": "JPEG", "state": "kept", "weight": 1.0 + number, "hash": HASHES[number],
    }  # fmt: skip
    return tuple({**facts, **more}.get(name) for name in IMAGE_COLUMNS)


@pytest.fixture
def index(tmp_path: Path) -> Index:
    made = Index(tmp_path / "cache" / "one.sqlite")
    made.begin()
    made.add_images(
        [
            row(0),
            row(1, state="filtered", reasons="boats: score 0.91\npunsafe: 0.7 > 0.5", caption="Two red boats; at sea"),
            row(2, state="filtered", reasons="boats: score 0.84", caption='a "quoted" word'),
            row(3, state="duplicate", kept_id=IDS[0], distance=12, weight=None),
            row(4, caption=None, hash=None),
            row(5, state="undecided", weight=None),
        ]
    )
    made.add_scores([("boats", IDS[n], score) for n, score in enumerate((0.1, 0.91, 0.84, 0.5, 0.55))])
    made.add_faults([("a.tar", "broken", "decode", "truncated", "3 bytes", None)])
    made.add_thumbnails([(IDS[0], b"webp"), (IDS[4], None)])
    made.finish("versions 1")
    return made


def ids(index: Index, offset: int = 0, limit: int = 10, **view: Any) -> list[int]:
    return [int(one["image_id"], 16) for one in index.images(View(**view), offset, limit)["images"]]


def test_views_show_images_by_state_reason_group_and_score(index: Index) -> None:
    assert ids(index) == [0, 1, 2, 3, 4, 5]
    assert ids(index, state="filtered") == [1, 2] and ids(index, state="filtered", reason="punsafe") == [1]
    assert ids(index, reason="boats") == [1, 2] and ids(index, reason="boat") == []
    assert ids(index, keeper=IDS[0], sort="group") == [0, 3] == ids(index, groups=True, sort="group")
    assert ids(index, category="boats", sort="score, highest") == [1, 2, 4, 3, 0]
    assert ids(index, category="boats", threshold=0.54, sort="near the threshold") == [4, 3, 2, 1, 0]
    assert ids(index, category="boats", low=0.5, high=0.9) == [2, 3, 4]
    assert ids(index, offset=2, limit=2, sort="pixels, most") == [3, 2]


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_gives_every_image_once(index: Index, sort: str) -> None:
    assert sorted(ids(index, sort=sort)) == [0, 1, 2, 3, 4, 5]


def test_words_are_found_in_captions_and_keys_and_are_literal(index: Index) -> None:
    assert ids(index, words="RED boats") == [1] and ids(index, words="k3") == [3]
    assert ids(index, words='"quoted') == [2] and ids(index, words="photo AND of") == []
    for hostile in ("'; drop table image; --", "a*", "caption:", "(", "NEAR(a b)", "\x00"):
        index.images(View(words=hostile), 0, 10)
    assert len(ids(index)) == 6


def test_counts_sum_states_and_the_names_of_reasons(index: Index) -> None:
    found = index.counts()
    assert found["states"] == {"kept": 2, "filtered": 2, "duplicate": 1, "undecided": 1}
    assert dict(found["reasons"]) == {"boats": 2, "punsafe": 1} and found["quarantined"] == 1
    assert index.faults(0, 5)["faults"][0]["reason"] == "truncated"


def test_a_threshold_tells_how_many_are_above_it(index: Index) -> None:
    assert (index.above("boats", 0.84), index.above("boats", 0.8401), index.above("other", 0)) == (2, 1, 0)
    histogram = index.histogram("boats", 10)
    assert sum(histogram) == 5 and histogram[9] == 1 and histogram[5] == 2


def test_the_nearest_hashes_come_first_and_images_without_one_never(index: Index) -> None:
    def near(hash_: bytes, limit: int) -> list[tuple[str, int]]:
        found = index.images(View(like=index.drop_in(hash_, None), by="copies"), 0, limit)
        return [(one["image_id"], one["apart"]) for one in found["images"]]

    assert near(HASHES[3], 3) == [(IDS[3], 0), (IDS[1], 1), (IDS[2], 1)]
    assert len(near(bytes(32), 99)) == 5 and ids(index, like=IDS[3], by="copies", limit=2) == [3, 1]
    shown = np.unpackbits(np.frombuffer(HASHES[5], np.uint8)).sum()
    assert dict(near(bytes(32), 99))[IDS[5]] == shown


def test_a_decision_is_pending_until_the_index_is_made_again(index: Index) -> None:
    index.decide([IDS[0], IDS[1]], "drop", "dull")
    assert ids(index, pending=True) == [0, 1] and index.counts()["pending"] == 2
    found = index.image(IDS[1])
    assert found is not None and (found["decision"], found["why"]) == ("pending drop", "dull")
    assert index.known([IDS[0], "f" * 32]) == [IDS[0]]


def test_only_the_user_may_read_an_index_and_the_folder_stays_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    made = Index(tmp_path / "one.sqlite")
    assert made.file.stat().st_mode & 0o777 == 0o600 and tmp_path.stat().st_mode & 0o777 == 0o755


def test_thumbnails_are_taken_from_an_older_index(index: Index, tmp_path: Path) -> None:
    assert index.thumbnail(IDS[0]) == b"webp" and index.thumbnail(IDS[4]) is None
    newer = Index(tmp_path / "newer.sqlite")
    newer.begin()
    newer.add_images([row(0), row(5)])
    newer.take_thumbnails(index.file)
    assert newer.without_thumbnail() == [IDS[5]] and newer.thumbnail(IDS[0]) == b"webp"
    assert newer.made_from() is None
    newer.finish("versions 2")
    newer.close()
    assert Index(newer.file).made_from() == "versions 2" and index.made_from() == "versions 1"
