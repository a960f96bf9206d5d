"""Compare: differences are shown, equal settings are not, and names are escaped."""

import io
import re
from datetime import datetime
from pathlib import Path

import pytest
from rich.console import Console

from jobs.commands import compare
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime.config import load
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.chromium import CHROMIUM, needs_chromium
from tests.builders.lake_rows import write_rows

HOSTILE = "<script>alert(1)</script>[red]"
WHEN = datetime(2026, 1, 2)


def write(lake: Lake, kept: str, keyword: float, settings: dict) -> None:
    """Writes a lake of the images a to e, of which some are kept."""
    images = [(i, i, "s", i, b"", 1, 1, "PNG", "{}", 0) for i in "abcde"]
    quality = (len(kept), 5, len(kept) * 0.9, 0, 2.0, 0.6, 0.01, float("nan"), ["caption"])
    rows = {
        tables.IMAGES: images,
        tables.SOURCES: [("s", 6, 5, 0, 1, WHEN, "folder", "f", "r")],
        tables.VERDICTS: [(i, i in kept, [] if i in kept else [f"{HOSTILE}: score 0.9 >= 0.5"]) for i in "abcde"],
        tables.WEIGHTS: [(i, 1.0) for i in kept],
        tables.CURATED: [(i, 0, 1.0, i, "s", i, 1, 1, "PNG", "{}") for i in kept],
        tables.WEIGHT_QUALITY: [quality],
        tables.KEYWORD_SHIFT: [
            ("same", 0.1, 0.1, 0.1, -0.1, -0.2, 0.0, -0.01, -0.02, 0.01, 50, "people", False, 0.001, 2),
            (
                HOSTILE,
                0.1,
                0.1,
                0.1,
                -0.1,
                -0.2,
                0.0,
                keyword,
                keyword - 0.01,
                keyword + 0.01,
                50,
                "people",
                False,
                0.001,
                2,
            ),
        ],
    }
    for table, given in rows.items():
        recipe = Recipe(table.maker, {}, settings if table is tables.WEIGHTS else {})
        write_rows(lake, table, given, recipe)


@pytest.fixture(scope="module")
def found(spark, tmp_path_factory) -> tuple[compare.LakeComparison, str, Path]:
    folder = tmp_path_factory.mktemp("lakes")
    a, b = (Lake(spark, str(folder / name)) for name in ("first", "second"))
    write(a, "abc", -0.05, {"encoder": "digest-1", "max_weight": 10.0, "folds": 10})
    write(b, "bcde", 0.02, {"encoder": "digest-2", "max_weight": 5.0, "folds": 10})
    job = Job(a, load(), Progress(Console(file=io.StringIO(), width=500)))
    out = folder / "compare.html"
    comparison = compare.run(job, b.uri, str(out))
    console = Console(file=io.StringIO(), width=200)
    console.print(compare.terminal_table(comparison))
    return comparison, console.file.getvalue(), out


def lines_of(comparison: compare.LakeComparison) -> dict[str, tuple[str, str, str]]:
    return {f"{s.title}: {line.name}": (line.a, line.b, line.change) for s in comparison.sections for line in s.lines}


def test_figures_of_both_lakes_are_shown_with_their_change(found):
    lines = lines_of(found[0])

    assert lines["Funnel: rows read"] == ("6", "6", "")
    assert lines["Funnel: curated"] == ("3", "4", "+1 (+33.3 %)")
    assert lines["Funnel: filtered"] == ("2", "1", "−1 (−50.0 %)")
    assert lines[f"Filtered by: {HOSTILE}"] == ("2", "1", "−1 (−50.0 %)")
    assert lines["Weights: kept"] == ("3", "4", "+1")
    assert lines["Weights: beyond reach"] == ("–", "–", "")
    assert lines[f"Keyword shifts after weighing: {HOSTILE}"][2] == "+7.0 points"
    assert found[0].keywords[0].keyword == HOSTILE


def test_significant_words_come_before_larger_differences_of_rare_words(spark):
    def shifts(*rows):
        names = ("keyword", "shift_low", "shift_high", "weighted_shift", "weighted_low", "weighted_high", "adjusted")
        return spark.createDataFrame([dict(zip(names, row, strict=True)) for row in rows], tables.KEYWORD_SHIFT.schema)

    one = shifts(("woman", -0.2, -0.1, 0.01, 0.0, 0.02, 0.001), ("rare", -0.9, -0.1, -0.5, -0.9, 0.0, 0.4),
                 ("wide", -0.9, 0.9, 0.5, 0.0, 0.9, None))  # fmt: skip
    other = shifts(("woman", -0.1, 0.1, 0.0, -0.1, 0.1, 0.9), ("rare", -0.9, 0.1, 0.5, 0.0, 0.9, 0.9),
                   ("man", 0.1, 0.2, 0.0, 0.0, 0.0, 0.01))  # fmt: skip

    found = compare.keyword_pairs(one, other)

    assert [row.keyword for row in found.collect()] == ["woman", "man", "rare", "wide"]
    assert found.columns == ["keyword", *compare._BEFORE, *compare._AFTER]


def test_a_figure_that_one_lake_lacks_is_a_dash():
    blank = {"counts": {}, "quarantine": {}, "filtered_by": {}, "thresholds": [], "dedup": None, "weights": None,
             "tables": {}, "models": {}, "software": {}}  # fmt: skip
    boats = {"category": "boats", "model": "m", "threshold": 0.5, "recall_lower": 0.95}
    cars = {"category": "cars", "model": "m", "threshold": 0.5, "recall_lower": None}
    other = {
        **blank,
        "quarantine": {"truncated": 2},
        "thresholds": [boats, cars],
        "dedup": {"recall": 0.991, "bands": 40},
    }

    lines = {
        line.name: (line.a, line.b, line.change) for s in compare.sections(blank, other, {}, []) for line in s.lines
    }

    assert lines["rows read"] == ("–", "–", "")
    assert lines["truncated"] == ("0", "2", "+2")
    assert lines["boats, recall lower"] == ("–", "95.0 %", "")
    assert lines["boats, threshold"] == ("–", "0.5000", "")
    assert lines["cars, recall lower"] == ("–", "unknown", "")
    assert lines["recall"] == ("–", "99.10 %", "")


def test_only_settings_and_digests_that_differ_are_listed(found):
    settings = {line.name: (line.a, line.b) for s in found[0].sections if "Settings" in s.title for line in s.lines}

    assert settings == {"weigh.encoder": ("digest-1", "digest-2"), "weigh.max_weight": ("10.0", "5.0")}


def test_the_overlap_of_the_lakes_is_counted(found):
    assert found[0].sections[0].note == (
        "images in both: 5; curated in both: 2; curated in A only: 1; curated in B only: 2"
    )


def test_the_terminal_table_shows_figures_and_escapes_markup(found):
    assert f"{HOSTILE}" in found[1]
    assert re.search(r"filtered\s+2\s+1\s+−1 \(−50.0 %\)", found[1])


def test_the_page_works_offline_and_escapes_names(found):
    html = found[2].read_text()

    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert not re.search(r"(src|href)=\"(?!#|data:)", html)
    assert html.count('class="differs"') == sum(line.differs for s in found[0].sections for line in s.lines)


@needs_chromium
def test_the_page_fits_every_screen(found):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for width in (1280, 390):
            page = browser.new_page(viewport={"width": width, "height": 800})
            faults: list[str] = []
            page.on("console", lambda message, faults=faults: faults.append(message.text))
            page.goto(found[2].as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert not faults
        browser.close()


def test_a_folder_that_is_no_lake_is_refused(lake, tmp_path):
    with pytest.raises(WinnowError, match="is not a Winnow lake: there is no such folder"):
        compare.run(Job(lake, load(), Progress()), str(tmp_path / "other"))
