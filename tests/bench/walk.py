"""Walks from a source of images to an exported training set as a new user would, with one category of their own.

    python -m tests.bench.walk SOURCE... --category NAME --definition TEXT --positives CAPTIONS.txt --out DIR

Runs the installed command `winnow`, and answers on the label page in a browser, by its keys. CAPTIONS.txt has in each
line a caption; images with one of these captions belong to the category. Prints a Markdown table: each command, its
answers, its seconds, and whether it was refused. DIR gets the lake, the settings file, the exported set and a
screenshot of each page.
"""

import argparse
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from tests.builders.chromium import CHROMIUM

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


@dataclass
class Walk:
    """A walk: the folder of its results, the browser, and a row for each command that was run."""

    out: Path
    tab: Page
    positives: frozenset[str]
    rows: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def run(self, *words: str) -> str:
        """Runs a command to its end; returns what it printed."""
        started = time.monotonic()
        done = subprocess.run([winnow(), *words], capture_output=True, text=True, check=False)
        self._note(words, "", time.monotonic() - started, done.returncode, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def serve(self, *words: str, use: Callable[[], str]) -> None:
        """Runs a command that serves a page; `use` acts on the open page and returns a note. Then stops the command."""
        started = time.monotonic()
        with subprocess.Popen(
            [winnow(), *words, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as server:
            assert server.stdout
            printed, address = [], None
            for line in server.stdout:
                printed.append(line)
                address = re.search(r"http://\S+token=\S+", line)
                if address:
                    break
            note, opened = "refused", time.monotonic() - started
            if address:
                self.tab.goto(f"{address[0]}&name=Ann" if "label" in words else address[0])
                note = f"{use()}; page open after {opened:.0f} s"
                server.send_signal(signal.SIGINT)
            printed.extend(server.stdout)
            code = server.wait()
        self._note(words, note, time.monotonic() - started, code, "".join(printed))

    def answer(self) -> str:
        """Answers every image of the label page by its caption; returns how many."""
        self.tab.wait_for_selector("#image canvas")
        self.picture("label")
        count = 0
        while "All done" not in self.tab.inner_text("#stage"):
            self.tab.wait_for_selector("#image canvas, #rest:has-text('All done')")
            before = self.tab.inner_text("#caption")
            if not before:
                continue
            self.tab.keyboard.press("y" if before in self.positives else "n")
            count += 1
            self.tab.wait_for_timeout(60)
        self.tab.wait_for_timeout(1500)
        return f"{count} answers"

    def picture(self, name: str) -> None:
        """Takes a screenshot of the open page on a desk and on a phone."""
        for suffix, size in (("", WIDE), ("-narrow", NARROW)):
            self.tab.set_viewport_size(size)  # type: ignore[arg-type]
            self.tab.wait_for_timeout(400)
            self.tab.screenshot(path=self.out / f"{name}{suffix}.png")
        self.tab.set_viewport_size(WIDE)  # type: ignore[arg-type]

    def _note(self, words: tuple[str, ...], note: str, seconds: float, code: int, printed: str) -> None:
        command = " ".join(["winnow", *words]).replace(str(self.out), "DIR")
        self.rows.append(f"| `{command}` | {note} | {seconds:.0f} | {'' if code == 0 else f'exit code {code}'} |")
        self.log.append(f"$ {command}\n{printed}")
        print(self.rows[-1], flush=True)


def winnow() -> str:
    """Returns the path of the command in the environment of this Python."""
    return str(Path(sys.executable).with_name("winnow"))


def browse(walk: Walk) -> str:
    """Looks at what was filtered and brings the first image back."""
    tab = walk.tab
    tab.wait_for_selector(".card img")
    tab.click("#views >> text=Filtered")
    tab.wait_for_selector(".card img")
    tab.uncheck("#veil")
    tab.wait_for_load_state("networkidle")
    walk.picture("browse")
    tab.locator(".card").first.focus()
    tab.keyboard.press("x")
    tab.fill("#why", "brought back")
    tab.press("#why", "Escape")
    tab.keyboard.press("k")
    tab.wait_for_selector(".badge >> text=keep (pending)", timeout=60_000)
    return "one image kept"


def report(walk: Walk, lake: str) -> None:
    """Takes screenshots of the report."""
    walk.tab.goto(f"file://{lake}/report.html")
    walk.picture("report")


def walked(walk: Walk, sources: list[str], category: str, definition: str) -> None:
    """Runs the commands in the order of docs/tutorial.md."""
    conf, lake = walk.out / "mine.toml", str(walk.out / "lake")
    conf.write_text(f'[categories.{category}]\ndefinition = "{definition}"\nrecall = 0.8\n')
    common = ("--lake", lake, "--conf", str(conf))
    walk.run("run", *sources, *common)
    for strategy, count in (("random", "250"), ("seed", "60")):
        walk.run("label", "next", category, "--strategy", strategy, "--count", count, *common)
        walk.serve("label", "serve", category, *common, use=walk.answer)
    walk.run("train", category, *common)
    walk.run("label", "next", category, "--strategy", "recall", "--count", "60", *common)
    walk.serve("label", "serve", category, *common, use=walk.answer)
    walk.run("run", *sources, *common)
    walk.serve("browse", *common, use=lambda: browse(walk))
    walk.run("run", *sources, *common)
    walk.run("export", str(walk.out / "training-set"), *common)
    report(walk, lake)


def main() -> None:
    """Walks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+")
    for name in ("category", "definition"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--positives", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    given: Any = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("skipped: no program `chromium` on PATH, and the pages are used in a browser")
    given.out.mkdir(parents=True)
    started = time.monotonic()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        captions = frozenset(given.positives.read_text().splitlines())
        walk = Walk(given.out.resolve(), browser.new_page(viewport=WIDE), captions)  # type: ignore[arg-type]
        try:
            walked(walk, given.sources, given.category, given.definition)
        finally:
            (given.out / "terminal.txt").write_text("\n".join(walk.log))
            browser.close()
    print(f"\n{len(walk.rows)} commands, {(time.monotonic() - started) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
