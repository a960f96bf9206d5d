"""What all commands share: common options, opening the job, one-line errors, and showing the result."""

import inspect
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_args

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from typer.models import ArgumentInfo

from jobs.runtime import config, terminal
from jobs.runtime.addresses import names_secret, require_no_secret
from jobs.runtime.config import Layer, Settings
from jobs.runtime.progress import Progress
from models.errors import WinnowError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from jobs.job import Job, Summary

# Every other command needs an existing lake, so that a mistyped address creates no folder.
_LAKE_MAKERS = ("ingest", "run", "demo")

# Parameters that are no addresses. Keys of images are often web addresses, with any parameters.
_NO_ADDRESSES, _KEYS = ("why", "by"), "images"
_WEB = ("http:", "https:")
# A command that an error names, and those that take no lake.
_NAMED = re.compile(r"`(winnow [^`]+)`")
_WITHOUT_LAKE = ("generate", "demo", "compare", "settings")
_JSON_WIDTH = 200  # characters of a table that is put into JSON as text


@dataclass(frozen=True)
class Shown:
    """What a command shows when it ends, beside its summary.

    Attributes:
        summary: Its summary, which `--json` prints.
        renderable: What it prints without `--json`.
    """

    summary: dict[str, Any]
    renderable: RenderableType


CommandOutput: TypeAlias = "Summary | Shown | RenderableType"
"""What a command shows when it ends: a summary (printed under the command's title), text or a table."""


@dataclass(frozen=True)
class Invocation:
    """One call of a command: its full name, the options that every command takes, and the commands to run next."""

    command: str
    lake: str
    conf: list[Path] | None
    overrides: list[str] | None
    rules: list[str] | None = None
    categories: list[str] | None = None
    trust_conf: bool = False
    quiet: bool = False
    following: list[str] = field(default_factory=list)

    def progress(self) -> Progress:
        """Returns the progress display."""
        return Progress(quiet=self.quiet)

    def settings(self) -> Settings:
        """Returns the settings of the ready-made rules and categories, the files and the overrides."""
        return config.validated(self.layers())

    def layers(self) -> list[Layer]:
        """Returns the settings by where they were set, from the defaults to the overrides."""
        return config.layers(
            self.conf or [], self.overrides or [], self.rules or [], self.categories or [], self.trust_conf
        )

    @property
    def options(self) -> tuple[str, ...]:
        """The options that every command takes, as words of the command line, without those that hold a secret."""
        typed = [one for one in self.overrides or [] if not names_secret(one.partition("=")[0])]
        given = {"--conf": self.conf, "--rule": self.rules, "--category": self.categories, "--set": typed}
        return (
            "--lake",
            self.lake,
            *(word for name, all_ in given.items() for one in all_ or [] for word in (name, str(one))),
            *(["--trust-conf"] if self.trust_conf else []),
        )

    @contextmanager
    def open(self) -> Iterator["Job"]:
        """Opens a job; at the end, stops Spark if it started it.

        Spark starts when the command first reads or writes rows, so that errors which are found before come at once. If
        only Hadoop knows where the lake is, Spark starts first.

        Raises:
            WinnowError: Spark failed, or the lake cannot be used.
        """
        settings, progress = self.settings(), self.progress()
        from jobs.job import Job
        from jobs.lake.lake import Lake
        from jobs.prerequisites import require_tables
        from jobs.runtime.session import (
            failure,
            get_session,
            leave,
            names_this_disk,
            require_machine,
            running_session,
            runs,
        )

        user = running_session()
        started: list[SparkSession] = []

        def start(few: bool = False) -> "SparkSession":
            with progress.step("start Spark"):
                started.append(get_session(settings.spark, f"winnow {self.command}", few))
            progress.context = started[0].sparkContext
            return started[0]

        require_machine(settings.spark)
        try:
            job = Job(
                Lake(start if names_this_disk(settings.spark) else start(), self.lake), settings, progress, self.options
            )
            with job.lake.used_by(self.command, progress.note):
                if self.command not in _LAKE_MAKERS:
                    job.lake.require_made()
                    require_tables(job.lake, self.command)
                    job.lake.hold()
                yield job
        except Exception as error:
            if isinstance(_cause(error), WinnowError) or not started:
                raise
            spark_failure = failure(error, settings.spark, runs(started[0]))
            if spark_failure is None:
                raise
            raise spark_failure from error
        finally:
            if started:
                leave(started[0], user)


_Function = TypeVar("_Function", bound=Callable[..., CommandOutput])


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


_LAKE = _parameter("lake", Annotated[str, typer.Option("--lake", metavar="URI", help="Folder or URI of the lake.")])
# A command that does not use `--lake` accepts it, so that a script can give every command the same options.
_UNUSED_LAKE = _parameter("lake", Annotated[str, typer.Option("--lake", hidden=True)], "")
_CONF = typer.Option(
    "--conf", metavar="FILE", help="Settings file, category file or folder of categories; repeatable, later files win."
)
_SET = typer.Option("--set", metavar="KEY=VALUE", help="A single setting, such as dedup.strict=true; repeatable.")
_RULE = typer.Option(
    "--rule",
    metavar="NAME",
    help="Ready-made rule on a field of LAION's data: aesthetic, punsafe, pwatermark or similarity; repeatable.",
    autocompletion=config.ready_made_rules,
)
_READY_MADE = typer.Option(
    "--category",
    metavar="NAME",
    help="A ready-made category: nsfw. Repeatable; --conf and --set may change it.",
    autocompletion=config.ready_made_categories,
)
_TRUST_CONF = typer.Option(
    "--trust-conf", help="Let the files of --conf set every Spark setting, also those that load code."
)
_JSON = typer.Option("--json", help="Print the result as one JSON object.")
_QUIET = typer.Option("--quiet", "-q", help="Show no progress and no notes: only warnings, errors and the result.")
_DEBUG = typer.Option("--debug", help="Show the traceback if an error occurs.")
_SETTINGS = (
    _parameter("conf", Annotated[list[Path] | None, _CONF], None),
    _parameter("set_", Annotated[list[str] | None, _SET], None),
    _parameter("rule", Annotated[list[str] | None, _RULE], None),
    _parameter("trust_conf", Annotated[bool, _TRUST_CONF], False),
    _parameter("json_", Annotated[bool, _JSON], False),
    _parameter("quiet", Annotated[bool, _QUIET], False),
    _parameter("debug", Annotated[bool, _DEBUG], False),
)
_CATEGORIES = _parameter("ready_made", Annotated[list[str] | None, _READY_MADE], None)


def command_with_job(group: typer.Typer, name: str, title: str = "") -> Callable[[_Function], _Function]:
    """Returns a decorator that makes a function a command: it opens the job, calls the function and shows its result.

    The function's first parameter is the job. The other parameters are the command's own arguments and options; the
    decorator adds `--lake`, `--conf`, `--set`, `--rule`, `--category`, `--trust-conf`, `--json`, `--quiet` and
    `--debug`. The function's docstring is the help, and the examples in it end the help. The function itself imports
    what it needs of `jobs.commands`, so that `--help` is quick.

    Args:
        group: The Typer group that gets the command, under the last word of its name.
        name: Full name of the command; also part of the name of the Spark application.
        title: Title of the summary, with `{option}` for the value of one of the command's options; empty for the name.
    """

    def add(function: _Function) -> _Function:
        @wraps(function)
        def opened(invocation: Invocation, /, **own: Any) -> CommandOutput:
            from jobs.next_commands import next_commands

            with invocation.open() as job:
                output = function(job, **own)
                invocation.following.extend(next_commands(job, name, own))
            return output

        command_without_job(group, name, title, _LAKE)(opened)
        return function

    return add


def command_without_job(
    group: typer.Typer, name: str, title: str = "", lake: inspect.Parameter | None = _UNUSED_LAKE
) -> Callable[[_Function], _Function]:
    """Returns a decorator like `command_with_job`, but the function gets the `Invocation` and opens the job itself.

    Args:
        group: The Typer group that gets the command, under the last word of its name.
        name: Full name of the command.
        title: Title of the summary, with `{option}` for the value of one of the command's options; empty for the name.
        lake: The option `--lake`; None if the command has none.
    """

    def add(function: _Function) -> _Function:
        _, *own = inspect.signature(function).parameters.values()
        names_category = any(parameter.name == "category" and not _is_argument(parameter) for parameter in own)

        def callback(*, debug: bool, lake: str = "", ready_made: Any = None, **own: Any) -> None:
            common = ("conf", "set_", "rule", "trust_conf", "json_", "quiet")
            conf, set_, rule, trust_conf, json_, quiet = (own.pop(option) for option in common)
            if names_category:
                ready_made = [one for one in config.ready_made_categories() if one == own["category"]]
            invocation = Invocation(name, lake, conf, set_, rule, ready_made, trust_conf, quiet)
            with _one_line_errors(debug, invocation.options if lake else ()):
                _require_no_secrets({"lake": lake, "conf": conf, **own})
                output = function(invocation, **own)
            _show((title or name).format(**own), output, json_)
            if not (json_ or quiet):
                _show_next(invocation.following)

        # A command with an option --category of its own uses it for a ready-made category too.
        settings = _SETTINGS if names_category else (*_SETTINGS, _CATEGORIES)
        parameters = [*([lake] if lake else []), *own, *settings]
        keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
        # Typer reads the signature. Arguments come first, so that a missing one is reported before a missing option.
        signature = inspect.Signature(sorted(keywords, key=lambda parameter: not _is_argument(parameter)))
        callback.__signature__ = signature  # type: ignore[attr-defined]
        text, examples = _help(function)
        group.command(name.split()[-1], help=text, epilog=examples)(callback)
        return function

    return add


def _help(function: Callable[..., Any]) -> tuple[str, str]:
    """Returns a docstring as help that wraps at any width: its paragraphs, and the examples, each on its own line."""
    text, _, examples = (inspect.getdoc(function) or "").partition("\n\nExamples:\n")
    paragraphs = [paragraph.replace("\n", " ") for paragraph in text.split("\n\n")]
    lines = [line.strip() for line in examples.splitlines()]
    return "\n\n".join(paragraphs), "\n\n".join(["Examples:", *lines]) if lines else ""


def _is_argument(parameter: inspect.Parameter) -> bool:
    return any(isinstance(part, ArgumentInfo) for part in get_args(parameter.annotation))


def _require_no_secrets(given: Mapping[str, Any]) -> None:
    """Checks the addresses among the values of arguments and options, by name, before Spark starts."""
    for option, value in given.items():
        for text in _texts([value] if option not in _NO_ADDRESSES else []):
            if option != _KEYS or not text.lower().startswith(_WEB):
                require_no_secret(text)


def _texts(values: Iterable[Any]) -> Iterator[str]:
    """Yields the texts and paths among the values of arguments and options."""
    for value in values:
        if isinstance(value, str | Path):
            yield str(value)
        elif isinstance(value, list | tuple):
            yield from _texts(value)


@contextmanager
def _one_line_errors(debug: bool, options: Iterable[str] = ()) -> Iterator[None]:
    """Prints an error that a user can correct as one line and exits with status 1; `debug` lets every error through.

    Args:
        debug: Whether to let errors through.
        options: The options of this call, for the commands that the error names.
    """
    console = Console(file=sys.stderr)
    try:
        yield
    except KeyboardInterrupt:
        console.print("[red]stopped[/]: committed results are kept; run the same command again to continue")
        raise typer.Exit(130) from None
    except Exception as error:
        cause = _cause(error)
        if debug or not isinstance(cause, WinnowError | OSError):
            raise
        console.print(terminal.cell(f"error: {whole_commands(_line(cause), options)}", "red"), soft_wrap=True)
        raise typer.Exit(1) from None


def whole_commands(text: str, options: Iterable[str]) -> str:
    """Returns a text in which each command has the options of this call, so that it can be pasted.

    Args:
        text: Text with commands in backticks. A command that names a lake stays as it is.
        options: Words of the command line.

    Examples:
        >>> whole_commands("run `winnow score` first", ["--lake", "my lake"])
        "run `winnow score --lake 'my lake'` first"
        >>> whole_commands("run `winnow ingest SOURCE --lake FOLDER`", ["--lake", "a"])
        'run `winnow ingest SOURCE --lake FOLDER`'
    """
    added = shlex.join(options)

    def whole(found: re.Match[str]) -> str:
        words = found[1].split()
        is_whole = not added or "--lake" in words or words[1] in _WITHOUT_LAKE or words[1].startswith("-")
        return found[0] if is_whole else f"`{found[1]} {added}`"

    return _NAMED.sub(whole, text)


def _cause(error: BaseException) -> BaseException:
    """Returns the first `WinnowError` in the chain of causes, else the innermost cause."""
    while not isinstance(error, WinnowError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _line(error: BaseException) -> str:
    """Returns an error as one line; an error of the operating system starts with the file's name."""
    if not isinstance(error, OSError):
        return str(error)
    text = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"{text} (`--debug` shows where)"


def _show(title: str, output: CommandOutput, as_json: bool = False) -> None:
    if as_json:
        sys.stdout.write(f"{json.dumps(_json_of(output), ensure_ascii=False)}\n")
        sys.stdout.flush()
        return
    if isinstance(output, Shown):
        output = output.renderable
    if isinstance(output, str):
        # The text may be the content of a file: a file or another program gets it to the letter.
        sys.stdout.write(terminal.visible_lines(output) if sys.stdout.isatty() else output)
        sys.stdout.flush()  # at exit, Python would complain about a pipe that its reader has closed
    else:
        Console().print(summary_table(title, output) if isinstance(output, dict) else output)


def _show_next(commands: Iterable[str]) -> None:
    """Prints the commands to run next, each on a line of its own, so that it can be pasted."""
    console = Console(file=sys.stderr)
    for command in commands:
        console.print(terminal.cell(f"next: {command}"), soft_wrap=True)


def _json_of(output: CommandOutput) -> dict[str, Any]:
    """Returns the summary of a command; of one that has none, its text under `text`."""
    if isinstance(output, Shown):
        return output.summary
    if isinstance(output, dict):
        return output
    if isinstance(output, str):
        return {"text": output}
    drawn = io.StringIO()
    Console(file=drawn, width=_JSON_WIDTH).print(output)
    return {"text": drawn.getvalue()}


def summary_table(title: str, summary: "Summary") -> Table:
    """Returns the table that ends a command: a row for each name and its value."""
    table = terminal.table(title)
    for name, value in summary.items():
        terminal.add_row(table, name, f"{value:,}" if isinstance(value, int) else value)
    return table
