"""`explain` and `status`: what they say of an image and of a lake."""

import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs.commands import explain, keep, status
from jobs.commands.filter import command as filter
from jobs.decisions.record import Request
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows

FIRST, SECOND, THIRD, BROKEN = ("1" * 32, "2" * 32, "3" * 32, "4" * 32)
SMALL = "filter.rules.small='width < 9'"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def judged(job: Job) -> Job:
    """Returns a filtered lake: a small image, one kept with a duplicate, the duplicate, and a broken one."""
    rows = [
        (FIRST, "a", 5, "a dog"),
        (SECOND, "b", 50, None),
        (THIRD, "c\x1b[31m", 50, "x" * 500),
        (BROKEN, "d", 50, None),
    ]
    images = [(i, key, "s.tar", text, b"", w, 9, "PNG", "{}", 0) for i, key, w, text in rows]
    write_rows(job.lake, tables.IMAGES, images)
    signals = [(i, bytes(32), 99, "e", [1.0], bytes(32), i) for i in (FIRST, SECOND, THIRD)]
    write_rows(job.lake, tables.SIGNALS, signals)
    write_rows(job.lake, tables.QUARANTINE, [("s.tar", "d", "score", "truncated", "cut off", BROKEN)])
    write_rows(job.lake, tables.SCORES, [(SECOND, "boats", "m1", 0.25), (THIRD, "boats", "m0", 0.75)])
    write_rows(job.lake, tables.LABELS, [(SECOND, "boats", False, "random", "anna", NOW)])
    options = ("--lake", job.lake.uri, "--set", SMALL)
    small = Job(job.lake, config.load(overrides=[SMALL]), Progress(Console(file=io.StringIO(), width=500)), options)
    keep.run(small, Request((SECOND,), "a toy", by="ben"))
    filter.run(small)
    write_rows(job.lake, tables.DUPLICATES, [(THIRD, SECOND, 7, "lsh")])
    write_rows(job.lake, tables.WEIGHTS, [(SECOND, 1.25)])
    return small


def test_explain_says_why_each_image_is_kept_or_not_and_what_brings_it_back(judged: Job) -> None:
    said = explain.run(judged, ["a", "2222", THIRD, "d"])
    first, second, third, broken = said.split("\n\n")
    options = f"--lake {judged.lake.uri} --set"

    assert first.startswith(f"image {FIRST}\n") and "s.tar, key a" in first and "a dog" in first
    assert "filtered: small: width < 9" in first
    assert f"To bring it back: winnow keep {FIRST} --why TEXT {options}" in first and "&& winnow weigh" in first

    assert "boats: 0.2500, by model m1; no threshold" in second and "boats: no (random, anna, 2026-01-05)" in second
    assert "keep by ben" in second and "kept (kept by ben: a toy), weight 1.25" in second
    assert f"1 duplicate removed because of it: {THIRD} (7 bits)" in second and "bring it back" not in second

    assert f"removed as a duplicate of {SECOND}: 7 bits apart, by lsh" in third and "To bring it back" in third
    assert "\x1b" not in third and "x" * 200 + "…" in third

    assert "score: truncated: cut off" in broken and "nothing brings it back but a readable file" in broken


def test_semantic_and_mirrored_duplicates_have_words_of_their_own(judged: Job) -> None:
    result = {"duplicates removed": 0, "semantic duplicates removed": 1}
    semantic = [(THIRD, SECOND, 130, "semantic", False, 0.973)]
    write_rows(judged.lake, tables.DUPLICATES, semantic, Recipe("dedup", result=result), mode="overwrite")
    second, third = explain.run(judged, [SECOND, THIRD]).split("\n\n")
    assert f"removed because of it: {THIRD} (similarity 0.9730)" in second
    assert f"removed as a semantic duplicate of {SECOND}, which shows the same: similarity 0.9730" in third
    assert "removed: 0 near-duplicates and 1 semantic duplicate (`dedup.semantic`)" in status.run(judged).text
    mirrored = [(THIRD, SECOND, 7, "lsh", True, None)]
    write_rows(judged.lake, tables.DUPLICATES, mirrored, Recipe("dedup"), mode="overwrite")
    assert f"removed as a duplicate of {SECOND}: 7 bits apart, by lsh, mirrored" in explain.run(judged, [THIRD])
    assert "semantic duplicate" not in status.run(judged).text


def test_explain_names_the_threshold_and_models_that_are_no_longer_in_use(judged: Job) -> None:
    row = ("boats", "m1", 0.2, 0.9, 0.95, 30, 30)
    names = tables.THRESHOLDS.schema.names
    write_rows(judged.lake, tables.THRESHOLDS, [row + (None,) * (len(names) - len(row))])
    said = explain.run(judged, [SECOND, THIRD])
    assert "boats: 0.2500, by model m1; at or above the threshold 0.2000" in said
    assert "boats: 0.7500, by model m0, which is no longer in use" in said


def test_explain_refuses_unknown_images_and_too_many(judged: Job) -> None:
    with pytest.raises(WinnowError, match="unknown image zebra"):
        explain.run(judged, ["zebra"])
    with pytest.raises(WinnowError, match="21 images are named, but one call explains at most 20"):
        explain.run(judged, [f"{number:04d}" for number in range(21)])


def test_status_counts_rows_and_names_what_is_stale_and_what_comes_next(judged: Job) -> None:
    shown = status.run(judged).text
    cells = [line.replace("│", " ").split() for line in shown.splitlines() if "│" in line]
    rows = {row[0]: row for row in cells}
    assert rows["images"][1] == "4" and rows["verdicts"][1] == "4" and "kB" in rows["images"]
    assert f"Next: winnow weigh --lake {judged.lake.uri}" in shown  # what other programs wrote has no recipe

    keep.run(judged, Request((FIRST,), "a toy", by="ben"))
    found = status.run(judged)
    shown = found.text
    images = found.summary["tables"]["images"]
    assert images["rows"] == 4 and images["bytes"] > 100 and images["older_than"] == []
    assert found.summary["tables"]["verdicts"]["older_than"] == ["decisions"]
    assert found.summary["next"] == judged.command("filter")
    assert "verdicts is older than decisions: run `winnow filter`" in shown
    assert f"Next: winnow filter --lake {judged.lake.uri}" in shown


def test_status_of_a_lake_without_images_names_ingest(job: Job) -> None:
    job.lake.replace(tables.SOURCES, job.lake.spark.createDataFrame([], tables.SOURCES.schema), Recipe("ingest"))
    assert "Next: winnow ingest SOURCE --lake" in status.run(job).text
