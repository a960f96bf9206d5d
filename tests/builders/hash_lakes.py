"""Lakes of random hashes for the tests of `dedup`, and a plain implementation to compare with."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import Row

from jobs.commands.dedup import command as dedup
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.table import Table
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.lake_rows import write_rows
from udfs.hashes.hamming import distances, words

LIMIT = 31


@dataclass(frozen=True)
class Picture:
    """A row of signals with the fields that `dedup` reads from images and verdicts."""

    number: int
    hash: bytes
    width: int = 100
    caption: str = "a picture"
    quality: int = 100
    content: str | None = None
    passed: bool = True
    thumbnail: bytes | None = None
    decided: bool = False
    measured: tuple[float | None, float | None, float | None, float | None, int | None] = (None,) * 5
    """unframed, sharpness, noise, colour, jpeg_quality."""
    mirror: bytes | None = None
    """Hash of the mirror image."""
    edges: bytes | None = None

    @property
    def image_id(self) -> str:
        return f"{self.number:032x}"


def hashes(count: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32), dtype=np.uint8)


def near(hash_: NDArray[np.uint8], bits: int, seed: int) -> NDArray[np.uint8]:
    flat = np.unpackbits(hash_)
    flat[np.random.default_rng(seed).choice(256, bits, replace=False)] ^= 1
    return np.packbits(flat)


def rows_of(pictures: list[Picture], encoder: str) -> dict[Table, list[tuple[Any, ...]]]:
    signals = [
        (
            p.image_id, p.hash, p.quality, encoder, [1.0], p.hash, p.content or str(p.number), p.thumbnail,
            *p.measured, None, p.edges,
        )
        for p in pictures
    ]  # fmt: skip
    images = [(p.image_id, str(p.number), "s", p.caption, b"", p.width, 100, "PNG", "{}", 0) for p in pictures]
    rows = {tables.SIGNALS: signals, tables.IMAGES: images, tables.VERDICTS: verdicts_of(pictures)}
    mirrored = [(p.image_id, encoder, p.mirror, [1.0], p.mirror) for p in pictures if p.mirror]
    return {**rows, tables.MIRRORED: mirrored} if mirrored else rows


def verdicts_of(pictures: list[Picture]) -> list[tuple[Any, ...]]:
    return [(p.image_id, p.passed, [], "kept by anna: a test" if p.decided else None) for p in pictures]


def fill(lake: Lake, pictures: list[Picture], encoder: str) -> None:
    for table, rows in rows_of(pictures, encoder).items():
        write_rows(lake, table, rows, mode="overwrite")


def run(lake: Lake, pictures: list[Picture], *overrides: str) -> dict[str, tuple[str, int, str]]:
    job = job_of(lake, *overrides)
    fill(lake, pictures, current_encoder(job).digest)
    dedup.run(job)
    return removed(lake)


def with_mirrors(pictures: list[Picture], seed: int) -> list[Picture]:
    """Returns images with hashes of their mirror images, a third of them turned: both hashes are exchanged.

    A mirror image of a near-copy is near too: flipping some bits of an image flips others of its mirror image.
    """
    mask = hashes(1, seed)[0]
    rng = np.random.default_rng(seed)
    found = []
    for picture in pictures:
        own = np.frombuffer(picture.hash, np.uint8)
        mirror = np.packbits(np.unpackbits(own)[::-1]) ^ mask
        mirror = near(mirror, int(rng.integers(0, 4)), picture.number).tobytes()
        turned = rng.random() < 1 / 3
        both = (mirror, picture.hash) if turned else (picture.hash, mirror)
        found.append(replace(picture, hash=both[0], mirror=both[1]))
    return found


def plain_greedy(pictures: list[Picture]) -> set[str]:
    """Returns the images that a greedy pass, best first, removes: those within the limit of an image kept before.

    It never removes one that a person keeps.
    """
    ranked = sorted(pictures, key=lambda p: (not p.passed, not p.decided, -p.width, -len(p.caption), p.image_id))
    bits = words(np.stack([np.frombuffer(p.hash, np.uint8) for p in ranked]))
    kept: list[int] = []
    removed = set()
    for place, picture in enumerate(ranked):
        if kept and not picture.decided and (distances(bits[place], bits[kept]) <= LIMIT).any():
            removed.add(picture.image_id)
        else:
            kept.append(place)
    return removed


def mixture() -> list[Picture]:
    """Returns groups of near-copies, exact repeats, chains and single images, with mixed ranks."""
    generator = np.random.default_rng(5)
    rows: list[bytes] = []
    for group, base in enumerate(hashes(60, seed=1)):
        rows.append(base.tobytes())
        current = base
        for step in range(int(generator.integers(0, 5))):
            # Half of the groups are chains: each step is near the one before, not near the first.
            current = near(current if group % 2 else base, int(generator.integers(0, 25)), seed=100 * group + step)
            rows.append(current.tobytes())
    rows += rows[:10]
    widths = generator.integers(1, 6, len(rows))
    return [
        Picture(i, row, width=int(w), caption="x" * int(i % 3), passed=i % 7 > 0)
        for i, (row, w) in enumerate(zip(rows, widths, strict=True))
    ]


def job_of(lake: Lake, *overrides: str) -> Job:
    """Returns a job whose order of images `plain_greedy` can follow."""
    plain = ["dedup.hash=pdq", "dedup.recall=0.999", 'dedup.rank=["resolution", "caption"]']
    return Job(lake, config.load(overrides=[*plain, *overrides]), Progress())


def in_two_runs(lake: Lake, pictures: list[Picture], *overrides: str) -> dict[str, tuple[str, int, str]]:
    """Deduplicates half of the images, then all."""
    run(lake, pictures[::2], *overrides)
    dedup.run(grown(lake, pictures[1::2], *overrides))
    return removed(lake)


def grown(lake: Lake, pictures: list[Picture], *overrides: str) -> Job:
    """Adds images to a lake and returns a job on it."""
    job = job_of(lake, *overrides)
    for table, rows in rows_of(pictures, current_encoder(job).digest).items():
        write_rows(lake, table, rows)
    return job


def removed(lake: Lake) -> dict[str, tuple[str, int, str]]:
    rows = lake.read(tables.DUPLICATES).collect()
    assert len({row.removed_id for row in rows}) == len(rows)
    return {row.removed_id: (row.kept_id, row.distance, row.method) for row in rows}


def pair_rows(lake: Lake) -> set[tuple[str, str, int]]:
    return {(row.a_id, row.b_id, row.distance) for row in lake.read(tables.PAIRS).collect()}


def quality_rows(lake: Lake) -> list[Row]:
    return lake.read(tables.DEDUP_QUALITY).orderBy("whole", "clusterings").collect()
