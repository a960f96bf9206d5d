import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from rich.console import Group
from typer.testing import CliRunner

from jobs.cli import app
from jobs.invocation import CommandOutput, Invocation, command_with_job, command_without_job
from jobs.job import Job
from jobs.runtime.version import VERSION
from models.errors import WinnowError

ROOT = Path(__file__).parents[2]

# Commands without `--lake` in their help: they need no lake, read two, or take the lake's folder as an argument.
WITHOUT_LAKE = {"generate", "compare", "demo"}


def commands_of(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands_of(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


COMMANDS = dict(commands_of(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_common_options(name: str) -> None:
    options = {option: it for it in COMMANDS[name].params if it.param_type_name == "option" for option in it.opts}
    assert {"--conf", "--set", "--rule", "--debug"} <= set(options)
    if name in WITHOUT_LAKE:
        assert name == "demo" or options["--lake"].hidden
    else:
        assert options["--lake"].required and not options["--lake"].hidden


def test_a_missing_argument_is_reported_before_a_missing_lake() -> None:
    said = CliRunner().invoke(app, ["train"])
    assert said.exit_code == 2 and "Missing argument 'CATEGORY'" in said.stderr


def test_the_command_line_imports_neither_a_command_nor_torch() -> None:
    script = (
        "import sys, jobs.cli; print([name for name in sys.modules if name.startswith(('jobs.commands', 'torch'))])"
    )
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


def test_a_command_names_the_next_one_with_its_own_options(job: Job) -> None:
    given = Invocation("keep", "a lake", [Path("a.toml")], ["seed=1"]).options
    assert replace(job, options=given).command("drop", "x y") == (
        "winnow drop 'x y' --lake 'a lake' --conf a.toml --set seed=1"
    )
    assert job.command("filter") == f"winnow filter --lake {job.lake.uri}"


# A small command line of its own --------------------------------------------------------------------------------------

Category = Annotated[str, typer.Argument()]
OPTIONS = [
    *("--lake", "here", "--conf", "a.toml", "--conf", "b.toml", "--set", "seed=1", "--rule", "punsafe"),
    *("--category", "nsfw"),
]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Invocation]:
    """Records every opened invocation; a string stands in for its job."""
    seen: list[Invocation] = []

    @contextmanager
    def open_(self: Invocation) -> Iterator[str]:
        seen.append(self)
        yield "the job"

    monkeypatch.setattr(Invocation, "open", open_)
    return seen


def shown(found: Any, words: list[str]) -> tuple[Any, list[Any]]:
    """Runs a command `few CATEGORY [--many N]` that returns or raises a value; gives its output and its arguments."""
    group, given = typer.Typer(), []

    @command_with_job(group, "some few", title="few {category}")
    def few(job: Any, category: Category, many: int = 2) -> CommandOutput:
        given.extend([job, category, many])
        if isinstance(found, BaseException):
            raise found
        return found

    return CliRunner().invoke(group, words), given


def test_a_function_gets_the_job_and_its_own_parameters(opened: list[Invocation]) -> None:
    said, given = shown({"images": 1234, "share": 0.5}, ["cars", *OPTIONS, "--many", "3"])
    assert given == ["the job", "cars", 3]
    files = [Path("a.toml"), Path("b.toml")]
    assert opened == [Invocation("some few", "here", files, ["seed=1"], ["punsafe"], ["nsfw"])]
    assert said.exit_code == 0 and [line.split() for line in said.stdout.splitlines()] == [
        ["few", "cars"],
        ["images", "1,234"],
        ["share", "0.5"],
    ]


def test_text_is_printed_unchanged_and_other_results_are_rendered(opened: list[Invocation]) -> None:
    text = "[red]" + "x" * 300 + "\n\nlast"
    assert shown(text, ["cars", *OPTIONS])[0].stdout == text
    assert shown("", ["cars", *OPTIONS])[0].stdout == ""
    assert shown(Group("one", "two"), ["cars", *OPTIONS])[0].stdout == "one\ntwo\n"


def test_an_error_is_one_line_without_debug(opened: list[Invocation]) -> None:
    error = WinnowError("[b] no such category")
    plain, debug = (shown(error, ["cars", *OPTIONS, *more])[0] for more in ([], ["--debug"]))
    assert (plain.exit_code, plain.stderr, plain.stdout) == (1, "error: [b] no such category\n", "")
    assert debug.exception is error
    assert shown(KeyboardInterrupt(), ["cars", *OPTIONS])[0].exit_code == 130
    assert isinstance(shown(ValueError("a fault of Winnow's"), ["cars", *OPTIONS])[0].exception, ValueError)


def test_a_command_without_a_job_opens_what_it_needs(opened: list[Invocation]) -> None:
    group, given = typer.Typer(), []

    @command_without_job(group, "many")
    def many(invocation: Invocation, category: Category) -> CommandOutput:
        given.extend([invocation, category])
        return {}

    assert CliRunner().invoke(group, ["cars", "--lake", "unused"]).exit_code == 0
    assert given == [Invocation("many", "unused", None, None, None), "cars"] and opened == []


@pytest.mark.parametrize(("category", "ready_made"), [("nsfw", ["nsfw"]), ("cars", [])])
def test_an_option_category_of_a_command_also_names_a_ready_made_category(category: str, ready_made: list[str]) -> None:
    group, given = typer.Typer(), []

    @command_without_job(group, "one")
    def one(invocation: Invocation, category: Annotated[str | None, typer.Option()] = None) -> CommandOutput:
        given.extend([invocation.categories, category])
        return {}

    assert CliRunner().invoke(group, ["--category", category]).exit_code == 0
    assert given == [ready_made, category]


def test_the_version_needs_no_session() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert (answer.exit_code, answer.output.split()) == (0, ["winnow", VERSION])
