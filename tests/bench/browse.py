"""Measures the page of `browse` on an index of many images, in headless Chromium.

    python -m tests.bench.browse [--images 100000]

The index is filled with made-up facts and 500 different small images. The times are those that a person sees: from the
address to the first image (its arrival in the browser), from a search to its first image, and from a move of the
threshold or the distance to its numbers, and from a condition or a wish for similar images to the first of them.
"""

import argparse
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jobs.commands.browse.app import BrowsePage, CategoryScores, Commands
from jobs.commands.browse.distances import Distances
from jobs.commands.browse.facts import SIDE
from jobs.commands.browse.index import IMAGE_COLUMNS, Index
from jobs.commands.browse.likeness import CHUNK, DIMENSIONS
from jobs.commands.browse.view import View
from jobs.pages.web import server
from jobs.pages.web.access import Access

_PICTURES = 500
_FLAGS = ["--no-sandbox", "--headless", "--disable-gpu", "--no-first-run"]
# When the first small image had arrived, in milliseconds since the address was opened: the time of the browser itself.
_FIRST = """Math.min(...performance.getEntriesByType('resource').filter(one => one.name.includes('/thumb/'))
  .map(one => one.responseEnd).filter(end => end > 0))"""
_BEYOND = dict.fromkeys(range(61, 85), (9, 0))
_WORDS = ("boat", "dog", "tree", "house", "sea", "street", "flower", "hat", "red", "old", "small", "wooden")


def facts(count: int) -> Iterator[tuple[Any, ...]]:
    """Yields the rows of images: 70 % kept, 20 % filtered, 10 % duplicates."""
    rng = np.random.default_rng(0)
    for number in range(count):
        kind = rng.random()
        state = "kept" if kind < 0.7 else "filtered" if kind < 0.9 else "duplicate"
        row = {
            "image_id": f"{number:032x}", "key": f"k{number}", "source": "a.tar", "width": int(rng.integers(200, 2000)),
            "height": int(rng.integers(200, 2000)), "format": "JPEG", "state": state, "weight": float(rng.random()),
            "caption": "a photo of " + " ".join(rng.choice(_WORDS, 3)), "sharpness": float(rng.random()),
            "reasons": "boats: by score" if state == "filtered" else None, "hash": rng.bytes(32),
            "kept_id": f"{number // 10 * 10:032x}" if state == "duplicate" else None, "distance": 12,
            "meta": json.dumps({"url": f"https://a.org/{number}", "punsafe": round(rng.random(), 4), "year": 2020}),
        }  # fmt: skip
        yield tuple(row.get(name) for name in IMAGE_COLUMNS)


def pictures() -> list[bytes]:
    """Returns different small images."""
    made = []
    for number in range(_PICTURES):
        noise = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(noise).resize((SIDE, SIDE * 3 // 4), Image.Resampling.BICUBIC).save(buffer, "WEBP")
        made.append(buffer.getvalue())
    return made


def filled(folder: Path, count: int) -> Index:
    """Returns an index of `count` images with scores of one category."""
    index, shown, rng = Index(folder / "index.sqlite"), pictures(), np.random.default_rng(1)
    index.begin()
    index.add_images(facts(count))
    index.add_scores(("boats", f"{n:032x}", float(score)) for n, score in enumerate(rng.beta(0.4, 3, count)))
    unit = rng.standard_normal((CHUNK, DIMENSIONS)).astype(np.float32)
    unit = (unit / np.linalg.norm(unit, axis=1, keepdims=True)).astype(np.float16)
    index.add_vectors((f"{n:032x}", unit[n * 31 % CHUNK].tobytes()) for n in range(count))
    index.note("distances", Distances(60, 60, 1000, count, dict.fromkeys(range(61), 900), {12: 9}, _BEYOND).as_json())
    pairs = rng.integers(0, count, (84 * 60, 2)).tolist()
    index.add_pairs((f"{a:032x}", f"{b:032x}", n // 60, "found") for n, (a, b) in enumerate(pairs))
    index.add_thumbnails((f"{n:032x}", shown[n % _PICTURES]) for n in range(count))
    index.finish("bench")
    return index


def measure(address: str) -> dict[str, list[float]]:
    """Returns times in milliseconds."""
    from playwright.sync_api import sync_playwright

    found: dict[str, list[float]] = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=_FLAGS)
        for _ in range(5):
            tab = browser.new_page(viewport={"width": 1280, "height": 860})
            tab.goto(address, wait_until="commit")
            tab.wait_for_selector(".card img")
            tab.evaluate("document.querySelector('.card img').decode()")
            found.setdefault("address to first image", []).append(tab.evaluate(_FIRST) / 1000)
            for word in _WORDS[:4]:
                tab.fill("#words", f"{word} red")
                begin = time.perf_counter()
                tab.press("#words", "Enter")
                tab.wait_for_selector(f'.card[title*="{word}"]')
                tab.evaluate("document.querySelector('.card img').decode()")
                found.setdefault("search to first image", []).append(time.perf_counter() - begin)
            tab.locator("#views button", has_text="boats").last.click()
            tab.wait_for_selector("#effect >> text=would be filtered")
            for _ in range(8):
                found.setdefault("move of the threshold to its numbers", []).append(moved(tab, "#at", "#effect"))
            for above in (0.2, 0.4, 0.6, 0.8):
                condition = f"meta.punsafe > {above} and width > 500"
                seconds = searched(tab, "#where", condition)
                found.setdefault("condition on meta to first image", []).append(seconds)
            tab.fill("#where", "")
            searched(tab, "#words", "boat")
            for place in range(3):
                tab.locator(".card").nth(place).click()
                tab.wait_for_selector("#detail >> text=winnow explain")
                begin = time.perf_counter()
                tab.click("text=More like this")
                tab.wait_for_selector(".card >> text=likeness 1.00")
                tab.evaluate("document.querySelector('.card img').decode()")
                found.setdefault("more like this to first image", []).append(time.perf_counter() - begin)
            tab.locator("#views button", has_text="Pairs by distance").click()
            tab.wait_for_selector("#distance-effect >> text=found pairs")
            for _ in range(8):
                seconds = moved(tab, "#bits", "#distance-effect")
                found.setdefault("move of the distance to its numbers", []).append(seconds)
            tab.close()
        browser.close()
    return {name: [1000 * value for value in values] for name, values in found.items()}


def moved(tab: Any, slider: str, effect: str) -> float:
    """Moves a slider by one step, and returns the seconds until its numbers change."""
    before = tab.inner_text(effect)
    begin = time.perf_counter()
    tab.locator(slider).press("ArrowRight")
    while tab.inner_text(effect) == before and time.perf_counter() - begin < 5:
        time.sleep(0.002)
    return time.perf_counter() - begin


def searched(tab: Any, field: str, text: str) -> float:
    """Searches, and returns the seconds until the first image is there."""
    tab.evaluate("document.querySelector('#total').textContent = ''")
    tab.fill(field, text)
    begin = time.perf_counter()
    tab.press(field, "Enter")
    tab.wait_for_selector("#total >> text=image")
    tab.evaluate("document.querySelector('.card img').decode()")
    return time.perf_counter() - begin


def main() -> None:
    """Prints the times as a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    count = parser.parse_args().images
    with tempfile.TemporaryDirectory() as folder, server.listening(server.LOOPBACK, 0) as listener:
        begin = time.perf_counter()
        index = filled(Path(folder), count)
        made, size = time.perf_counter() - begin, index.size / 1e6
        begin = time.perf_counter()
        index.images(View(like=f"{1:032x}", by="copies"), 0, 60)
        near = 1000 * (time.perf_counter() - begin)
        commands = Commands(
            decide=lambda ids, decision, why: None,
            queue=lambda ids, category, why: list(ids),
            looks_of=lambda data: (bytes(32), None),
            explain=str,
            label=str,
            next_commands="winnow filter",
        )
        access = Access(Access.new_token(), server.hosts(server.LOOPBACK), "browse")
        page = BrowsePage("bench", index, [CategoryScores("boats", 0.5, 0.9, count)], commands)
        with server.serving(page.app(access), listener):
            times = measure(server.address(server.LOOPBACK, listener, access.token))
        index.close()
    print(f"{count:,} images; the index has {size:,.0f} MB; its rows were written in {made:.0f} s")
    print(f"first search by image, with the load of all hashes: {near:.0f} ms")
    print("\n| from … to | median, ms | slowest, ms |\n|---|---:|---:|")
    for name, values in times.items():
        print(f"| {name} | {np.median(values):.0f} | {max(values):.0f} |")


if __name__ == "__main__":
    main()
