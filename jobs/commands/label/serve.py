"""`label serve`: serves a web page on which people label the images that `label next` queued."""

import hashlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from jobs.commands.label.page.app import Access, LabelPage, Spec
from jobs.commands.label.page.assignment_queue import AssignmentQueue, Rules
from jobs.commands.label.page.background_sync import BackgroundSync, Pace
from jobs.commands.label.page.images import PageImages
from jobs.commands.label.page.journal import Journal, is_segment
from jobs.commands.label.page.store import Store
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.runtime.config import CategorySettings
from models.errors import WinnowError
from models.stats import thresholds

LOOPBACK = "127.0.0.1"
_NAMES_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_ANY_ADDRESS = ("0.0.0.0", "::", "")
_CLOSING_SECONDS = 3


@dataclass(frozen=True)
class ServeOptions:
    """How the page is served.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 means any free port.
        overlap: Share of the images that everybody is assigned, in [0, 1].
        state: Folder of journals; None means the user's state folder.
    """

    host: str = LOOPBACK
    port: int = 8765
    overlap: float = 0.0
    state: Path | None = None


def run(job: Job, category: str, options: ServeOptions) -> Summary:
    """Serves the page until the process is stopped (Ctrl-C).

    Raises:
        WinnowError: The category is not in the settings, nothing is queued for it, the port is in use, or another
            process serves the category.
    """
    stopped = threading.Event()

    def wait(address: str) -> None:
        job.progress.note(f"the label page for {category} is open; Ctrl-C stops it and keeps all labels:")
        job.progress.address(address)
        if options.host not in _NAMES_OF_THIS_MACHINE:
            job.progress.warn(
                "the page is open to the network without encryption: anyone with this address can see and label images"
            )
        stopped.wait()

    with _on_end_signal(stopped):
        return serve(job, category, options, wait)


def serve(job: Job, category: str, options: ServeOptions, body: Callable[[str], None]) -> Summary:
    """Serves the page while `body`, called with its address, runs.

    Raises:
        WinnowError: As `run`.
    """
    settings = job.settings.category(category)
    job.lake.require(tables.IMAGES)
    folder = (options.state or _state_folder()) / _name_of(job.lake.uri)
    with _listening(options) as listener, closing(Journal(folder / category)) as journal:
        _replay_others(job, folder)
        assignments, sync, images = _prepare(job, category, options, journal)
        access = Access(_token(folder), _hosts(options.host))
        lake = _id_of(_absolute(job.lake.uri))
        spec = Spec(lake, category, settings.definition, *_examples(settings), _refill(category))
        app = LabelPage(spec, assignments, images, sync).app(access)
        replayed = sync.added
        with sync.working(assignments), _server(app, listener):
            body(_address(options.host, listener, access.token))
        summary: Summary = {"answers saved": sync.added - replayed}
        return summary | ({"answers recovered from the journal": replayed} if replayed else {})


def _prepare(
    job: Job, category: str, options: ServeOptions, journal: Journal
) -> tuple[AssignmentQueue, BackgroundSync, PageImages]:
    """Prepares for the first request: writes an old journal to the lake, reads the queue and the first images."""
    settings = job.settings.label_page
    target = job.settings.categories[category]
    store = Store(job, category)
    images = PageImages(job.lake, settings.picture)
    pace = Pace(settings.flush_seconds, settings.flush_labels, settings.ahead)
    sync = BackgroundSync(store, journal, images, pace, job.progress)
    with job.progress.step("label serve: recover labels from the journal"):
        sync.commit()
    with job.progress.step("label serve: read the queue"):
        queued = store.queue()
        if not queued:
            raise WinnowError(f"nothing is queued for {category}: run `{_refill(category)}` first")
        needed = thresholds.needed(target.recall, target.confidence) if target.threshold is None else 0
        rules = Rules(category, settings.lease_minutes * 60, options.overlap, needed)
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


def _examples(settings: CategorySettings) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(settings.include), tuple(settings.exclude)


def _refill(category: str) -> str:
    return f"winnow label next {category} --strategy random --count 200"


# The journal's folder -----------------------------------------------------------------------------------------------


def _state_folder() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "winnow" / "labels"


def _name_of(lake: str) -> str:
    """Returns the folder name of a lake; it does not depend on the working directory."""
    address = _absolute(lake)
    return f"{Path(address).name[:40]}-{_id_of(address)}"


def _absolute(lake: str) -> str:
    return lake if "://" in lake else str(Path(lake.removeprefix("file:")).resolve())


def _id_of(address: str) -> str:
    return hashlib.sha256(address.encode()).hexdigest()[:12]


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
                Store(job, left.name).commit(batch)
                journal.drop(batch)


# The web server -----------------------------------------------------------------------------------------------------


@contextmanager
def _listening(options: ServeOptions) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family)
    except OSError as error:
        raise WinnowError(
            f"cannot listen on {options.host} port {options.port}: {error.strerror}; add `--port 0` for any free port"
        ) from error
    with listener:
        yield listener


@contextmanager
def _server(app: object, listener: socket.socket) -> Iterator[None]:
    """Serves in a thread, because the main thread handles signals."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="label page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def _on_end_signal(stopped: threading.Event) -> Iterator[None]:
    """Sets the event when a signal (Ctrl-C, terminate, hang-up) asks the process to end."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hosts(host: str) -> frozenset[str]:
    if host in _NAMES_OF_THIS_MACHINE:
        return frozenset(_NAMES_OF_THIS_MACHINE)
    names = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower(), *_NAMES_OF_THIS_MACHINE}
    if host in _ANY_ADDRESS:
        with suppress(OSError):  # a machine's own name may have no address
            names |= {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
        # On many machines the own name stands for 127.0.1.1. This socket sends nothing; it only finds the address that
        # other machines see.
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outgoing:
            outgoing.connect(("192.0.2.1", 9))
            names.add(outgoing.getsockname()[0])
    return frozenset(names - set(_ANY_ADDRESS))


def _address(host: str, listener: socket.socket, token: str) -> str:
    name = socket.gethostname() if host in _ANY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/?token={token}"
