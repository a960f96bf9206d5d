"""The command line: one command for each job, and the one place that turns errors into a line for the user."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from jobs.job import Job, Summary
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError

app = typer.Typer(
    name="winnow",
    help="Filter, deduplicate and weigh image-caption data for training image models, on Spark over Delta tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
label_app = typer.Typer(help="Labels in and out.", no_args_is_help=True)
app.add_typer(label_app, name="label")


class _SearchOrPrompts(TyperGroup):
    """A group whose command is `search` unless its first word, after options, names another."""

    _FLAGS = ("--debug", "--help")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts the command's name first, where the group looks for it."""
        place = 0
        while place < len(args) and args[place].startswith("--") and args[place] != "--":
            place += 1 if args[place] in self._FLAGS or "=" in args[place] else 2
        named = [word for word in args[place : place + 1] if word in self.commands]
        words = [*named, *args[:place], *args[place + 1 :]] if named else ["search", *args]
        return super().parse_args(ctx, words if args not in ([], ["--help"]) else args)


regurgitation_app = typer.Typer(
    cls=_SearchOrPrompts,
    help="Generated images against every image of the lake: GENERATED..., or the word prompts.",
    no_args_is_help=True,
)
app.add_typer(regurgitation_app, name="regurgitation")

LakeOption = Annotated[str, typer.Option("--lake", metavar="URI", help="Folder or URI of the lake's Delta tables.")]
ConfOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--conf", metavar="FILE", help="Settings, a category or a folder of these; repeatable, later ones win."
    ),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="One setting, as section.key=value; repeatable.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="Image folders, tar shards, Parquet or Delta tables.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="folder, webdataset, parquet or delta; guessed when not given."),
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSONL, Parquet or Label Studio JSON.")]


# Commands whose module is not their own name.
_MODULES = {"fit-encoder": "fit_encoder", "filter": "filter.command", "dedup": "dedup.command"}

# Picked images that are shown; all are in the table label_queue.
_SHOWN = 20
# Every other command needs a lake that is there, and makes no folder where an address is mistyped.
_LAKE_MAKERS = ("ingest", "run", "demo")


@dataclass(frozen=True)
class Invocation:
    """The options that every command takes."""

    lake: str
    conf: list[Path] | None
    overrides: list[str] | None
    debug: bool

    @contextmanager
    def open(self, name: str) -> Iterator[Job]:
        """A job with its session; a `WinnowError`, or an error of Spark's, becomes one line and exit status 1."""
        from jobs.lake.lake import Lake
        from jobs.runtime.session import failure, get_session, runs

        console = Console(file=sys.stderr)
        with _told(console, self.debug):
            settings = config.load(self.conf or [], self.overrides or [])
            progress = Progress(console)
            with progress.step("start Spark"):
                spark = get_session(settings.spark, f"winnow {name}")
            progress.context = spark.sparkContext
            try:
                job = Job(Lake(spark, self.lake), settings, progress)
                if name not in _LAKE_MAKERS:
                    job.lake.require_made()
                yield job
            except Exception as error:
                if (
                    isinstance(_cause(error), WinnowError)
                    or (found := failure(error, settings.spark, runs(spark))) is None
                ):
                    raise
                raise found from error
            finally:
                if runs(spark):
                    spark.stop()


@contextmanager
def _told(console: Console, debug: bool) -> Iterator[None]:
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


def _show(title: str, summary: Summary) -> None:
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for name, value in summary.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    Console().print(table)


def _plain(name: str, does: str) -> None:
    """Adds a command that takes the lake and the settings alone: `run` of the module named like it."""

    def command(lake: LakeOption, conf: ConfOption = None, set_: SetOption = None, debug: DebugOption = False) -> None:
        with Invocation(lake, conf, set_, debug).open(name) as job:
            summary = import_module(f"jobs.commands.{_MODULES.get(name, name)}").run(job)
        _show(name, summary)

    app.command(name, help=does)(command)


@app.command()
def generate(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder to draw into.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 5000,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes; the setting `seed` when not given.")] = None,
    lake: Annotated[str, typer.Option(hidden=True)] = "",
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Draw a picture set with known truth: duplicates, categories, caption bias."""
    from jobs.commands.generate import command

    console = Console(file=sys.stderr)
    with _told(console, debug):
        settings = config.load(conf or [], set_ or [])
        summary = command.run(directory, count, settings.seed if seed is None else seed, Progress(console))
    _show("generate", summary)


@app.command()
def ingest(
    sources: SourcesArgument,
    lake: LakeOption,
    format_: FormatOption = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Read sources into the tables images and quarantine; what is there already is not added again."""
    from jobs.commands import ingest as command

    with Invocation(lake, conf, set_, debug).open("ingest") as job:
        summary = command.run(job, sources, format_)
    _show("ingest", summary)


_plain("fit-encoder", "Train the perceptual encoder on the lake's own images and export it to ONNX.")


_plain("score", "Decode each image once for its hashes, its embedding and the score of every category.")


@label_app.command("serve")
def label_serve(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="A category of the settings.")],
    lake: LakeOption,
    host: Annotated[str, typer.Option(help="Address to listen at; any but 127.0.0.1 opens the page to others.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is any that is free.")] = 8765,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the pictures that everybody is handed.")
    ] = 0.0,
    agree: Annotated[bool, typer.Option("--agree", help="Everybody is handed every picture; as --overlap 1.")] = False,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the journal of labels is kept.")] = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Open a web page on this machine to label what `label next` queued; several people may at once."""
    from jobs.commands.label import serve as command

    options = command.Options(host, port, 1.0 if agree else overlap, state)
    with Invocation(lake, conf, set_, debug).open("label serve") as job:
        summary = command.run(job, category, options)
    _show(f"label serve {category}", summary)


@label_app.command("import")
def label_import(
    file: FileArgument, lake: LakeOption, conf: ConfOption = None, set_: SetOption = None, debug: DebugOption = False
) -> None:
    """Add the labels of a file: key or image_id, category, import_file, and if known origin, annotator, labelled_at."""
    from jobs.commands.label import import_file as command

    with Invocation(lake, conf, set_, debug).open("label import") as job:
        summary = command.import_labels(job, file)
    _show("label import", summary)


@label_app.command("export")
def label_export(
    file: FileArgument,
    lake: LakeOption,
    format_: Annotated[
        Literal["labels", "labelstudio"] | None,
        typer.Option("--format", help="What is written; labelstudio for a .json file, else labels."),
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of this category only; Label Studio takes one.")] = None,
    image_url_prefix: Annotated[
        str | None, typer.Option(metavar="URL", help="Tasks lead to URL + key instead of carrying their pictures.")
    ] = None,
    picture: Annotated[int, typer.Option(min=32, max=4096, help="Longest side of pictures in the file, pixels.")] = 640,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Write labels to a file; or what is queued, with predictions, as tasks for Label Studio."""
    from jobs.commands.label import export_file, label_studio

    as_tasks = format_ == "labelstudio" or (format_ is None and file.lower().endswith(".json"))
    with Invocation(lake, conf, set_, debug).open("label export") as job:
        if as_tasks:
            pictures = label_studio.Pictures(image_url_prefix, picture)
            summary = label_studio.export_tasks(job, file, category, pictures)
        else:
            summary = export_file.export_labels(job, file, category)
    _show("label export", summary)


@label_app.command("next")
def label_next_(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="A category of the settings.")],
    lake: LakeOption,
    strategy: Annotated[str, typer.Option(help="seed, random, precision or recall.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 100,
    like: Annotated[
        list[str] | None, typer.Option("--like", metavar="FILE", help="seed: around this image; repeatable.")
    ] = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Pick the images to label next, say why, and queue them."""
    from jobs.commands.label import next as command

    with Invocation(lake, conf, set_, debug).open("label next") as job:
        picked = command.run(job, command.Request(category, strategy, count, tuple(like or ())))
    table = Table(title=f"to label for {category}", title_justify="left", box=None, pad_edge=False)
    for name in ("", "image", "why"):
        table.add_column(name)
    for place, pick in enumerate(picked.picks[:_SHOWN], 1):
        table.add_row(str(place), pick.image_id[:12], pick.reason)
    if len(picked.picks) > _SHOWN:
        table.add_row("…", f"{len(picked.picks) - _SHOWN:,} more", "see the table label_queue")
    Console().print(table)
    _show("label next", picked.summary)


@label_app.command("simulate")
def label_simulate_(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="A category of the settings.")],
    lake: LakeOption,
    truth: Annotated[str, typer.Option(metavar="FILE", help="truth.parquet of `generate`: key, categories.")],
    errors: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the answers that err.")] = 0.0,
    name: Annotated[str, typer.Option(help="Who labels; another name errs elsewhere.")] = "simulated",
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Answer what is queued from a known truth, some answers wrong: for trying things out."""
    from jobs.commands.label import simulate as command
    from udfs.labels.simulated_labeller import SimulatedLabeller

    with Invocation(lake, conf, set_, debug).open("label simulate") as job:
        labeller = SimulatedLabeller(errors, job.settings.seed, name)
        summary = command.run(job, command.Request(category, truth, labeller))
    _show(f"label simulate {category}", summary)


@app.command()
def train(
    category: Annotated[str, typer.Argument(metavar="CATEGORY", help="A category of the settings.")],
    lake: LakeOption,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Train a category's classifier on its labels and export it to ONNX."""
    from jobs.commands import train as command

    with Invocation(lake, conf, set_, debug).open("train") as job:
        summary = command.run(job, category)
    _show(f"train {category}", summary)


_plain("calibrate", "Set each category's threshold, with a lower bound on recall, from random labels.")


_plain("filter", "Decide by scores and thresholds which images are kept.")


_plain("dedup", "Find images that look the same and keep the best of each.")


_plain("weigh", "Weigh the kept images so that filtering's bias is undone, and write the curated set.")


_plain("audit", "Measure how filtering and weighing moved the keywords of captions.")


@regurgitation_app.command("search")
def regurgitation_search(
    generated: Annotated[
        list[str],
        typer.Argument(
            metavar="GENERATED...",
            help="Generated images, as `ingest` takes them; or image files, answered one by one.",
        ),
    ],
    lake: LakeOption,
    format_: FormatOption = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Search generated images in the whole lake, and write the table regurgitation and a contact sheet."""
    from jobs.commands.regurgitation import command

    with Invocation(lake, conf, set_, debug).open("regurgitation") as job:
        asked = command.is_question(generated)
        lines = command.answers(job, generated) if asked else []
        summary = {} if asked else command.run(job, generated, format_)
    for line in lines:
        Console().print(line, markup=False, highlight=False, soft_wrap=True)
    if not asked:
        _show("regurgitation", summary)


@regurgitation_app.command("prompts")
def regurgitation_prompts(
    lake: LakeOption,
    count: Annotated[int, typer.Option(min=1, help="Number of captions.")] = 1000,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help=".csv or .jsonl; printed as CSV when not given.")
    ] = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """List the captions most worth generating from."""
    from jobs.commands.regurgitation import prompts as command

    with Invocation(lake, conf, set_, debug).open("regurgitation prompts") as job:
        text = command.run(job, count, out)
    Console().print(text, markup=False, highlight=False, soft_wrap=True, end="" if out is None else "\n")


_plain("report", "Write report.html, one file that opens offline.")


@app.command()
def export(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder or URI; empty, or holding this export.")],
    lake: LakeOption,
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="webdataset, parquet or datacomp.")
    ] = "webdataset",
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Write the curated set with its weights for training, a dataset card and Croissant metadata."""
    from jobs.commands.export import command

    with Invocation(lake, conf, set_, debug).open("export") as job:
        summary = command.run(job, directory, format_)
    _show("export", summary)


@app.command()
def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="Folder or URI of a lake.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder or URI of another lake.")],
    out: Annotated[str | None, typer.Option(metavar="FILE.html", help="Also write a page that opens offline.")] = None,
    lake: Annotated[str, typer.Option(hidden=True)] = "",
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Put the runs of two lakes side by side."""
    from jobs.commands import compare as command

    with Invocation(first, conf, set_, debug).open("compare") as job:
        found = command.run(job, second, out)
    Console().print(command.terminal_table(found))


@app.command()
def run(
    sources: SourcesArgument,
    lake: LakeOption,
    format_: FormatOption = None,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", metavar="FILE", help="Labels to import first; repeatable.")
    ] = None,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Do it all in order, from sources to report, resuming where it stopped."""
    from jobs.commands import run as command

    with Invocation(lake, conf, set_, debug).open("run") as job:
        summary = command.run(job, sources, format_, labels or [])
    _show("run", summary)


@app.command()
def demo(
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder for the pictures and the lake.")] = ".demo",
    count: Annotated[int, typer.Option(min=500, help="Number of pictures.")] = 5000,
    errors: Annotated[float, typer.Option(min=0, max=0.5, metavar="SHARE", help="Share of the labels that err.")] = 0.0,
    conf: ConfOption = None,
    set_: SetOption = None,
    debug: DebugOption = False,
) -> None:
    """Run all of Winnow on generated pictures, with their known truth in the place of a person who labels."""
    from jobs.commands import demo as command

    lake = str(Path(directory) / "lake")
    with Invocation(lake, command.settings_files(conf), set_, debug).open("demo") as job:
        summary = command.run(job, directory, count, errors)
    _show("demo", summary)


def main() -> None:
    """The entry point `winnow`."""
    app()
