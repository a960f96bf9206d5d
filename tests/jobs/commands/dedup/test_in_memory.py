"""What the driver finds in its memory is, row by row, what Spark finds."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jobs.commands.dedup import command as dedup
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.runtime import config
from tests.builders.hash_lakes import Picture, grown, hashes, mixture, near, quality_rows, run, with_mirrors
from tests.builders.scenes import captioned, edges_of, scene, thumbnail

WRITTEN = (
    tables.PAIRS, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.DEDUP_DISTANCES, tables.NEAR_MISSES,
    tables.TOLD_APART, tables.DUPLICATES,
)  # fmt: skip
BY_SPARK = "dedup.in_memory=0"
DEFAULT_RANK = f"dedup.rank={json.dumps(config.load().dedup.rank)}"


def rows_of(lake: Lake) -> dict[str, list[tuple[Any, ...]]]:
    return {table.name: sorted(map(tuple, lake.read(table).collect()), key=repr) for table in WRITTEN}


def both(lake: Lake, pictures: list[Picture], *overrides: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns all rows that Spark finds, and all that are found in memory."""
    by_spark, in_memory = (Lake(lake.spark, f"{lake.uri}/{name}") for name in ("spark", "memory"))
    run(by_spark, pictures, *overrides, BY_SPARK)
    run(in_memory, pictures, *overrides)
    return rows_of(by_spark), rows_of(in_memory)


def decided() -> list[Picture]:
    """Returns a mixture in which people keep some images, some are too plain to hash, and some are repeats."""
    pictures = mixture()
    kept = [replace(p, decided=True, passed=True) if p.number % 9 == 0 else p for p in pictures]
    plain = [Picture(900 + i, bytes(32), quality=0, content=f"{i % 3}") for i in range(7)]
    return [*kept, *plain]


def crowd() -> list[Picture]:
    """Returns copies of two popular images, many repeats of one of them, and others."""
    first, second, *singles = hashes(40, seed=3)
    clouds = [near(base, bits, seed=i).tobytes() for base, bits in ((first, 6), (second, 9)) for i in range(120)]
    rows = [*clouds, *[clouds[0]] * 60, *(row.tobytes() for row in singles)]
    order = np.random.default_rng(9).permutation(len(rows))
    return [Picture(i, rows[place], 1 + i % 40, passed=i % 9 > 0) for i, place in enumerate(order)]


def shown() -> list[Picture]:
    """Returns images with thumbnails, half of them with edge maps: copies, some with text over them, and strangers."""
    pictures = []
    for group, base in enumerate(hashes(6, seed=8)):
        one = scene(group)
        views = [one, captioned(one), captioned(one, "another text"), scene(100 + group)]
        for place, (view, bits) in enumerate(zip(views, (0, 9, 75, 80), strict=True)):
            hash_ = near(base, bits, seed=place).tobytes()
            number = 10 * group + (7 * place) % 10  # so that the ids do not follow the order
            edges = edges_of(view) if group % 2 else None
            shown = thumbnail(view).tobytes()
            pictures.append(Picture(number, hash_, 400, thumbnail=shown, edges=edges, content=f"{number:064x}"))
    return pictures


def test_few_hashes_of_all_kinds(lake: Lake) -> None:
    by_spark, in_memory = both(lake, decided())
    assert in_memory == by_spark
    assert all(by_spark[table.name] for table in WRITTEN if table != tables.TOLD_APART)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pictures", "overrides"),
    [
        (decided, ("dedup.keep=component",)),
        (decided, ("dedup.method=both", "dedup.clusterings=2", "dedup.sample=40")),
        (decided, ("dedup.sample=0",)),
        (crowd, ("dedup.max_bucket=60",)),
        (crowd, ("dedup.max_bucket=60", "dedup.method=clusters", "dedup.clusterings=2")),
        (shown, ("dedup.strict=true", "dedup.max_distance=82")),
        (shown, ("dedup.hash=embedding", DEFAULT_RANK)),
        (shown, ("dedup.max_distance=82", DEFAULT_RANK)),
        (shown, ("dedup.max_distance=82", DEFAULT_RANK, "dedup.keep=component")),
        (lambda: with_mirrors(decided(), 4), ("dedup.mirrored=true",)),
        (lambda: with_mirrors(decided(), 5), ("dedup.mirrored=true", "dedup.keep=component")),
        (lambda: with_mirrors(crowd(), 6), ("dedup.mirrored=true", "dedup.max_bucket=60")),
        (lambda: with_mirrors(shown(), 7), ("dedup.mirrored=true", "dedup.hash=embedding", DEFAULT_RANK)),
        (lambda: with_mirrors(decided(), 8), ("dedup.mirrored=true", "dedup.method=both", "dedup.clusterings=2")),
        (lambda: [Picture(1, bytes(32))], ()),
        (lambda: [Picture(i, bytes(32), quality=0, content="same") for i in range(3)], ()),
    ],
)
def test_the_rows_are_the_same(lake: Lake, pictures: Any, overrides: tuple[str, ...]) -> None:
    by_spark, in_memory = both(lake, pictures(), *overrides)
    assert in_memory == by_spark and by_spark[tables.DEDUP_QUALITY.name]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "overrides"),
    [
        (lambda: [*decided(), *crowd()], ["dedup.max_bucket=60"]),
        (shown, ["dedup.hash=embedding"]),
        (lambda: with_mirrors(shown(), 7), ["dedup.hash=embedding", "dedup.mirrored=true"]),
    ],
)
def test_a_lake_that_grows_may_change_from_one_to_the_other(lake: Lake, made: Any, overrides: list[str]) -> None:
    pictures = [replace(p, number=i) for i, p in enumerate(made())]
    found = []
    # Both write the same rows (above), so a second run by Spark reads here what a first one by Spark would write.
    for first, second in ((BY_SPARK, ""), ("", BY_SPARK), ("", "")):
        own = Lake(lake.spark, f"{lake.uri}/{len(found)}")
        run(own, pictures[::2], *overrides, *filter(None, [first]))
        dedup.run(grown(own, pictures[1::2], *overrides, *filter(None, [second])))
        found.append(rows_of(own))
    assert all(rows == found[0] for rows in found) and found[0][tables.DUPLICATES.name]


@pytest.mark.slow
def test_many_pairs_are_looked_at_by_spark(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.commands.dedup.in_memory.looks._FEW_PAIRS", 3)
    by_spark, in_memory = both(lake, shown(), "dedup.hash=embedding", DEFAULT_RANK)
    assert in_memory == by_spark and by_spark[tables.DUPLICATES.name]
    whole = quality_rows(Lake(lake.spark, f"{lake.uri}/memory"))[-1]
    assert whole.looked > whole.told_apart >= len(in_memory[tables.TOLD_APART.name]) == whole.told_apart_kept > 0
