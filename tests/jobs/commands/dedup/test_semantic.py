"""Semantic duplicates: different images that show the same."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup.semantic.parts import parts
from jobs.facts.duplicates import duplicates
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch
from tests.builders.hash_lakes import Picture, fill, hashes, job_of, near
from tests.builders.lake_rows import write_rows

SEMANTIC = "dedup.semantic=0.9"


def direction(degrees: float) -> list[float]:
    return [float(np.cos(np.radians(degrees))), float(np.sin(np.radians(degrees)))]


def run(
    lake: Lake, pictures: Sequence[Picture], shown: Sequence[float | None], console: Console | None = None
) -> dict[str, Any]:
    """Removes duplicates of images that show what an angle says; None: the image has no embedding."""
    job = Job(lake, job_of(lake, SEMANTIC).settings, Progress(console))
    fill(lake, list(pictures), current_encoder(job).digest)
    encoder = semantic_encoder(job).digest
    rows = [(p.image_id, encoder, direction(a)) for p, a in zip(pictures, shown, strict=True) if a is not None]
    write_rows(lake, tables.FEATURES, rows, mode="overwrite")
    return dedup.run(job)


def removed(lake: Lake, table: tables.Table = tables.DUPLICATES) -> dict[int, tuple[int, str]]:
    rows = lake.read(table).collect()
    assert len({row.removed_id for row in rows}) == len(rows)
    for row in rows:
        assert (row.similarity is not None) == (row.method == "semantic")
        assert row.similarity is None or row.similarity >= 0.9
    return {int(row.removed_id, 16): (int(row.kept_id, 16), row.method) for row in rows}


def different(count: int, **fields: Any) -> list[Picture]:
    """Returns images without near-duplicates, the best first."""
    return [Picture(i, one.tobytes(), 100 - i, **fields) for i, one in enumerate(hashes(count, seed=3))]


def test_the_best_of_similar_images_stays_and_never_by_chain(lake: Lake) -> None:
    # 20 degrees are similar (0.94), 40 are not (0.77).
    summary = run(lake, different(5), [0, 20, 40, 120, None])
    assert removed(lake) == {1: (0, "semantic")}
    [row] = lake.read(tables.DUPLICATES).collect()
    assert row.similarity == pytest.approx(np.cos(np.radians(20)), abs=1e-5) and row.distance > 31
    assert summary["semantic duplicates removed"] == 1 and summary["duplicates removed"] == 0
    assert summary["kept"] == 4 and summary["kept by dedup.semantic"] == "80.0 % of 5 images"
    facts = duplicates(lake, config.load())
    assert facts.removed == 0 and facts.semantic is not None
    assert (facts.semantic.removed, facts.semantic.kept, facts.semantic.least) == (1, "80.0 % of 5 images", 0.9)
    assert [row.removed_id for row in facts.semantic.farthest] == [row.removed_id]


def test_a_near_duplicate_that_lost_its_keeper_names_another_one_or_stays(lake: Lake) -> None:
    best, second, third, fourth, fifth = hashes(5, seed=3)
    pictures = [
        Picture(0, best.tobytes(), 900),
        # Removed as similar to 0. Its two near-duplicates show something else by the semantic encoder.
        Picture(1, second.tobytes(), 800),
        Picture(2, near(second, 10, 1).tobytes(), 700),
        Picture(3, near(second, 12, 2).tobytes(), 600),
        # Removed as similar to 0, and so is its near-duplicate.
        Picture(4, third.tobytes(), 500),
        Picture(5, near(third, 5, 3).tobytes(), 400),
        # Its better near-duplicate is removed as similar to 0; the worse one is kept.
        Picture(6, fourth.tobytes(), 300),
        Picture(7, near(fourth, 20, 4).tobytes(), 200),
        Picture(8, fifth.tobytes(), 100),
    ]
    run(lake, pictures, [0, 10, 60, 62, 12, 14, 16, 120, 240])
    assert removed(lake) == {
        1: (0, "semantic"), 3: (2, "lsh"), 4: (0, "semantic"), 5: (0, "semantic"), 6: (0, "semantic"),
    }  # fmt: skip


def test_decided_images_stay_and_filtered_ones_lose_to_all_others(lake: Lake) -> None:
    a, b, c, d = hashes(4, seed=3)
    pictures = [
        Picture(0, a.tobytes(), 100),
        Picture(1, b.tobytes(), 90, decided=True),
        Picture(2, c.tobytes(), 900, passed=False),
        Picture(3, d.tobytes(), 10),
    ]
    run(lake, pictures, [0, 1, 2, 90])
    # The image that a person keeps ranks first.
    assert removed(lake) == {0: (1, "semantic")}
    assert removed(lake, tables.FILTERED_DUPLICATES) == {2: (1, "semantic")}


@pytest.mark.slow
def test_images_without_an_embedding_stay_and_are_counted(lake: Lake) -> None:
    console = Console(file=io.StringIO(), width=500)
    run(lake, different(4), [0, 0, None, None], console=console)
    assert removed(lake) == {1: (0, "semantic")}
    assert "2 images have no embedding in the table features" in console.file.getvalue()


@pytest.mark.slow
def test_another_threshold_gives_what_one_run_gives_and_off_brings_all_back(lake: Lake) -> None:
    pictures, shown = different(6), [0, 10, 20, 30, 40, 50]
    run(lake, pictures, shown)
    assert removed(lake) == {1: (0, "semantic"), 2: (0, "semantic"), 4: (3, "semantic"), 5: (3, "semantic")}
    dedup.run(job_of(lake, "dedup.semantic=0.98"))
    assert {int(row.removed_id, 16) for row in lake.read(tables.DUPLICATES).collect()} == {1, 3, 5}
    dedup.run(job_of(lake))
    assert not removed(lake)
    dedup.run(job_of(lake, SEMANTIC, "dedup.in_memory=0"))
    assert set(removed(lake)) == {1, 2, 4, 5}


@pytest.mark.slow
def test_parts_are_bounded_and_the_same_for_any_partitioning(
    spark: SparkSession, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.commands.dedup.semantic.parts._USUAL", 100)
    rng = np.random.default_rng(0)
    spread, same = rng.normal(size=(400, 4)), np.tile([[3.0, 0, 0, 0]], (300, 1))
    vectors = [(f"{i:032x}", one.tolist()) for i, one in enumerate(np.concatenate([spread, same]))]
    rows = spark.createDataFrame(vectors, "image_id string, embedding array<float>")

    def found(frame: Any) -> dict[str, int]:
        with Scratch(spark, str(tmp_path)) as scratch:
            return {row.image_id: row.part for row in parts(frame, len(vectors), 0, scratch, most=60).collect()}

    assigned = found(rows)
    sizes = np.unique(list(assigned.values()), return_counts=True)[1]
    # Images that hardly differ are divided by a hash, so their parts are bounded in the mean.
    assert len(assigned) == 700 and sizes.max() < 2 * 60 and len(sizes) > 10
    assert found(rows.repartition(3).orderBy(F.desc("image_id"))) == assigned
