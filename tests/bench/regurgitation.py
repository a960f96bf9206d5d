"""Searches a lake for planted copies among generated images: counts copies found and false positives.

python -m tests.bench.regurgitation [--images 10000] [--generated 2000] [--copies 200] [--seed 0]

`winnow generate` draws the lake, and the other pictures from another seed. Copies are pictures of the lake with one
change each. A quarter of the lake are copies of each other, so a copy counts as found with any picture of the group of
its original.
"""

import argparse
import math
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from PIL import Image, ImageEnhance

from jobs.commands import ingest, score
from jobs.commands.generate import command as generate
from jobs.commands.regurgitation import command as regurgitation
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.session import get_session
from models.inference.encoder import HASH_BITS

CORES = 2
HEADER = """\
| lake | generated | change | planted | found | one of its group nearest |
|---:|---:|---|---:|---:|---:|"""


def _crop(share: float) -> Callable[[Image.Image], Image.Image]:
    def change(image: Image.Image) -> Image.Image:
        x, y = (round(side * share / 2) for side in image.size)
        return image.crop((x, y, image.width - x, image.height - y))

    return change


def _recolour(image: Image.Image) -> Image.Image:
    warm = (np.asarray(image) * [1.08, 1.0, 0.85]).clip(0, 255).astype(np.uint8)
    return ImageEnhance.Contrast(Image.fromarray(warm)).enhance(0.85)


CHANGES: dict[str, tuple[Callable[[Image.Image], Image.Image], int]] = {
    "JPEG at quality 40": (lambda image: image, 40),
    "half the size": (lambda image: image.resize((image.width // 2, image.height // 2)), 80),
    "cropped by 5 %": (_crop(0.05), 80),
    "cropped by 10 %": (_crop(0.10), 80),
    "recoloured": (_recolour, 80),
}


def pictures(folder: Path) -> list[Path]:
    """Returns the picture files below a folder, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))


def plant(originals: list[Path], folder: Path, count: int) -> None:
    """Writes changed copies of originals across the list; each name gives the change and the original."""
    folder.mkdir()
    for number in range(count):
        path = originals[number * len(originals) // count]
        kind = list(CHANGES)[number % len(CHANGES)]
        change, quality = CHANGES[kind]
        name = f"{number % len(CHANGES)}~{path.stem}.jpg"
        change(Image.open(path).convert("RGB")).save(folder / name, quality=quality)


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def main() -> None:
    """Prints the table of docs/benchmarks.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--generated", type=int, default=2_000)
    parser.add_argument("--copies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="seed of the lake; the other images use the next seed")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--save", help="folder to copy the contact sheet and the table into")
    options = parser.parse_args()
    settings = config.load(overrides=[f'spark.master="local[{CORES}]"', *options.overrides])
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        generate.run(str(root / "pictures"), options.images, options.seed, Progress())
        generate.run(str(root / "made" / "others"), options.generated - options.copies, options.seed + 1, Progress())
        plant(pictures(root / "pictures"), root / "made" / "copies", options.copies)
        job = Job(Lake(get_session(settings.spark), str(root / "lake")), settings, Progress())
        ingest.run(job, [str(root / "pictures")])
        score.run(job)
        started = time.perf_counter()
        summary = regurgitation.run(job, [str(root / "made" / "copies"), str(root / "made" / "others")], "folder")
        seconds = time.perf_counter() - started
        if options.save:
            shutil.copy(root / "lake" / "regurgitation.html", options.save)
            job.lake.read(tables.REGURGITATION).toPandas().to_parquet(Path(options.save, "regurgitation.parquet"))
        rows = job.lake.read(tables.REGURGITATION).toPandas()
        keys = {row.image_id: row.key for row in job.lake.read(tables.IMAGES).select("image_id", "key").collect()}
        job.lake.spark.stop()
        truth = pq.read_table(root / "pictures" / "truth.parquet", columns=["key", "group"]).to_pylist()
    groups = {_name(row["key"]): row["group"] for row in truth}
    rows = rows.assign(image_key=[keys[image_id] for image_id in rows.image_id])
    planted = rows[rows.generated_source.str.endswith("copies")]
    planted = planted.assign(
        kind=[list(CHANGES)[int(key.split("~")[0])] for key in planted.generated_key],
        own=[
            groups[_name(image)] == groups[key.split("~")[1]]
            for image, key in zip(planted.image_key, planted.generated_key, strict=True)
        ],
    )
    print(HEADER)
    for kind in CHANGES:
        some = planted[planted.kind == kind]
        names = some.generated_key.nunique()
        found, first = (
            some[some["copy"] & some.own].generated_key.nunique(),
            some[some.own & (some["rank"] == 1)].generated_key.nunique(),
        )
        print(f"| {options.images:,} | {options.generated:,} | {kind} | {names} | {found} | {first} |")
    report_by_condition(rows, planted, int(str(summary["a copy is within"]).split()[0]))
    print(f"reading, scoring and searching the generated images took {seconds:.0f} s; {summary}")


def report_by_condition(rows: pd.DataFrame, planted: pd.DataFrame, max_distance: int) -> None:
    """Prints how many copies other conditions would find, and their false positives."""
    others = rows[~rows.generated_source.str.endswith("copies")]
    own = planted[planted.own]
    total = (planted.generated_key.nunique(), others.generated_key.nunique())
    cosine = math.cos(math.pi * max_distance / HASH_BITS)
    print(f"\n| condition | of {total[0]} copies | of {total[1]} others |\n|---|---:|---:|")
    conditions = {
        f"within {bits} bits": lambda t, bits=bits: t.distance <= bits for bits in (24, 30, 36, 42, 48, 54, 60)
    }
    near = lambda t: t.distance <= max_distance  # noqa: E731
    conditions[f"within {max_distance}, cosine {cosine:.2f}"] = lambda t: near(t) & (t.similarity >= cosine)
    for least in (0.7, 0.8, 0.9, 0.95, 0.98):
        conditions[f"within {max_distance}, likeness {least}"] = lambda t, least=least: near(t) & (t.likeness >= least)
    conditions["as called by the command"] = lambda t: t["copy"]
    for name, passes in conditions.items():
        counts = [table[passes(table)].generated_key.nunique() for table in (own, others)]
        print(f"| {name} | {counts[0]} | {counts[1]} |")
    closest = others[others.likeness.notna()].sort_values("likeness", ascending=False).head(5)
    print(closest[["generated_key", "image_key", "distance", "similarity", "likeness"]].to_string(index=False))
    print(own.groupby("kind")[["distance", "similarity", "likeness"]].describe().T.to_string())


if __name__ == "__main__":
    main()
