import io
import json
import shlex
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

from jobs import cli, invocation
from jobs.cli import app
from jobs.commands.export import command as export
from jobs.commands.label.next import STRATEGIES
from jobs.invocation import CommandOutput, Invocation, Shown, command_with_job, command_without_job
from jobs.job import Job
from jobs.runtime.version import VERSION
from jobs.sources import find
from models.errors import WinnowError

ROOT = Path(__file__).parents[2]

# Commands without `--lake` in their help: they need no lake, read two, or take the lake's folder as an argument.
WITHOUT_LAKE = {"generate", "compare", "demo", "settings"}


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
    assert {"--conf", "--set", "--rule", "--trust-conf", "--json", "--quiet", "--debug"} <= set(options)
    if name in WITHOUT_LAKE:
        assert name == "demo" or options["--lake"].hidden
    else:
        assert options["--lake"].required and not options["--lake"].hidden


def test_a_missing_argument_is_reported_before_a_missing_lake() -> None:
    said = CliRunner().invoke(app, ["train"])
    assert said.exit_code == 2 and "Missing argument 'CATEGORY'" in said.stderr


def test_the_command_line_imports_neither_a_command_nor_spark_nor_torch() -> None:
    slow = ("jobs.commands", "jobs.lake", "pyspark", "delta", "pyarrow", "pandas", "torch")
    script = f"import sys, jobs.cli; print([name for name in sys.modules if name.startswith({slow})])"
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


def test_json_is_one_object_with_the_values_of_the_summary(opened: list[Invocation]) -> None:
    def printed(found: Any) -> Any:
        said = shown(found, ["cars", *OPTIONS, "--json"])[0]
        assert said.exit_code == 0 and said.stdout.count("\n") == 1
        return json.loads(said.stdout)

    assert printed({"images": 1234, "share": 0.5, "größe": "a [b]"}) == {"images": 1234, "share": 0.5, "größe": "a [b]"}
    assert printed("text\nof two lines") == {"text": "text\nof two lines"}
    assert printed(Group("one", "two")) == {"text": "one\ntwo\n"}
    assert printed(Shown({"picked": 3}, Group("one"))) == {"picked": 3}
    assert shown(Shown({"picked": 3}, Group("one")), ["cars", *OPTIONS])[0].stdout == "one\n"
    assert shown(Shown({"rows": 3}, "[b] text\n"), ["cars", *OPTIONS])[0].stdout == "[b] text\n"
    failed = shown(WinnowError("no"), ["cars", *OPTIONS, "--json"])[0]
    assert (failed.exit_code, failed.stdout, failed.stderr) == (1, "", "error: no\n")


def test_quiet_reaches_the_progress_display(opened: list[Invocation]) -> None:
    shown({}, ["cars", *OPTIONS, "--quiet"])
    shown({}, ["cars", *OPTIONS, "-q"])
    CliRunner().invoke(app, ["regurgitation", "--quiet", "prompts", "--lake", "here"])
    assert [one.quiet for one in opened] == [True, True, True] and "--quiet" not in opened[0].options


def test_the_shell_completes_the_values_that_commands_take() -> None:
    assert set(cli._STRATEGIES) == set(STRATEGIES)
    assert (cli._SOURCE_FORMATS, cli._EXPORT_FORMATS) == (find.FORMATS, export.FORMATS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("winnow label next cars --strategy pre", "precision"),
        ("winnow ingest x --format web", "webdataset"),
        ("winnow export x --format data", "datacomp"),
        ("winnow label next nsf", "nsfw"),
        ("winnow score --rule puns", "punsafe"),
        ("winnow settings dedup.reca", "dedup.recall"),
    ],
)
def test_the_shell_completes_options_and_names(words: str, expected: str) -> None:
    asked = {"_WINNOW_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    said = CliRunner().invoke(app, [], prog_name="winnow", env=asked)
    assert expected in said.stdout.split()


def test_text_is_printed_unchanged_and_other_results_are_rendered(opened: list[Invocation]) -> None:
    text = "[red]" + "x" * 300 + "\n\nlast"
    assert shown(text, ["cars", *OPTIONS])[0].stdout == text
    assert shown("", ["cars", *OPTIONS])[0].stdout == ""
    assert shown(Group("one", "two"), ["cars", *OPTIONS])[0].stdout == "one\ntwo\n"


HOSTILE = "out[v2] [red]x[/] :cat: a\x1b[31m\nb"
SAFE = r"out[v2] [red]x[/] :cat: a\x1b[31m\nb"


def test_names_in_errors_and_summaries_are_shown_to_the_letter(opened: list[Invocation]) -> None:
    summary = shown({"folder": HOSTILE, HOSTILE: 1}, [HOSTILE, *OPTIONS])[0].stdout
    assert summary.count(SAFE) == 3 and len(summary.splitlines()) == 3
    error = shown(WinnowError(HOSTILE), ["cars", *OPTIONS])[0].stderr
    assert error == f"error: {SAFE}\n"


def test_text_is_escaped_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch, opened: list[Invocation]) -> None:
    text = "id,caption\r\n1,:cat: a\x1b[31m\x07\r\n"
    assert shown(text, ["cars", *OPTIONS])[0].stdout_bytes == text.encode()

    written = io.StringIO()
    monkeypatch.setattr(written, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", written)
    invocation._show("few", text)
    assert written.getvalue() == "id,caption\n1,:cat: a\\x1b[31m\\x07\n"


def test_a_traceback_has_no_control_characters(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def fails() -> None:
        raise ValueError(HOSTILE)

    monkeypatch.setattr(cli, "app", fails)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr().err
    assert ended.value.code == 1 and printed.startswith("Traceback") and "\x1b" not in printed


@pytest.mark.parametrize(
    "words",
    [
        ["ingest", "s3://KEY:HIDDEN@b/a.tar", "--lake", "here"],
        ["ingest", "fine", "https://host/a.tar?X-Amz-Signature=HIDDEN", "--lake", "here"],
        ["run", "fine", "--lake", "here", "--labels", "https://host/a.csv?sig=HIDDEN"],
        ["score", "--lake", "s3a://KEY:HIDDEN@b/lake"],
        ["export", "s3a://KEY:HIDDEN@b/set", "--lake", "here"],
        ["compare", "here", "s3a://KEY:HIDDEN@b/lake"],
        ["compare", "s3a://KEY:HIDDEN@b/lake", "here"],
        ["regurgitation", "s3a://KEY:HIDDEN@b/made/", "--lake", "here"],
        ["regurgitation", "prompts", "--out", "s3a://KEY:HIDDEN@b/p.csv", "--lake", "here"],
        ["label", "import", "https://KEY:HIDDEN@host/a.csv", "--lake", "here"],
        ["label", "export", "https://host/a.csv?token=HIDDEN", "--lake", "here"],
        ["score", "--lake", "here", "--conf", "s3a://KEY:HIDDEN@b/mine.toml"],
        ["score", "--lake", "here", "--set", "encoder.model=s3a://KEY:HIDDEN@b/m.onnx"],
        ["demo", "https://host/a?token=HIDDEN"],
    ],
)
def test_a_secret_in_an_address_is_refused_before_spark_starts(words: list[str], opened: list[Invocation]) -> None:
    said = CliRunner().invoke(app, words)
    if "--set" in words:  # settings are read when the job is opened
        with pytest.raises(WinnowError, match="holds a password"):
            opened.pop().settings()
        return
    assert said.exit_code == 1 and said.output.startswith("error: ") and "HIDDEN" not in said.output
    assert said.output.count("\n") == 1 and opened == []


@pytest.mark.parametrize("command", ["keep", "drop"])
def test_a_key_of_an_image_may_be_any_url(command: str, opened: list[Invocation]) -> None:
    CliRunner().invoke(app, [command, "https://host/a.jpg?token=public", "--why", "a", "--lake", "here"])
    assert len(opened) == 1


def test_a_settings_file_that_names_code_stops_every_command_before_spark_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "theirs[v2].toml"
    file.write_text('[spark.conf]\n"spark.python.daemon.module" = "evil"')

    for words in (["score", "--lake", "here"], ["compare", "a", "b"], ["demo", str(tmp_path / "demo")]):
        said = CliRunner().invoke(app, [*words, "--conf", str(file)])
        assert said.exit_code == 1 and said.output.startswith(f"error: settings file {file}: spark.conf.spark.python.")
        assert said.output.count("\n") == 1 and "--trust-conf" in said.output

    trusted = Invocation("score", "here", [file], None, trust_conf=True)
    assert trusted.settings().spark.conf == {"spark.python.daemon.module": "evil"}
    assert trusted.options == ("--lake", "here", "--conf", str(file), "--trust-conf")


def test_the_option_to_trust_files_reaches_the_invocation(opened: list[Invocation]) -> None:
    shown({}, ["cars", *OPTIONS, "--trust-conf"])
    CliRunner().invoke(app, ["compare", "a", "b", "--trust-conf"])
    CliRunner().invoke(app, ["demo", "here", "--trust-conf"])
    CliRunner().invoke(app, ["regurgitation", "--trust-conf", "prompts", "--lake", "here"])
    assert [(one.command, one.trust_conf) for one in opened] == [
        ("some few", True), ("compare", True), ("demo", True), ("regurgitation prompts", True),
    ]  # fmt: skip


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


# Help -----------------------------------------------------------------------------------------------------------------

NARROW = {"COLUMNS": "80"}


def examples_of(command: Any) -> list[str]:
    head, *examples = command.epilog.split("\n\n")
    assert head == "Examples:"
    return examples


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_examples_that_it_accepts(name: str) -> None:
    examples = examples_of(COMMANDS[name])
    lines = CliRunner().invoke(app, [*name.split(), "--help"], env=NARROW).stdout.splitlines()
    assert examples and [line.strip() for line in lines if line.strip()][-len(examples) :] == examples

    for example in examples:
        called = []
        root: Any = typer.main.get_command(app)
        dict(commands_of(root))[name].callback = lambda called=called, **own: called.append(own)
        root.main(shlex.split(example)[1:], prog_name="winnow", standalone_mode=False)
        assert example.startswith(f"winnow {name} ") and len(called) == 1


def test_the_help_lists_all_commands_in_the_order_of_the_work_on_a_line_each() -> None:
    said = CliRunner().invoke(app, ["--help"], env=NARROW).stdout
    listed = [name for names in cli._PANELS.values() for name in names]
    assert sorted(listed) == sorted({name.split()[0] for name in COMMANDS})
    places = [said.index(f" {panel} ") for panel in cli._PANELS]
    places += [said.index(f"│ {name} ") for name in listed]
    assert places[len(cli._PANELS) :] == sorted(places[len(cli._PANELS) :]) and places[: len(cli._PANELS)] == sorted(
        places[: len(cli._PANELS)]
    )
    groups = {"label": [], "regurgitation": []}
    for name, command in COMMANDS.items():
        group, _, _ = name.rpartition(" ")
        text = CliRunner().invoke(app, [group, "--help"], env=NARROW).stdout if group else said
        first = command.help.split("\n\n")[0]
        assert any(f"{name.split()[-1]} " in line and first in line for line in text.splitlines()), name
        groups.setdefault(group, []).append(name)
    assert groups["label"] == [f"label {name}" for name in ("next", "serve", "simulate", "import", "export")]


# Exit codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["--help"], 0),
        (["settings", "seed"], 0),
        (["settings", "sead"], 1),
        (["settings", "--set", "seed=x"], 1),
        (["settings", "--conf", "missing.toml"], 1),
        (["settings", "--no-such-option"], 2),
        (["train", "cars"], 2),
        (["no-such-command"], 2),
        (["generate", "here", "--count", "many"], 2),
    ],
)
def test_exit_codes(words: list[str], code: int) -> None:
    said = CliRunner().invoke(app, words)
    assert said.exit_code == code and (said.stderr == "") == (code == 0)
    if code == 1:
        assert said.stderr.startswith("error: ") and said.stderr.count("\n") == 1 and said.stdout == ""


def test_ctrl_c_ends_with_130_and_the_help_says_all_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(self: Invocation) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Invocation, "layers", stopped)
    said = CliRunner().invoke(app, ["settings"])
    assert (said.exit_code, said.stdout) == (130, "") and said.stderr.startswith("stopped: ")
    help_ = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert all(part in help_ for part in ("Exit codes: 0 done", "1 error", "2 wrong usage", "130 stopped"))


# Names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "meant"),
    [(["dedupp"], "dedup"), (["label", "nxt"], "next"), (["setings"], "settings")],
)
def test_a_misspelt_command_is_suggested(words: list[str], meant: str) -> None:
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 2 and f"Did you mean '{meant}'" in " ".join(said.stderr.split())


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("winnow de", ["demo", "dedup"]),
        ("winnow label ne", ["next"]),
        ("winnow regurgitation pr", ["prompts"]),
        ("winnow score --rule p", ["punsafe", "pwatermark"]),
        ("winnow score --category ", ["nsfw"]),
        ("winnow settings dedup.max", ["dedup.max_distance", "dedup.max_bucket"]),
        ("winnow train --conf {file} ", ["boats", "nsfw"]),
        ("winnow train --conf missing.toml ", ["nsfw"]),
    ],
)
def test_the_shell_completes_names(typed: str, completed: list[str], tmp_path: Path) -> None:
    (tmp_path / "boats.toml").write_text('definition = "b"')
    words = typed.format(file=tmp_path / "boats.toml")
    asked = {"_WINNOW_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    said = CliRunner().invoke(app, [], env=asked, prog_name="winnow")
    assert (said.exit_code, said.stdout.split()) == (0, completed)


def test_the_settings_are_shown_without_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Invocation, "open", None)  # it starts Spark
    options = ["--conf", str(ROOT / "conf" / "demo.toml"), "--set", "seed=7", "--rule", "punsafe", "--category", "nsfw"]
    said = CliRunner().invoke(app, ["settings", "--changed", *options])
    assert said.exit_code == 0 and "seed = 7  # --set; default: 0\n" in said.stdout
    assert "categories.slime.recall = 0.9  # " in said.stdout and "# --rule punsafe" in said.stdout


def test_the_version_needs_no_session() -> None:
    answer = CliRunner().invoke(app, ["--version"])
    assert (answer.exit_code, answer.output.split()) == (0, ["winnow", VERSION])
