import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs import calibrate, config, label_sets, tables
from jobs.job import Job
from jobs.lake import Recipe
from jobs.progress import Progress
from models.errors import WinnowError
from models.thresholds import Target

CATEGORIES = [f'categories.{name}={{definition="d", recall=0.5, confidence=0.8}}' for name in ("boats", "cars")]
MODELS = {"boats": "m1", "cars": "m2"}
# 0.5 ** 3 is at most 0.2: three positives show a recall of a half with confidence 0.8.
NEEDED = 3


def job_with(lake, overrides):
    return Job(lake, config.load(overrides=overrides), Progress(Console(file=io.StringIO(), width=500)))


def labels(spark, *rows):
    """Rows of the table labels from (image_id, category, label, origin)."""
    when = datetime(2024, 1, 1, tzinfo=UTC)
    full = [(image_id, category, value, origin, None, when) for image_id, category, value, origin in rows]
    return spark.createDataFrame(full, tables.LABELS.schema)


def scores(spark, *rows):
    return spark.createDataFrame(list(rows), tables.SCORES.schema)


def know_images(job):
    """Puts p0 to p5 and n0 to n5 into the table images."""
    ids = [(f"{kind}{i}",) for kind in "pn" for i in range(6)]
    known = job.lake.spark.createDataFrame(ids, "image_id string")
    others = [name for name in tables.IMAGES.schema.names if name != "image_id"]
    images = known.selectExpr("*", *[f"{0 if name == 'part' else 'null'} as {name}" for name in others])
    job.lake.append(tables.IMAGES, images, Recipe("test"))


@pytest.fixture
def job(lake, spark, monkeypatch):
    """Boats can be calibrated, cars have one random positive only."""
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


def test_calibration_set_holds_random_labels_with_the_present_score(spark):
    made = labels(spark, ("a", "boats", True, "random"), ("b", "boats", True, "import"), ("c", "cars", True, "random"))
    given = scores(spark, ("a", "boats", "m1", 0.5), ("a", "boats", "old", 0.75), ("a", "cars", "m1", 1.0))

    random = label_sets.random_labels(made, "boats")
    found = calibrate.calibration_set(random, given, "boats", "m1").collect()

    assert [tuple(row) for row in found] == [("a", True, 0.5)]


def test_categories_with_enough_labels_are_written_and_the_others_named(job):
    message = r"no threshold, for cars: 1 of 2 random labels are positive, 3 are needed: 2 more, so label about 4 more"
    with pytest.raises(WinnowError, match=message):
        calibrate.run(job)

    rows = job.lake.read(tables.THRESHOLDS).collect()
    assert [(row.category, row.model, row.positives, row.negatives, row.missed) for row in rows] == [
        ("boats", "m1", NEEDED, 6, 0)
    ]
    # Sunk from the lowest positive to right above the highest negative.
    assert 0.625 < rows[0].threshold < 0.6251
    assert rows[0].recall_lower == pytest.approx(0.2 ** (1 / 3))


def test_a_lack_stays_an_error_when_nothing_has_changed(job):
    for _ in range(2):
        with pytest.raises(WinnowError, match="cars"):
            calibrate.run(job)

    assert "up to date" in job.progress.console.file.getvalue()


def test_summary_tells_threshold_recall_and_precision_also_when_up_to_date(job):
    only_boats = job_with(job.lake, CATEGORIES[:1])

    first, second = calibrate.run(only_boats), calibrate.run(only_boats)

    assert first == second
    assert first["boats: recall at least"] == "0.5848 (confidence 0.8)"
    assert first["boats: precision about"].startswith("100.0% (")
    assert job.lake.version(tables.THRESHOLDS) == 0


def test_labels_that_come_later_check_the_threshold_so_far(job):
    only_boats = job_with(job.lake, CATEGORIES[:1])
    assert not any("check" in key for key in calibrate.run(only_boats))
    spark, soon = job.lake.spark, datetime(2100, 1, 1, tzinfo=UTC)
    # Two are kept, one of them positive; one is dropped; one was labelled before.
    rows = [("k1", True), ("k2", False), ("d1", True), ("n0", False)]
    made = [(image_id, "boats", value, "random", None, soon) for image_id, value in rows]
    job.lake.append(tables.LABELS, spark.createDataFrame(made, tables.LABELS.schema), Recipe("test"))
    given = [("k1", "boats", "m1", 0.1), ("k2", "boats", "m1", 0.2), ("d1", "boats", "m1", 0.9)]
    job.lake.append(tables.SCORES, scores(spark, *given), Recipe("test"))

    found = calibrate.run(only_boats)

    assert found["boats: check of the threshold so far"].startswith("1 of 2 kept images labelled since are positive")


def test_random_labels_of_unknown_images_are_told_and_kept_aside(job, spark):
    job.lake.append(tables.LABELS, labels(spark, ("gone", "boats", True, "random")), Recipe("test"))
    know_images(job)

    found = calibrate.run(job_with(job.lake, CATEGORIES[:1]))

    assert found["boats: random positives"] == f"{NEEDED}, 0 missed"
    least = "p0 (0.75), p1 (0.875), p2 (1): a wrong one here costs precision"
    assert found["boats: random positives that score least"] == least


def test_random_labels_without_a_score_are_named(job, monkeypatch):
    know_images(job)
    monkeypatch.setattr(calibrate, "current_models", lambda job: {"boats": "new"})

    with pytest.raises(WinnowError, match="9 of 9 images with random labels for boats have no score by model new"):
        calibrate.run(job_with(job.lake, CATEGORIES[:1]))


def test_without_a_category_nothing_is_calibrated(lake):
    bare = job_with(lake, [])

    assert calibrate.run(bare) == {}
    assert "no category" in bare.progress.console.file.getvalue()


@pytest.mark.parametrize(
    ("positives", "negatives", "text"),
    [
        (0, 0, "no random labels, 59 positive"),
        (0, 100, "0 of 100 random labels are positive, 59 are needed: 59 more, so label at least 2,0"),
        (20, 980, "39 more, so label about 1,950 more images at random"),
    ],
)
def test_what_is_lacking_is_told_in_numbers(positives, negatives, text):
    assert text in calibrate.lacking(positives, negatives, Target(0.95, 0.95))
