"""What all commands share: options, the job that is opened, errors as one line, and the result that is shown."""

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from typer.models import ArgumentInfo

from jobs.job import Job, Summary
from jobs.runtime import config
from jobs.runtime.config import Settings
from jobs.runtime.progress import Progress
from models.errors import WinnowError

# Every other command needs a lake that is there, and makes no folder where an address is mistyped.
_LAKE_MAKERS = ("ingest", "run", "demo")

Found = Summary | RenderableType
"""What a command shows when it ends: a summary, under the command's title, or text or a table as it is."""


@dataclass(frozen=True)
class Invocation:
    """A command as it was called: its full name, and the options that every command takes."""

    command: str
    lake: str
    conf: list[Path] | None
    overrides: list[str] | None

    def settings(self) -> Settings:
        """The settings of the files and the overrides."""
        return config.load(self.conf or [], self.overrides or [])

    @contextmanager
    def open(self) -> Iterator[Job]:
        """A job with its session, which ends with it; an error of Spark's becomes a `WinnowError`."""
        from jobs.lake.lake import Lake
        from jobs.runtime.session import failure, get_session, runs

        settings, progress = self.settings(), Progress()
        with progress.step("start Spark"):
            spark = get_session(settings.spark, f"winnow {self.command}")
        progress.context = spark.sparkContext
        try:
            job = Job(Lake(spark, self.lake), settings, progress)
            if self.command not in _LAKE_MAKERS:
                job.lake.require_made()
            yield job
        except Exception as error:
            if isinstance(_cause(error), WinnowError) or (found := failure(error, settings.spark, runs(spark))) is None:
                raise
            raise found from error
        finally:
            if runs(spark):
                spark.stop()


_Function = TypeVar("_Function", bound=Callable[..., Found])


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_LAKE = _parameter(
    "lake", Annotated[str, typer.Option("--lake", metavar="URI", help="Folder or URI of the lake's Delta tables.")]
)
# A command that does not use `--lake` accepts it, so that a script can give every command the same options.
_UNUSED_LAKE = _parameter("lake", Annotated[str, typer.Option("--lake", hidden=True)], "")
_CONF = typer.Option(
    "--conf", metavar="FILE", help="Settings, a category or a folder of these; repeatable, later ones win."
)
_SET = typer.Option("--set", metavar="KEY=VALUE", help="One setting, as section.key=value; repeatable.")
_DEBUG = typer.Option("--debug", help="Show the traceback of an error.")
_SETTINGS = (
    _parameter("conf", Annotated[list[Path] | None, _CONF], None),
    _parameter("set_", Annotated[list[str] | None, _SET], None),
    _parameter("debug", Annotated[bool, _DEBUG], False),
)


def command_with_job(group: typer.Typer, name: str, title: str = "") -> Callable[[_Function], _Function]:
    """Makes a function a command: the decorator opens the job, calls the function and shows what it returns.

    The function's first parameter is the job. The other parameters are the command's own arguments and options, to
    which `--lake`, `--conf`, `--set` and `--debug` are added. The function's docstring is the help. What the function
    needs of `jobs.commands` it imports itself, so that `--help` is quick.

    Args:
        group: Gets the command, under the last word of its name.
        name: Full name of the command, also in the name of Spark's application.
        title: Title of the summary, with `{option}` for the value of an own option; the name when empty.
    """

    def add(function: _Function) -> _Function:
        @wraps(function)
        def opened(invocation: Invocation, /, **own: Any) -> Found:
            with invocation.open() as job:
                return function(job, **own)

        command_without_job(group, name, title, _LAKE)(opened)
        return function

    return add


def command_without_job(
    group: typer.Typer, name: str, title: str = "", lake: inspect.Parameter | None = _UNUSED_LAKE
) -> Callable[[_Function], _Function]:
    """Makes a function a command as `command_with_job` does; the function gets the `Invocation` and opens the job.

    Args:
        group: Gets the command, under the last word of its name.
        name: Full name of the command.
        title: Title of the summary, with `{option}` for the value of an own option; the name when empty.
        lake: The option `--lake`; None where the command has none.
    """

    def add(function: _Function) -> _Function:
        def callback(*, conf: Any, set_: Any, debug: bool, lake: str = "", **own: Any) -> None:
            with _one_line_errors(debug):
                found = function(Invocation(name, lake, conf, set_), **own)
            _show((title or name).format(**own), found)

        _, *own = inspect.signature(function).parameters.values()
        parameters = [*([lake] if lake else []), *own, *_SETTINGS]
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        # Typer reads the signature. Arguments come first, so that a missing one is reported before a missing option.
        signature = inspect.Signature(sorted(keywords, key=lambda parameter: not _is_argument(parameter)))
        callback.__signature__ = signature  # type: ignore[attr-defined]
        group.command(name.split()[-1], help=function.__doc__)(callback)
        return function

    return add


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(part, ArgumentInfo) for part in get_args(parameter.annotation))


@contextmanager
def _one_line_errors(debug: bool) -> Iterator[None]:
    """Prints an error that a user can correct as one line, with exit status 1; `debug` leaves every error as it is."""
    console = Console(file=sys.stderr)
    try:
        yield
    except KeyboardInterrupt:
        console.print("[red]stopped[/]: what was committed stays; run the same command again to go on")
        raise typer.Exit(130) from None
    except Exception as error:
        meant = _cause(error)
        if debug or not isinstance(meant, WinnowError | OSError):
            raise
        console.print(f"error: {_line(meant)}", style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from None


def _cause(error: BaseException) -> BaseException:
    """The error that was meant, where another wraps it."""
    while not isinstance(error, WinnowError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(error: BaseException) -> str:
    """An error as one line: the system's with the file's name first, and how to find out more."""
    if not isinstance(error, OSError):
        return str(error)
    said = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{said} (`--debug` shows where)"


def _show(title: str, found: Found) -> None:
    if isinstance(found, str):
        # The text may be a file's: it has no markup, and its lines stay whole.
        Console().print(found, markup=False, highlight=False, soft_wrap=True, end="")
    else:
        Console().print(summary_table(title, found) if isinstance(found, dict) else found)


def summary_table(title: str, summary: Summary) -> Table:
    """The table of what a command did: a row for each name and its value."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in summary.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    return table
