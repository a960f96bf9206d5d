"""The command line: one function for each command.

It imports neither Spark nor `jobs.commands`, so that help, shell completion and errors of usage are quick.
"""

import io
import sys
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Group
from typer.core import TyperGroup

from jobs.invocation import CommandOutput, Invocation, Shown, command_with_job, command_without_job, summary_table
from jobs.runtime import config, terminal
from jobs.runtime.version import VERSION
from models.errors import WinnowError

if TYPE_CHECKING:
    from jobs.job import Job, Summary


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"winnow {VERSION}")
        raise typer.Exit


_PANELS = {
    "Start": ("demo", "generate", "run", "status"),
    "Read and score images": ("ingest", "fit-encoder", "score"),
    "Filter": ("label", "train", "calibrate", "filter", "explain", "keep", "drop"),
    "Deduplicate and weigh": ("dedup", "weigh", "audit"),
    "Use the results": ("browse", "report", "export", "compare", "regurgitation", "verify", "vacuum"),
    "Settings": ("settings",),
}
"""The commands in the order of the work, by the heading above them in the help."""


class _InOrderOfWork(TyperGroup):
    """A command group that lists its commands as in `_PANELS`; Typer would list groups of commands last."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        made: Any = self.commands
        for panel, names in _PANELS.items():
            for name in names:
                made[name].rich_help_panel = panel
        self.commands = {name: made[name] for names in _PANELS.values() for name in names}


app = typer.Typer(
    name="winnow",
    cls=_InOrderOfWork,
    help="Filter, deduplicate and weigh image-caption data for training image models, on Spark over Delta tables.",
    epilog=(
        "Exit codes: 0 done; 1 error, said in one line on stderr if you can correct it; 2 wrong usage; 130 stopped by "
        "Ctrl-C."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def winnow(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Filter, deduplicate and weigh image-caption data for training image models, on Spark over Delta tables."""


label_app = typer.Typer(help="Pick images to label, label them, move labels in and out.", no_args_is_help=True)
app.add_typer(label_app, name="label")


class _SearchOrPrompts(TyperGroup):
    """A command group that runs `search` unless the first word after the options names another command."""

    _FLAGS = ("--debug", "--help", "--json", "--quiet", "-q", "--trust-conf")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Moves the name of the command to the front, where the group expects it."""
        place = 0
        while place < len(args) and args[place].startswith("--") and args[place] != "--":
            place += 1 if args[place] in self._FLAGS or "=" in args[place] else 2
        named = [word for word in args[place : place + 1] if word in self.commands]
        words = [*named, *args[:place], *args[place + 1 :]] if named else ["search", *args]
        return super().parse_args(ctx, words if args not in ([], ["--help"]) else args)


regurgitation_app = typer.Typer(
    cls=_SearchOrPrompts,
    help="Find training images that a model reproduces. `regurgitation GENERATED...` is short for `search`.",
    no_args_is_help=True,
)
app.add_typer(regurgitation_app, name="regurgitation")

# What the shell completes. The commands check these values; a test compares both.
_STRATEGIES = ("seed", "random", "precision", "recall")
_SOURCE_FORMATS = ("folder", "webdataset", "parquet", "delta")
_EXPORT_FORMATS = ("webdataset", "parquet", "datacomp")

SourcesArgument = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="Image folders, tar shards, Parquet or Delta tables.")
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="FORMAT",
        help="folder, webdataset, parquet or delta. Default: guessed from the files.",
        autocompletion=lambda: list(_SOURCE_FORMATS),
    ),
]
FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="CSV, JSONL, Parquet or Label Studio JSON.")]
ImagesArgument = Annotated[
    list[str] | None,
    typer.Argument(metavar="IMAGE...", help="Ids, first digits of ids (4 or more), keys, or paths of image files."),
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason; stored with the decision.")]
ListOption = Annotated[
    str | None, typer.Option("--from", metavar="FILE", help="Text file with more images, an IMAGE in each line.")
]
ByOption = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who decides. Default: your user name on this machine.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Write no table; show the counts, what would change, and examples.")
]
WithdrawOption = Annotated[
    bool, typer.Option("--withdraw", help="Cancel earlier decisions of this kind on these images.")
]


def _category_names(ctx: typer.Context) -> list[str]:
    """Returns the names that complete CATEGORY: ready-made ones, and those in the files of an earlier --conf."""
    try:
        own = config.load(ctx.params.get("conf") or [], trust_conf=True).categories
    except WinnowError:
        own = {}
    return sorted({*own, *config.ready_made_categories()})


CategoryArgument = Annotated[
    str,
    typer.Argument(metavar="CATEGORY", help="Name of a category in the settings.", autocompletion=_category_names),
]

CategoryOrPairsArgument = Annotated[
    str,
    typer.Argument(
        metavar="CATEGORY",
        help=f"Name of a category in the settings, or {config.PAIRS} for pairs of near-duplicates.",
        autocompletion=lambda ctx: [*_category_names(ctx), config.PAIRS],
    ),
]


# Number of picked images to print; the table label_queue has all of them.
_SHOWN = 5


@command_without_job(app, "generate")
def generate(
    invocation: Invocation,
    directory: Annotated[str, typer.Argument(metavar="DIR", help="Output folder.")],
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 5000,
    seed: Annotated[int | None, typer.Option(help="Random seed. Default: the setting `seed`.")] = None,
) -> CommandOutput:
    """Draw synthetic images with known duplicates and categories.

    The captions have a known bias: some words are more frequent in a category. The file truth.parquet says what each
    image is.

    Examples:
        winnow generate synthetic --count 5000
    """
    from jobs.commands.generate import command

    settings = invocation.settings()
    return command.run(directory, count, settings.seed if seed is None else seed, invocation.progress())


@command_with_job(app, "ingest")
def ingest(job: "Job", sources: SourcesArgument, format_: FormatOption = None) -> CommandOutput:
    """Read image folders, tar shards or tables into the lake.

    Writes the tables images and quarantine. Skips images that are already in the lake.

    Examples:
        winnow ingest /data/pictures --lake /data/lake
        winnow ingest 'shards/*.tar' --lake s3a://bucket/lake
    """
    from jobs.commands import ingest as command

    return command.run(job, sources, format_)


@command_with_job(app, "fit-encoder")
def fit_encoder(job: "Job") -> CommandOutput:
    """Train the perceptual encoder on your images.

    Exports it to ONNX, in the lake.

    Examples:
        winnow fit-encoder --lake /data/lake --set encoder.minutes=30
    """
    from jobs.commands import fit_encoder as command

    return command.run(job)


@command_with_job(app, "score")
def score(job: "Job") -> CommandOutput:
    """Decode each image once; write its hashes and scores.

    Also writes the embedding of the perceptual encoder and, if a later command needs it, that of the semantic encoder.
    There is a score for every category that has a classifier.

    Examples:
        winnow score --lake /data/lake --category nsfw
    """
    from jobs.commands import score as command

    return command.run(job)


@command_with_job(label_app, "label next")
def label_next(
    job: "Job",
    category: CategoryOrPairsArgument,
    strategy: Annotated[
        str | None,
        typer.Option(
            help="seed, random, precision or recall; for pairs random, threshold or told-apart (not required).",
            autocompletion=lambda: list(_STRATEGIES),
        ),
    ] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images, or of pairs.")] = 100,
    like: Annotated[
        list[str] | None,
        typer.Option("--like", metavar="FILE", help="Example image for the strategy seed; repeatable."),
    ] = None,
) -> CommandOutput:
    """Pick the images to label next and queue them.

    Says the reason for each image. For `duplicates`, picks pairs of images: half of them at random from the removed
    images, to measure the precision of dedup; a quarter at random from those that thumbnails told apart, to measure how
    many copies stay; the others near the threshold.

    Examples:
        winnow label next nsfw --strategy random --lake /data/lake --category nsfw
        winnow label next duplicates --count 200 --lake /data/lake
    """
    if category == config.PAIRS:
        return _next_pairs(job, strategy, count, like)
    from jobs.commands.label import next as command

    if strategy is None:
        raise WinnowError(f"label next {category} needs --strategy: choose one of {', '.join(command.STRATEGIES)}")
    picked = command.run(job, command.PickRequest(category, strategy, count, tuple(like or ())))
    reasons = [(pick.image_id[:12], pick.reason) for pick in picked.picks]
    return _picked(f"to label for {category}", "image", reasons, "label_queue", picked.summary)


def _next_pairs(job: "Job", strategy: str | None, count: int, like: list[str] | None) -> CommandOutput:
    from jobs.commands.label import next_pairs as command

    if like:
        raise WinnowError(f"--like works only with --strategy seed, not with {config.PAIRS}")
    picked = command.run(job, command.PairRequest(count, strategy))
    reasons = [(f"{pick.a_id[:12]} {pick.b_id[:12]}", pick.reason) for pick in picked.picks]
    return _picked("pairs to label", "pair", reasons, "pair_queue", picked.summary)


def _picked(title: str, what: str, reasons: list[tuple[str, str]], queue: str, summary: "Summary") -> CommandOutput:
    """Returns the first picks with their reasons, and the summary."""
    table = terminal.table(title, ("", what, "why"))
    for place, (name, reason) in enumerate(reasons[:_SHOWN], 1):
        terminal.add_row(table, place, name, reason)
    if len(reasons) > _SHOWN:
        terminal.add_row(table, "…", f"{len(reasons) - _SHOWN:,} more", f"see the table {queue}")
    return Shown(summary, Group(table, summary_table("label next", summary)))


@command_with_job(label_app, "label serve", title="label serve {category}")
def label_serve(
    job: "Job",
    category: CategoryOrPairsArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 also accepts other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free port.")] = 8765,
    overlap: Annotated[
        float, typer.Option(min=0, max=1, metavar="SHARE", help="Fraction of images that everybody labels.")
    ] = 0.0,
    agree: Annotated[bool, typer.Option("--agree", help="Everybody labels every image, as with --overlap 1.")] = False,
    state: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder where answers are kept until they are in the lake.")
    ] = None,
) -> CommandOutput:
    """Open a web page to label the images that `label next` queued.

    Several people can label at once. For `duplicates`, the page shows pairs of images.

    Examples:
        winnow label serve fireworks --lake /data/lake --conf mine.toml
        winnow label serve duplicates --lake /data/lake
    """
    from jobs.commands.label import serve as command

    return command.run(job, category, command.ServeOptions(host, port, 1.0 if agree else overlap, state))


@command_with_job(label_app, "label simulate", title="label simulate {category}")
def label_simulate(
    job: "Job",
    category: CategoryArgument,
    truth: Annotated[str, typer.Option(metavar="FILE", help="truth.parquet of `generate`: key, categories.")],
    errors: Annotated[float, typer.Option(min=0, max=1, metavar="SHARE", help="Fraction of labels to flip.")] = 0.0,
    name: Annotated[
        str, typer.Option(help="Name of the annotator. With --errors, the name decides which labels are flipped.")
    ] = "simulated",
) -> CommandOutput:
    """Label the queued images from ground truth, for experiments.

    Use --errors to flip some labels.

    Examples:
        winnow label simulate fireworks --truth made/truth.parquet --lake /data/lake
    """
    from jobs.commands.label import simulate as command
    from udfs.labels.simulated_labeller import SimulatedLabeller

    labeller = SimulatedLabeller(errors, job.settings.seed, name)
    return command.run(job, command.SimulationRequest(category, truth, labeller))


@command_with_job(label_app, "label import")
def label_import(job: "Job", file: FileArgument) -> CommandOutput:
    """Import labels from a file.

    The columns are key or image_id, category, label; optional: origin, annotator, labelled_at.

    Examples:
        winnow label import labels.csv --lake /data/lake
    """
    from jobs.commands.label import import_file as command

    return command.import_labels(job, file)


@command_with_job(label_app, "label export")
def label_export(
    job: "Job",
    file: FileArgument,
    format_: Annotated[
        Literal["labels", "labelstudio"] | None,
        typer.Option("--format", help="Default: labelstudio for a .json file, else labels."),
    ] = None,
    category: Annotated[
        str | None, typer.Option(help="Export this category only. Label Studio needs exactly one.")
    ] = None,
    image_url_prefix: Annotated[
        str | None, typer.Option(metavar="URL", help="Link each task to URL + key instead of embedding the image.")
    ] = None,
    picture: Annotated[int, typer.Option(min=32, max=4096, help="Longest side of embedded images, in pixels.")] = 640,
) -> CommandOutput:
    """Write labels to a file, or queued images for Label Studio.

    The tasks of Label Studio come with predictions.

    Examples:
        winnow label export labels.csv --lake /data/lake
        winnow label export tasks.json --category fireworks --lake /data/lake
    """
    from jobs.commands.label import export_file, label_studio

    if format_ == "labelstudio" or (format_ is None and file.lower().endswith(".json")):
        return label_studio.export_tasks(job, file, category, label_studio.TaskImages(image_url_prefix, picture))
    return export_file.export_labels(job, file, category)


@command_with_job(app, "train", title="train {category}")
def train(job: "Job", category: CategoryArgument) -> CommandOutput:
    """Train a category's classifier on its labels.

    Exports it to ONNX, in the lake.

    Examples:
        winnow train fireworks --lake /data/lake --conf mine.toml
    """
    from jobs.commands import train as command

    return command.run(job, category)


@command_with_job(app, "calibrate")
def calibrate(job: "Job") -> CommandOutput:
    """Set each category's threshold by its random sample.

    Gives a lower bound on the recall of each threshold.

    Examples:
        winnow calibrate --lake /data/lake --conf mine.toml
    """
    from jobs.commands.calibrate import command

    return command.run(job)


@command_with_job(app, "filter")
def filter_(job: "Job", dry_run: DryRunOption = False) -> CommandOutput:
    """Decide which images to keep.

    Uses scores, thresholds, labels, rules and your decisions.

    Examples:
        winnow filter --lake /data/lake --category nsfw --rule pwatermark
        winnow filter --lake /data/lake --category nsfw --rule pwatermark --dry-run
    """
    from jobs.commands.filter import command

    return command.preview(job) if dry_run else command.run(job)


@command_with_job(app, "explain")
def explain(
    job: "Job",
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE...", help="Ids, first digits of ids (4 or more), keys, or paths of image files."),
    ],
) -> CommandOutput:
    """Show what is known of an image, and why it is kept or not.

    Names the command that would bring it back.

    Examples:
        winnow explain 3f2a9c01b7de --lake /data/lake
    """
    from jobs.commands import explain as command

    return command.run(job, images)


@command_with_job(app, "browse")
def browse(
    job: "Job",
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 also accepts other machines.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes any free port.")] = 8766,
    cache: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the local index.")] = None,
    most: Annotated[
        int,
        typer.Option(min=1, help="Maximum number of images in the index. A larger lake is shown as a random sample."),
    ] = 1_000_000,
) -> CommandOutput:
    """Open a web page to look at all images, and decide on them.

    Shows what is kept, filtered, duplicate or unreadable, and why; searches by words and by image. The first call makes
    a local index with small images.

    Examples:
        winnow browse --lake /data/lake
    """
    from jobs.commands.browse import command

    return command.run(job, command.BrowseOptions(host, port, cache, most))


@command_with_job(app, "keep")
def keep(
    job: "Job",
    why: WhyOption,
    images: ImagesArgument = None,
    list_file: ListOption = None,
    by: ByOption = None,
    withdraw: WithdrawOption = False,
) -> CommandOutput:
    """Keep images by your own decision.

    Your decision overrides labels, rules, scores and duplicates.

    Examples:
        winnow keep 3f2a9c01b7de --why 'a toy boat' --lake /data/lake
    """
    from jobs.commands import keep as command
    from jobs.decisions.record import Request

    return command.run(job, Request(tuple(images or ()), why, list_file, by, withdraw))


@command_with_job(app, "drop")
def drop(
    job: "Job",
    why: WhyOption,
    images: ImagesArgument = None,
    list_file: ListOption = None,
    by: ByOption = None,
    withdraw: WithdrawOption = False,
    with_copies: Annotated[
        bool,
        typer.Option("--with-copies", help="Apply the decision also to the near-copies that the last dedup found."),
    ] = False,
) -> CommandOutput:
    """Drop images by your own decision.

    Lists their near-copies.

    Examples:
        winnow drop --from logos.txt --why 'a logo' --lake /data/lake
    """
    from jobs.commands import drop as command
    from jobs.decisions.record import Request

    return command.run(job, Request(tuple(images or ()), why, list_file, by, withdraw, with_copies))


@command_with_job(app, "dedup")
def dedup(job: "Job", dry_run: DryRunOption = False) -> CommandOutput:
    """Find near-duplicates and keep the best image of each group.

    Examples:
        winnow dedup --lake /data/lake
        winnow dedup --lake /data/lake --set dedup.max_distance=40 --dry-run
    """
    from jobs.commands.dedup import command

    return command.preview(job) if dry_run else command.run(job)


@command_with_job(app, "weigh")
def weigh(job: "Job") -> CommandOutput:
    """Compute weights that correct the bias of the filter.

    Writes the curated set, with an importance weight for each image.

    Examples:
        winnow weigh --lake /data/lake
    """
    from jobs.commands.weigh import command

    return command.run(job)


@command_with_job(app, "audit")
def audit(job: "Job") -> CommandOutput:
    """Measure how filter and weights change the words of captions.

    Examples:
        winnow audit --lake /data/lake --set audit.keywords='["zebra"]'
    """
    from jobs.commands.audit import command

    return command.run(job)


@command_with_job(regurgitation_app, "regurgitation search", title="regurgitation")
def regurgitation_search(
    job: "Job",
    generated: Annotated[
        list[str],
        typer.Argument(
            metavar="GENERATED...",
            help="Generated images in any format that `ingest` reads, or single image files.",
        ),
    ],
    format_: FormatOption = None,
) -> CommandOutput:
    """For generated images, find the images that they copy.

    Compares them with every image of the lake. Writes tables and the page regurgitation.html. If all arguments are
    single image files, it only prints an answer for each, and writes no table and no page.

    Examples:
        winnow regurgitation search generated/ --lake /data/lake
        winnow regurgitation search picture.jpg --lake /data/lake
    """
    from jobs.commands.regurgitation import command

    if command.is_question(generated):
        return terminal.lines(command.answers(job, generated))
    return command.run(job, generated, format_)


@command_with_job(regurgitation_app, "regurgitation prompts")
def regurgitation_prompts(
    job: "Job",
    count: Annotated[int, typer.Option(min=1, help="Number of captions.")] = 1000,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help=".csv or .jsonl file to write. Default: print CSV.")
    ] = None,
) -> CommandOutput:
    """List captions to use as prompts for your model.

    Half are from the largest duplicate groups, half are random.

    Examples:
        winnow regurgitation prompts --count 500 --out prompts.csv --lake /data/lake
    """
    from jobs.commands.regurgitation import prompts as command

    text = command.run(job, count, out)
    return text if out is None else f"{text}\n"


@command_with_job(app, "report")
def report(job: "Job") -> CommandOutput:
    """Write report.html, a single file that opens offline.

    Examples:
        winnow report --lake /data/lake
    """
    from jobs.commands import report as command

    return command.run(job)


@command_with_job(app, "export")
def export(
    job: "Job",
    directory: Annotated[
        str,
        typer.Argument(
            metavar="DIR",
            help="A new or empty folder (path or URI), or the folder of an earlier run of the same export.",
        ),
    ],
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="webdataset, parquet or datacomp.",
            autocompletion=lambda: list(_EXPORT_FORMATS),
        ),
    ] = "webdataset",
) -> CommandOutput:
    """Write the curated set with its weights, as training data.

    Adds a dataset card and Croissant metadata. The format datacomp holds no weights.

    Examples:
        winnow export /data/curated --format parquet --lake /data/lake
    """
    from jobs.commands.export import command

    return command.run(job, directory, format_)


@command_without_job(app, "compare")
def compare(
    invocation: Invocation,
    first: Annotated[str, typer.Argument(metavar="A", help="Folder or URI of a lake.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Folder or URI of another lake.")],
    out: Annotated[
        str | None, typer.Option(metavar="FILE.html", help="Also write an HTML page that opens offline.")
    ] = None,
) -> CommandOutput:
    """Compare two lakes: counts, results, settings.

    The results are thresholds, duplicates, keyword shifts and weights.

    Examples:
        winnow compare /data/lake /data/other --out comparison.html
    """
    from jobs.commands import compare as command

    with replace(invocation, lake=first).open() as job:
        return command.terminal_table(command.run(job, second, out))


@command_with_job(app, "run")
def run(
    job: "Job",
    sources: SourcesArgument,
    format_: FormatOption = None,
    labels: Annotated[
        list[str] | None, typer.Option("--labels", metavar="FILE", help="Label file to import; repeatable.")
    ] = None,
) -> CommandOutput:
    """Run all steps in order, from sources to report.

    Resumes where it stopped.

    Examples:
        winnow run /data/pictures --lake /data/lake
        winnow run 'shards/*.tar' --lake /data/lake --category nsfw
    """
    from jobs.commands import run as command

    return command.run(job, sources, format_, labels or [])


@command_with_job(app, "status")
def status(job: "Job") -> CommandOutput:
    """Show the tables of a lake, and what to run next.

    Examples:
        winnow status --lake /data/lake
    """
    from jobs.commands import status as command

    found = command.run(job)
    return Shown(found.summary, found.text)


@command_with_job(app, "verify")
def verify(job: "Job") -> CommandOutput:
    """Look for missing and damaged files in the tables of a lake.

    Reads every page of every file with its checksum, and computes the id of every image again. Changes nothing. Ends
    with exit code 1 if it finds damage, and says what to do.

    Examples:
        winnow verify --lake /data/lake
    """
    from jobs.commands.verify import command

    return command.run(job)


@command_with_job(app, "vacuum")
def vacuum(
    job: "Job",
    keep: Annotated[
        str, typer.Option(metavar="PERIOD", help="How long to keep replaced files, 1h to 7d: readers may use them.")
    ] = "7d",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count files and bytes, and change nothing.")] = False,
) -> CommandOutput:
    """Gather small files, and remove files that nothing refers to.

    No row changes and nothing becomes out of date. Removes only files that Winnow wrote: those that a later version of
    a table replaced longer ago than `--keep`, and those that killed commands left. Earlier versions of the tables can
    then no longer be read.

    Examples:
        winnow vacuum --lake /data/lake --dry-run
    """
    from jobs.commands.vacuum import command

    return command.run(job, keep, dry_run)


@command_without_job(app, "demo", lake=None)
def demo(
    invocation: Invocation,
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Folder for the synthetic images and the lake.")
    ] = ".demo",
    count: Annotated[int, typer.Option(min=500, help="Number of images.")] = 5000,
    errors: Annotated[float, typer.Option(min=0, max=0.5, metavar="SHARE", help="Fraction of labels to flip.")] = 0.0,
) -> CommandOutput:
    """Try all steps on synthetic images.

    The labels come from the ground truth of the images, not from people.

    Examples:
        winnow demo synthetic --count 2000
    """
    from jobs.commands import demo as command

    lake, conf = str(Path(directory) / "lake"), command.settings_files(invocation.conf)
    with replace(invocation, lake=lake, conf=conf).open() as job:
        return command.run(job, directory, count, errors)


@command_without_job(app, "settings")
def settings(
    invocation: Invocation,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...",
            help="Sections or settings, such as dedup or dedup.recall. Default: all.",
            autocompletion=config.setting_names,
        ),
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Show only what differs from the defaults.")] = False,
) -> CommandOutput:
    """Show the value of each setting, and where it was set.

    The output is TOML: with --changed, it is a settings file for --conf.

    Examples:
        winnow settings dedup filter.rules --conf mine.toml
        winnow settings --changed --conf mine.toml --set dedup.strict=true
    """
    from jobs.commands import settings as command

    return command.run(invocation.layers(), names or [], changed)


def main() -> None:
    """Runs the command line `winnow`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal or file whose encoding lacks a letter shows its escape, and the command goes on.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app(prog_name="winnow")
    except Exception:
        # Python would print the texts of errors, and the names of files in them, as they are.
        sys.stderr.write(terminal.visible_lines(traceback.format_exc()))
        sys.exit(1)
