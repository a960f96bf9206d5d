import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.commands.dedup import command as dedup
from jobs.lake import tables
from jobs.lake.lake import Lake
from tests.builders.hash_lakes import (
    LIMIT,
    Picture,
    hashes,
    job_of,
    mixture,
    near,
    pair_rows,
    plain_greedy,
    quality_rows,
    run,
)
from tests.builders.spark_settings import overridden
from udfs.hashes.hamming import distances, words


@dataclass(frozen=True)
class Mixed:
    """A deduplicated lake of the mixture, and its removed images."""

    lake: Lake
    removed: dict[str, tuple[str, int, str]]


@pytest.fixture(scope="module")
def mixed(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Mixed:
    lake = Lake(spark, str(tmp_path_factory.mktemp("mixed") / "lake"))
    return Mixed(lake, run(lake, mixture()))


def test_the_result_equals_the_plain_greedy_algorithm(mixed: Mixed) -> None:
    pictures, lake, removed = mixture(), mixed.lake, mixed.removed
    by_id = {p.image_id: p for p in pictures}
    expected = {i for i in plain_greedy(pictures) if by_id[i].passed}
    assert set(removed) == expected
    for removed_id, (keeper, distance, _) in removed.items():
        pair = words(np.stack([np.frombuffer(by_id[i].hash, np.uint8) for i in (removed_id, keeper)]))
        assert keeper not in removed and by_id[keeper].passed
        assert distance == distances(pair[0], pair[1]) <= LIMIT
    pairs = lake.read(tables.PAIRS).collect()
    assert all(row.a_id < row.b_id for row in pairs)
    assert len({(row.a_id, row.b_id) for row in pairs}) == len(pairs)
    kept = {i for i, p in by_id.items() if p.passed} - set(removed)
    assert not [row for row in pairs if row.a_id in kept and row.b_id in kept]
    quality = lake.read(tables.DEDUP_QUALITY).collect()[0]
    assert quality.exhaustive_pairs == quality.found_pairs > 50 and quality.recall == 1.0
    assert quality.both_kept == 0


@pytest.mark.slow
def test_the_ends_of_a_chain_are_both_kept(lake: Lake) -> None:
    first = hashes(1)[0]
    second = near(first, 25, seed=1)
    third = second.copy()
    untouched = np.flatnonzero(np.unpackbits(first) == np.unpackbits(second))[:25]
    flat = np.unpackbits(third)
    flat[untouched] ^= 1
    third = np.packbits(flat)
    chain = [Picture(1, first.tobytes(), 300), Picture(2, second.tobytes(), 200), Picture(3, third.tobytes(), 100)]
    assert set(run(lake, chain)) == {chain[1].image_id}


def test_the_best_image_is_kept(lake: Lake) -> None:
    bases = hashes(4)
    cases: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"width": 200}, {"width": 100, "caption": "a much longer caption"}),
        ({"caption": "longer caption"}, {"caption": "short"}),
        ({}, {}),
        ({"width": 10, "passed": True}, {"width": 999, "passed": False}),
    ]
    pictures = []
    for place, (better, worse) in enumerate(cases):
        # The ids would decide the other way, so they decide only if nothing else does.
        first, second = (2 * place, 2 * place + 1) if not better else (2 * place + 1, 2 * place)
        pictures.append(Picture(first, bases[place].tobytes(), **better))
        pictures.append(Picture(second, near(bases[place], 5, 1).tobytes(), **worse))
    removed = run(lake, pictures)
    assert removed == {pictures[i + 1].image_id: (pictures[i].image_id, 5, "lsh") for i in (0, 2, 4)}
    assert [row.removed_id for row in lake.read(tables.FILTERED_DUPLICATES).collect()] == [pictures[7].image_id]


@pytest.mark.slow
def test_a_plain_image_matches_only_the_same_bytes(lake: Lake) -> None:
    blank = bytes(32)
    pictures = [
        Picture(1, blank, quality=0, content="white"),
        Picture(2, blank, quality=0, content="black"),
        Picture(3, blank, quality=0, content="white", caption="x"),
        Picture(4, blank, quality=100),
    ]
    assert run(lake, pictures) == {pictures[2].image_id: (pictures[0].image_id, 0, "exact")}


@pytest.mark.slow
def test_many_repeats_of_one_image_make_few_pairs(lake: Lake) -> None:
    popular = hashes(1)[0]
    repeats = [Picture(i, popular.tobytes(), content="same") for i in range(3000)]
    copies = [Picture(3000 + i, near(popular, 6, seed=i).tobytes()) for i in range(1500)]
    removed = run(lake, [*repeats, *copies], "dedup.max_bucket=100")
    assert len(removed) == 4499 and {keeper for keeper, _, _ in removed.values()} == {repeats[0].image_id}
    # All pairs would be 10 million. The number of pairs for each row stays below half of max_bucket.
    assert lake.read(tables.PAIRS).count() < len(repeats + copies) * 100 // 2


@pytest.mark.slow
def test_the_result_does_not_depend_on_spark_settings(mixed: Mixed, lake: Lake) -> None:
    names = (
        "spark.sql.shuffle.partitions", "spark.sql.adaptive.enabled", "spark.sql.codegen.wholeStage",
        "spark.sql.codegen.factoryMode",
    )  # fmt: skip
    compiled, interpreted = ("true", "FALLBACK"), ("false", "NO_CODEGEN")
    pairs = pair_rows(mixed.lake)
    rounds = ("1", "true", *compiled), ("7", "false", *interpreted), ("16", "true", *interpreted)
    for number, values in enumerate(rounds):
        # A new lake, since a second run in the same lake would search nothing.
        fresh = Lake(lake.spark, f"{lake.uri}/{number}")
        with overridden(lake.spark, dict(zip(names, values, strict=True))):
            assert run(fresh, mixture(), "dedup.in_memory=0") == mixed.removed
            assert pair_rows(fresh) == pairs and quality_rows(fresh) == quality_rows(mixed.lake)
    assert len(mixed.removed) > 50


@pytest.mark.slow
def test_a_second_run_is_skipped_unless_the_distance_changes(mixed: Mixed, tmp_path: Path) -> None:
    lake = Lake(mixed.lake.spark, shutil.copytree(mixed.lake.uri, tmp_path / "copy").as_posix())
    version = lake.snapshot().version(tables.DUPLICATES)
    dedup.run(job_of(lake))
    assert lake.snapshot().version(tables.DUPLICATES) == version
    dedup.run(job_of(lake, "dedup.max_distance=0"))
    assert {row.distance for row in lake.read(tables.DUPLICATES).collect()} == {0}


@pytest.mark.slow
def test_whole_components_keep_one_image_of_a_chain_and_warn(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    first = hashes(1)[0]
    flat = np.unpackbits(first)
    chain = [Picture(1, first.tobytes(), 300)]
    for step in range(1, 4):
        flat[20 * step - 20 : 20 * step] ^= 1
        chain.append(Picture(1 + step, np.packbits(flat).tobytes(), 300 - step))
    removed = run(lake, chain, "dedup.keep=component")
    assert removed == {p.image_id: (chain[0].image_id, 20 * i, "component") for i, p in enumerate(chain) if i}
    assert "2 removed images of 1 components are farther than 31 bits" in capsys.readouterr().err.replace("\n", " ")
