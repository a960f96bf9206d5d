"""Times wrong calls of the command line: how soon each ends, with which message and exit code.

It makes three small lakes (ingested, scored, finished) and calls `winnow` as a process for each row. Seconds are those
of the whole process; CPU seconds depend less on what else the machine does.

    python -m tests.bench.wrong_calls [--ten]
"""

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from jobs.lake import marker

_COUNT = "40"
_TEN = 10


@dataclass(frozen=True)
class WrongCall:
    """A call that cannot work.

    Attributes:
        what: What is wrong, in a few words.
        words: Its words after `winnow`.
        environment: Variables that it sees.
    """

    what: str
    words: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)


def calls(folder: Path) -> list[WrongCall]:
    """Returns the wrong calls on the lakes of a folder; the first ten are those of the documentation."""
    empty, ingested, scored, done = ((f"--lake={folder / name}") for name in ("none", "ingested", "scored", "done"))
    images, own = str(folder / "images"), f"--conf={folder / 'own.toml'}"
    bad = [
        f"--set=categories.own.model={{path='{folder / name}', size=[8, 8]}}"
        for name in ("no.onnx", "text.txt", "other.onnx")
    ]

    def call(what: str, *words: str, **environment: str) -> WrongCall:
        return WrongCall(what, words, environment)

    return [
        call("the lake does not exist", "score", empty),
        call("the source does not exist", "run", f"{folder}/phtos", empty, "--category=nsfw"),
        call("a setting is misspelt", "dedup", done, "--set=dedup.max_distanse=40"),
        call("`dedup` before `score`", "dedup", ingested),
        call("`filter` before `score`", "filter", ingested, "--category=nsfw"),
        call("`train` without labels", "train", "own", scored, own),
        call("nothing is queued for labelling", "label", "serve", "own", scored, own),
        call("the file of a model is missing", "score", ingested, own, bad[0]),
        call("the export's folder holds files", "export", images, done),
        call("no image has this id", "explain", "0123abcd", done),
        call("the source is a text file", "ingest", str(folder / "text.txt"), empty),
        call("the source is empty", "ingest", str(folder / "nothing"), empty),
        call("the format is misspelt", "ingest", images, empty, "--format=webdatset"),
        call("the source is in the lake", "ingest", str(folder / "done" / "images"), done),
        call("the lake is in the source", "ingest", images, f"--lake={images}/lake"),
        call("a command is misspelt", "dedupe", done),
        call("an option is misspelt", "score", done, "--sett", "seed=1"),
        call("a ready-made category is misspelt", "score", done, "--category=nfsw"),
        call("the category is not in the settings", "train", "onw", scored, own),
        call("the strategy is misspelt", "label", "next", "own", "--strategy=precison", scored, own),
        call("a rule's name is misspelt", "filter", done, "--rule=watermark"),
        call("`calibrate` without labels", "calibrate", scored, own),
        call("`weigh` before `filter`", "weigh", scored),
        call("`export` before `weigh`", "export", str(folder / "out"), scored),
        call("the export's format is misspelt", "export", str(folder / "out"), done, "--format=parqet"),
        call("the export goes into the lake", "export", str(folder / "done" / "out"), done),
        call("the model is no ONNX file", "score", ingested, own, bad[1]),
        call("the model has another input", "score", ingested, own, bad[2]),
        call("`keep` without --why", "keep", "0123abcd", done),
        call("the list of images is missing", "drop", "--from", str(folder / "list"), "--why=logo", done),
        call("a later version made the lake", "status", f"--lake={folder / 'later'}"),
        call("the settings file is missing", "run", images, empty, f"--conf={folder / 'mine.toml'}"),
        call("the settings file is broken", "run", images, empty, f"--conf={folder / 'broken.toml'}"),
        call("too little memory", "score", done, "--set=spark.driver_memory=64m"),
        call("no Java", "score", done, PATH=str(Path(sys.executable).parent), JAVA_HOME=""),
        call("the generated images are missing", "regurgitation", f"{folder}/generated/", done),
        call("the label file is missing", "label", "import", str(folder / "labels.csv"), done),
        call("a rule is no SQL (Spark reads it)", "filter", done, "--set=filter.rules.small='width <'"),
    ]


def make_lakes(folder: Path) -> None:
    """Makes the lakes and files that the calls name."""
    images = str(folder / "images")
    _winnow("generate", images, "--count", _COUNT)
    _winnow("ingest", images, "--lake", str(folder / "ingested"))
    shutil.copytree(folder / "ingested", folder / "scored")
    _winnow("score", "--lake", str(folder / "scored"))
    shutil.copytree(folder / "scored", folder / "done")
    _winnow("run", images, "--lake", str(folder / "done"))
    later = marker.written().replace(f'"layout": {marker.LAYOUT}'.encode(), b'"layout": 99')
    (folder / "later").mkdir()
    (folder / "later" / marker.FILE).write_bytes(later)
    (folder / "nothing").mkdir()
    (folder / "text.txt").write_text("no images\n")
    (folder / "broken.toml").write_text("[dedup\n")
    (folder / "own.toml").write_text('[categories.own]\ndefinition = "own"\n')
    shipped = Path(__file__).parents[2] / "models" / "semantic_encoder.onnx"
    shutil.copy(shipped, folder / "other.onnx")


def _winnow(*words: str, environment: dict[str, str] | None = None) -> tuple[int, str, float, float]:
    """Calls `winnow`; returns its exit code, its messages, and its seconds and CPU seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    command, variables = [sys.executable, "-m", "jobs", *words], {**os.environ, "COLUMNS": "400", **(environment or {})}
    ran = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return ran.returncode, ran.stderr, seconds, cpu


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "w"
        folder.mkdir()
        make_lakes(folder)
        print("| wrong call | seconds | of CPU | exit code | message |")
        print("|---|---:|---:|---:|---|")
        chosen = calls(folder)
        for one in chosen[:_TEN] if "--ten" in sys.argv else chosen:
            code, printed, seconds, cpu = _winnow(*one.words, environment=one.environment)
            message = _message(printed).replace(f"{folder}/", "").replace(str(folder), "").replace("|", "\\|")
            print(f"| {one.what} | {seconds:.1f} | {cpu:.1f} | {code} | {message} |", flush=True)


def _message(printed: str) -> str:
    """Returns the line of the error; of a wrong usage, the text in its box."""
    lines = [line.strip("│ ") for line in printed.splitlines()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    boxed = [line for line in lines if line and not line.startswith(("╭", "╰", "Usage", "Try"))]
    return (errors or boxed or [""])[-1 if errors else 0]


if __name__ == "__main__":
    main()
