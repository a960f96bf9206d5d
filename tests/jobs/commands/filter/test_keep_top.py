import json
import math

import pytest
from pyspark.sql import DataFrame, SparkSession

from jobs.commands.filter import keep_top
from jobs.runtime.scratch import Scratch

# Values in any order, with ties, signs, extremes and neighbours that differ in their last bit.
VALUES = [
    0.3,
    math.nextafter(0.3, 1.0),
    -0.0,
    0.0,
    0.5,
    0.5,
    0.5,
    -1e300,
    1e300,
    2.0,
    -7.25,
    5e-324,
    0.1,
    0.9,
    1.0,
    0.2,
]


def images(spark: SparkSession, *metas: object) -> DataFrame:
    rows = [(f"{i:02}", 100 * i, meta if isinstance(meta, str) else json.dumps(meta)) for i, meta in enumerate(metas)]
    return spark.createDataFrame(rows, "image_id string, width int, meta string")


def broken(spark: SparkSession, *ids: str) -> DataFrame:
    return spark.createDataFrame([(image_id, "truncated") for image_id in ids], "image_id string, reason string")


def cutoffs(rows: DataFrame, shares: dict[str, float], folder: object, *undecodable: str) -> dict[str, float]:
    with Scratch(rows.sparkSession, str(folder)) as scratch:
        return keep_top.cutoffs(rows, broken(rows.sparkSession, *undecodable), shares, scratch)


@pytest.mark.parametrize("partitions", [1, 5])
def test_the_cutoff_is_the_value_of_the_last_image_within_the_share(spark, tmp_path, partitions):
    places = {0.0625: 1, 0.0626: 2, 0.3125: 5, 0.999: 16}
    shares = {f"s{place}": share for share, place in places.items()}
    rows = images(spark, *(dict.fromkeys(shares, value) for value in VALUES)).repartition(partitions)

    found = cutoffs(rows, shares, tmp_path)

    ranked = sorted(VALUES, reverse=True)
    assert found == {f"s{place}": ranked[place - 1] for place in places.values()}


def test_a_share_that_is_not_exact_in_binary_keeps_no_image_too_many(spark, tmp_path):
    rows = spark.range(100).selectExpr("cast(id as string) image_id", "id width")

    assert 0.07 * 100 > 7 and cutoffs(rows, {"width": 0.07}, tmp_path) == {"width": 93.0}


def test_images_that_cannot_be_decoded_do_not_count(spark, tmp_path):
    rows = images(spark, *({"similarity": value} for value in (9, 8, 3, 2, 1)))

    assert cutoffs(rows, {"similarity": 0.3, "width": 0.5}, tmp_path, "00", "01") == {"similarity": 3.0, "width": 300.0}


def test_images_below_the_cutoff_or_without_a_number_are_removed_and_ties_stay(spark):
    unknown = [
        {},
        "{}",
        {"similarity": "high"},
        '{"similarity": NaN}',
        '{"similarity": "Infinity"}',
        {"similarity": None},
    ]
    rows = images(spark, {"similarity": 0.27}, {"similarity": 0.2699}, {"similarity": "0.9"}, *unknown)

    found = keep_top.below(rows, {"similarity": 0.3, "width": 0.5}, {"similarity": 0.27, "width": 300.0})

    reasons: dict[str, list[str]] = {}
    for row in found.collect():
        reasons.setdefault(row.image_id, []).append(row.why)
    none = "similarity: no value, not in the top 30 %"
    assert reasons == {
        "00": ["width: 0 < 300, not in the top 50 %"],
        "01": ["similarity: 0.2699 < 0.27, not in the top 30 %", "width: 100 < 300, not in the top 50 %"],
        "02": ["width: 200 < 300, not in the top 50 %"],
        **{f"{i:02}": [none] for i in range(3, 9)},
    }


def test_a_field_that_no_image_has_is_named_with_the_fields_that_there_are(spark):
    rows = images(spark, {"similarity": 0.27, "url": "u"}, {"punsafe": 0.1})

    found = keep_top.faults(rows, {"similarity": 0.3, "width": 0.3, "similarty": 0.3, "url": 0.3})

    have = "the fields are width, punsafe, similarity, url"
    assert found == [
        f"filter.keep_top.{name}: no image has a number in a field {name}; {have}" for name in ("similarty", "url")
    ]
    assert keep_top.faults(rows.limit(0), {"similarty": 0.3}) == []


def test_images_removed_without_a_number_are_counted(spark):
    reasons = [
        ["a: no value, not in the top 5 %", "b: 1 < 2, not in the top 5 %"],
        ["b: no value, not in the top 5 %"],
        [],
    ]
    verdicts = spark.createDataFrame([(why,) for why in reasons], "reasons array<string>")

    assert keep_top.without_value(verdicts, ["a", "b"]) == {"a": 1, "b": 1}
    assert keep_top.without_value(verdicts, []) == {}


def test_the_driver_gets_few_counts_of_many_values(spark, tmp_path, monkeypatch):
    rows = spark.range(30_000).selectExpr("cast(id as string) image_id", "id / 30000 width")
    collect, sizes = type(rows).collect, []

    def counted(frame):
        found = collect(frame)
        sizes.append(len(found))
        return found

    monkeypatch.setattr(type(rows), "collect", counted)

    assert cutoffs(rows, {"width": 0.5}, tmp_path) == {"width": 0.5}
    assert len(sizes) == 4 and max(sizes) < 30_000 / 10
