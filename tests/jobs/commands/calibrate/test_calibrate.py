import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs.commands.calibrate import command as calibrate
from jobs.job import Job
from jobs.labels import random_order, sets
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.stats import thresholds
from tests.builders.lake_rows import write_rows

CATEGORIES = [f'categories.{name}={{definition="d", recall=0.5, confidence=0.8}}' for name in ("boats", "cars")]
MODELS = {"boats": "m1", "cars": "m2"}
# 0.5 ** 3 is at most 0.2: three positives show a recall of a half with confidence 0.8.
NEEDED = 3
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def job_with(lake, overrides):
    return Job(lake, config.load(overrides=overrides), Progress(Console(file=io.StringIO(), width=500)))


def labels(spark, *rows):
    """Returns rows of the table labels from (image_id, category, label, origin)."""
    full = [(image_id, category, value, origin, None, NOW) for image_id, category, value, origin in rows]
    return spark.createDataFrame(full, tables.LABELS.schema)


def unsure(spark, *rows):
    """Returns rows of the table unsure from (image_id, category, origin, year)."""
    full = [
        (image_id, category, origin, "ann", datetime(year, 1, 1, tzinfo=UTC))
        for image_id, category, origin, year in rows
    ]
    return spark.createDataFrame(full, tables.UNSURE.schema)


def scores(spark, *rows):
    return spark.createDataFrame([(*row, 0) for row in rows], tables.SCORES.schema)


def know_images(job):
    """Puts p0 to p5 and n0 to n5 into the table images."""
    ids = [(f"{kind}{i}",) for kind in "pn" for i in range(6)]
    known = job.lake.spark.createDataFrame(ids, "image_id string")
    others = [name for name in tables.IMAGES.schema.names if name != "image_id"]
    images = known.selectExpr("*", *[f"{0 if name == 'part' else 'null'} as {name}" for name in others])
    job.lake.append(tables.IMAGES, images, Recipe("test"))


@pytest.fixture
def job(lake, spark, monkeypatch):
    """A lake in which boats can be calibrated and cars have only one random positive."""
    monkeypatch.setattr(calibrate, "current_models", lambda job: MODELS)
    made = labels(
        spark,
        *[(f"p{i}", "boats", True, "random") for i in range(NEEDED)],
        *[(f"n{i}", "boats", False, "random") for i in range(6)],
        ("x", "boats", True, "precision"),
        *[("p0", "cars", True, "random"), ("n0", "cars", False, "random")],
    )
    given = scores(
        spark,
        *[(f"p{i}", "boats", "m1", 0.75 + i / 8) for i in range(NEEDED)],
        *[(f"n{i}", "boats", "m1", i / 8) for i in range(6)],
        *[(i, "cars", "m2", 0.5) for i in ("p0", "n0")],
    )
    lake.append(tables.LABELS, made, Recipe("test"))
    lake.append(tables.SCORES, given, Recipe("test"))
    return job_with(lake, CATEGORIES)


def test_the_calibration_set_has_random_labels_with_current_scores(spark):
    made = labels(spark, ("a", "boats", True, "random"), ("b", "boats", True, "import"), ("c", "cars", True, "random"))
    given = scores(spark, ("a", "boats", "m1", 0.5), ("a", "boats", "old", 0.75), ("a", "cars", "m1", 1.0))

    random = sets.random_labels(made, "boats")
    found = calibrate.calibration_set(random, given, "boats", "m1").collect()

    assert [tuple(row) for row in found] == [("a", True, 0.5)]


@pytest.mark.slow
def test_thresholds_are_written_if_labels_suffice_and_an_error_names_the_others(job):
    know_images(job)
    message = "cars: 1 of 2 labels of the random sample are positive, 3 are needed: 2 more, so label about 4 more"
    with pytest.raises(WinnowError, match=message):
        calibrate.run(job)

    rows = job.lake.read(tables.THRESHOLDS).collect()
    assert [(row.category, row.model, row.positives, row.negatives, row.missed) for row in rows] == [
        ("boats", "m1", NEEDED, 6, 0)
    ]
    # Lowered from the lowest positive to the first short number above the highest negative.
    assert rows[0].threshold == 0.626
    assert rows[0].recall_lower == pytest.approx(0.2 ** (1 / 3))


@pytest.mark.slow
def test_missing_labels_stay_an_error_in_an_up_to_date_run(job):
    for _ in range(2):
        with pytest.raises(WinnowError, match="cars"):
            calibrate.run(job)

    assert "up to date" in job.progress.console.file.getvalue()


def test_the_summary_is_the_same_in_an_up_to_date_run(job):
    only_boats = job_with(job.lake, CATEGORIES[:1])

    first, second = calibrate.run(only_boats), calibrate.run(only_boats)

    assert first == second
    assert first["boats: recall at least"] == "58 % (80 % confidence)"
    assert job.lake.read(tables.THRESHOLDS).first().recall_lower == pytest.approx(0.5848, abs=5e-5)
    assert first["boats: precision about"].startswith("100.0% (")
    assert job.lake.snapshot().version(tables.THRESHOLDS) == 0


@pytest.mark.slow
def test_gaps_in_the_random_sample_are_reported_also_in_an_up_to_date_run(job, spark):
    only_boats = job_with(job.lake, CATEGORIES[:1])
    names = spark.createDataFrame([("p0",), *[(f"w{i}",) for i in range(20)]], "image_id string")
    order = [
        row.image_id for row in names.orderBy(random_order.random_sample_place(only_boats.settings.seed)).collect()
    ]
    drawn = order[: order.index("p0") + 1]
    queue = [(name, "boats", "random", "", place, "b", NOW) for place, name in enumerate(drawn)]
    write_rows(job.lake, tables.LABEL_QUEUE, queue)

    first = calibrate.run(only_boats)
    warnings = only_boats.progress.console.file.getvalue().count("random images passed over")
    second = calibrate.run(only_boats)

    assert len(drawn) > 1
    assert first["boats: random images passed over"].startswith(f"{len(drawn) - 1} have no label although")
    assert first == second and warnings == 1
    assert only_boats.progress.console.file.getvalue().count("random images passed over") == 2


@pytest.mark.slow
def test_later_labels_check_the_current_threshold(job):
    only_boats = job_with(job.lake, CATEGORIES[:1])
    assert not any("check" in key for key in calibrate.run(only_boats))
    spark, soon = job.lake.spark, datetime(2100, 1, 1, tzinfo=UTC)
    # Three images are kept: a positive, a negative that somebody was unsure of, one without a label. Two were answered
    # before.
    rows = [("k1", True), ("k2", False), ("d1", True), ("n0", False)]
    asked = [("k2", "boats", "random", 2100), ("k3", "boats", "random", 2100), ("n1", "boats", "random", 2100)]
    job.lake.append(tables.UNSURE, unsure(spark, *asked), Recipe("test"))
    made = [(image_id, "boats", value, "random", None, soon) for image_id, value in rows]
    write_rows(job.lake, tables.LABELS, made)
    given = [("k1", "boats", "m1", 0.6), ("k2", "boats", "m1", 0.2), ("d1", "boats", "m1", 0.9)]
    given.append(("k3", "boats", "m1", 0.55))
    job.lake.append(tables.SCORES, scores(spark, *given), Recipe("test"))

    found = calibrate.run(only_boats)

    expected = "2 of 3 kept images answered since are positive or unsure: at most"
    assert found["boats: check of the threshold so far"].startswith(expected)


def test_an_image_answered_unsure_counts_as_missed_until_it_has_a_label(job, spark):
    only_boats = job_with(job.lake, CATEGORIES[:1])
    before = calibrate.run(only_boats)
    # u0 scores below all positives, and above most negatives; p0 also has a label; u1 is not in the random sample.
    asked = [("u0", "boats", "random", 2024), ("p0", "boats", "random", 2024), ("u1", "boats", "recall", 2024)]
    job.lake.append(tables.UNSURE, unsure(spark, *asked), Recipe("test"))
    job.lake.append(tables.SCORES, scores(spark, *[(i, "boats", "m1", 0.5625) for i in ("u0", "u1")]), Recipe("test"))

    found = calibrate.run(only_boats)

    assert found["boats: random images answered unsure"] == "1, each may be a missed positive"
    assert "1 random images for boats were answered unsure" in only_boats.progress.console.file.getvalue()
    assert found["boats: positives of the random sample"] == f"{NEEDED}, 0 missed"
    [row] = job.lake.read(tables.THRESHOLDS).collect()
    assert 0.5 < row.threshold <= 0.5625 and row.recall_lower == pytest.approx(0.2 ** (1 / 3))
    assert escapes(found) > escapes(before)

    job.lake.append(tables.LABELS, labels(spark, ("u0", "boats", False, "random")), Recipe("test"))
    settled = calibrate.run(only_boats)

    assert "boats: random images answered unsure" not in settled
    assert settled["boats: threshold"] == before["boats: threshold"]


@pytest.mark.slow
def test_an_image_answered_unsure_does_not_count_as_a_positive(job, spark):
    job.lake.append(
        tables.UNSURE, unsure(spark, *[(f"u{i}", "cars", "random", 2024) for i in range(4)]), Recipe("test")
    )
    job.lake.append(tables.SCORES, scores(spark, *[(f"u{i}", "cars", "m2", 0.9) for i in range(4)]), Recipe("test"))

    with pytest.raises(WinnowError, match="for cars: 1 of 2 labels of the random sample are positive, 3 are needed"):
        calibrate.run(job)


def escapes(summary):
    return float(summary["boats: escapes at most"].partition("%")[0])


@pytest.mark.slow
def test_random_labels_of_unknown_images_are_ignored(job, spark):
    job.lake.append(tables.LABELS, labels(spark, ("gone", "boats", True, "random")), Recipe("test"))
    know_images(job)

    found = calibrate.run(job_with(job.lake, CATEGORIES[:1]))

    assert found["boats: positives of the random sample"] == f"{NEEDED}, 0 missed"
    least = "p0 (0.7500), p1 (0.8750), p2 (1.0000): a wrong label here lowers precision"
    assert found["boats: positives of the random sample that score least"] == least


def test_random_labels_without_a_score_are_an_error(job, monkeypatch):
    know_images(job)
    monkeypatch.setattr(calibrate, "current_models", lambda job: {"boats": "new"})

    with pytest.raises(WinnowError, match="9 of 9 images of the random sample for boats have no score by model new"):
        calibrate.run(job_with(job.lake, CATEGORIES[:1]))


def test_without_a_category_nothing_is_calibrated(lake):
    bare = job_with(lake, [])

    assert calibrate.run(bare) == {}
    assert "no category" in bare.progress.console.file.getvalue()


def test_a_set_threshold_needs_no_label(lake, spark, monkeypatch):
    monkeypatch.setattr(calibrate, "current_models", lambda job: {"boats": "m1"})
    lake.append(tables.SCORES, scores(spark, ("p0", "boats", "m1", 0.75)), Recipe("test"))

    found = calibrate.run(job_with(lake, [*CATEGORIES[:1], "categories.boats.threshold=0.8"]))

    assert found["boats: threshold"] == "0.8000, set in the settings"
    assert found["boats: recall at least"] == "unknown (no label of the random sample is positive)"
    assert not any("escapes" in key or "precision" in key or "ranking" in key for key in found)
    [row] = lake.read(tables.THRESHOLDS).collect()
    assert (row.threshold, row.recall_lower, row.positives, row.chosen_by) == (0.8, None, 0, "settings")


def test_the_recall_of_a_set_threshold_is_bounded_by_few_labels(job):
    # Of three random positives, two reach the threshold; a calibrated threshold would be just above 0.625.
    overrides = [*CATEGORIES, "categories.boats.threshold=0.8", "categories.cars.threshold=0.5"]

    found = calibrate.run(job_with(job.lake, overrides))

    assert found["boats: positives of the random sample"] == "3, 1 missed"
    rows = {row.category: row for row in job.lake.read(tables.THRESHOLDS).collect()}
    assert rows["boats"].recall_lower == pytest.approx(thresholds.lower_bound(2, 3, 0.8))
    # The single random positive of cars is too few to choose a threshold, and enough for a bound.
    assert rows["cars"].recall_lower == pytest.approx(0.2)
    assert {row.threshold for row in rows.values()} == {0.8, 0.5}


def test_a_set_threshold_is_used_with_a_warning_if_the_classifier_is_not_better_than_chance(job):
    overrides = [*CATEGORIES, "categories.boats.threshold=0.8", "categories.cars.threshold=0.5"]
    quiet = job_with(job.lake, overrides)

    calibrate.run(quiet)

    said = quiet.progress.console.file.getvalue()
    assert (
        "cars: its threshold is used as it is set, but 1 positive and 1 negative labels of the random sample do not"
        in said
    )
    assert "boats: its threshold" not in said


def test_a_classifier_that_is_not_better_than_chance_gets_no_threshold(job, spark):
    made = [(f"p{i}", "boats", "m1", i / 8) for i in range(NEEDED)] + [
        (f"n{i}", "boats", "m1", i / 8) for i in range(6)
    ]
    job.lake.replace(tables.SCORES, scores(spark, *made), Recipe("test"))

    with pytest.raises(WinnowError) as caught:
        calibrate.run(job_with(job.lake, CATEGORIES[:1]))

    said = str(caught.value)
    assert said.startswith(
        "no threshold for boats: 3 positive and 6 negative labels of the random sample do not show that its class"
    )
    assert "AUC 0.25, at least 0.0" in said and "winnow train boats" in said and "\n" not in said
    assert job.lake.read(tables.THRESHOLDS).isEmpty()
