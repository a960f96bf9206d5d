"""Pairs of near-duplicates: which are picked, and the page on which people label them."""

import io
import os
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from rich.console import Console

from jobs.commands.label import next_pairs, serve
from jobs.commands.label.next_pairs import PairRequest
from jobs.commands.label.page.assignment_queue import Queued
from jobs.commands.label.page.journal import Decision, JournalEntry, LabelBatch
from jobs.commands.label.page.pairs import PairStore, pair_spec
from jobs.commands.label.serve import ServeOptions
from jobs.facts.pairs.sample import place, removals
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.chromium import needs_chromium
from tests.builders.lake_rows import write_rows

NOW = datetime(2026, 1, 2, tzinfo=UTC)
COUNT = 60
SAFE, MOST = 30, 50
NONE = (None,) * 30
EQUAL_FILES = (3, 5)


def ends(number: int) -> tuple[str, str]:
    return f"a{number:031x}", f"b{number:031x}"


def numbers(picks: Any) -> list[int]:
    return [int(pick.a_id[1:], 16) for pick in picks]


def distance(number: int) -> int:
    """Distances 0 to 49; pairs 0 to 7 have equal hashes."""
    return max(0, number - 7) % (MOST + 1)


def picture(number: int, second: bool) -> bytes:
    made = Image.new("RGB", (320, 200), f"hsl({number * 37 % 360}, 60%, 50%)")
    ImageDraw.Draw(made).ellipse((60, 40, 180, 160), fill="white")
    if second:
        ImageDraw.Draw(made).rectangle((200, 150, 310, 190), fill="black")
        made = made.resize((240, 150))
    out = io.BytesIO()
    made.save(out, "PNG")
    return out.getvalue()


def write_lake(lake: Lake) -> None:
    pairs = [ends(n) for n in range(COUNT)]
    images = [
        (
            one,
            f"k{n}{'ab'[second]}",
            "s",
            f"caption {n}{'ab'[second]}",
            picture(n, bool(second)),
            320,
            200,
            "PNG",
            "{}",
            0,
        )
        for n, pair in enumerate(pairs)
        for second, one in enumerate(pair)
    ]
    content = {n: ["one file"] * 2 for n in EQUAL_FILES}
    signals = [
        (one, None, None, "e", None, None, content.get(n, pair)[second])
        for n, pair in enumerate(pairs)
        for second, one in enumerate(pair)
    ]
    write_rows(lake, tables.IMAGES, images)
    write_rows(lake, tables.SIGNALS, signals)
    # The last four pairs are near misses: both images are kept.
    removed = [(b, a, distance(n), "lsh") for n, (a, b) in enumerate(pairs[: COUNT - 4])]
    write_rows(lake, tables.DUPLICATES, removed)
    write_rows(lake, tables.NEAR_MISSES, [(*pair, MOST + 1 + n) for n, pair in enumerate(pairs[COUNT - 4 :])])
    quality = dict.fromkeys(tables.DEDUP_QUALITY.schema.names) | {
        "method": "lsh", "max_distance": MOST, "sampled": 9, "exhaustive_pairs": 4, "found_pairs": 4, "recall": 1.0,
        "recall_low": 0.4, "recall_high": 1.0, "distinct_hashes": 9, "whole": True, "safe_distance": SAFE,
    }  # fmt: skip
    write_rows(lake, tables.DEDUP_QUALITY, [tuple(quality.values())])


def job_of(lake: Lake, *overrides: str) -> Job:
    settings = config.load(overrides=["label_page.flush_seconds=0.2", "seed=7", *overrides])
    return Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))


@pytest.fixture
def pairs(lake: Lake) -> Job:
    write_lake(lake)
    return job_of(lake)


def order_of(job: Job) -> list[int]:
    rows = removals(job.lake.read(tables.DUPLICATES)).orderBy(place(7), "a_id").select("a_id").collect()
    return [n for n in numbers(rows) if n not in EQUAL_FILES]


def said(job: Job) -> str:
    return job.progress.console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


# What is picked -----------------------------------------------------------------------------------------------------


def test_random_pairs_are_the_beginning_of_one_order_and_later_draws_continue_it(pairs: Job) -> None:
    first = next_pairs.run(pairs, PairRequest(10, "random"))
    # Another seed in the settings changes nothing: else the sample would have gaps.
    second = next_pairs.run(job_of(pairs.lake, "seed=8"), PairRequest(5, "random"))

    order = order_of(pairs)
    assert numbers([*first.picks, *second.picks]) == order[:15]
    assert {pick.seed for pick in (*first.picks, *second.picks)} == {7}
    rows = pairs.lake.read(tables.PAIR_QUEUE).orderBy("queued_at", "place").collect()
    assert numbers(rows) == order[:15] and {row.strategy for row in rows} == {"random"}
    assert "next: winnow label serve duplicates --lake" in said(pairs)


def test_all_pairs_can_be_drawn_once_and_then_none_is_left(pairs: Job) -> None:
    drawn = next_pairs.run(pairs, PairRequest(500, "random"))

    assert sorted(numbers(drawn.picks)) == sorted(set(range(COUNT - 4)) - set(EQUAL_FILES))
    assert "found 54 of the 500 pairs requested" in said(pairs)
    with pytest.raises(WinnowError, match=r"every pair is already queued: label them with `winnow label serve dup"):
        next_pairs.run(pairs, PairRequest(5, "random"))


def test_pairs_near_the_threshold_come_from_both_sides_and_from_where_looks_decide(pairs: Job) -> None:
    picked = next_pairs.run(pairs, PairRequest(9, "threshold"))

    by_zone: dict[str, list[int]] = {}
    for pick in picked.picks:
        by_zone.setdefault(pick.reason.partition(": ")[2], []).append(pick.distance)
    assert {zone: len(found) for zone, found in by_zone.items()} == {
        "just within 30 bits": 3, "from 31 to 50 bits, by thumbnail": 3, "just beyond 50 bits": 3,
    }  # fmt: skip
    assert set(by_zone["just within 30 bits"]) <= set(range(23, 31))
    assert set(by_zone["from 31 to 50 bits, by thumbnail"]) <= set(range(31, 51))
    assert by_zone["just beyond 50 bits"] == [51, 52, 53]
    assert {pick.seed for pick in picked.picks} == {None}
    again = next_pairs.run(pairs, PairRequest(9, "threshold"))
    assert not {(p.a_id, p.b_id) for p in picked.picks} & {(p.a_id, p.b_id) for p in again.picks}


def test_without_a_strategy_half_is_random_and_no_pair_is_picked_twice(pairs: Job) -> None:
    picked = next_pairs.run(pairs, PairRequest(21))

    assert numbers(picked.picks[:11]) == order_of(pairs)[:11]
    assert [pick.strategy for pick in picked.picks] == ["random"] * 11 + ["threshold"] * 10
    assert len(set(numbers(picked.picks))) == 21
    assert picked.summary["at random"] == 11


def write_told_apart(job: Job, chosen: range) -> list[int]:
    """Stores pairs that thumbnails told apart, and returns their random order."""
    write_rows(job.lake, tables.TOLD_APART, [(*ends(n), 40, False) for n in chosen], mode="overwrite")
    rows = job.lake.read(tables.TOLD_APART).orderBy(place(7), "a_id").collect()
    return numbers(rows)


def test_pairs_told_apart_are_drawn_in_their_own_random_order(pairs: Job) -> None:
    order = write_told_apart(pairs, range(100, 130))
    first = next_pairs.run(pairs, PairRequest(6, "told-apart"))
    # Another seed in the settings changes nothing: else the sample would have gaps.
    second = next_pairs.run(job_of(pairs.lake, "seed=8"), PairRequest(4, "told-apart"))

    assert numbers([*first.picks, *second.picks]) == order[:10]
    assert {(p.strategy, p.seed, p.reason) for p in (*first.picks, *second.picks)} == {
        ("told-apart", 7, "drawn at random from the pairs told apart")
    }
    assert (first.summary["picked"], first.summary["told apart"], first.summary["at random"]) == (6, 6, 0)


def test_without_a_strategy_a_quarter_is_told_apart_or_near_the_threshold_if_there_are_fewer(pairs: Job) -> None:
    order = write_told_apart(pairs, range(100, 107))
    first = next_pairs.run(pairs, PairRequest(22))
    second = next_pairs.run(pairs, PairRequest(22))

    assert [pick.strategy for pick in first.picks] == ["random"] * 11 + ["told-apart"] * 5 + ["threshold"] * 6
    assert [pick.strategy for pick in second.picks] == ["random"] * 11 + ["told-apart"] * 2 + ["threshold"] * 9
    drawn = [pick for pick in (*first.picks, *second.picks) if pick.strategy == "told-apart"]
    assert numbers(drawn) == order


def test_without_a_pair_told_apart_the_command_says_why(pairs: Job) -> None:
    ask = PairRequest(5, "told-apart")
    with pytest.raises(
        WinnowError, match=r"the last dedup stored no pairs that thumbnails told apart: run `winnow ded"
    ):
        next_pairs.run(pairs, ask)
    write_told_apart(pairs, range(0))
    with pytest.raises(WinnowError, match=r"thumbnails told no pair apart of which both images are kept"):
        next_pairs.run(pairs, ask)
    write_told_apart(pairs, range(100, 102))
    next_pairs.run(pairs, ask)
    with pytest.raises(WinnowError, match=r"every pair is already queued: label them"):
        next_pairs.run(pairs, ask)


def test_errors_say_what_to_do(lake: Lake) -> None:
    write_rows(lake, tables.IMAGES, [])
    with pytest.raises(WinnowError, match=r"has no table 'duplicates': run `winnow dedup` first"):
        next_pairs.run(job_of(lake), PairRequest(5))
    with pytest.raises(WinnowError, match=r"'seed' for duplicates: choose one of random, threshold, told-apart"):
        next_pairs.run(job_of(lake), PairRequest(5, "seed"))
    write_rows(lake, tables.DUPLICATES, [])
    with pytest.raises(WinnowError, match=r"there is no pair to label: dedup removed no image whose file differs"):
        next_pairs.run(job_of(lake), PairRequest(5))


@pytest.mark.parametrize("differing", [1000, 8])
def test_only_the_beginning_of_a_long_order_is_read_and_more_if_most_files_are_equal(
    spark: Any, differing: int
) -> None:
    every = spark.range(1000).selectExpr("format_string('a%04d', id) a_id", "format_string('b%04d', id) b_id", "id")
    removed = every.selectExpr("a_id", "b_id", "0 distance")
    content = f"if(id < {differing}, {{0}}, 'equal')"
    signals = every.selectExpr("a_id image_id", content.format("a_id") + " content").unionByName(
        every.selectExpr("b_id image_id", content.format("b_id") + " content")
    )
    drawn = removed.orderBy(place(7)).where(f"a_id < 'a{differing:04d}'").limit(2).select("a_id", "b_id")

    found = next_pairs.first_pairs(removed, signals, drawn, 7, 5)

    order = [row.a_id for row in removed.orderBy(place(7)).collect() if int(row.a_id[1:]) < differing]
    assert [row.a_id for row in found] == order[2:7]


# The tables of the page ---------------------------------------------------------------------------------------------


def decision(number: int, answer: Any, seconds: int = 0) -> Decision:
    a, b = ends(number)
    return Decision(f"{a}-{b}", "duplicates", answer, "random", "ann", NOW + timedelta(seconds=seconds))


def labels_of(lake: Lake) -> list[tuple[int, str, str, str]]:
    rows = lake.read(tables.PAIR_LABELS).orderBy("labelled_at").collect()
    assert all((row.a_id, row.b_id) == ends(numbers([row])[0]) for row in rows)
    return [(numbers([row])[0], row.answer, row.origin, row.annotator) for row in rows]


def test_answers_are_stored_once_can_be_read_again_and_undone(pairs: Job) -> None:
    store = PairStore(pairs)
    made = [decision(n, answer, n) for n, answer in enumerate(("yes", "no", "unsure"))]
    batch = LabelBatch(tuple(map(JournalEntry, made)), ())

    store.commit(batch)
    store.commit(batch)
    assert labels_of(pairs.lake) == [(n, a, "random", "ann") for n, a in enumerate(("same", "different", "unsure"))]

    store.commit(LabelBatch((JournalEntry(made[0], undone=True),), ()))
    assert [row[0] for row in labels_of(pairs.lake)] == [1, 2]
    # The answer counts for the strategy for which the pair is queued now.
    again = store.decisions([Queued(made[1].image_id, "threshold", "")])
    assert again == [replace(made[1], origin="threshold")]


def test_a_pair_is_queued_once_and_as_a_random_one(pairs: Job) -> None:
    rows = [(*ends(n), 3, s, "why", None, i, "b", NOW) for i, (n, s) in enumerate([(1, "threshold"), (2, "threshold")])]
    write_rows(pairs.lake, tables.PAIR_QUEUE, [*rows, (*ends(1), 3, "random", "drawn", 7, 2, "b", NOW)])

    store = PairStore(pairs)
    assert [(one.image_id, one.origin) for one in store.queue()] == [
        ("-".join(ends(2)), "threshold"), ("-".join(ends(1)), "random"),
    ]  # fmt: skip
    assert not store.changed()
    write_rows(pairs.lake, tables.PAIR_QUEUE, [(*ends(9), 3, "random", "drawn", 7, 0, "c", NOW)])
    assert store.changed()


def test_in_strict_mode_a_variant_is_another_image() -> None:
    plain, strict = (
        pair_spec("lake", "refill", config.load(overrides=overrides)) for overrides in ((), ("dedup.strict=true",))
    )
    variant = plain.include[-1]
    assert "small detail" in variant and variant not in plain.exclude
    assert variant in strict.exclude and variant not in strict.include
    assert not plain.veiled
    assert pair_spec("l", "r", config.load(overrides=['categories.boats={definition="Boats."}'])).veiled


def test_no_category_may_be_called_duplicates(pairs: Job) -> None:
    with pytest.raises(WinnowError, match="duplicates cannot be a category: `winnow label next duplicates` labels"):
        config.load(overrides=['categories.duplicates={definition="Copies."}'])
    with pytest.raises(WinnowError, match="duplicates is no category"):
        pairs.settings.category("duplicates")
    with pytest.raises(
        WinnowError, match=r"nothing is queued for duplicates: run `winnow label next duplicates --lake"
    ):
        serve.serve(pairs, "duplicates", ServeOptions(port=0, state=Path(pairs.lake.uri + "-state")), lambda _: None)


# The page in a browser ----------------------------------------------------------------------------------------------


PIXEL = """() => { const c = document.querySelector("#image canvas"); const d = c.getContext("2d")
  .getImageData(Math.floor(c.width * 0.8), Math.floor(c.height * 0.85), 1, 1).data; return [d[0], d[1], d[2]]; }"""


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_pairs_are_labelled_by_keyboard_by_two_people(browser: Any, pairs: Job, tmp_path: Path, width: int) -> None:
    job = replace(pairs, settings=config.load(overrides=["label_page.flush_seconds=0.2", "seed=7", BOATS]))
    order = numbers(next_pairs.run(job, PairRequest(12)).picks)
    found: dict[str, Any] = {"errors": [], "requests": set()}

    def person(address: str, name: str) -> Any:
        tab = browser.new_context(viewport={"width": width, "height": 860}).new_page()
        tab.on("console", lambda message: found["errors"].append(message.text))
        tab.on("pageerror", lambda error: found["errors"].append(str(error)))
        tab.on("request", lambda request: found["requests"].add(request.url.split("/")[2]))
        tab.goto(f"{address}&name={name}")
        tab.wait_for_selector("#image canvas", timeout=10_000)
        return tab

    def classes(tab: Any) -> list[str]:
        return [str(one) for one in tab.eval_on_selector_all("#image canvas", "all => all.map(c => c.className)")]

    def shown(tab: Any) -> tuple[str, list[int]]:
        return tab.inner_text("#image figcaption"), tab.evaluate(PIXEL)

    def saved(tab: Any) -> None:
        tab.locator("#saved", has_text="all saved").wait_for(timeout=10_000)

    def body(address: str) -> None:
        ann = person(address, "Ann")
        found["veiled"] = [classes(ann)]
        ann.keyboard.press(" ")
        found["veiled"].append(classes(ann))
        found["captions"] = [ann.inner_text("#caption"), ann.inner_text("#reason")]
        shoot(ann, f"pair-side-{width}")
        ann.keyboard.press(" ")  # now it blinks: the same corner shows one image, then the other
        found["corner"] = [shown(ann)]
        shoot(ann, f"pair-blink-{width}")
        for key in (" ", "3"):
            ann.keyboard.press(key)
            found["corner"].append(shown(ann))
        shoot(ann, f"pair-difference-{width}")
        found["width"] = ann.evaluate("document.documentElement.scrollWidth")
        bob = person(address, "Bob")
        for tab, keys in ((ann, "sdus"), (bob, "dd")):
            for key in keys:
                tab.wait_for_selector("#image canvas", timeout=10_000)
                tab.keyboard.press(key)
            saved(tab)
        ann.keyboard.press("z")
        saved(ann)
        found["own"] = ann.inner_text("#own")
        found["title"] = ann.inner_text(".spec h1")

    serve.serve(job, "duplicates", ServeOptions(port=0, state=tmp_path / "state"), body)

    stored = labels_of(job.lake)
    assert found["veiled"] == [["veil", "veil"], ["clear", "clear"]]
    assert [text[:2] for text in found["captions"]] == ["A:", "B:"]
    assert f"caption {order[0]}a" in found["captions"][0] and f"caption {order[0]}b" in found["captions"][1]
    (a_name, a), (b_name, b), (_, difference) = found["corner"]
    assert (a_name, b_name, b) == ("A", "B", [0, 0, 0]) and max(a) > 100
    assert difference == pytest.approx([min(255, 2 * value) for value in a], abs=3)
    assert sorted((row[:2] + row[3:]) for row in stored if row[3] == "Ann") == sorted(
        [(order[0], "same", "Ann"), (order[1], "different", "Ann"), (order[2], "unsure", "Ann")]
    )
    bobs = [row for row in stored if row[3] == "Bob"]
    assert len(bobs) == 2 and {row[1] for row in bobs} == {"different"}
    assert not {row[0] for row in bobs} & set(order[:2])
    assert found["title"] == "The same image?" and "different" in found["own"].lower()
    assert found["width"] <= width and found["errors"] == [] and len(found["requests"]) == 1


BOATS = 'categories.boats={definition="Pictures of boats."}'


def shoot(tab: Any, name: str) -> None:
    with suppress(KeyError):
        tab.screenshot(path=f"{os.environ['SCREENSHOTS']}/{name}.png")
