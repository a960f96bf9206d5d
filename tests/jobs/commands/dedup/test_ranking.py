"""`dedup.rank`: which image of a group is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import ImageDraw, ImageFont
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, near_duplicates
from jobs.commands.dedup.nodes import ranking
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.matching.rule import Rule
from jobs.runtime import config
from jobs.runtime.scratch import Scratch
from tests.builders.hash_lakes import Picture, hashes, near, rows_of
from tests.builders.scenes import captioned, edges_of, scene, thumbnail

DEFAULT = config.load().dedup.rank
RULE = Rule("pdq", "encoder", 31, 50)
USUAL = {
    "unframed": 1.0, "sharpness": 1.0, "noise": 10.0, "colour": 30.0, "jpeg_quality": 90, "resolution": 240_000,
    "caption": 20,
}  # fmt: skip
WORSE: dict[str, dict[str, Any]] = {
    "a smaller one": {"resolution": 160_000},
    "one enlarged": {"resolution": 500_000, "sharpness": 0.5},
    "one enlarged without loss": {"resolution": 960_000, "sharpness": 0.5},
    "one blurred": {"sharpness": 0.4},
    "one framed": {"resolution": 300_000, "unframed": 0.8},
    "a grey one": {"colour": 0.4, "noise": 4.0},
    "one with JPEG artefacts": {"jpeg_quality": 40, "noise": 4.0},
    "a noisy one": {"noise": 18.0},
    "one with a shorter caption": {"caption": 5},
}


def orders(spark: SparkSession, rows: list[dict[str, Any]], criteria: list[str]) -> list[bytes]:
    fields = {"passed": True, "decided": False, "incumbent": 0, **USUAL}
    whole = [{"image_id": f"{i:032x}", "place": i, **fields, **row} for i, row in enumerate(rows)]
    frame = spark.createDataFrame(whole).withColumn("order", ranking.order(criteria))
    return [bytes(row.order) for row in frame.orderBy("place").collect()]


@pytest.fixture(scope="module")
def by_default(spark: SparkSession) -> dict[str, bytes]:
    # The usual image comes last, so that its id does not decide.
    found = orders(spark, [*WORSE.values(), {}], list(DEFAULT))
    return dict(zip([*WORSE, "usual"], found, strict=True))


@pytest.mark.parametrize("other", WORSE)
def test_the_usual_image_is_better_than(by_default: dict[str, bytes], other: str) -> None:
    assert by_default["usual"] < by_default[other]


def test_passed_decided_and_kept_images_come_before_all_others(spark: SparkSession) -> None:
    best = {"resolution": 10**9}
    rows = [{"passed": False, **best}, best, {"incumbent": 1}, {"decided": True}]
    found = orders(spark, rows, list(DEFAULT))
    assert found == sorted(found, reverse=True)


def test_small_differences_leave_the_decision_to_the_next_criterion(spark: SparkSession) -> None:
    rows = [{"resolution": 241_000, "caption": 20}, {"resolution": 240_000, "caption": 21}]
    rounded, exact = orders(spark, rows, ["detail", "caption"]), orders(spark, rows, ["resolution", "caption"])
    assert rounded[0] > rounded[1] and exact[0] < exact[1]


def test_of_two_hardly_different_sizes_the_larger_is_better_whatever_its_noise(spark: SparkSession) -> None:
    larger, smaller = orders(spark, [{"resolution": 240_000, "noise": 14.0}, {"resolution": 216_000}], list(DEFAULT))
    assert larger < smaller


def test_extreme_values_fit_and_ties_go_to_the_smaller_id(spark: SparkSession) -> None:
    extreme = {"resolution": 2**40, "noise": 900.0, "caption": 2**40}
    found = orders(spark, [extreme, extreme, {"resolution": 0, "noise": -90.0, "caption": 0}], list(DEFAULT))
    assert len({len(one) for one in found}) == 1 and found == sorted(found)


def test_an_overlay_lowers_an_image_below_all_that_are_as_good_before_it(spark: SparkSession) -> None:
    place = ranking.place_of_overlay(DEFAULT)
    assert place == 4 and ranking.place_of_overlay(["resolution"]) is None
    rows = [{}, {"noise": 40.0, "caption": 0}, {"resolution": 100_000}]
    (clean, noisy, small) = orders(spark, rows, list(DEFAULT))
    frame = spark.createDataFrame([(clean,)], "order binary").select(
        ranking.with_overlay(F.col("order"), place, F.lit(2))
    )
    lowered = bytes(frame.first()[0])
    assert clean < noisy < lowered < small and len(lowered) == len(clean)


def test_properties_are_what_makes_edges_weaker() -> None:
    """The flags take one byte, `detail`, `border` and `overlay` one each, `resolution` four."""
    assert [(place.start, place.stop) for place in ranking.places_of_properties(["overlay", "noise", "caption"])] == []
    found = ranking.places_of_properties(["detail", "overlay", "resolution", "noise", "jpeg"])
    assert [(place.start, place.stop) for place in found] == [(1, 2), (3, 7), (8, 9)]


def test_images_scored_before_these_values_existed_are_ranked_by_what_is_known(spark: SparkSession) -> None:
    bare = spark.createDataFrame([("a",)], "image_id string")
    unknown = spark.createDataFrame([("a", None)], "image_id string, sharpness float")
    for signals in (bare, unknown):
        row = signals.select(*ranking.measured(signals)).first()
        assert row.asDict() == {"unframed": 1.0, "sharpness": 1.0, "noise": -20.0, "colour": 255.0, "jpeg_quality": 100}


# The whole of `near_duplicates` ----------------------------------------------------------------------------------


def found_by(
    lake: Lake, folder: Path, pictures: list[Picture], **changes: Any
) -> tuple[set[frozenset[str]], dict[str, str]]:
    """Returns the pairs, and the kept image for each removed one."""
    rows = rows_of(pictures, "encoder")

    def frame(table: tables.Table) -> DataFrame:
        names = table.schema.names
        return lake.spark.createDataFrame(
            [(*row, *[None] * (len(names) - len(row))) for row in rows[table]], table.schema
        )

    chosen = NearDuplicateConfig.with_defaults(RULE, recall=0.999, **changes)
    with Scratch(lake.spark, str(folder)) as scratch:
        found = near_duplicates(frame(tables.SIGNALS), frame(tables.IMAGES), chosen, scratch, frame(tables.VERDICTS))
        pairs = {frozenset((row.a_id, row.b_id)) for row in found.pairs.collect()}
        return pairs, {row.removed_id: row.kept_id for row in found.removed.collect()}


@pytest.fixture
def group() -> list[Picture]:
    """Returns a clean image, two copies of it with overlays that have smaller ids, and another image with its copy."""
    clean, other = scene(1), scene(2)
    shown = [captioned(clean), captioned(clean, "another text"), clean, other, other.crop((4, 4, 316, 236))]
    bases = hashes(2, seed=3)
    near_hashes = [near(bases[0], 9, 1), near(bases[0], 7, 2), bases[0], bases[1], near(bases[1], 6, 3)]
    return [
        Picture(i, hash_.tobytes(), 400, thumbnail=thumbnail(image).tobytes())
        for i, (hash_, image) in enumerate(zip(near_hashes, shown, strict=True))
    ]


def test_the_copy_without_an_overlay_is_kept(lake: Lake, tmp_path: Path, group: list[Picture]) -> None:
    ids = [picture.image_id for picture in group]
    _, removed = found_by(lake, tmp_path / "a", group)
    assert removed == {ids[0]: ids[2], ids[1]: ids[2], ids[4]: ids[3]}
    # Without the criterion, the smaller id decides.
    _, removed = found_by(lake, tmp_path / "b", group, rank=["resolution"])
    assert removed == {ids[1]: ids[0], ids[2]: ids[0], ids[4]: ids[3]}


def test_faint_text_that_no_thumbnail_shows_is_told_by_edges(lake: Lake, tmp_path: Path) -> None:
    clean = scene(5)
    signed = clean.copy()
    ImageDraw.Draw(signed).text((200, 222), "photo: a. example", font=ImageFont.load_default(12), fill=200)
    base = hashes(1, seed=3)[0]
    pictures = [
        Picture(i, near(base, 3 * i, i).tobytes(), 400, thumbnail=thumbnail(one).tobytes(), edges=edges_of(one))
        for i, one in enumerate([signed, clean])
    ]
    ids = [picture.image_id for picture in pictures]
    _, removed = found_by(lake, tmp_path / "a", pictures)
    assert removed == {ids[0]: ids[1]}
    _, removed = found_by(lake, tmp_path / "b", [replace(pictures[0], edges=None), pictures[1]])
    assert removed == {ids[1]: ids[0]}


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["independent", "component"])
def test_what_people_keep_stays_also_with_an_overlay(
    lake: Lake, tmp_path: Path, group: list[Picture], keep: str
) -> None:
    first = group[0]
    decided = Picture(first.number, first.hash, first.width, thumbnail=first.thumbnail, decided=True)
    _, removed = found_by(lake, tmp_path, [decided, *group[1:]], keep=keep)
    ids = [picture.image_id for picture in group]
    assert removed == {ids[1]: ids[0], ids[2]: ids[0], ids[4]: ids[3]}


@pytest.mark.slow
def test_a_popular_image_stays_also_with_an_overlay(lake: Lake, tmp_path: Path) -> None:
    base = hashes(1, seed=9)[0]
    clean = thumbnail(scene(1)).tobytes()
    text = thumbnail(captioned(scene(1))).tobytes()
    crowd = [Picture(i, near(base, 4, i).tobytes(), 400, thumbnail=clean) for i in range(1, 80)]
    leader = Picture(0, base.tobytes(), 400, thumbnail=text)
    pairs, removed = found_by(lake, tmp_path, [leader, *crowd], max_bucket=8)
    kept = {p.image_id for p in crowd} - set(removed)
    # Each removed image names a kept one, and each image that stays is far from the others.
    assert set(removed.values()) & set(removed) == set()
    assert not any({a, b} <= kept | {leader.image_id} - set(removed) for a, b in map(tuple, pairs))
