"""Lakes in which a step was left out: what comes after it stops, and names the step."""

from collections.abc import Callable

import pytest
from pyspark.sql import functions as F

from jobs import prerequisites
from jobs.commands.dedup import command as dedup
from jobs.commands.weigh import command as weigh
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.matching import rule
from jobs.models_in_use import current_encoder
from jobs.runtime import config
from jobs.scoring import gaps
from models.errors import WinnowError
from tests.builders.hash_lakes import Picture, fill, hashes, job_of
from tests.builders.lake_rows import write_rows

PICTURES = [Picture(i, row.tobytes()) for i, row in enumerate(hashes(12))]


def filled(lake: Lake, signals: str = "true") -> None:
    fill(lake, PICTURES, current_encoder(job_of(lake)).digest)
    lake.replace(tables.SIGNALS, lake.read(tables.SIGNALS).where(signals).localCheckpoint(), Recipe("test"))


@pytest.mark.slow
@pytest.mark.parametrize(("there", "missing"), [("false", 12), (f"image_id >= '{PICTURES[3].image_id}'", 3)])
def test_images_without_signals_are_not_taken_for_images_without_copies(lake: Lake, there: str, missing: int) -> None:
    filled(lake, there)
    with pytest.raises(WinnowError, match=f"{missing} of 12 images have no signals of encoder .*: run `winnow score`"):
        dedup.run(job_of(lake))
    assert not lake.exists(tables.DUPLICATES)


def test_images_of_another_encoder_are_not_compared_and_not_passed_over(lake: Lake) -> None:
    fill(lake, PICTURES, "another")
    with pytest.raises(WinnowError, match="12 of 12 images have no signals"):
        dedup.run(job_of(lake))


@pytest.mark.slow
def test_what_scoring_had_to_give_up_is_not_missing(lake: Lake) -> None:
    filled(lake, f"image_id > '{PICTURES[0].image_id}'")
    fault = [("s", "0", "score", "truncated", "", PICTURES[0].image_id)]
    write_rows(lake, tables.QUARANTINE, fault, Recipe("score"))
    assert dedup.run(job_of(lake))["images compared"] == 11


@pytest.mark.slow
def test_another_image_that_lay_where_one_was_given_up_is_missing(lake: Lake) -> None:
    filled(lake, f"image_id > '{PICTURES[0].image_id}'")
    place = lake.read(tables.IMAGES).where(F.col("image_id") == PICTURES[0].image_id).select("source", "key").collect()
    fault = [(*place[0], "score", "truncated", "", "0" * 31 + "x")]
    write_rows(lake, tables.QUARANTINE, fault, Recipe("score"))
    with pytest.raises(WinnowError, match="1 of 12 images have no signals"):
        dedup.run(job_of(lake))


@pytest.mark.slow
def test_what_was_scored_or_calibrated_after_the_filter_is_not_passed_over(lake: Lake) -> None:
    filled(lake)
    verdicts = lake.read(tables.VERDICTS).localCheckpoint()
    inputs = lake.snapshot().inputs(tables.IMAGES, tables.THRESHOLDS, tables.LABELS)
    lake.replace(tables.VERDICTS, verdicts, Recipe("filter", inputs))
    # People go on labelling.
    lake.replace(tables.LABELS, lake.read(tables.LABELS), Recipe("label"))
    dedup.run(job_of(lake))
    lake.replace(tables.THRESHOLDS, lake.read(tables.THRESHOLDS), Recipe("calibrate"))
    for command in (dedup, weigh):
        lake.append(tables.DUPLICATES, lake.read(tables.DUPLICATES), Recipe("dedup"))
        with pytest.raises(WinnowError, match="'verdicts' is older than thresholds: run `winnow filter` first"):
            command.run(job_of(lake))


@pytest.mark.slow
def test_images_that_came_after_the_filter_are_not_taken_for_kept(lake: Lake) -> None:
    filled(lake)
    verdicts = lake.read(tables.VERDICTS).localCheckpoint()
    lake.replace(tables.VERDICTS, verdicts, Recipe("filter", lake.snapshot().inputs(tables.IMAGES)))
    dedup.run(job_of(lake))
    another = lake.read(tables.IMAGES).limit(1).withColumn("image_id", F.lit("f" * 32))
    lake.append(tables.IMAGES, another, Recipe("ingest"))
    with pytest.raises(WinnowError, match="'verdicts' is older than images: run `winnow filter` first"):
        dedup.run(job_of(lake))


def test_where_all_have_signals_nobody_looks_for_those_that_have_none(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("looked for")

    filled(lake)
    refused: Callable[..., None] = refuse
    monkeypatch.setattr(gaps, "undecodable", refused)
    prerequisites.require_signals(job_of(lake), "any", 12)


def test_an_encoder_that_does_not_say_how_near_copies_are_needs_a_setting(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.inference.encoder.Encoder.max_distance", None)
    filled(lake)
    embedded = job_of(lake, "dedup.hash=embedding")
    with pytest.raises(WinnowError, match=r"no distance for duplicates: set one, as in `--set dedup\.max_distance="):
        dedup.run(embedded)
    set_ = config.load(overrides=["dedup.hash=embedding", "dedup.max_distance=50"])
    assert rule.rule_for(type(embedded)(lake, set_, embedded.progress)).max_distance == 50
