"""The command line: one command for each job."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Group
from rich.table import Table
from typer.core import TyperGroup

from jobs.invocation import Found, Invocation, command_with_job, command_without_job, summary_table
from jobs.job import Job
from jobs.runtime.progress import Progress
from jobs.runtime.version import VERSION


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"winnow {VERSION}")
        raise typer.Exit


app = typer.Typer(
    name="winnow",
    help="Filter, deduplicate and weigh image-caption data for training image models, on Spark over Delta tables.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def winnow(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Filter, deduplicate and weigh image-caption data for training image models, on Spark over Delta tables."""


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

SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="Image folders, tar shards, Parquet or Delta tables.")
]
FormatOption = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="folder, webdataset, parquet or delta; guessed when not given."),
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSONL, Parquet or Label Studio JSON.")]
CategoryArgument = Annotated[str, typer.Argument(metavar="CATEGORY", help="A category of the settings.")]


# Picked images that are shown; all are in the table label_queue.
_SHOWN = 20


@command_without_job(app, "generate")
def generate(
    invocation: Invocation,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder to draw into.")],
    count: Annotated[int, typer.Option(min=1, help="Number of pictures.")] = 5000,
    seed: Annotated[int | None, typer.Option(help="Same seed, same bytes; the setting `seed` when not given.")] = None,
) -> Found:
    """Draw a picture set with known truth: duplicates, categories, caption bias."""
    from jobs.commands.generate import command

    settings = invocation.settings()
    return command.run(directory, count, settings.seed if seed is None else seed, Progress())


@command_with_job(app, "ingest")
def ingest(job: Job, sources: SourcesArgument, format_: FormatOption = None) -> Found:
    """Read sources into the tables images and quarantine; what is there already is not added again."""
    from jobs.commands import ingest as command

    return command.run(job, sources, format_)


@command_with_job(app, "fit-encoder")
def fit_encoder(job: Job) -> Found:
    """Train the perceptual encoder on the lake's own images and export it to ONNX."""
    from jobs.commands import fit_encoder as command

    return command.run(job)


@command_with_job(app, "score")
def score(job: Job) -> Found:
    """Decode each image once for its hashes, its embedding and the score of every category."""
    from jobs.commands import score as command

    return command.run(job)


@command_with_job(label_app, "label serve", title="label serve {category}")
def label_serve(
    job: Job,
    category: CategoryArgument,
    host: Annotated[str, typer.Option(help="Address to listen at; any but 127.0.0.1 opens the page to others.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0 is any that is free.")] = 8765,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the pictures that everybody is handed.")
    ] = 0.0,
    agree: Annotated[bool, typer.Option("--agree", help="Everybody is handed every picture; as --overlap 1.")] = False,
    state: Annotated[Path | None, typer.Option(metavar="DIR", help="Where the journal of labels is kept.")] = None,
) -> Found:
    """Open a web page on this machine to label what `label next` queued; several people may at once."""
    from jobs.commands.label import serve as command

    return command.run(job, category, command.ServeOptions(host, port, 1.0 if agree else overlap, state))


@command_with_job(label_app, "label import")
def label_import(job: Job, file: FileArgument) -> Found:
    """Add the labels of a file: key or image_id, category, import_file, and if known origin, annotator, labelled_at."""
    from jobs.commands.label import import_file as command

    return command.import_labels(job, file)


@command_with_job(label_app, "label export")
def label_export(
    job: Job,
    file: FileArgument,
    format_: Annotated[
        Literal["labels", "labelstudio"] | None,
        typer.Option("--format", help="What is written; labelstudio for a .json file, else labels."),
    ] = None,
    category: Annotated[str | None, typer.Option(help="Of this category only; Label Studio takes one.")] = None,
    image_url_prefix: Annotated[
        str | None, typer.Option(metavar="URL", help="Tasks lead to URL + key instead of carrying their pictures.")
    ] = None,
    picture: Annotated[int, typer.Option(min=32, max=4096, help="Longest side of pictures in the file, pixels.")] = 640,
) -> Found:
    """Write labels to a file; or what is queued, with predictions, as tasks for Label Studio."""
    from jobs.commands.label import export_file, label_studio

    if format_ == "labelstudio" or (format_ is None and file.lower().endswith(".json")):
        return label_studio.export_tasks(job, file, category, label_studio.TaskPictures(image_url_prefix, picture))
    return export_file.export_labels(job, file, category)


@command_with_job(label_app, "label next")
def label_next(
    job: Job,
    category: CategoryArgument,
    strategy: Annotated[str, typer.Option(help="seed, random, precision or recall.")],
    count: Annotated[int, typer.Option(min=1, help="How many images.")] = 100,
    like: Annotated[
        list[str] | None, typer.Option("--like", metavar="FILE", help="seed: around this image; repeatable.")
    ] = None,
) -> Found:
    """Pick the images to label next, say why, and queue them."""
    from jobs.commands.label import next as command

    picked = command.run(job, command.PickRequest(category, strategy, count, tuple(like or ())))
    table = Table(title=f"to label for {category}", title_justify="left", box=None, pad_edge=False)
    for name in ("", "image", "why"):
        table.add_column(name)
    for place, pick in enumerate(picked.picks[:_SHOWN], 1):
        table.add_row(str(place), pick.image_id[:12], pick.reason)
    if len(picked.picks) > _SHOWN:
        table.add_row("…", f"{len(picked.picks) - _SHOWN:,} more", "see the table label_queue")
    return Group(table, summary_table("label next", picked.summary))


@command_with_job(label_app, "label simulate", title="label simulate {category}")
def label_simulate(
    job: Job,
    category: CategoryArgument,
    truth: Annotated[str, typer.Option(metavar="FILE", help="truth.parquet of `generate`: key, categories.")],
    errors: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Share of the answers that err.")] = 0.0,
    name: Annotated[str, typer.Option(help="Who labels; another name errs elsewhere.")] = "simulated",
) -> Found:
    """Answer what is queued from a known truth, some answers wrong: for trying things out."""
    from jobs.commands.label import simulate as command
    from udfs.labels.simulated_labeller import SimulatedLabeller

    labeller = SimulatedLabeller(errors, job.settings.seed, name)
    return command.run(job, command.SimulationRequest(category, truth, labeller))


@command_with_job(app, "train", title="train {category}")
def train(job: Job, category: CategoryArgument) -> Found:
    """Train a category's classifier on its labels and export it to ONNX."""
    from jobs.commands import train as command

    return command.run(job, category)


@command_with_job(app, "calibrate")
def calibrate(job: Job) -> Found:
    """Set each category's threshold, with a lower bound on recall, from random labels."""
    from jobs.commands import calibrate as command

    return command.run(job)


@command_with_job(app, "filter")
def filter_(job: Job) -> Found:
    """Decide by scores and thresholds which images are kept."""
    from jobs.commands.filter import command

    return command.run(job)


@command_with_job(app, "dedup")
def dedup(job: Job) -> Found:
    """Find images that look the same and keep the best of each."""
    from jobs.commands.dedup import command

    return command.run(job)


@command_with_job(app, "weigh")
def weigh(job: Job) -> Found:
    """Weigh the kept images so that filtering's bias is undone, and write the curated set."""
    from jobs.commands.weigh import command

    return command.run(job)


@command_with_job(app, "audit")
def audit(job: Job) -> Found:
    """Measure how filtering and weighing moved the keywords of captions."""
    from jobs.commands.audit import command

    return command.run(job)


@command_with_job(regurgitation_app, "regurgitation search", title="regurgitation")
def regurgitation_search(
    job: Job,
    generated: Annotated[
        list[str],
        typer.Argument(
            metavar="GENERATED...",
            help="Generated images, as `ingest` takes them; or image files, answered one by one.",
        ),
    ],
    format_: FormatOption = None,
) -> Found:
    """Search generated images in the whole lake, and write the table regurgitation and a contact sheet."""
    from jobs.commands.regurgitation import command

    if command.is_question(generated):
        return "".join(f"{line}\n" for line in command.answers(job, generated))
    return command.run(job, generated, format_)


@command_with_job(regurgitation_app, "regurgitation prompts")
def regurgitation_prompts(
    job: Job,
    count: Annotated[int, typer.Option(min=1, help="Number of captions.")] = 1000,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help=".csv or .jsonl; printed as CSV when not given.")
    ] = None,
) -> Found:
    """List the captions most worth generating from."""
    from jobs.commands.regurgitation import prompts as command

    text = command.run(job, count, out)
    return text if out is None else f"{text}\n"


@command_with_job(app, "report")
def report(job: Job) -> Found:
    """Write report.html, one file that opens offline."""
    from jobs.commands import report as command

    return command.run(job)


@command_with_job(app, "export")
def export(
    job: Job,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder or URI; empty, or holding this export.")],
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="webdataset, parquet or datacomp.")
    ] = "webdataset",
) -> Found:
    """Write the curated set with its weights for training, a dataset card and Croissant metadata."""
    from jobs.commands.export import command

    return command.run(job, directory, format_)


@command_without_job(app, "compare")
def compare(
    invocation: Invocation,
    first: Annotated[str, typer.Argument(metavar="A", help="Folder or URI of a lake.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder or URI of another lake.")],
    out: Annotated[str | None, typer.Option(metavar="FILE.html", help="Also write a page that opens offline.")] = None,
) -> Found:
    """Put the runs of two lakes side by side."""
    from jobs.commands import compare as command

    with replace(invocation, lake=first).open() as job:
        return command.terminal_table(command.run(job, second, out))


@command_with_job(app, "run")
def run(
    job: Job,
    sources: SourcesArgument,
    format_: FormatOption = None,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", metavar="FILE", help="Labels to import first; repeatable.")
    ] = None,
) -> Found:
    """Do it all in order, from sources to report, resuming where it stopped."""
    from jobs.commands import run as command

    return command.run(job, sources, format_, labels or [])


@command_without_job(app, "demo", lake=None)
def demo(
    invocation: Invocation,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Folder for the pictures and the lake.")] = ".demo",
    count: Annotated[int, typer.Option(min=500, help="Number of pictures.")] = 5000,
    errors: Annotated[float, typer.Option(min=0, max=0.5, metavar="SHARE", help="Share of the labels that err.")] = 0.0,
) -> Found:
    """Run all of Winnow on generated pictures, with their known truth in the place of a person who labels."""
    from jobs.commands import demo as command

    lake, conf = str(Path(directory) / "lake"), command.settings_files(invocation.conf)
    with replace(invocation, lake=lake, conf=conf).open() as job:
        return command.run(job, directory, count, errors)


def main() -> None:
    """The entry point `winnow`."""
    app()
