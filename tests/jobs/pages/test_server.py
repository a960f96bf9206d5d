"""`server.until_stopped`: Ctrl-C ends a page, and what people answered is kept."""

import os
import signal
import threading
from collections.abc import Callable, Iterator

import pytest

from jobs.pages.web import server
from jobs.runtime.progress import Progress

NOTES = server.Notes("the page is open:", "label")


@pytest.fixture(autouse=True)
def own_handler() -> Iterator[None]:
    """Restores the handler of the tests."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(after: float = 0.05) -> None:
    threading.Timer(after, os.kill, (os.getpid(), signal.SIGINT)).start()


def like_spark(*_: object) -> None:
    """Does what Spark's own handler does, which it sets when it starts."""
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_page_also_if_spark_started_while_it_was_prepared() -> None:
    def serve(wait: Callable[[str], None]) -> str:
        signal.signal(signal.SIGINT, like_spark)
        interrupt()
        wait("http://127.0.0.1:1/")
        return "all answers saved"

    assert server.until_stopped(Progress.silent(), server.LOOPBACK, NOTES, serve) == "all answers saved"
    assert signal.getsignal(signal.SIGINT) is like_spark


def test_another_ctrl_c_does_not_stop_the_page_from_saving_answers() -> None:
    def serve(wait: Callable[[str], None]) -> str:
        signal.signal(signal.SIGINT, like_spark)
        interrupt()
        wait("http://127.0.0.1:1/")
        os.kill(os.getpid(), signal.SIGINT)
        return "all answers saved"

    assert server.until_stopped(Progress.silent(), server.LOOPBACK, NOTES, serve) == "all answers saved"


def test_ctrl_c_before_the_page_is_open_stops_the_command() -> None:
    def serve(wait: Callable[[str], None]) -> str:
        signal.signal(signal.SIGINT, like_spark)
        os.kill(os.getpid(), signal.SIGINT)
        wait("http://127.0.0.1:1/")
        return "all answers saved"

    with pytest.raises(KeyboardInterrupt):
        server.until_stopped(Progress.silent(), server.LOOPBACK, NOTES, serve)
