"""The web server of a page that a command serves."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

import uvicorn

from jobs.runtime.progress import Progress
from models.errors import WinnowError

Result = TypeVar("Result")

LOOPBACK = "127.0.0.1"
NAMES_OF_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_ANY_ADDRESS = ("0.0.0.0", "::", "")
_CLOSING_SECONDS = 3


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listens on an address while the block runs; port 0 means any free port.

    Raises:
        WinnowError: The port is in use, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        raise WinnowError(
            f"cannot listen on {host} port {port}: {error.strerror}; add `--port 0` for any free port"
        ) from error
    with listener:
        yield listener


@contextmanager
def serving(app: object, listener: socket.socket) -> Iterator[None]:
    """Serves an application while the block runs, in a thread, because the main thread handles signals."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_CLOSING_SECONDS,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


@dataclass(frozen=True)
class Notes:
    """What the terminal says about a page.

    Attributes:
        opened: The line before the address.
        verb: What visitors may do with images besides seeing them.
    """

    opened: str
    verb: str


def until_stopped(
    progress: Progress, host: str, notes: Notes, serve: Callable[[Callable[[str], None]], Result]
) -> Result:
    """Serves a page until a signal asks the process to end, and returns the result.

    Before the page is open, a signal ends the process as it ends any command. While it is open and while it closes, the
    answers of people are kept.

    Args:
        progress: Shows the address.
        host: Address that the server listens on.
        notes: What to say.
        serve: Serves the page while the function that it is given, called with the page's address, runs.
    """
    stopped = threading.Event()

    def wait(address: str) -> None:
        # Not earlier: Spark, which may start while the page is prepared, sets a handler of its own.
        until_closed.enter_context(on_end_signal(stopped))
        progress.note(notes.opened)
        progress.address(address)
        if host not in NAMES_OF_THIS_MACHINE:
            progress.warn(
                "the page is open to the network without encryption: anyone with this address can see and "
                f"{notes.verb} images"
            )
        stopped.wait()

    with ExitStack() as until_closed:
        return serve(wait)


@contextmanager
def on_end_signal(stopped: threading.Event) -> Iterator[None]:
    """Sets the event when a signal (Ctrl-C, terminate, hang-up) asks the process to end."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in signals}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def hosts(host: str) -> frozenset[str]:
    """Returns the names by which a browser may address the page if the server listens on `host`."""
    if host in NAMES_OF_THIS_MACHINE:
        return frozenset(NAMES_OF_THIS_MACHINE)
    names = {host.lower(), socket.gethostname().lower(), socket.getfqdn().lower(), *NAMES_OF_THIS_MACHINE}
    if host in _ANY_ADDRESS:
        with suppress(OSError):  # a machine's own name may have no address
            names |= {str(found[4][0]) for found in socket.getaddrinfo(socket.gethostname(), None)}
        # On many machines the own name stands for 127.0.1.1. This socket sends nothing; it only finds the address that
        # other machines see.
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outgoing:
            outgoing.connect(("192.0.2.1", 9))
            names.add(outgoing.getsockname()[0])
    return frozenset(names - set(_ANY_ADDRESS))


def address(host: str, listener: socket.socket, token: str) -> str:
    """Returns the address of the page, with its token."""
    name = socket.gethostname() if host in _ANY_ADDRESS else f"[{host}]" if ":" in host else host
    return f"http://{name}:{listener.getsockname()[1]}/?token={token}"
