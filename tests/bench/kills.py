"""Kills `winnow run` at random moments, resumes it, and compares all tables with those of an undisturbed run.

python -m tests.bench.kills --folder FOLDER [--count 10] [--seed 0] [--victims driver jvm worker]

The input is 24 images, one damaged file and labels without a time, for a category whose classifier the run trains. The
folder keeps the undisturbed lake and the result of each moment, so that the same command, called again, continues.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from models.inference.onnx_session import digest
from tests.builders.images import numbered_images
from tests.builders.lake_contents import differences
from tests.builders.spark_settings import SMALL
from tests.builders.standalone_cluster import ROOT

VICTIMS = ("driver", "jvm", "worker")
IMAGES = 24
_MOST_RESUMES = 5
_SETTINGS = [
    'categories.bright.definition="Bright images."',
    "categories.bright.threshold=0.5",
    "filter.max_dropped=1",
    "filter.max_dropped_ratio=100",
    "train.epochs=20",
    'spark.master="local[2]"',
    "spark.driver_memory=2g",
    "spark.shuffle_partitions=2",
    "spark.conf.spark.driver.extraJavaOptions=-XX:TieredStopAtLevel=1",
    *SMALL,
]


@dataclass
class Moment:
    """What came of one kill.

    Attributes:
        victim: What was killed.
        seed: Seed of the moment.
        at: Seconds from the start of the run to the kill.
        step: The last line that the run printed before.
        hit: Whether the process was there and the run did not end well.
        lines: Lines of the errors that the run itself printed after the kill.
        resumes: Number of runs until all was done.
        faults: What differs from the undisturbed run.
    """

    victim: str
    seed: int
    at: float
    step: str = ""
    hit: bool = False
    lines: list[str] = field(default_factory=list)
    resumes: int = 0
    faults: list[str] = field(default_factory=list)


def prepare(folder: Path) -> float:
    """Writes the input and runs Winnow undisturbed, once; returns the seconds that the run takes."""
    done = folder / "seconds.txt"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        images = folder / "images"
        numbered_images(images, range(IMAGES))
        (images / "damaged.png").write_bytes((images / "0.png").read_bytes()[:500])
        # Two of four images are random: they decide on the threshold, the others train.
        rows = [f"{n},bright,{n % 2 == 0},{'seed' if n % 4 < 2 else 'random'}" for n in range(IMAGES)]
        (folder / "labels.csv").write_text("\n".join(["key,category,label,origin", *rows, ""]))
        began = time.monotonic()
        with started(folder, folder / "undisturbed") as process:
            if process.wait():
                raise SystemExit((folder / "undisturbed.log").read_text())
        done.write_text(f"{time.monotonic() - began:.1f}")
    return float(done.read_text())


@contextlib.contextmanager
def started(folder: Path, lake: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Starts the run on a lake; ends all its processes when the block ends."""
    settings = [part for text in _SETTINGS for part in ("--set", text)]
    files = [str(folder / "images"), "--labels", str(folder / "labels.csv")]
    command = [sys.executable, "-m", "jobs", "run", *files, "--lake", str(lake), *settings]
    with lake.with_suffix(".log").open("wb") as log:
        environment = {**os.environ, "COLUMNS": "400"}
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True, env=environment)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def trial(folder: Path, victim: str, seed: int, seconds: float) -> Moment:
    """Kills one process of a run at a random moment, and resumes the run until it is done."""
    draw = random.Random(f"{victim} {seed}")
    moment, lake = Moment(victim, seed, round(draw.uniform(0, seconds), 1)), folder / f"{victim}-{seed}"
    shutil.rmtree(lake, ignore_errors=True)
    with started(folder, lake) as process:
        end = time.monotonic() + moment.at
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.02)
        while process.poll() is None and not (found := _processes(process.pid)[victim]):
            time.sleep(0.02)
        moment.at = round(moment.at + time.monotonic() - end, 1)
        moment.step = _last_line(lake)
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice(found), signal.SIGKILL)
            # Whoever sees that a run died starts it again at once: the JVM of a dead driver may still be there.
            moment.hit = process.wait() != 0
            moment.lines = _error_lines(lake)
        while process.returncode and moment.resumes < _MOST_RESUMES:
            moment.resumes += 1
            with started(folder, lake) as again:
                if not again.wait():
                    break
        else:
            if process.returncode:
                moment.faults = [f"not done: {lake.with_suffix('.log').read_text()[-1000:]}"]
    moment.faults = moment.faults or faults(folder / "undisturbed", lake)
    if not moment.faults:
        shutil.rmtree(lake)
    return moment


def faults(undisturbed: Path, lake: Path) -> list[str]:
    """Returns what differs between two lakes: rows, models, folders that are left."""
    found = differences(undisturbed, lake)
    for model in (undisturbed / "models").rglob("*.onnx"):
        other = lake / model.relative_to(undisturbed)
        if not other.exists() or digest(other.read_bytes()) != digest(model.read_bytes()):
            found.append(f"{model.name} differs")
    left = [str(path.relative_to(lake)) for path in (lake / "_staging").glob("*")]
    return [*found, *(f"{name} is left" for name in left)]


def _processes(driver: int) -> dict[str, list[int]]:
    """Returns the processes below a driver by their part: the driver, its JVM, and the Python workers."""
    found: dict[str, list[int]] = {"driver": [driver], "jvm": [], "worker": []}
    parents: dict[int, tuple[int, bytes]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(status[3]) == driver:  # the session, which the driver began
                    parents[int(entry.name)] = (int(status[1]), (entry / "cmdline").read_bytes())
    for process, (parent, command) in parents.items():
        if b"org.apache.spark" in command and b"java" in command:
            found["jvm"].append(process)
        # The daemon forks the workers.
        if b"pyspark.daemon" in command and b"pyspark.daemon" in parents.get(parent, (0, b""))[1]:
            found["worker"].append(process)
    return found


def _last_line(lake: Path) -> str:
    lines = lake.with_suffix(".log").read_text(errors="replace").splitlines()
    return next((line.strip()[:100] for line in reversed(lines) if line.strip()), "the start")


def _error_lines(lake: Path) -> list[str]:
    lines = lake.with_suffix(".log").read_text(errors="replace").splitlines()
    place = next((n for n, line in enumerate(lines) if line.startswith(("Traceback", "error:", "Error"))), len(lines))
    return lines[place:]


def table(moments: Sequence[Moment]) -> str:
    """Returns the Markdown table of all moments."""
    lines = [
        "| killed | moments | the run stopped | with one line | resumed in one run | tables as undisturbed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for victim in VICTIMS:
        own = [moment for moment in moments if moment.victim == victim]
        hit = [moment for moment in own if moment.hit]
        one = "–" if victim == "driver" else f"{sum(len(moment.lines) == 1 for moment in hit)} of {len(hit)}"
        first, same = sum(moment.resumes == 1 for moment in hit), sum(not moment.faults for moment in own)
        lines.append(f"| {victim} | {len(own)} | {len(hit)} | {one} | {first} of {len(hit)} | {same} of {len(own)} |")
    return "\n".join(lines)


def main() -> None:
    """Runs the trials that the folder lacks, and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = args.folder.absolute()
    seconds = prepare(folder)
    results = folder / "results.jsonl"
    done = [Moment(**json.loads(line)) for line in results.read_text().splitlines()] if results.exists() else []
    for seed in range(args.seed, args.seed + args.count):
        for victim in args.victims:
            if any((one.victim, one.seed) == (victim, seed) for one in done):
                continue
            done.append(trial(folder, victim, seed, seconds))
            with results.open("a") as file:
                file.write(json.dumps(asdict(done[-1])) + "\n")
            print(done[-1], flush=True)
    print(table(done))


if __name__ == "__main__":
    main()
