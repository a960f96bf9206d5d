"""Starts two commands on one lake at the same time, over all pairs of commands that write, and checks the tables.

python -m tests.bench.writers [--rounds 2] [--seed 0] [--pairs ingest+score ...]

A command may wait, or stop with one line that names the other one; then it is run again alone. After a round, the work
of both commands must be there, once.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jobs.commands import run
from jobs.commands.label import next as label_next
from jobs.job import Job
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from tests.builders.images import brightness_model, brightness_settings, numbered_images
from tests.builders.lake_contents import rows
from tests.builders.spark_settings import SPARK
from tests.builders.standalone_cluster import ROOT

FIRST, ALL = 16, 24
ANSWERING = "label serve"
COMMANDS = ("ingest", "score", "filter", "dedup", ANSWERING)
# The columns by which a row must be the only one.
_KEYS = {
    "images": ["image_id"],
    "origins": ["image_id", "source", "key", "run"],
    "signals": ["image_id", "encoder"],
    "scores": ["image_id", "category", "model"],
    "verdicts": ["image_id"],
    "pairs": ["a_id", "b_id"],
    "duplicates": ["removed_id"],
    "labels": ["image_id", "category", "annotator"],
}
# A table that a command has written once in the lake that each round copies.
_WRITES = {"filter": "verdicts", "dedup": "dedup_quality"}
_IN_USE = re.compile(
    r"is in use by|was taken over by|was changed by another program|another `winnow label serve[^`]*` uses"
)
# After `ingest`, `filter` and `dedup` need the scores and hashes of the new images.
_NEEDS_SCORE = re.compile(r"winnow score")
_MOST_SECONDS = 600


@dataclass
class Setting:
    """The folder of all rounds.

    Attributes:
        folder: It holds `first` and `more` (images), `lake` (that each round copies) and a model.
    """

    folder: Path

    @cached_property
    def overrides(self) -> list[str]:
        """The settings of all commands."""
        own = brightness_settings(self.folder / "brightness.onnx")
        guard = ["filter.max_dropped=1", "filter.max_dropped_ratio=100", "label_page.flush_seconds=0.2"]
        return [*SPARK, *own, "categories.bright.threshold=0.7", *guard]

    def arguments(self, command: str, lake: Path) -> list[str]:
        """Returns the command line of a command that has something to do."""
        other = [text.replace(".bright.", ".light.") for text in brightness_settings(self.folder / "brightness.onnx")]
        own = {"score": other, "filter": ["filter.rules.small='width < 9'"], "dedup": ["dedup.hash=pdq"]}
        words = {"ingest": ["ingest", str(self.folder / "more")], ANSWERING: [*ANSWERING.split(), "bright"]}
        serve = ["--port", "0", "--state", str(lake.with_suffix(".state"))] if command == ANSWERING else []
        sets = self.sets(*own.get(command, []))
        return [sys.executable, "-m", "jobs", *words.get(command, [command]), *serve, "--lake", str(lake), *sets]

    def sets(self, *own: str) -> list[str]:
        """Returns the settings of all commands, and those of one, as options."""
        return [part for text in (*self.overrides, *own) for part in ("--set", text)]

    def prepare(self) -> None:
        """Writes the images and the lake."""
        numbered_images(self.folder / "first", range(FIRST))
        numbered_images(self.folder / "more", range(FIRST // 2, ALL))
        brightness_model(self.folder)
        settings = config.load(overrides=self.overrides)
        spark = get_session(settings.spark, "two writers")
        job = Job(Lake(spark, str(self.folder / "lake")), settings, Progress())
        with job.lake.used_by("run", print):
            run.run(job, [str(self.folder / "first")])
            label_next.run(job, label_next.PickRequest("bright", "random", 8, ()))
        spark.stop()


class Running:
    """A command in a process of its own.

    Args:
        command: One of `COMMANDS`.
        arguments: Its command line.
        log: File for what it prints.
        who: Name of the person who answers on the label page.
    """

    def __init__(self, command: str, arguments: Sequence[str], log: Path, who: str) -> None:
        self.command, self.log, self.who = command, log, who
        self._file = log.open("wb")
        self.process = subprocess.Popen(
            arguments, cwd=ROOT, stdout=self._file, stderr=self._file, env={**os.environ, "COLUMNS": "400"}
        )

    @property
    def printed(self) -> str:
        """Returns all that it printed so far."""
        return self.log.read_text(errors="replace")

    def answer(self) -> None:
        """Answers for one image on the label page once it is open; returns without it if the command ended."""
        while self.process.poll() is None and not (found := re.search(r"http://\S+", self.printed)):
            time.sleep(0.1)
        if self.process.poll() is not None:
            return
        assert found is not None
        parts = urlsplit(found[0])
        page = urllib.request.urlopen(found[0], timeout=60).read().decode()
        lake = re.search(r'data-lake="([0-9a-f]+)"', page)
        assert lake is not None, page[:2000]
        base = f"{parts.scheme}://{parts.netloc}"
        query = f"{parts.query}&lake={lake[1]}&category=bright"
        images = self._ask(f"{base}/next?{query}", {"name": self.who, "count": 1})["images"]
        self._ask(f"{base}/decide?{query}", {"name": self.who, "image_id": images[0]["image_id"], "answer": "yes"})

    @property
    def code(self) -> int | None:
        """Returns the exit code; None while it runs."""
        return self.process.poll()

    def end(self) -> None:
        """Waits for the command; stops a label page with Ctrl-C."""
        if self.command == ANSWERING and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(_MOST_SECONDS)
        finally:
            self.kill()

    def kill(self) -> None:
        """Ends the process, if it still runs."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._file.close()

    @staticmethod
    def _ask(address: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=60))


@dataclass(frozen=True)
class Outcome:
    """What came of one round.

    Attributes:
        pair: The two commands.
        stopped: How many of them stopped with a line that names the other one.
        faults: What is wrong.
    """

    pair: tuple[str, str]
    stopped: int
    faults: list[str]


def one_round(setting: Setting, pair: tuple[str, str], draw: random.Random) -> Outcome:
    """Runs two commands at the same time on a copy of the lake, and those that stopped again."""
    lake = Path(tempfile.mkdtemp(dir=setting.folder)) / "lake"
    shutil.copytree(setting.folder / "lake", lake)
    ended = _together(setting, pair, lake, draw)
    in_use = [one for one in ended if one.code and _IN_USE.search(one.printed)]
    early = [one for one in ended if one.code and "ingest" in pair and _NEEDS_SCORE.search(one.printed)]
    faults = [
        f"{one.command} ended with {one.code}: {one.printed[-500:]}"
        for one in ended
        if (one.code and one not in in_use + early) or "Traceback" in one.printed
    ]
    again = [one for one in ended if one in in_use + early]
    if again and "ingest" in pair and {"filter", "dedup"} & set(pair):
        faults += _alone(setting, "score", lake, "nobody", plain=True)
    if again and "dedup" in pair and {"ingest", "score"} & set(pair):  # whose new rows `filter` has not seen
        faults += _alone(setting, "filter", lake, "nobody", plain=True)
    for one in again:
        faults += _alone(setting, one.command, lake, one.who)
    faults += _wrong(lake, pair)
    if not faults:
        shutil.rmtree(lake.parent)
    return Outcome(pair, len(in_use), faults)


def _together(setting: Setting, pair: tuple[str, str], lake: Path, draw: random.Random) -> list[Running]:
    """Runs two commands at the same time, in either order, up to three seconds apart."""
    running: list[Running] = []
    delays = (draw.uniform(0, 3), 0.0)
    try:
        for place, delay in zip(draw.sample((0, 1), 2), delays, strict=True):
            log = lake.with_name(f"{place}.log")
            running.append(Running(pair[place], setting.arguments(pair[place], lake), log, f"person {place}"))
            time.sleep(delay)
        for one in running:
            if one.command == ANSWERING:
                one.answer()
        for one in sorted(running, key=lambda one: one.command == ANSWERING):
            one.end()
    finally:
        for one in running:
            one.kill()
    return running


def _alone(setting: Setting, command: str, lake: Path, who: str, plain: bool = False) -> list[str]:
    """Runs a command alone; returns what goes wrong.

    Args:
        setting: The folder of all rounds.
        command: One of `COMMANDS`.
        lake: The lake.
        who: Name of the person who answers.
        plain: Whether the command has only the settings that all commands have.
    """
    log = lake.with_name(f"{command} of {who}.log")
    arguments = setting.arguments(command, lake)
    if plain:
        arguments = [*arguments[: arguments.index("--set")], *setting.sets()]
    running = Running(command, arguments, log, who)
    if command == ANSWERING:
        running.answer()
    running.end()
    return [f"{command} fails alone: {running.printed[-500:]}"] if running.code else []


def _wrong(lake: Path, pair: tuple[str, str]) -> list[str]:
    """Returns what is lost or there twice after a round."""
    found = {name: rows(lake, name) for name in (*_KEYS, "sources", "quarantine")}
    wrong = []
    for name, key in _KEYS.items():
        twice = [one for one, count in Counter(tuple(row[k] for k in key) for row in found[name]).items() if count > 1]
        wrong += [f"{name}: {len(twice)} rows are there twice, such as {twice[0]}"] if twice else []
    has_all = "ingest" in pair
    expected = {
        "images": ALL if has_all else FIRST,
        "sources": 2 if has_all else 1,
        "scores of light": FIRST if "score" in pair else 0,
        "labels": pair.count(ANSWERING),
    }
    counts = {
        **{name: len(found[name]) for name in ("images", "sources", "labels")},
        "scores of light": sum(row["category"] == "light" for row in found["scores"]),
    }
    for name, count in expected.items():
        # If `ingest` came first, the other command works on its images too.
        if counts[name] != count and not (name == "scores of light" and has_all and count and counts[name] == ALL):
            wrong.append(f"{name}: {counts[name]} rows, expected {count}")
    total = sum(row["images"] for row in found["sources"])
    if total != len(found["images"]):
        wrong.append(f"the sources count {total} images, the table has {len(found['images'])}")
    for command, name in _WRITES.items():
        if command in pair and not (lake / name / "_delta_log" / f"{1:020}.json").exists():
            wrong.append(f"{command} wrote nothing")
    left = [str(path.relative_to(lake)) for path in (lake / "_staging").glob("*")]
    return [*wrong, *(f"{name} is left" for name in left)]


def table(outcomes: Sequence[Outcome]) -> str:
    """Returns the Markdown table of all rounds."""
    lines = ["| commands | rounds | a command stopped with its line | rounds with a fault |", "|---|---:|---:|---:|"]
    for pair in sorted({one.pair for one in outcomes}):
        own = [one for one in outcomes if one.pair == pair]
        stopped, faulty = sum(one.stopped > 0 for one in own), sum(bool(one.faults) for one in own)
        lines.append(f"| {pair[0]}, {pair[1]} | {len(own)} | {stopped} | {faulty} |")
    stopped, faulty = sum(one.stopped > 0 for one in outcomes), sum(bool(one.faults) for one in outcomes)
    return "\n".join([*lines, f"| all | {len(outcomes)} | {stopped} | {faulty} |"])


def main() -> None:
    """Runs the rounds and prints the table."""
    pairs = {"+".join(pair): pair for pair in itertools.combinations_with_replacement(COMMANDS, 2)}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="Rounds of each pair.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pairs", nargs="+", choices=pairs, default=list(pairs))
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    outcomes: list[Outcome] = []
    try:
        with tempfile.TemporaryDirectory() as name:
            setting = Setting(Path(name))
            setting.prepare()
            for number, pair in itertools.product(range(args.seed, args.seed + args.rounds), args.pairs):
                outcomes.append(one_round(setting, pairs[pair], random.Random(f"{pair} {number}")))
                print(outcomes[-1], flush=True)
    finally:  # also of the rounds before the end of a time limit
        print(table(outcomes))


if __name__ == "__main__":
    main()
