"""The report: numbers that add up, captions that stay data, a page that opens offline and fits every screen."""

import base64
import hashlib
import io
import random
import re
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from jobs import report, report_facts, tables
from jobs.config import Settings, load
from jobs.job import Job
from jobs.lake import Lake, Recipe
from jobs.progress import Progress
from jobs.report_facts import Facts, Funnel

CHROMIUM = next(
    (found for found in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if found), None
)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")
CATEGORY = 'categories.fireworks={definition="Pictures that show fireworks that burn."}'
HOSTILE = [
    '<script>document.title = "owned"</script><img src=x onerror="alert(1)">',
    "\"quotes\" and 'apostrophes' & {{ 7 * 7 }} {% raw %}",
    "\u202eright to left override \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "long " * 2000,
    "nul \x00 and\nnewline \U0001f600",
    "W" * 10_000,
]


def identity(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()[:32]


def picture(number: int) -> bytes:
    draw_random = random.Random(number)
    size = draw_random.choice([(160, 120), (120, 160), (128, 128), (240, 100)])
    image = Image.new("RGB", size, tuple(draw_random.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(5):
        x, y = draw_random.randrange(size[0]), draw_random.randrange(size[1])
        shape = draw_random.choice([pen.ellipse, pen.rectangle])
        shape((x - 30, y - 20, x + 30, y + 20), fill=tuple(draw_random.randrange(256) for _ in range(3)))
    buffer = io.BytesIO()
    image.save(buffer, draw_random.choice(["PNG", "JPEG"]))
    return buffer.getvalue()


def plausible_rows(count: int) -> dict[tables.Table, list[tuple[Any, ...]]]:
    """Rows of every table that the report reads: a tenth filtered, a fifth duplicates of what stays."""
    ids = [identity(n) for n in range(count)]
    noise = random.Random(0)
    filtered, doubles = ids[: count // 10], ids[count // 10 : count // 10 + count // 5]
    keepers = ids[count // 10 + count // 5 :]
    groups = [keepers[int(len(keepers) * noise.random() ** 3)] for _ in doubles]
    duplicates = [(r, k, noise.randrange(0, 49), "lsh") for r, k in zip(doubles, groups, strict=True)]
    captions = [*HOSTILE, None, ""]
    images = [
        (i, f"{n:05}.jpg", "file:/pictures", captions[n] if n < len(captions) else f"A drawing, number {n}",
         picture(n), 160, 120, "PNG", "{}")
        for n, i in enumerate(ids)
    ]  # fmt: skip
    scores = [(i, "fireworks", "digest-of-a-classifier", 0.3 + 0.7 * noise.random() ** 0.3) for i in filtered]
    scores += [(i, "fireworks", "digest-of-a-classifier", 0.29 * noise.random() ** 6) for i in ids[len(filtered) :]]
    weights = [(i, 2 ** noise.gauss(0, 0.6)) for i in keepers]
    when = datetime(2026, 1, 2)
    bad = [("file:/pictures", f"bad{n}.jpg", "ingest", r, f"detail <b>{n}</b>", None)
           for n, r in enumerate(["truncated"] * 5 + ["not an image"] * 2 + ["empty"])]  # fmt: skip
    return {
        tables.IMAGES: images,
        tables.QUARANTINE: bad,
        tables.SOURCES: [("file:/pictures", count + len(bad) + 3, count, 3, len(bad), when)],
        tables.SIGNALS: [(i, bytes(32), 90, "digest-of-an-encoder", [1.0], bytes(32)) for i in ids],
        tables.SCORES: scores,
        tables.LABELS: [(i, "fireworks", i in filtered, "random", "test", when) for i in ids[: count // 3]],
        tables.THRESHOLDS: [("fireworks", "digest-of-a-classifier", 0.2954, 0.953, 0.95, 312, 4012, 3, 8)],
        tables.VERDICTS: [(i, i not in filtered, ["fireworks"] if i in filtered else []) for i in ids],
        tables.PAIRS: [(min(r, k), max(r, k), d, m) for r, k, d, m in duplicates],
        tables.DUPLICATES: duplicates,
        tables.DEDUP_QUALITY: [("lsh", 50, 1000, 315, 312, 0.9905, 0.972, 0.998, 4410, 40, 14, 81234, 0)],
        tables.WEIGHTS: weights,
        tables.WEIGHT_QUALITY: [
            (len(keepers), len(keepers), len(keepers) * 0.89, 2, 10.0, 0.612, 0.011, 0.042, ["caption"])
        ],
        tables.KEYWORD_SHIFT: [
            ("woman", 0.21, 0.18, 0.209, -0.142, -0.15, -0.133, -0.004, -0.013, 0.005, 812),
            ("man", 0.2, 0.188, 0.2, -0.061, -0.071, -0.052, 0.002, -0.008, 0.011, 803),
            ("child", 0.08, 0.082, 0.08, 0.021, 0.008, 0.034, 0.001, -0.012, 0.015, 301),
            ("people", 0.05, 0.05, 0.05, 0.004, -0.013, 0.021, 0.0, -0.017, 0.018, 190),
            ("<b>girl</b> on a bicycle", 0.01, 0.01, 0.01, -0.01, -0.06, 0.04, 0.0, -0.05, 0.05, 40),
            ("zebra", 0.0, 0.0, 0.0, None, None, None, None, None, None, 0),
        ],
    }


def append(lake: Lake, table: tables.Table, rows: list[tuple[Any, ...]]) -> None:
    # Tables may gain columns: they stay empty here.
    padded = [row + (None,) * (len(table.schema) - len(row)) for row in rows]
    lake.append(table, lake.spark.createDataFrame(padded, table.schema), Recipe(table.maker, {"images": 0}))


def write_lake(lake: Lake, count: int) -> None:
    for table, rows in plausible_rows(count).items():
        append(lake, table, rows)


def with_category(lake: Lake, *overrides: str) -> Job:
    settings = load(overrides=[CATEGORY, "spark.conf={\"spark.hadoop.fs.s3a.secret.key\"='hunter2'}", *overrides])
    return Job(lake, settings, Progress())


def html_of(job: Job) -> str:
    address = report.run(job)["report"]
    return Path(str(address).removeprefix("file:")).read_text("utf-8")


@pytest.fixture(scope="module")
def full(spark: Any, tmp_path_factory: pytest.TempPathFactory) -> Job:
    lake = Lake(spark, str(tmp_path_factory.mktemp("report") / "lake"))
    write_lake(lake, 60)
    return with_category(lake)


@pytest.fixture(scope="module")
def page(full: Job) -> str:
    return html_of(full)


@pytest.fixture(scope="module")
def facts(full: Job) -> Facts:
    return report_facts.gather(full.lake, full.settings)


def test_numbers_of_the_funnel_add_up(facts: Facts, page: str) -> None:
    funnel = facts.funnel

    assert funnel == Funnel(
        rows_read=71, repeats=3, quarantined=8, images=60, judged=60, filtered=6, duplicates=12, weighed=42
    )
    assert funnel.gaps == ()
    assert "Of 71 pictures read, 42 are kept: 6 filtered, 12 duplicates, 3 repeats, 8 quarantined." in page
    assert "do not add up" not in page


def test_numbers_that_do_not_add_up_are_said() -> None:
    funnel = Funnel(rows_read=10, repeats=0, quarantined=1, images=8, judged=7, filtered=1, duplicates=2, weighed=4)

    assert len(funnel.gaps) == 3
    assert "10 rows were read, but there are 8 images, 0 repeats and 1 quarantined" in funnel.gaps[0]


def test_every_section_copes_with_an_empty_lake(job: Job) -> None:
    html = html_of(job)

    for command in ("ingest", "dedup", "weigh", "audit", "score"):
        assert f"<code>winnow {command}</code>" in html
    assert "<img" not in html


def test_every_section_copes_with_empty_tables(lake: Lake, settings: Settings) -> None:
    for table in tables.ALL:
        append(lake, table, [])

    html = html_of(with_category(lake))

    assert "Of 0 pictures read, 0 are kept." in html
    assert "<code>winnow train fireworks</code>" in html


def test_captions_are_data(page: str) -> None:
    assert "<script" not in page
    assert "onerror=&#34;alert(1)" in page
    assert "detail &lt;b&gt;" in page
    assert "W" * 300 not in page
    assert not re.search(r"[\x00-\x08]", page)


def test_the_page_holds_all_it_needs(page: str) -> None:
    assert len(page.encode()) < 10_000_000
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"url\(|@import|https?://", page)


def test_secrets_in_the_settings_are_hidden(page: str) -> None:
    assert "fs.s3a.secret.key" in page
    assert "hunter2" not in page


def test_thumbnails_keep_their_aspect_and_are_small(page: str) -> None:
    uris = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    sizes = {Image.open(io.BytesIO(base64.b64decode(uri))).size for uri in uris}

    assert len(uris) > 50
    assert {(160, 120), (120, 160), (192, 80)} <= sizes
    assert max(max(size) for size in sizes) <= 192


def test_the_sample_is_the_same_in_every_run(full: Job, facts: Facts) -> None:
    again = report_facts.gather(full.lake, full.settings)

    assert again == facts


def test_samples_lie_nearest_to_the_threshold(facts: Facts) -> None:
    [category] = facts.categories
    dropped = [sample.value for sample in category.dropped_nearest]
    kept = [sample.value for sample in category.kept_nearest]

    assert category.dropped == 6 and category.scored == 60
    assert dropped == sorted(dropped) and min(dropped) >= 0.2954
    assert kept == sorted(kept, reverse=True) and max(kept) < 0.2954
    assert (category.random_positives, category.random_negatives) == (6, 14)


def test_groups_are_shown_once_and_hold_their_farthest(facts: Facts) -> None:
    duplicates = facts.duplicates

    assert duplicates is not None
    shown = [group.kept_id for group in (*duplicates.largest, *duplicates.random, *duplicates.farthest)]
    assert len(shown) == len(set(shown)) == duplicates.groups
    for group in (*duplicates.largest, *duplicates.random, *duplicates.farthest):
        assert group.members[0][1] == group.farthest
        assert group.size == len(group.members) + group.hidden
    assert sum(count for _, count in duplicates.pair_distances) == duplicates.removed == 12


def test_a_lake_without_categories_shows_its_pictures(lake: Lake, settings: Settings) -> None:
    rows = plausible_rows(20)
    for table in (tables.IMAGES, tables.SOURCES, tables.DUPLICATES):
        append(lake, table, rows[table])

    html = html_of(Job(lake, settings, Progress()))

    assert '<body class="plain">' in html and 'id="show"' not in html
    assert "No category of pictures to filter out is set" in html


def test_a_broken_picture_costs_its_place_only(lake: Lake, settings: Settings) -> None:
    rows = plausible_rows(20)
    broken = [(*row[:4], b"no image", *row[5:]) if n % 2 else row for n, row in enumerate(rows[tables.IMAGES])]
    for table, data in {**rows, tables.IMAGES: broken}.items():
        append(lake, table, data)

    html = html_of(with_category(lake))

    assert "no picture</span>" in html and "data:image/webp" in html


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield started
        started.close()


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_stays_alone(browser: Any, full: Job, page: str, width: int, scheme: str) -> None:
    requests: list[str] = []
    errors: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))

    tab.goto(Path(full.lake.path("report.html")).as_uri())
    for details in tab.query_selector_all("summary"):
        details.click()

    assert [url for url in requests if not url.startswith("data:")] == [Path(full.lake.path("report.html")).as_uri()]
    assert errors == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.title() == "lake – Winnow report"
    # Text that sticks out of the drawings is not part of the scroll width where something clips it.
    edges = tab.evaluate(
        "[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect()).map(r => [r.left, r.right])"
    )
    assert all(left >= 0 and right <= width for left, right in edges)
    tab.close()


@needs_chromium
def test_pictures_are_blurred_until_asked_for(browser: Any, full: Job, page: str) -> None:
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(Path(full.lake.path("report.html")).as_uri())

    def blur(number: int) -> str:
        return str(tab.evaluate(f"getComputedStyle(document.querySelectorAll('.frame img')[{number}]).filter"))

    assert "blur" in blur(0)
    tab.focus(".pic >> nth=0")
    tab.wait_for_timeout(500)  # the blur fades
    assert blur(0) == "none" and "blur" in blur(1)
    tab.click("label.toggle")
    tab.wait_for_timeout(500)
    assert blur(1) == "none"
    tab.close()
