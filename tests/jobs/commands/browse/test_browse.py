"""The command `browse`: from the tables to the page, and back to the table decisions."""

import io
import json
import math
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from jobs.commands.browse import command as browse
from jobs.commands.browse import facts
from jobs.commands.browse.command import BrowseOptions
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.chromium import CHROMIUM, needs_chromium
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded

HOSTILE = '<script>document.title="owned"</script><img src=x onerror="document.title=1">'
COUNT = 30
IDS = [f"{n:032x}" for n in range(COUNT)]
KEPT, FILTERED, REMOVED, BROKEN = 0, 1, 2, 3


def fill(lake: Lake, encoder: str) -> None:
    """Writes images, of which one is filtered, one is a duplicate, and one cannot be decoded."""
    data = [encoded(f"hsl({n * 37 % 360}, 60%, 50%)", "JPEG", (300 + n, 200)) for n in range(COUNT)]
    data[BROKEN] = b"no image"
    images = [(i, f"k{n}", "s.tar", HOSTILE if n == KEPT else f"a photo of {n}", data[n], 300 + n, 200, "JPEG", "{}", 0)
              for n, i in enumerate(IDS)]  # fmt: skip
    write_rows(lake, tables.IMAGES, images)
    write_rows(
        lake,
        tables.VERDICTS,
        [(i, n != FILTERED, ["logos: a rule"] if n == FILTERED else []) for n, i in enumerate(IDS)],
    )
    write_rows(lake, tables.DUPLICATES, [(IDS[REMOVED], IDS[KEPT], 9, "lsh")])
    signals = [
        (i, bytes(32), 90, encoder, [1.0], bytes([n]) + bytes(31), str(n)) for n, i in enumerate(IDS) if n != BROKEN
    ]
    write_rows(lake, tables.SIGNALS, signals)


@pytest.fixture
def job(lake: Lake) -> Job:
    made = Job(lake, config.load(), Progress(Console(file=io.StringIO(), width=500)))
    fill(lake, current_encoder(made).digest)
    return made


class Page:
    """A client of the page."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.base, self.token = address.split("/?token=")

    def get(self, path: str, token: str | None = None) -> tuple[int, Any]:
        return self._reply(urllib.request.Request(self.base + path, headers=self._headers(token)))

    def post(self, path: str, body: bytes) -> tuple[int, Any]:
        return self._reply(urllib.request.Request(self.base + path, data=body, headers=self._headers(None)))

    def decide(self, images: list[str], decision: str, why: str = "a test") -> tuple[int, Any]:
        return self.post("/decide", json.dumps({"images": images, "decision": decision, "why": why}).encode())

    def _headers(self, token: str | None) -> dict[str, str]:
        return {"x-winnow-token": self.token if token is None else token}

    @staticmethod
    def _reply(request: urllib.request.Request) -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                data = reply.read()
                return reply.status, json.loads(data) if "json" in reply.headers["content-type"] else data
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


def served(job: Job, folder: Path, use: Any) -> dict[str, Any]:
    return browse.serve(job, BrowseOptions(port=0, cache=folder), lambda address: use(Page(address)))


def test_the_page_shows_images_and_writes_decisions(job: Job, tmp_path: Path) -> None:
    def use(page: Page) -> None:
        assert page.get("/overview", token="wrong")[0] == 403
        overview = page.get("/overview")[1]
        assert overview["states"] == {"kept": COUNT - 2, "filtered": 1, "duplicate": 1}
        assert overview["reasons"] == [["logos", 1]] and overview["next"].startswith("winnow filter --lake")
        assert page.get("/images?state=filtered")[1]["images"][0]["image_id"] == IDS[FILTERED]
        assert page.get("/images?sort=nonsense")[0] == 422 and page.get("/images?limit=9999")[0] == 422
        status, data = page.get(f"/thumb/{IDS[KEPT]}")
        assert status == 200 and max(Image.open(io.BytesIO(data)).size) == 256
        assert page.get(f"/thumb/{IDS[BROKEN]}")[0] == 404
        assert page.get(f"/images?like={IDS[5]}&by=copies")[1]["images"][0]["apart"] == 0
        assert "explain" in page.get(f"/image/{IDS[KEPT]}")[1]["explain"]
        status, found = page.post("/find", encoded("hsl(37, 60%, 50%)", "PNG", (90, 60)))
        assert status == 200 and found["by"] == "copies", "the lake has no features"
        assert page.get(f"/images?like={found['like']}&by=copies")[1]["total"] == COUNT - 1
        status, said = page.get(f"/images?like={found['like']}")
        assert status == 422 and "winnow score" in said
        assert page.post("/find", b"no image")[0] == 422
        assert page.decide([IDS[KEPT], IDS[5]], "drop", " dull ")[0] == 200
        assert page.decide([IDS[FILTERED]], "keep")[0] == 200 and page.decide([IDS[5]], "withdraw")[0] == 200
        assert page.decide(["f" * 32], "keep")[0] == 404 and page.decide([IDS[KEPT]], "keep", " ")[0] == 422
        assert page.get("/overview")[1]["pending"] == 2, "a drop that was withdrawn before `filter` ran is gone"

    assert served(job, tmp_path, use) == {"images decided": 4}
    rows = {(row.image_id, row.decision, row.why) for row in job.lake.read(tables.DECISIONS).collect()}
    assert rows == {
        (IDS[KEPT], "drop", "dull"), (IDS[5], "drop", "dull"), (IDS[FILTERED], "keep", "a test"),
        (IDS[5], "withdrawn", "a test"),
    }  # fmt: skip

    def later(page: Page) -> None:
        # The tables have changed, so the index was made again; the decisions are still pending.
        shown = {one["image_id"]: one["decision"] for one in page.get("/images?limit=500")[1]["images"]}
        assert {i: decision for i, decision in shown.items() if decision} == {
            IDS[KEPT]: "pending drop", IDS[FILTERED]: "pending keep",
        }  # fmt: skip

    served(job, tmp_path, later)
    printed = job.progress.console.file.getvalue()
    assert printed.count("make 30 small images") == 1, "small images are made once"
    assert [file.suffix for file in tmp_path.iterdir() if file.is_file()] == [".sqlite"]


@pytest.fixture
def searched(lake: Lake) -> Job:
    """A lake with features, pairs and a category that has no classifier yet."""
    settings = config.load(overrides=['categories.boats={definition="Boats."}'])
    made = Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))
    fill(lake, current_encoder(made).digest)
    semantic = semantic_encoder(made)
    # The images show the same on a circle: each is most like itself, then like its neighbours.
    angles = [n / COUNT for n in range(COUNT)]
    shows = [[math.cos(one), math.sin(one), *[0.0] * (semantic.dims - 2)] for one in angles]
    features = [(i, semantic.digest, one) for i, one in zip(IDS, shows, strict=True)]
    write_rows(lake, tables.FEATURES, features)
    write_rows(lake, tables.PAIRS, [(IDS[KEPT], IDS[REMOVED], 9, "lsh"), (IDS[4], IDS[5], 40, "lsh")])
    write_rows(lake, tables.NEAR_MISSES, [(IDS[6], IDS[7], 44)])
    write_rows(lake, tables.DEDUP_DISTANCES, [(9, 1, 1), (40, 1, 1), (44, 1, 0), (50, 3, 0)])
    quality = ("lsh", 40, 10, 2, 2, 1.0, 0.3, 1.0, 20, 40, 14, 99, 0, None, None, True, 0, 0, 0, None, None)
    write_rows(lake, tables.DEDUP_QUALITY, [quality])
    return made


def test_images_are_found_by_condition_and_likeness_and_queued(searched: Job, tmp_path: Path) -> None:
    def use(page: Page) -> None:
        found = page.get("/images?where=width%20%3E%3D%20327&sort=pixels,%20most")[1]
        assert [one["image_id"] for one in found["images"]] == [IDS[29], IDS[28], IDS[27]]
        status, said = page.get("/images?where=widht%20%3E%20327")
        assert status == 422 and "did you mean width?" in said
        alike = page.get(f"/images?like={IDS[9]}&limit=3")[1]
        assert alike["total"] == COUNT and {one["image_id"] for one in alike["images"]} == set(IDS[8:11])
        assert alike["images"][0]["image_id"] == IDS[9] and alike["images"][0]["likeness"] == pytest.approx(1, abs=1e-3)
        assert page.get(f"/images?like={IDS[9]}&state=filtered")[1]["images"][0]["image_id"] == IDS[FILTERED]
        status, dropped = page.post("/find", encoded("hsl(37, 60%, 50%)", "PNG", (90, 60)))
        assert status == 200 and dropped["by"] == "likeness"
        assert page.get(f"/images?like={dropped['like']}")[1]["total"] == COUNT
        shorter = page.get("/distance?at=20")[1]
        assert [one["distance"] for one in shorter["pairs"]] == [40] and shorter["effect"][0].startswith("1 of 2 found")
        farther = page.get("/distance?at=50")[1]
        assert [one["distance"] for one in farther["pairs"]] == [44] and "About" in " ".join(farther["effect"])
        assert page.get("/distance?at=51")[0] == 422 and page.get("/distance?at=-1")[0] == 422

        def queue(images: list[str], category: str = "boats") -> tuple[int, Any]:
            return page.post("/queue", json.dumps({"images": images, "category": category, "why": "a test"}).encode())

        status, queued = queue(IDS[4:7])
        assert status == 200 and queued["queued"] == 3 and queued["label"].startswith("winnow label serve boats --lake")
        assert [one["queued"] for one in queued["images"]] == ["boats"] * 3
        assert queue(IDS[6:8])[1]["queued"] == 1, "an image is queued once"
        assert queue(IDS[:1], "cars")[0] == 422 and queue(["f" * 32])[0] == 404
        assert page.get("/overview")[1]["queued"] == 4 == page.get("/images?queued=true")[1]["total"]
        status, withdrawn = page.decide(IDS[8:9], "withdraw")
        assert status == 200 and withdrawn["images"][0]["decision"] is None and page.get("/overview")[1]["pending"] == 0

    done = served(searched, tmp_path, use)
    assert done == {"images decided": 1, "images queued for labelling": 4}
    rows = searched.lake.read(tables.LABEL_QUEUE).orderBy("batch", "place").collect()
    assert [(row.image_id, row.category, row.strategy, row.reason) for row in rows] == [
        (i, "boats", "seed", "selected in browse: a test") for i in IDS[4:8]
    ]
    write_rows(searched.lake, tables.LABELS, [(IDS[4], "boats", True, "seed", "anna", datetime(2026, 1, 1))])
    waiting: list[int] = []
    served(searched, tmp_path, lambda page: waiting.append(page.get("/overview")[1]["queued"]))
    assert waiting == [3], "an image with an answer waits no longer"


def test_a_withdrawal_is_pending_where_the_last_filter_followed_the_decision(lake: Lake) -> None:
    write_rows(lake, tables.IMAGES, [(i, i, "s", None, b"", 1, 1, "JPEG", "{}", 0) for i in IDS[:6]])
    verdicts = [(i, True, [], None) for i in IDS[:6]]
    verdicts[0] = (IDS[0], False, ["decision: dropped by anna: dull", "cats: score 0.9"], None)
    verdicts[1] = (IDS[1], True, [], "kept by anna: a toy")
    verdicts[4] = (IDS[4], False, ["decision: dropped by anna: dull"], None)
    write_rows(lake, tables.VERDICTS, verdicts)
    days = [datetime(2026, 1, day) for day in (1, 2)]
    kinds = ("drop", "keep", "drop", "keep", "drop")
    rows = [(i, kind, "why", "anna", days[0]) for i, kind in zip(IDS[:5], kinds, strict=True)]
    rows += [(i, "withdrawn", "why", "anna", days[1]) for i in IDS[:3]]
    write_rows(lake, tables.DECISIONS, rows)
    found = {row.image_id: (row.decision, row.followed) for row in facts.image_facts(lake, "an encoder").collect()}
    assert found == {
        IDS[0]: ("pending withdraw", "drop"), IDS[1]: ("pending withdraw", "keep"), IDS[2]: (None, None),
        IDS[3]: ("keep", "keep"), IDS[4]: ("drop", "drop"), IDS[5]: (None, None),
    }  # fmt: skip


def test_of_a_large_lake_a_sample_is_shown(job: Job, tmp_path: Path) -> None:
    found: list[Any] = []
    options = BrowseOptions(port=0, cache=tmp_path, most=10)
    browse.serve(job, options, lambda address: found.append(Page(address).get("/images?limit=500")[1]))
    assert 2 <= found[0]["total"] < COUNT - 5
    assert "a random sample of about 10 of 30 images" in job.progress.console.file.getvalue()


def test_an_empty_lake_is_refused_with_what_to_do(lake: Lake, tmp_path: Path) -> None:
    job = Job(lake, config.load(), Progress(Console(file=io.StringIO())))
    with pytest.raises(WinnowError, match="run `winnow ingest"):
        served(job, tmp_path, lambda page: None)


@pytest.fixture
def tab() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        yield browser.new_page(viewport={"width": 1280, "height": 860})
        browser.close()


@pytest.mark.slow
@needs_chromium
def test_images_are_chosen_and_dropped_by_keyboard(job: Job, tmp_path: Path, tab: Any) -> None:
    errors: list[str] = []
    requests: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: requests.append(request.url))

    def use(page: Page) -> None:
        tab.goto(page.address)
        tab.wait_for_selector(".card img")
        for key in ("ArrowRight", "x", "ArrowRight", "x"):
            tab.keyboard.press(key)
        assert tab.inner_text("#selected") == "2 selected"
        tab.fill("#why", "dull")
        tab.press("#why", "Escape")
        tab.keyboard.press("d")
        tab.wait_for_selector(".badge >> text=drop (pending)", timeout=60_000)
        tab.reload()
        tab.wait_for_selector(".badge")
        assert tab.locator(".badge").count() == 2
        tab.click("#views >> text=Duplicates")
        tab.wait_for_selector(".card >> text=9 bits away")
        assert tab.locator(".card").count() == 2 and "groups=true" in tab.url
        tab.locator(".card").first.click()
        tab.wait_for_selector("#detail >> text=winnow explain")
        assert tab.title().endswith("winnow browse"), "a caption is text"
        tab.fill("#words", "photo of 7")
        tab.press("#words", "Enter")
        tab.wait_for_selector("#total >> text=1 image")
        assert all(url.startswith(page.base) for url in requests)

    served(job, tmp_path, use)
    assert not [error for error in errors if "404" not in error], "only the broken image has no thumbnail"
    assert {row.why for row in job.lake.read(tables.DECISIONS).collect()} == {"dull"}


@pytest.mark.slow
@needs_chromium
def test_the_page_filters_compares_and_queues(searched: Job, tmp_path: Path, tab: Any) -> None:
    errors: list[str] = []
    tab.on("pageerror", lambda error: errors.append(str(error)))

    def use(page: Page) -> None:
        tab.goto(page.address)
        tab.wait_for_selector(".card img")
        tab.fill("#where", "width >= 327")
        tab.press("#where", "Enter")
        tab.wait_for_selector("#total >> text=3 images")
        tab.reload()
        tab.wait_for_selector("#total >> text=3 images")
        assert tab.input_value("#where") == "width >= 327", "the view is its link"
        tab.fill("#where", "width >= abc")
        tab.press("#where", "Enter")
        tab.wait_for_selector("#total.fault >> text=a text needs quotes")
        tab.fill("#where", "")
        tab.press("#where", "Enter")
        tab.wait_for_selector("#total >> text=30 images")
        tab.locator(".card").nth(9).click()
        tab.click("text=More like this")
        tab.wait_for_selector(".card >> text=likeness 1.00")
        assert tab.locator(".card").first.get_attribute("data-id") == IDS[9]
        tab.click("#by-copies")
        tab.wait_for_selector(".card >> text=0 bits apart")
        tab.click("#views >> text=Pairs by distance")
        tab.wait_for_selector("#distance-effect >> text=2 of 2 found pairs")
        tab.locator("#bits").focus()
        tab.keyboard.press("ArrowLeft")
        tab.wait_for_selector("#distance-effect >> text=1 of 2 found pairs")
        tab.wait_for_selector(".pair >> text=40 bits")
        assert tab.locator(".pair").count() == 1 and "dedup.max_distance=39" in tab.inner_text("#distance-effect")
        tab.locator(".pair .card").first.focus()
        for key in ("x", "ArrowRight", "x"):
            tab.keyboard.press(key)
        assert tab.input_value("#why") == "pairs by distance"
        tab.keyboard.press("q")
        tab.wait_for_selector(".badge >> text=to label: boats", timeout=60_000)
        tab.wait_for_selector("#note >> text=2 of 2 queued")
        tab.keyboard.press("Escape")
        tab.locator(".pair .card").first.focus()
        tab.keyboard.press("u")
        tab.wait_for_selector("#note >> text=No decision is pending", timeout=60_000)
        assert tab.locator(".badge").count() == 2, "a withdrawal without a decision is nothing to wait for"

    served(searched, tmp_path, use)
    assert not errors
    assert {row.reason for row in searched.lake.read(tables.LABEL_QUEUE).collect()} == {
        "selected in browse: pairs by distance"
    }
