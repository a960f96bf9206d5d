"""`label serve`: serves a web page on which people label the images that `label next` queued."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from jobs.commands.label.page.app import LabelPage, Spec
from jobs.commands.label.page.assignment_queue import AssignmentQueue, Rules
from jobs.commands.label.page.background_sync import BackgroundSync, Pace
from jobs.commands.label.page.images import PageImages
from jobs.commands.label.page.journal import Journal, is_segment
from jobs.commands.label.page.pairs import PairImages, PairStore, pair_spec
from jobs.commands.label.page.store import Store
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.pages.web import names, server
from jobs.pages.web.access import Access
from jobs.prerequisites import has_rows_of
from jobs.runtime.config import PAIRS
from models.errors import WinnowError
from models.stats import thresholds


@dataclass(frozen=True)
class ServeOptions:
    """How the page is served.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 means any free port.
        overlap: Share of the images that everybody is assigned, in [0, 1].
        state: Folder of journals; None means the user's state folder.
    """

    host: str = server.LOOPBACK
    port: int = 8765
    overlap: float = 0.0
    state: Path | None = None


def run(job: Job, category: str, options: ServeOptions) -> Summary:
    """Serves the page until the process is stopped (Ctrl-C).

    Raises:
        WinnowError: The category is not in the settings, nothing is queued for it, the port is in use, or another
            process serves the category.
    """
    opened = f"the label page for {category} is open; Ctrl-C stops it and keeps all labels:"
    return server.until_stopped(
        job.progress, options.host, server.Notes(opened, "label"), lambda wait: serve(job, category, options, wait)
    )


def serve(job: Job, category: str, options: ServeOptions, body: Callable[[str], None]) -> Summary:
    """Serves the page while `body`, called with its address, runs.

    Raises:
        WinnowError: As `run`.
    """
    spec = _spec(job, category)
    job.lake.require_written(tables.IMAGES)
    _require_queued(job, category)
    folder = (options.state or _state_folder()) / names.folder_name(job.lake.uri)
    with server.listening(options.host, options.port) as listener, closing(Journal(folder / category)) as journal:
        _replay_others(job, folder)
        assignments, sync, images = _prepare(job, category, options, journal)
        access = Access(_token(folder), server.hosts(options.host))
        app = LabelPage(spec, assignments, images, sync).app(access)
        replayed = sync.added
        with sync.working(assignments), server.serving(app, listener):
            body(server.address(options.host, listener, access.token))
        if category == PAIRS:
            job.progress.address(f"next: {job.command('report')}")
        summary: Summary = {"answers saved": sync.added - replayed}
        return summary | ({"answers recovered from the journal": replayed} if replayed else {})


def _prepare(
    job: Job, category: str, options: ServeOptions, journal: Journal
) -> tuple[AssignmentQueue, BackgroundSync, PageImages]:
    """Prepares for the first request: writes an old journal to the lake, reads the queue and the first images."""
    settings = job.settings.label_page
    store = _store(job, category)
    images = (PairImages if category == PAIRS else PageImages)(job.lake, settings.picture)
    pace = Pace(settings.flush_seconds, settings.flush_labels, settings.ahead)
    sync = BackgroundSync(store, journal, images, pace, job.progress)
    with job.progress.step("label serve: recover labels from the journal"):
        sync.commit()
    with job.progress.step("label serve: read the queue"):
        queued = store.queue()
        if not queued:
            raise _nothing_queued(job, category)
        rules = Rules(category, settings.lease_minutes * 60, options.overlap, _positives_needed(job, category))
        assignments = AssignmentQueue(rules, sync.record, store.other_labels(queued))
        assignments.add(queued, store.decisions(queued))
        unknown = images.locate(one.image_id for one in queued)
        assignments.give_up(unknown)
    if unknown:
        job.progress.warn(
            f"label serve: skipped {len(unknown)} queued images that are not in the table images, such as {unknown[0]}"
        )
    with job.progress.step("label serve: read the first images"):
        sync.fetch_first(assignments)
    return assignments, sync, images


def _require_queued(job: Job, category: str) -> None:
    """Checks without Spark, if the queue is small, that something is queued.

    Raises:
        WinnowError: Nothing is.
    """
    is_pairs = category == PAIRS
    if not (job.lake.exists(tables.PAIR_QUEUE) if is_pairs else has_rows_of(job.lake, tables.LABEL_QUEUE, category)):
        raise _nothing_queued(job, category)


def _nothing_queued(job: Job, category: str) -> WinnowError:
    return WinnowError(f"nothing is queued for {category}: run `{_refill(job, category)}` first")


def _store(job: Job, category: str) -> Store:
    return PairStore(job) if category == PAIRS else Store(job, category)


def _positives_needed(job: Job, category: str) -> int:
    target = job.settings.categories.get(category)
    return thresholds.needed(target.recall, target.confidence) if target and target.threshold is None else 0


def _spec(job: Job, category: str) -> Spec:
    """Returns what the page shows about a category, or about pairs of near-duplicates.

    Raises:
        WinnowError: The category is not in the settings.
    """
    lake, refill = names.lake_id(job.lake.uri), _refill(job, category)
    if category == PAIRS:
        return pair_spec(lake, refill, job.settings)
    settings = job.settings.category(category)
    return Spec(lake, category, settings.definition, tuple(settings.include), tuple(settings.exclude), refill)


def _refill(job: Job, category: str) -> str:
    if category == PAIRS:
        return job.command("label", "next", PAIRS)
    return f"winnow label next {category} --strategy random --count 200"


# The journal's folder -----------------------------------------------------------------------------------------------


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "winnow" / "labels"


def _token(folder: Path) -> str:
    """Returns the lake's access token from its file, so that open pages still work after a restart."""
    file = folder / "token"
    try:
        token = file.read_text().strip()
    except OSError:
        token = ""
    if not token:
        token = Access.new_token()
        file.touch(mode=0o600)
        file.write_text(token)
    return token


def _replay_others(job: Job, folder: Path) -> None:
    """Writes to the lake the decisions that crashed pages of other categories left in their journals."""
    for left in sorted({path.parent for path in folder.glob("*/*.jsonl") if is_segment(path)}):
        try:
            journal = Journal(left)
        except WinnowError:
            # This page or another one uses the journal, and writes it to the lake itself.
            continue
        with closing(journal):
            batch = journal.take()
            if batch:
                _store(job, left.name).commit(batch)
                journal.drop(batch)
