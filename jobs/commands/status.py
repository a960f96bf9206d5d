"""`status`: what a lake holds, what is out of date and why, its size on disk, and what to run next."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as Grid

from jobs.facts.duplicates import NEAR_REMOVED, SEMANTIC_REMOVED
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.snapshot import Snapshot
from jobs.lake.table import Table
from jobs.runtime import terminal
from jobs.runtime.config import PAIRS
from jobs.runtime.wording import in_bytes, number, plural

# The commands of the pipeline in order, with the last table that each writes. The others need a person or a model.
_STEPS = (
    ("ingest", tables.IMAGES), ("score", tables.SIGNALS), ("calibrate", tables.THRESHOLDS),
    ("filter", tables.VERDICTS), ("dedup", tables.DUPLICATES), ("weigh", tables.CURATED),
    ("audit", tables.KEYWORD_SHIFT),
)  # fmt: skip
_WIDTH = 140


@dataclass(frozen=True)
class TableStatus:
    """The state of one table.

    Attributes:
        table: The table.
        rows: Number of rows.
        size: Bytes on disk, files of earlier versions included.
        written: Time of its newest commit, in UTC, as text.
        stale: Names of inputs that changed since it was made.
    """

    table: Table
    rows: int
    size: int
    written: str
    stale: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """The state of a lake.

    Attributes:
        text: For the terminal.
        summary: For scripts: `tables` (rows, bytes, written, older_than, by name) and `next` (the next command).
    """

    text: str
    summary: dict[str, Any]


def run(job: Job) -> Status:
    """Returns the state of the lake. It reads the logs of the tables, and counts rows.

    Args:
        job: The running command.
    """
    with job.progress.step("status: read the tables"):
        now = job.lake.snapshot()
        made = [table for table in tables.ALL if now.exists(table)]
        rows = job.lake.counts(made)
        found = [_status(job, now, table, rows[table.name]) for table in made]
    # Text and not a table of rich, which would break the next command into lines that cannot be pasted.
    drawn = io.StringIO()
    Console(file=drawn, width=_WIDTH).print(_grid(found))
    made_by = now.recipe(tables.DUPLICATES)
    removed = made_by.result if made_by else {}
    by_name = {one.table.name: one for one in found}
    each = {
        name: {"rows": one.rows, "bytes": one.size, "written": one.written, "older_than": list(one.stale)}
        for name, one in by_name.items()
    }
    text = drawn.getvalue() + terminal.lines(list(lines(job, by_name, removed)))
    return Status(text, {"tables": each, "next": _next(job, by_name)})


def _status(job: Job, now: Snapshot, table: Table, rows: int) -> TableStatus:
    commit = now.commit(table)
    assert commit is not None  # the table exists
    return TableStatus(
        table, rows, job.lake.bytes_of(table), f"{commit.written_at:%Y-%m-%d %H:%M}", tuple(now.newer(table))
    )


def _grid(found: list[TableStatus]) -> Grid:
    grid = Grid(show_edge=False, pad_edge=False)
    for name, justify in (("table", "left"), ("rows", "right"), ("on disk", "right"), ("written, UTC", "left")):
        grid.add_column(name, justify=justify)  # type: ignore[arg-type]
    grid.add_column("older than")
    for one in found:
        grid.add_row(one.table.name, number(one.rows), in_bytes(one.size), one.written, ", ".join(one.stale))
    return grid


def lines(job: Job, found: Mapping[str, TableStatus], removed: Mapping[str, Any]) -> Iterator[str]:
    """Yields the sum of the sizes, what is out of date, and the next command.

    Args:
        job: The running command.
        found: The tables of the lake by name.
        removed: The summary of the last `dedup`; empty if it has not run.
    """
    yield ""
    yield f"{plural(len(found), 'table')}, {in_bytes(sum(one.size for one in found.values()))} on disk"
    if SEMANTIC_REMOVED in removed:
        near, semantic = removed[NEAR_REMOVED], removed[SEMANTIC_REMOVED]
        counts = plural(near, "near-duplicate"), plural(semantic, "semantic duplicate")
        yield f"removed: {' and '.join(counts)} (`dedup.semantic`)"
    yield from (
        f"{one.table.name} is older than {', '.join(one.stale)}: run `winnow {one.table.maker}`"
        for one in found.values()
        if one.stale
    )
    if tables.PAIR_QUEUE.name in found and tables.PAIR_LABELS.name not in found:
        yield f"no queued pair is labelled: run `{job.command('label', 'serve', PAIRS)}`"
    yield f"Next: {_next(job, found)}"


def _next(job: Job, found: Mapping[str, TableStatus]) -> str:
    """Returns the first command of the pipeline whose table is missing or out of date."""
    for name, table in _STEPS:
        if name == "calibrate" and not job.settings.categories:
            continue
        state = found.get(table.name)
        if name == "ingest":
            if state is None or not state.rows:
                return job.command("ingest", "SOURCE")
            continue
        if state is None or state.stale:
            return job.command(name)
    return f"{job.command('report')} && {job.command('export', 'DIR', '--format', 'webdataset')}"
