"""The label page: assignments, journal, tables, access, and the page in a browser."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from jobs.commands.label import serve
from jobs.commands.label.page.agreement import agreements
from jobs.commands.label.page.assignment_queue import AssignmentQueue, Queued, Rules
from jobs.commands.label.page.images import for_browser
from jobs.commands.label.page.journal import Decision, Journal, JournalEntry, LabelBatch
from jobs.commands.label.page.store import Store, queue
from jobs.commands.label.serve import ServeOptions
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.chromium import needs_chromium
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded

BOATS = 'categories.boats={definition="Pictures of <boats>.", include=["Canoes."], exclude=["Drawings."]}'
HOSTILE = '<script>document.title="owned"</script><img src=x onerror="document.title=1"> & {{ 7 * 7 }}'
NOW = datetime(2026, 1, 2, tzinfo=UTC)
COUNT = 60


def identity(number: int) -> str:
    return f"{number:032x}"


def append(lake: Lake, table: tables.Table, rows: list[dict[str, Any]]) -> None:
    filled = [tuple(row.get(name) for name in table.schema.names) for row in rows]
    write_rows(lake, table, filled)


def queued_row(number: int, category: str, **more: Any) -> dict[str, Any]:
    row = {"image_id": identity(number), "category": category, "strategy": "seed", "reason": "far from all others"}
    return {**row, "place": number, "batch": "b1", "queued_at": NOW, **more}


def write_lake(lake: Lake, *categories: str, count: int = COUNT) -> None:
    """Writes images of many colours and formats, with one hostile caption and one image that cannot be decoded."""
    formats = {3: "TIFF", 4: "WEBP", 5: "GIF"}
    images = []
    for n in range(count):
        data = encoded(f"hsl({n * 37 % 360}, 60%, 50%)", formats.get(n, "JPEG"), (160 + n, 120))
        images.append({"image_id": identity(n), "key": f"k{n}", "caption": HOSTILE if n == 1 else f"caption {n}"})
        images[-1] |= {"image": b"broken" if n == 2 else data, "width": 160 + n, "height": 120, "part": 0}
    append(lake, tables.IMAGES, images)
    rows = [queued_row(n, category) for category in categories for n in range(count)]
    append(lake, tables.LABEL_QUEUE, rows)


def settings(*overrides: str) -> config.Settings:
    others = [f'categories.{name}={{definition="Pictures of {name}."}}' for name in ("cars", "dogs", "kites", "trees")]
    return config.load(overrides=[BOATS, *others, "label_page.flush_seconds=0.2", *overrides])


@pytest.fixture(scope="module")
def lake(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    made = Lake(spark, str(tmp_path_factory.mktemp("label") / "lake"))
    write_lake(made, "boats", "cars", "dogs", "kites", "trees")
    return made


@pytest.fixture
def job(lake: Lake) -> Job:
    return Job(lake, settings(), Progress(Console(file=io.StringIO(), width=500)))


@pytest.fixture
def options(tmp_path: Path) -> ServeOptions:
    return ServeOptions(port=0, state=tmp_path / "state")


def labels_of(lake: Lake, category: str) -> list[tuple[str, bool, str, str]]:
    rows = lake.read(tables.LABELS).where(f"category = '{category}'").orderBy("labelled_at").collect()
    return [(row.image_id, row.label, row.origin, row.annotator) for row in rows]


# The assignments ----------------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def queue_of(count: int, overlap: float = 0.0, **more: Any) -> tuple[AssignmentQueue, list[JournalEntry]]:
    written: list[JournalEntry] = []
    assignments = AssignmentQueue(Rules("boats", 60.0, overlap, 59), written.extend, **more)
    assignments.add([Queued(identity(n), "random", "by chance") for n in range(count)])
    return assignments, written


def ids(images: Any) -> list[int]:
    return [int(one.image_id, 16) for one in images]


def test_two_people_get_different_images_and_unsure_ones_are_assigned_again() -> None:
    assignments, _ = queue_of(10)

    ann, bob = assignments.assign("ann", [], 3), assignments.assign("bob", [], 20)
    assignments.decide("ann", identity(0), "unsure")
    assignments.decide("ann", identity(1), "yes")
    more = assignments.assign("bob", [one.image_id for one in bob.images], 20)

    assert (ids(ann.images), ids(bob.images)) == ([0, 1, 2], [3, 4, 5, 6, 7, 8, 9])
    assert (bob.elsewhere, ids(more.images), more.elsewhere) == (3, [0], 1)
    assert ids(assignments.assign("ann", [], 20).images) == [2]


def test_images_of_people_who_left_or_are_silent_are_assigned_again() -> None:
    clock = Clock()
    assignments, _ = queue_of(2, clock=clock)
    assignments.assign("ann", [], 1)
    assignments.assign("cy", [], 1)

    assert ids(assignments.assign("bob", [], 5).images) == []
    assignments.leave("cy")
    assert ids(assignments.assign("bob", [], 5).images) == [1]
    clock.now = 61.0
    assert ids(assignments.assign("bob", [identity(1)], 5).images) == [0]
    assert assignments.assign("ann", [identity(0)], 0).lost == [identity(0)]


def test_overlap_assigns_some_images_to_everybody() -> None:
    assignments, _ = queue_of(400, overlap=0.25)

    ann, bob = (set(ids(assignments.assign(name, [], 400).images)) for name in ("ann", "bob"))

    assert ann == set(range(400))
    assert 70 < len(bob) < 130


def test_decisions_and_undos_are_recorded() -> None:
    assignments, written = queue_of(3)

    assert assignments.decide("ann", identity(0), "yes")
    assignments.decide("ann", identity(0), "yes")
    assignments.decide("ann", identity(0), "no")
    back = assignments.undo("ann")

    assert [(e.decision.answer, e.undone) for e in written] == [("yes", 0), ("yes", 1), ("no", 0), ("no", 1)]
    assert back == Queued(identity(0), "random", "by chance")
    assert assignments.undo("ann") is None and assignments.undo("bob") is None
    assert not assignments.decide("ann", "unheard of", "yes")
    assert assignments.progress("ann").done == 0


def test_decision_that_cannot_be_recorded_does_not_count() -> None:
    def full(_: Any) -> None:
        raise OSError(28, "No space left on device")

    assignments = AssignmentQueue(Rules("boats", 60.0, 0.0, 59), full)
    assignments.add([Queued(identity(0), "seed", "")])

    with pytest.raises(OSError, match="No space"):
        assignments.decide("ann", identity(0), "yes")
    assert assignments.progress("ann").done == 0


def test_an_answer_that_was_taken_back_does_not_return_with_a_longer_queue() -> None:
    assignments, _ = queue_of(1)
    assignments.decide("ann", identity(0), "yes")
    assignments.undo("ann")

    # The table still has the answer: its journal entry is not written yet.
    queue = [Queued(identity(n), "random", "by chance") for n in range(2)]
    assert assignments.add(queue, [decision(0, "yes", "ann", origin="random")]) == 1

    assert sorted(ids(assignments.assign("ann", [], 5).images)) == [0, 1]


def test_progress_counts_answers_labels_and_random_positives() -> None:
    assignments, _ = queue_of(5, other_labels={"random": (4, 6), "import": (1, 2)})
    for number, answer in enumerate(("yes", "no", "unsure")):
        assignments.decide("ann", identity(number), answer)

    found = assignments.progress("ann")

    assert (found.done, found.left, found.answers) == (3, 2, {"yes": 1, "no": 1, "unsure": 1})
    assert found.labels == {"random": (5, 7), "import": (1, 2)}
    assert (found.random_positives, found.today) == ((5, 59), (3, None))


def test_random_image_needs_a_random_label_even_if_it_has_another() -> None:
    assignments, _ = queue_of(0)
    known = [decision(0, "yes", origin="seed"), decision(1, "yes", origin="random")]
    assignments.add([Queued(identity(n), "random", "by chance") for n in range(2)], known)

    assert ids(assignments.assign("ann", [], 5).images) == [0]


def decision(number: int, answer: Any, annotator: str = "bob", **more: Any) -> Decision:
    fields = {"category": "boats", "origin": "seed", "at": NOW, **more}
    return Decision(identity(number), answer=answer, annotator=annotator, **fields)


def test_kappa_of_two_people() -> None:
    # 20 + 15 of 50 labels are equal, and 0.5 is expected by chance, so kappa is (0.7 - 0.5) / 0.5.
    table = {("yes", "yes"): 20, ("yes", "no"): 5, ("no", "yes"): 10, ("no", "no"): 15}
    pairs = [answers for answers, n in table.items() for _ in range(n)]
    decisions = [
        decision(n, a, name) for n, both in enumerate(pairs) for a, name in zip(both, ("ann", "bob"), strict=True)
    ]
    decisions += [decision(99, "unsure", "ann"), decision(99, "yes", "bob"), decision(98, "yes", "cy")]

    [found] = agreements(decisions)

    assert (found.people, found.images, found.agreed) == (("ann", "bob"), 50, 35)
    assert found.kappa == pytest.approx(0.4)
    assert agreements([decision(1, "no", "ann"), decision(1, "no", "bob")])[0].kappa is None


# The journal --------------------------------------------------------------------------------------------------------


def test_journal_keeps_entries_until_they_are_dropped(tmp_path: Path) -> None:
    journal, first, second = Journal(tmp_path / "j"), JournalEntry(decision(1, "yes")), JournalEntry(decision(2, "no"))
    journal.write([first])
    assert journal.take() == LabelBatch((first,), (tmp_path / "j/000000001.jsonl",))
    journal.write([second, replace(first, undone=True)])
    with pytest.raises(WinnowError, match="another `winnow label serve` uses"):
        Journal(tmp_path / "j")
    journal.close()

    again = Journal(tmp_path / "j")
    batch = again.take()

    assert batch is not None and batch.made == [second.decision] and batch.undone == [first.decision]
    assert batch.net == 1 and LabelBatch((replace(second, undone=True),), ()).net == -1
    again.drop(batch)
    assert again.take() is None
    again.close()


def test_journal_does_not_touch_other_files(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("")
    (tmp_path / "2024.jsonl").write_text("{}\n")
    journal = Journal(tmp_path)

    assert journal.take() is None
    journal.close()

    assert (tmp_path / "mine.jsonl").exists() and (tmp_path / "2024.jsonl").read_text() == "{}\n"


def test_half_a_last_line_is_ignored_and_a_damaged_line_is_reported(tmp_path: Path) -> None:
    line = JournalEntry(decision(1, "yes")).to_line()
    (tmp_path / "000000001.jsonl").write_bytes(line + line[:30])
    journal = Journal(tmp_path)
    batch = journal.take()

    assert batch is not None and batch.made == [decision(1, "yes")]
    (tmp_path / "000000001.jsonl").write_bytes(line[:30] + b"\n" + line)
    with pytest.raises(WinnowError, match="line 1 of the journal"):
        journal.take()
    journal.close()


# Images and tables --------------------------------------------------------------------------------------------------


def test_images_are_converted_only_if_a_browser_needs_it() -> None:
    small, large, tiff = (encoded("red", *form) for form in (("JPEG",), ("PNG", (900, 300)), ("TIFF",)))
    shown = for_browser(large, 300)

    assert for_browser(small, 300) == ("image/jpeg", small)
    assert shown is not None and shown[0] == "image/jpeg" and Image.open(io.BytesIO(shown[1])).size == (300, 100)
    assert (for_browser(tiff, 300) or ("",))[0] == "image/png"


def test_queue_has_each_image_once_and_prefers_random(spark: Any) -> None:
    rows = [queued_row(1, "boats"), queued_row(2, "boats", strategy="recall", place=0), queued_row(3, "cars")]
    rows.append(queued_row(1, "boats", strategy="random", queued_at=NOW + timedelta(days=1), reason=None))
    table = [tuple(row[name] for name in tables.LABEL_QUEUE.schema.names) for row in rows]
    labels = spark.createDataFrame([], tables.LABELS.schema)

    found = queue(spark.createDataFrame(table, tables.LABEL_QUEUE.schema), labels, "boats").orderBy("turn").collect()

    assert [tuple(row) for row in found] == [
        (identity(2), "recall", "far from all others", 1),
        (identity(1), "random", None, 2),
    ]


@pytest.mark.slow
def test_repeated_batch_adds_nothing_and_undo_removes_labels(job: Job) -> None:
    store = Store(job, "trees")
    times = [datetime.now(UTC) + timedelta(microseconds=n) for n in range(3)]
    made = [decision(n, a, category="trees", at=times[n]) for n, a in enumerate(("yes", "no", "unsure"))]
    batch = LabelBatch(tuple(map(JournalEntry, made)), ())

    store.commit(batch)
    versions = job.lake.snapshot().inputs(tables.LABELS, tables.UNSURE)
    store.commit(batch)
    assert job.lake.snapshot().inputs(tables.LABELS, tables.UNSURE) == versions
    store.commit(LabelBatch((JournalEntry(made[0], undone=True), JournalEntry(made[2], undone=True)), ()))

    assert labels_of(job.lake, "trees") == [(identity(1), False, "seed", "bob")]
    assert job.lake.read(tables.UNSURE).where("category = 'trees'").count() == 0
    assert store.decisions([Queued(identity(1), "seed", "")]) == [made[1]]
    assert store.other_labels([Queued(identity(7), "seed", "")]) == {"seed": (0, 1)}


def test_empty_queue_and_unknown_category_say_what_to_do(job: Job, options: ServeOptions) -> None:
    empty = replace(job, settings=settings('categories.planes={definition="Planes."}'))

    with pytest.raises(WinnowError, match="nothing is queued for planes: run `winnow label next planes --strategy"):
        serve.serve(empty, "planes", options, lambda _: None)
    with pytest.raises(WinnowError, match="no category 'ships' in the settings, they have boats, cars"):
        serve.serve(job, "ships", options, lambda _: None)


# The page over HTTP -------------------------------------------------------------------------------------------------


def page_at(address: str) -> str:
    """Returns the query parameters by which the served page identifies itself."""
    with urllib.request.urlopen(address, timeout=20) as answer:
        lake, category = re.search(r'data-lake="(.*?)" data-category="(.*?)"', answer.read().decode()).groups()  # type: ignore[union-attr]
    return f"&lake={lake}&category={category}"


def ask(address: str, path: str = "", body: Any = None, page: str | None = None, **headers: str) -> tuple[int, str]:
    base, token = re.match(r"(.*/)\?token=(.*)", address).groups()  # type: ignore[union-attr]
    page = page_at(address) if page is None else page
    url = f"{base}{path}?token={token}{page}" if "?" not in path else base + path
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=20) as answer:
            return answer.status, answer.read().decode("latin-1")
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode("latin-1")


def test_requests_without_token_or_allowed_host_are_refused(job: Job, options: ServeOptions) -> None:
    seen: dict[str, tuple[int, str]] = {}

    def body(address: str) -> None:
        seen["page"] = ask(address)
        for name, path in {"none": "?", "wrong": "?token=guess", "picture": f"picture/{identity(0)}?"}.items():
            seen[name] = ask(address, path)
        seen["rebound"] = ask(address, Host="evil.example")
        seen["localhost"] = ask(address, Host="localhost:1")
        seen["shown"] = ask(address, f"picture/{identity(3)}")
        seen["unknown"] = ask(address, "picture/nobody")
        seen["unnamed"] = ask(address, "next", {"name": "  "})
        seen["maybe"] = ask(address, "decide", {"name": "ann", "image_id": identity(0), "answer": "maybe"})
        with urllib.request.urlopen(address, timeout=20) as answer:
            seen["policy"] = answer.status, answer.headers["content-security-policy"]

    serve.serve(job, "dogs", options, body)

    assert {name: code for name, (code, _) in seen.items()} == {
        **dict.fromkeys(("page", "localhost", "shown", "policy"), 200),
        **dict.fromkeys(("none", "wrong", "picture", "rebound"), 403),
        **{"unknown": 404, "unnamed": 422, "maybe": 422},
    }
    assert seen["shown"][1].startswith("\x89PNG")  # a TIFF in the lake
    assert "default-src 'none'" in seen["policy"][1] and "unsafe" not in seen["policy"][1]
    token = next(options.state.rglob("token"))  # type: ignore[union-attr]
    assert token.stat().st_mode & 0o077 == 0


def test_requests_of_another_category_or_lake_are_refused(job: Job, options: ServeOptions) -> None:
    pages = {"category": "&category=cars&lake={lake}", "lake": "&category=dogs&lake=0123456789ab", "none": ""}
    eve = {"name": "eve"}
    requests = {"next": eve, "decide": {**eve, "image_id": identity(0), "answer": "yes"}, "undo": eve, "leave": eve}
    refused: dict[str, list[tuple[int, str]]] = {}
    lakes: list[str] = []

    def body(address: str) -> None:
        lakes.append(re.search("lake=(.*?)&", page_at(address)).group(1))  # type: ignore[union-attr]
        for name, text in pages.items():
            page = text.format(lake=lakes[0])
            refused[name] = [ask(address, path, sent, page) for path, sent in requests.items()]
            refused[name].append(ask(address, f"picture/{identity(0)}", None, page))

    summary = serve.serve(job, "dogs", options, body)

    now = "but the category dogs is served here now; reload the page"
    for name, kind in {"category": "the category cars", "lake": "another lake", "none": "another lake"}.items():
        assert (
            refused[name]
            == [(409, json.dumps({"error": f"this page is for {kind}, {now}"}, separators=(",", ":")))] * 5
        )
    assert summary == {"answers saved": 0}
    assert re.fullmatch("[0-9a-f]{12}", lakes[0])  # no part of the lake's address


@pytest.mark.slow
def test_decisions_of_a_killed_page_are_recovered_once(lake: Lake, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobs", "label", "serve", "cars", "--lake", lake.uri, "--port", "0"]
    sets = ['categories.cars={definition="Cars."}', 'spark.master="local[1]"', "label_page.flush_seconds=600"]
    command += ["--state", str(tmp_path), *[part for one in sets for part in ("--set", one)]]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "80"})
    try:
        lines = iter(process.stderr.readline, "")  # type: ignore[union-attr]
        address = next(line.strip() for line in lines if "http://" in line)
        for number, answer in enumerate(("yes", "no", "unsure", "no")):
            code, _ = ask(address, "decide", {"name": "ann", "image_id": identity(number), "answer": answer})
            assert code == 200
        assert ask(address, "undo", {"name": "ann"})[0] == 200
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert labels_of(lake, "cars") == []

    job = Job(lake, settings(), Progress(Console(file=io.StringIO())))
    options = ServeOptions(port=0, state=tmp_path)
    summary = serve.serve(job, "boats", options, lambda _: None)  # the page of another category recovers them too

    assert labels_of(lake, "cars") == [(identity(0), True, "seed", "ann"), (identity(1), False, "seed", "ann")]
    assert lake.read(tables.UNSURE).where("category = 'cars'").count() == 1
    assert summary == {"answers saved": 0}
    assert not list(tmp_path.rglob("*.jsonl"))


# The page in a browser ----------------------------------------------------------------------------------------------


class Person:
    """A person at the page: their tab, its requests and its console messages."""

    def __init__(self, browser: Any, address: str, name: str, width: int = 1280) -> None:
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.context = browser.new_context(viewport={"width": width, "height": 860})
        self.tab = self.context.new_page()
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.on("console", lambda message: self.errors.append(message.text))
        self.tab.on("pageerror", lambda error: self.errors.append(str(error)))
        self.tab.goto(f"{address}&name={name}")
        self.wait_for_image()

    def wait_for_image(self) -> None:
        self.tab.wait_for_selector("#image canvas", timeout=10_000)

    def answer(self, key: str) -> str:
        """Presses a key and returns the caption of the image that was shown."""
        self.wait_for_image()
        caption = str(self.tab.inner_text("#caption"))
        self.tab.keyboard.press(key)
        return caption

    def saved(self) -> None:
        self.tab.locator("#saved", has_text="all saved").wait_for(timeout=10_000)

    def text(self, selector: str) -> str:
        return str(self.tab.inner_text(selector))


@pytest.mark.slow
@needs_chromium
def test_twenty_labels_by_keyboard_undo_reload_and_a_second_person(
    browser: Any, job: Job, options: ServeOptions
) -> None:
    people: list[Person] = []
    captions: dict[str, list[str]] = {}

    def body(address: str) -> None:
        ann = Person(browser, address, "Ann")
        people.append(ann)
        captions["ann"] = [ann.answer("yn"[n % 2]) for n in range(19)]
        captions["undone"] = [ann.answer("y")]
        ann.saved()
        time.sleep(1.5)  # until they are in the lake, so that undo must remove a row
        ann.tab.keyboard.press("z")
        assert ann.text("#caption") == captions["undone"][0]
        captions["ann"].append(ann.answer("n"))
        captions["unsure"] = [ann.answer("u")]
        ann.saved()
        ann.tab.reload()
        ann.wait_for_image()
        ann.saved()
        captions["next"] = [ann.text("#caption")]
        captions["count"] = [ann.text("#count")]
        bob = Person(browser, address, "Bob")
        people.append(bob)
        captions["bob"] = [bob.answer("y") for _ in range(5)]
        bob.saved()
        bob.tab.keyboard.press("Backspace")
        bob.saved()
        captions["policy"] = [ann.tab.title(), ann.text(".definition")]

    summary = serve.serve(job, "boats", options, body)

    stored = labels_of(job.lake, "boats")
    ann = [row for row in stored if row[3] == "Ann"]
    shown = [f"caption {n}" if n != 1 else HOSTILE for n in range(COUNT) if n != 2]
    assert captions["ann"] == shown[:20] and captions["undone"] == [shown[19]]
    assert [row[1] for row in ann] == [n % 2 == 0 for n in range(19)] + [False]
    assert len({row[0] for row in ann}) == 20 and {row[2] for row in ann} == {"seed"}
    assert len(stored) == 24 and not {row[0] for row in ann} & {row[0] for row in stored if row[3] == "Bob"}
    assert captions["unsure"][0] not in captions["next"] and captions["count"] == ["21 done, 38 left"]
    assert not set(captions["bob"]) & {*captions["ann"], *captions["next"]}
    assert captions["policy"] == ["boats – label with Winnow", "Pictures of <boats>."]
    assert summary["answers saved"] == 25
    for person in people:
        assert person.errors == []
        assert {re.match(r"\w+://[^/]+/", url).group() for url in person.requests} == {  # type: ignore[union-attr]
            re.match(r"\w+://[^/]+/", people[0].requests[0]).group()  # type: ignore[union-attr]
        }


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_nine_images_are_answered_at_once_and_undone(
    browser: Any, job: Job, options: ServeOptions, width: int, tmp_path: Path
) -> None:
    found: dict[str, Any] = {}

    def body(address: str) -> None:
        ann = Person(browser, address, f"Gil {width}", width)

        def cells(count: int = 9) -> list[tuple[str, str, str]]:
            """Returns caption, mark and kind of drawing of each cell, when all are drawn."""
            ann.tab.locator(".cell canvas").nth(count - 1).wait_for()
            what = "all => all.map(c => [c.title, c.querySelector('figcaption').textContent, c.firstChild.className])"
            return [tuple(one) for one in ann.tab.eval_on_selector_all(".cell", what)]

        def pressed(*keys: str) -> None:
            for key in keys:
                ann.tab.keyboard.press(key)

        ann.tab.select_option("#grid", "9")
        found["veiled"] = {kind for _, _, kind in cells()}
        pressed("1")  # shows the images, and marks none
        found["first"] = cells()
        pressed("1", "3", "ArrowRight", "u")
        ann.tab.click(".cell >> nth=4")
        found["marked"] = cells()
        found["words"] = ann.text("#all")
        found["wide"] = ann.tab.evaluate("document.documentElement.scrollWidth")
        ann.tab.screenshot(path=tmp_path / f"grid-{width}.png")
        for name, keys in (("second", ["Enter"]), ("undone", ["z"]), ("again", [" ", "3", "3", "Enter"])):
            pressed(*keys)
            ann.saved()
            found[name] = cells()
        pressed("m")
        found["sixteen"] = cells(16)
        pressed("m")
        found["single"] = ann.answer("y")
        ann.saved()
        found["errors"] = ann.errors

    serve.serve(job, "boats", options, body)

    shown = [title for title, _, _ in found["first"]]
    assert found["veiled"] == {"veil"} and {kind for _, _, kind in found["first"]} == {"clear"}
    assert [mark for _, mark, _ in found["first"]] == list("123456789")
    assert [mark for _, mark, _ in found["marked"]] == ["yes", "2", "yes", "unsure", "yes", *"6789"]
    assert found["words"].startswith("Answer all: 3 yes, 5 no, 1 unsure")
    assert not {title for title, _, _ in found["second"]} & set(shown)
    assert [one[:2] for one in found["undone"]] == [one[:2] for one in found["marked"]]
    assert [one[0] for one in found["again"]] == [one[0] for one in found["second"]]
    assert [one[0] for one in found["sixteen"]][:9] == [one[0] for one in found["again"]]
    assert found["single"] == found["sixteen"][0][0] and found["errors"] == [] and found["wide"] <= width
    numbers = [1 if title == HOSTILE else int(title.split()[-1]) for title in shown]
    answers = dict(zip(numbers, [True, False, False, None, True, *[False] * 4], strict=True))
    labels = {row[0]: row[1] for row in labels_of(job.lake, "boats") if row[3] == f"Gil {width}"}
    last = identity(int(found["single"].split()[-1]))
    assert labels == {**{identity(n): is_boat for n, is_boat in answers.items() if is_boat is not None}, last: True}
    assert job.lake.read(tables.UNSURE).where(f"annotator = 'Gil {width}'").count() == 1


@pytest.mark.slow
@needs_chromium
def test_open_page_stops_if_another_category_is_served_and_keeps_its_answers(
    browser: Any, job: Job, options: ServeOptions
) -> None:
    people: list[Person] = []
    found: dict[str, Any] = {}

    def dogs(address: str) -> None:
        found["address"] = address
        people.append(Person(browser, address, "Dee"))

    def kites(address: str) -> None:
        assert address == found["address"]
        people[0].tab.locator("#rest", has_text="This page has stopped").wait_for(timeout=10_000)
        found["why"], found["saved"] = people[0].text("#rest .say"), people[0].text("#saved")
        people[0].tab.keyboard.press("n")
        people[0].tab.reload()
        people[0].wait_for_image()
        people[0].saved()
        found["reloaded"] = people[0].text(".spec h1")

    def dogs_again(_: str) -> None:
        people[0].tab.reload()
        people[0].wait_for_image()
        people[0].saved()

    serve.serve(job, "dogs", options, dogs)
    found["unsent"] = people[0].answer("y")  # no server is running
    options = replace(options, port=int(re.search(r":(\d+)/", found["address"]).group(1)))  # type: ignore[union-attr]
    serve.serve(job, "kites", options, kites)
    labelled = [row for category in ("dogs", "kites") for row in labels_of(job.lake, category)]
    serve.serve(job, "dogs", options, dogs_again)

    assert "for the category dogs, but the category kites is served here now; reload the page" in found["why"]
    assert "1 answer is not saved yet. This browser keeps unsaved answers" in found["why"]
    assert found["saved"] == "stopped, 1 not saved yet (kept in this browser)" and found["reloaded"] == "kites"
    assert not [row for row in labelled if row[3] == "Dee"]
    number = int(found["unsent"].removeprefix("caption "))
    assert [row for row in labels_of(job.lake, "dogs") if row[3] == "Dee"] == [(identity(number), True, "seed", "Dee")]


@pytest.mark.slow
@needs_chromium
def test_rejected_answer_is_reported_and_page_without_access_keeps_its_answers(
    browser: Any, job: Job, options: ServeOptions
) -> None:
    found: dict[str, Any] = {}
    entries = [{"path": "decide", "image_id": one, "answer": "yes"} for one in ("unheard of", identity(20))]
    keep = "e => localStorage.setItem(`winnow.outbox.${document.body.dataset.lake}.dogs.Flo`, JSON.stringify(e))"

    def body(address: str) -> None:
        flo = Person(browser, address, "Flo")
        flo.saved()
        flo.tab.evaluate(keep, entries)
        flo.tab.reload()
        flo.wait_for_image()
        flo.saved()
        found["status"] = flo.text("#saved")
        flo.tab.route("**/decide?*", lambda route: route.fulfill(status=403, body="403: the access token is wrong"))
        flo.answer("n")
        flo.tab.locator("#rest", has_text="This page has stopped").wait_for(timeout=10_000)
        found["why"] = flo.text("#rest .say")
        flo.tab.unroute("**/decide?*")
        flo.tab.reload()
        flo.wait_for_image()
        flo.saved()

    serve.serve(job, "dogs", options, body)

    flos = [row[:2] for row in labels_of(job.lake, "dogs") if row[3] == "Flo"]
    assert found["status"] == "all saved, but 1 answer was refused: no longer queued"
    assert "open the address that `winnow label serve` printed. 1 answer is not saved yet" in found["why"]
    assert flos[0] == (identity(20), True) and [label for _, label in flos] == [True, False]


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("width", [1280, 390])
def test_images_are_blurred_until_shown_and_view_settings_are_kept(
    browser: Any, job: Job, options: ServeOptions, width: int
) -> None:
    found: dict[str, Any] = {}

    def body(address: str) -> None:
        person = Person(browser, address, "Cy", width)

        def kind() -> str:
            return str(person.tab.get_attribute("#image canvas", "class"))

        found["veiled"] = [kind()]
        person.tab.keyboard.press(" ")
        found["veiled"].append(kind())
        person.answer("u")
        person.wait_for_image()
        found["veiled"].append(kind())
        person.tab.click("#stage")
        found["veiled"].append(kind())
        for key in ("g", "b", "-"):
            person.tab.keyboard.press(key)
        person.tab.reload()
        person.wait_for_image()
        found["kept"] = [kind(), person.tab.is_checked("#grey"), person.tab.input_value("#size")]
        found["filter"] = person.tab.evaluate("getComputedStyle(document.querySelector('#image canvas')).filter")
        found["width"] = person.tab.evaluate("document.documentElement.scrollWidth")
        with suppress(KeyError):
            person.tab.screenshot(path=f"{os.environ['SCREENSHOTS']}/label-{width}.png")
        found["errors"] = person.errors

    serve.serve(job, "dogs", options, body)

    assert found["veiled"] == ["veil", "clear", "veil", "clear"]
    assert found["kept"] == ["clear", True, "90"] and found["filter"] == "grayscale(1)"
    assert found["width"] <= width and found["errors"] == []
