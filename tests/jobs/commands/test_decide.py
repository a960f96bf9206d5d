"""`keep` and `drop`: what they write, what they say, and what `filter` makes of it."""

import io
import shlex
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession
from rich.console import Console

from jobs.commands import drop, keep
from jobs.commands.filter import command as filter
from jobs.decisions import record
from jobs.decisions.record import Request
from jobs.job import Job
from jobs.lake import tables
from jobs.prerequisites import require_verdicts
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows

FIRST, SECOND, THIRD, BROKEN = ("1" * 32, "2" * 32, "3" * 32, "4" * 32)
SMALL = "filter.rules.small='width < 9'"
NOW = datetime(2026, 1, 5, tzinfo=UTC)


@pytest.fixture
def small(job: Job) -> Job:
    """Returns a lake of four images: a small one, its two copies, and a broken one."""
    rows = [(FIRST, "a", 5), (SECOND, "b", 50), (THIRD, "c", 50), (BROKEN, "d", 50)]
    write_rows(job.lake, tables.IMAGES, [(i, key, "s", None, b"", w, 9, "PNG", "{}", 0) for i, key, w in rows])
    signals = [(i, bytes(32), 99, "e", [1.0], bytes(32), i) for i in (FIRST, SECOND, THIRD)]
    write_rows(job.lake, tables.SIGNALS, signals)
    write_rows(job.lake, tables.QUARANTINE, [("s", "d", "score", "truncated", "…", BROKEN)])
    pairs = [(FIRST, SECOND, 7, "lsh"), (FIRST, THIRD, 3, "lsh"), (SECOND, THIRD, 9, "lsh")]
    write_rows(job.lake, tables.PAIRS, pairs)
    options = ("--lake", job.lake.uri, "--set", SMALL)
    return Job(job.lake, config.load(overrides=[SMALL]), Progress(Console(file=io.StringIO(), width=500)), options)


def asked(*images: str, why: str = "a toy", **more: Any) -> Request:
    return Request(images, why, **{"by": "anna", **more})


def rows_of(job: Job) -> list[tuple[str, ...]]:
    rows = job.lake.read(tables.DECISIONS).orderBy("decided_at", "image_id").collect()
    return [(row.image_id, row.decision, row.why, row.decided_by) for row in rows]


def verdicts_of(job: Job) -> dict[str, tuple[bool, list[str], str | None]]:
    return {row.image_id: (row.kept, row.reasons, row.kept_because) for row in job.lake.read(tables.VERDICTS).collect()}


def test_a_decision_beats_the_filter_until_it_is_withdrawn(small: Job) -> None:
    filter.run(small)
    before = verdicts_of(small)

    said = keep.run(small, asked("1111", "d", why=" a  toy\nboat "))
    with pytest.raises(WinnowError, match="'verdicts' is older than decisions: run `winnow filter` first"):
        require_verdicts(small.lake.snapshot())
    drop.run(small, asked("b", why="a logo", by="ben"))
    summary = filter.run(small)

    assert before[FIRST][0] is False and before[SECOND][0] is True
    assert verdicts_of(small) == {
        FIRST: (True, [], "kept by anna: a toy boat (against small: width < 9)"),
        SECOND: (False, ["decision: dropped by ben: a logo"], None),
        THIRD: (True, [], None),
        BROKEN: (False, ["not decodable: truncated"], None),
    }
    counts = {"images": 4, "kept": 2, "kept by decision": 1, "filtered": 2}
    assert summary == {**counts, "filtered, small": 0, "filtered, decision": 1, "filtered, not decodable": 1}
    options = f"--lake {small.lake.uri} --set {shlex.quote(SMALL)}"
    assert said.splitlines() == [
        "  111111111111  a  (first digits 1111)",
        "  444444444444  d  (key d)",
        "Kept 2 images by decision of anna: a toy boat",
        f"Next: winnow filter {options} && winnow dedup {options} && winnow weigh {options}",
    ]
    assert "1 of these images cannot be decoded" in small.progress.console.file.getvalue()  # type: ignore[attr-defined]

    keep.run(small, asked("a", withdraw=True, why="seen again"))
    drop.run(small, asked("b", withdraw=True, why="seen again"))
    filter.run(small)
    assert verdicts_of(small) == before
    assert [row[1] for row in rows_of(small)] == ["keep", "keep", "drop", "withdrawn", "withdrawn"]


def test_the_same_decision_is_written_once_and_another_reason_is_a_new_row(small: Job) -> None:
    keep.run(small, asked("a"))
    version = small.lake.snapshot().version(tables.DECISIONS)

    assert keep.run(small, asked("a")).splitlines()[-1] == (
        "Kept 0 images by decision of anna: a toy; 1 had this decision before"
    )
    assert small.lake.snapshot().version(tables.DECISIONS) == version
    keep.run(small, asked("a", "b", why="a ship"))
    assert rows_of(small) == [
        (FIRST, "keep", "a toy", "anna"), (FIRST, "keep", "a ship", "anna"), (SECOND, "keep", "a ship", "anna"),
    ]  # fmt: skip


def test_withdrawing_takes_back_only_decisions_of_its_kind(small: Job) -> None:
    drop.run(small, asked("a"))

    said = keep.run(small, asked("a", "b", withdraw=True))

    assert said.splitlines()[-1] == "Took back the decision to keep 0 images (anna: a toy); 2 had no such decision"
    assert len(rows_of(small)) == 1


def test_drop_lists_near_copies_and_the_command_that_drops_them(small: Job, tmp_path: Path) -> None:
    keep.run(small, asked("b"))
    listed = tmp_path / "list"
    listed.write_text("a\n")

    said = drop.run(small, asked(why="it's a logo", list_file=str(listed))).splitlines()

    words = ["drop", "--from", str(listed), "--why", "it's a logo", "--by", "anna", "--with-copies"]
    command = shlex.join(["winnow", *words, "--lake", small.lake.uri, "--set", SMALL])
    assert said[-3:] == [
        "1 near-copy of what you drop, without a decision:",
        "  333333333333  c  (3 bits)",
        f"To drop them too: {command}",
    ]
    drop.run(small, asked(why="it's a logo", list_file=str(listed), with_copies=True))
    # The copy that a person keeps stays, and the first image gets no second row.
    assert rows_of(small)[1:] == [(i, "drop", "it's a logo", "anna") for i in (FIRST, THIRD)]


def test_near_copies_of_a_common_image_are_found_through_its_best_copy(spark: SparkSession) -> None:
    # a, b, c, d have the hash of "best"; x and y have another hash, near to that of "best".
    exact = [(one, "best", 0, "exact") for one in "abcd"] + [("x", "y", 0, "exact")]
    rows = [(*pair, False) for pair in (*exact, ("best", "x", 9, "lsh"))]
    pairs = spark.createDataFrame(rows, tables.PAIRS.schema)

    found = drop.near_copies(pairs, spark.createDataFrame([("a",)], "image_id string"))

    expected = {**dict.fromkeys(("best", "b", "c", "d"), 0), "x": 9, "y": 9}
    assert {row.image_id: row.distance for row in found.collect()} == expected


def test_a_list_is_one_commit(small: Job, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_text("a\nb\nc\n")

    drop.run(small, asked(list_file=str(listed)))

    assert small.lake.snapshot().version(tables.DECISIONS) == 0 and len(rows_of(small)) == 3


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (asked("a", why=" \n"), "--why is empty: give --why TEXT"),
        (asked("a", by=""), "--by is empty"),
        (asked("a", "not ingested yet"), "unknown image not ingested yet"),
        (asked(), "no image is named"),
        (asked(list_file="/nowhere/list"), "the list /nowhere/list cannot be read: No such file"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(small: Job, request_: Request, message: str) -> None:
    for command in (keep, drop):
        with pytest.raises(WinnowError, match=message):
            command.run(small, request_)
    assert not small.lake.exists(tables.DECISIONS)


def test_a_later_decision_counts_even_if_the_clock_was_set_back(spark: SparkSession) -> None:
    later = NOW + timedelta(hours=1)
    before = spark.createDataFrame([("x", "keep", "w", "ben", later)], tables.DECISIONS.schema)
    images = spark.createDataFrame([("x",), ("y",)], "image_id string")

    rows = record.new_rows(images, before, "drop", asked(), NOW).selectExpr("image_id", "unix_micros(decided_at)")

    micros = dict(rows.collect())
    assert micros == {"x": round(later.timestamp() * 1e6) + 1, "y": round(NOW.timestamp() * 1e6)}
