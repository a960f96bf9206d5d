"""Keyword shifts of hand-written rows, without a lake."""

from dataclasses import fields

import numpy as np
import pytest
from pyspark.sql import SparkSession

from jobs.commands.audit.keyword_shift import (
    KeywordShiftConfig,
    KeywordShiftRow,
    keyword_counts,
    keyword_shift,
    with_tokens,
)
from jobs.facts import sentences
from jobs.lake import tables
from jobs.runtime import config
from jobs.runtime.scratch import Scratch
from tests.builders.planted_bias import audited, held_out_weights, planted
from udfs.text.captions import Keywords

REFERENCE = "image_id string, caption string, kept boolean"


def test_row_has_the_columns_of_the_table() -> None:
    assert [field.name for field in fields(KeywordShiftRow)] == tables.KEYWORD_SHIFT.schema.names


@pytest.mark.slow
def test_weights_correct_the_shift_of_halved_dogs(spark: SparkSession, tmp_path) -> None:
    # 200 cats and 200 dogs. The filter removes every second dog; each remaining dog weighs as much as two cats.
    rows = [(f"{n:032x}", f"a {('cat', 'dog')[n % 2]}", n % 4 != 1) for n in range(400)]
    reference = spark.createDataFrame(rows, REFERENCE)
    weights = reference.where("kept").selectExpr("image_id", "if(caption = 'a dog', 1.5D, 0.75D) as weight")
    listed = KeywordShiftConfig.with_defaults(lists=[], keywords=["dog", "zebra"], resamples=20)

    with Scratch(spark, str(tmp_path)) as scratch:
        found = keyword_shift(reference, weights, listed, scratch)

    # No caption has 'zebra'. 'cat' is not listed, but moved. 'a' is too short for a mover.
    assert [(row.keyword, row.topic, row.mover) for row in found.rows] == [("cat", None, True), ("dog", "own", False)]
    cat, dog = found.rows
    assert (dog.captions, dog.unfiltered, dog.filtered, dog.weighted) == (200, 0.5, pytest.approx(1 / 3), 0.5)
    assert (dog.shift, dog.weighted_shift) == (pytest.approx(-1 / 3), pytest.approx(0.0))
    assert dog.shift_low < dog.shift < dog.shift_high < 0 < cat.shift_low
    assert found.looks == 3


@pytest.mark.parametrize(("carried", "undone"), [(True, True), (False, False)])
def test_planted_bias_is_corrected_on_a_held_out_half_or_reported(carried: bool, undone: bool) -> None:
    biased = planted(100_000, carried, seed=3)
    rows = audited(biased, held_out_weights(biased))
    shifts = {row.keyword: row for row in rows}
    assert shifts["woman"].shift == pytest.approx(-0.14, abs=0.015)
    assert shifts["man"].shift == pytest.approx(-0.06, abs=0.015)
    before, after = ([abs(getattr(row, side)) for row in rows[:20]] for side in ("shift", "weighted_shift"))
    left = {row.keyword for row in sentences.not_undone(rows, 0.01, 0.8)}
    assert all(abs(shifts[word].weighted_shift) <= 0.01 for word in ("woman", "man")) == undone
    assert (np.median(before) / np.median(after) >= 5) == undone
    assert ("woman" in left and "man" in left) != undone


@pytest.mark.slow
def test_bootstrap_counts_do_not_depend_on_partitions(spark: SparkSession, settings: config.Settings) -> None:
    rows = [(f"{i:032x}", "a woman" if i % 3 else "a man", i % 5 > 0) for i in range(500)]
    reference = spark.createDataFrame(rows, "image_id string, caption string, kept boolean")
    weights = reference.where("kept").selectExpr("image_id", "1.25D as weight")
    one, many = (
        keyword_counts(with_tokens(reference.repartition(n), weights), Keywords(("woman", "man")), settings.audit, 0)
        .orderBy("keyword", "resample")
        .collect()
        for n in (1, 7)
    )
    assert one == many
    totals = [row for row in one if row.keyword == -1 and row.resample == 0]
    assert (totals[0].unfiltered, totals[0].filtered, totals[0].weighted) == (500, 400, 500_000_000)
