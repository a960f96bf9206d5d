"""Superseded images: what a source, read again, no longer holds, and what was only not read."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from jobs.commands import explain, ingest
from jobs.commands.filter import command as filter
from jobs.facts.funnel import funnel
from jobs.facts.origin import origin
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.origins.readings import counted_once, readings
from jobs.origins.superseded import listed, superseded, update
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from tests.builders.lake_rows import write_rows
from tests.builders.sources import Picture, encoded, members_of, write_folder, write_tar

Reading = tuple[str, str, str, bool | None, Mapping[str, str], Mapping[str, str]]


def write_readings(lake: Lake, made: list[Reading]) -> None:
    """Writes readings in their order: source, format, columns, whether whole, images by key, quarantine by key."""
    known: set[str] = set()
    for number, (source, form, read_as, whole, images, faulty) in enumerate(made):
        run, added = f"run{number}", {image for image in images.values() if image not in known}
        rows = []
        for key, image in images.items():
            rows.append((image, source, key, image not in known, run))
            known.add(image)
        write_rows(lake, tables.ORIGINS, rows)
        when = datetime(2026, 1, 1 + number, tzinfo=UTC)
        bad, new = len(faulty), len(added)
        counts = (len(images) + bad, new, len(images) - new, bad)
        write_rows(lake, tables.SOURCES, [(source, *counts, when, form, f"f{number}", run, read_as, whole)])
        if faulty:
            write_rows(lake, tables.QUARANTINE, [(source, key, "decode", why) for key, why in faulty.items()])


A, B = {"k": "old"}, {"k": "new"}
CASES: dict[str, tuple[list[Reading], set[str]]] = {
    "read once": ([("s", "folder", "c", True, A, {})], set()),
    "a corrected caption": ([("s", "folder", "c", True, A, {}), ("s", "folder", "c", True, B, {})], {"old"}),
    "a row that was deleted": (
        [("s", "folder", "c", True, A | {"l": "kept"}, {}), ("s", "folder", "c", True, {"l": "kept"}, {})],
        {"old"},
    ),
    "another source holds it": (
        [("s", "folder", "c", True, A, {}), ("t", "folder", "c", True, A, {}), ("s", "folder", "c", True, B, {})],
        set(),
    ),
    "the other source, read again, does not hold it either": (
        [
            ("s", "folder", "c", True, A, {}),
            ("t", "folder", "c", True, A, {}),
            ("s", "folder", "c", True, B, {}),
            ("t", "folder", "c", True, B, {}),
        ],
        {"old"},
    ),
    "it came back": (
        [("s", "folder", "c", True, one, {}) for one in (A, B, A)],
        {"new"},
    ),
    "the second reading was not whole": (
        [("s", "folder", "c", True, A, {}), ("s", "folder", "c", False, B, {})],
        set(),
    ),
    "a whole reading after one that was not": (
        [("s", "folder", "c", whole, one, {}) for one, whole in ((A, True), (B, False), ({"k": "newest"}, True))],
        {"old", "new"},
    ),
    "the first reading was not whole": (
        [("s", "folder", "c", False, A, {}), ("s", "folder", "c", True, B, {})],
        {"old"},
    ),
    "other columns were read": (
        [("s", "folder", "c", True, A, {}), ("s", "folder", "d", True, B, {})],
        set(),
    ),
    "the row is now in quarantine": (
        [("s", "folder", "c", True, A | {"l": "gone"}, {}), ("s", "folder", "c", True, {}, {"k": "truncated"})],
        {"gone"},
    ),
    "an earlier version read it last": (
        [("s", "folder", "c", True, A, {}), ("s", "folder", "c", None, B, {})],
        set(),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_only_images_that_no_source_holds_any_more_are_superseded(lake: Lake, tmp_path: Path, case: str) -> None:
    made, expected = CASES[case]
    write_readings(lake, made)
    with Scratch(lake.spark, str(tmp_path / "scratch")) as scratch:
        every = readings(lake.read(tables.SOURCES))
        found = superseded(lake.read(tables.ORIGINS), every, lake.read(tables.QUARANTINE), scratch).collect()
    assert {row.image_id for row in found} == expected
    assert len(found) == len(expected) and all(row.source == "s" for row in found)


def test_images_without_origins_and_rows_of_unfinished_runs_are_not_superseded(lake: Lake, tmp_path: Path) -> None:
    write_readings(lake, [("s", "folder", "c", True, A, {}), ("s", "folder", "c", True, B, {})])
    # An earlier version ingested "ancient", so that this reading found a repeat; a killed run found "lost" and "old".
    when = datetime(2025, 1, 1, tzinfo=UTC)
    write_rows(lake, tables.SOURCES, [("s", 1, 0, 1, 0, when, "folder", "f", "run9", "c", True)])
    killed = [("lost", "s", "k", True, "killed"), ("old", "t", "k", False, "killed")]
    write_rows(lake, tables.ORIGINS, [("ancient", "s", "k", False, "run9"), *killed])
    with Scratch(lake.spark, str(tmp_path / "scratch")) as scratch:
        every = readings(lake.read(tables.SOURCES))
        found = superseded(lake.read(tables.ORIGINS), every, lake.read(tables.QUARANTINE), scratch).collect()
    assert {row.image_id for row in found} == {"old"}


def test_a_source_that_was_read_several_times_counts_once(lake: Lake) -> None:
    first = {"a": "1", "b": "2", "c": "3"}
    write_readings(lake, [("s", "folder", "c", True, first, {"x": "empty"})])
    write_rows(lake, tables.SUPERSEDED, [("3", "s", "c")])
    write_readings(lake, [("t", "folder", "c", True, {"q": "9"}, {})])
    # The second reading holds 1 and 2 again, a new image, and 9 of the other source.
    when = datetime(2026, 2, 1, tzinfo=UTC)
    write_rows(lake, tables.SOURCES, [("s", 6, 1, 3, 2, when, "folder", "f2", "run9", "c", True)])
    rows = {row.source: row for row in counted_once(lake.read(tables.SOURCES), lake.read(tables.SUPERSEDED)).collect()}
    assert rows["s"].asDict() == {
        "source": "s", "format": "folder", "rows": 6, "images": 4, "repeats": 1, "quarantined": 2, "again": 2,
        "again_quarantined": 1,
    }  # fmt: skip
    assert (rows["t"].rows, rows["t"].images, rows["t"].repeats, rows["t"].again) == (1, 1, 0, 0)
    counts = funnel(lake, {tables.IMAGES.name: 5})
    assert counts is not None and not counts.gaps
    assert (counts.rows_read, counts.repeats, counts.quarantined) == (8, 1, 2)
    assert funnel(lake, {tables.IMAGES.name: 4}).gaps  # type: ignore[union-attr]
    shown = [(one["source"], one["parts"], one["rows"], one["images"]) for one in origin(lake)["sources"]]
    assert shown == [("s", 1, 6, 4), ("t", 1, 1, 1)]


def test_the_table_is_written_only_if_it_changes(lake: Lake) -> None:
    write_readings(lake, [("s", "folder", "c", True, A, {})])
    assert update(lake).total == 0 and not lake.exists(tables.SUPERSEDED)
    write_rows(
        lake, tables.SOURCES, [("s", 0, 0, 0, 0, datetime(2026, 3, 1, tzinfo=UTC), "folder", "f", "z", "c", True)]
    )
    changes = update(lake)
    assert (changes.newly, changes.back, changes.total) == (1, 0, 1)
    version = lake.snapshot().version(tables.SUPERSEDED)
    write_rows(
        lake, tables.SOURCES, [("t", 0, 0, 0, 0, datetime(2026, 3, 2, tzinfo=UTC), "folder", "f", "y", "c", True)]
    )
    assert update(lake).newly == 0 and lake.snapshot().version(tables.SUPERSEDED) == version


# Whole commands -------------------------------------------------------------------------------------------------------


@pytest.fixture
def said(job: Job) -> tuple[Job, io.StringIO]:
    """Returns a job, and what it says."""
    text = io.StringIO()
    progress = Progress(Console(file=text, width=500))
    return Job(job.lake, job.settings, progress, ("--lake", job.lake.uri)), text


def reasons_of(job: Job) -> dict[str | None, list[str]]:
    """Returns the reasons of each image after `filter`, by caption."""
    filter.run(job)
    verdicts = job.lake.read(tables.VERDICTS).join(job.lake.read(tables.IMAGES), "image_id")
    return {row.caption: list(row.reasons) for row in verdicts.select("caption", "reasons").collect()}


@pytest.mark.slow
def test_a_corrected_caption_replaces_the_old_one_and_a_second_caption_stays(
    said: tuple[Job, io.StringIO], tmp_path: Path
) -> None:
    job, text = said
    red, blue = encoded("red"), encoded("blue")
    folder = tmp_path / "pictures"
    typo, other = Picture("a", red, "a dgo"), Picture("b", blue, "a bird")
    write_folder(folder, [typo, other])
    shard = write_tar(tmp_path / "z.tar", members_of(Picture("z", blue, "a bird")))
    first = ingest.run(job, [str(folder), str(shard)], None)
    assert "superseded" not in first and listed(job.lake) is None

    write_folder(folder, [Picture("a", red, "a dog")])
    (folder / "b.png").unlink()
    second = ingest.run(job, [str(folder), str(shard)], None)

    assert (second["superseded"], second["superseded in all"]) == (1, 1)
    assert "1 image is superseded" in text.getvalue()
    assert reasons_of(job) == {"a dgo": [f"superseded: no longer in {folder}"], "a dog": [], "a bird": []}
    shown = listed(job.lake)
    assert shown is not None and [(row.key, row.caption) for row in shown.first] == [("a", "a dgo")]
    [gone] = job.lake.read(tables.SUPERSEDED).collect()
    told = explain.run(job, [gone.image_id])
    assert f"superseded {folder}, read again, no longer holds it with this caption" in told
    assert "It comes back if a source holds it again" in told
    bird = job.lake.read(tables.IMAGES).where("caption = 'a bird'").first()
    assert bird is not None and f"repeat     {shard}, key z" in explain.run(job, [bird.image_id])

    write_folder(folder, [typo])
    third = ingest.run(job, [str(folder)], None)
    assert third["superseded in all"] == 1 and "no longer superseded" in text.getvalue()
    assert reasons_of(job) == {"a dgo": [], "a dog": [f"superseded: no longer in {folder}"], "a bird": []}


@contextmanager
def damaged(shard: Path) -> Iterator[None]:
    """Cuts a shard in its last member."""
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2 - 600])
    yield
    shard.write_bytes(data)


@pytest.mark.slow
def test_what_was_only_not_read_is_not_superseded(said: tuple[Job, io.StringIO], tmp_path: Path) -> None:
    job, _ = said
    pictures = [Picture(name, encoded(name), name) for name in ("red", "blue", "lime")]
    shard = write_tar(tmp_path / "t" / "a.tar", {k: v for one in pictures for k, v in members_of(one).items()})
    other = write_tar(tmp_path / "t" / "b.tar", members_of(Picture("x", encoded("gold"), "gold")))
    ingest.run(job, [str(shard.parent)], None)

    with damaged(shard):  # a shard that is cut, and another pattern: b.tar is not named
        summary = ingest.run(job, [str(tmp_path / "t" / "a*.tar")], None)
        assert summary["quarantined"] and "superseded" not in summary
    # A shard that is away, a folder that is empty now
    other.unlink()
    assert "superseded" not in ingest.run(job, [str(shard.parent)], None)
    # A shard that is read whole without one of its images
    rest = {k: v for one in pictures[1:] for k, v in members_of(one).items()}
    write_tar(shard, rest)
    assert ingest.run(job, [str(shard)], None)["superseded"] == 1
    assert {caption for caption, why in reasons_of(job).items() if why} == {"red"}


@pytest.mark.slow
def test_an_image_that_is_now_broken_or_unread_keeps_its_sound_copy(
    said: tuple[Job, io.StringIO], tmp_path: Path
) -> None:
    job, _ = said
    folder = write_folder(tmp_path / "f", [Picture(name, encoded(name), name) for name in ("red", "blue")])
    ingest.run(job, [str(folder)], None)
    (folder / "red.png").write_bytes(encoded("red")[:40])
    assert "superseded" not in ingest.run(job, [str(folder)], None)
    (folder / "red.png").unlink()  # the metadata still name it
    assert "superseded" not in ingest.run(job, [str(folder)], None)
    assert not any(reasons_of(job).values())


@pytest.mark.slow
@pytest.mark.parametrize("step", ["_chosen", "_record"])
def test_a_killed_reading_supersedes_nothing_and_the_next_run_completes_it(
    said: tuple[Job, io.StringIO], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    job, _ = said
    folder = write_folder(tmp_path / "f", [Picture("a", encoded("red"), "a dgo"), Picture("b", encoded("blue"), "b")])
    ingest.run(job, [str(folder)], None)
    write_folder(folder, [Picture("a", encoded("red"), "a dog"), Picture("b", encoded("blue"), "b")])

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(ingest, step, killed)
        ingest.run(job, [str(folder)], None)
    assert update(job.lake).total == 0

    summary = ingest.run(job, [str(folder)], None)
    assert (summary["unchanged"], summary["superseded"]) == (int(step == "_record"), 1)
    assert {row.key for row in job.lake.read(tables.SUPERSEDED).collect()} == {"a"}
