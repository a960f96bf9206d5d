import io
import math
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs.commands.filter import command as filter
from jobs.commands.filter import rules as filter_rules
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.config import FilterSettings
from jobs.runtime.progress import Progress
from jobs.scoring import gaps
from models.errors import LostRowsError, SettingsError, WinnowError
from tests.builders.lake_rows import write_rows

CATEGORIES = [f'categories.{name}={{definition="d"}}' for name in ("boats", "cars")]
MODELS = {"boats": "m1", "cars": "m2"}
LIMITS = [("boats", "m1", 0.5), ("cars", "m2", 0.25)]
BROKEN = [("folder", "c.jpg", "score", "truncated", "…")]


def frame(spark, table, columns, rows):
    """Returns rows of a table; columns without a value are null."""
    given = ", ".join(f"{name} {table.schema[name].dataType.simpleString()}" for name in columns.split())
    made = spark.createDataFrame(list(rows), given)
    blank = [name for name in table.schema.names if name not in made.columns]
    return made.selectExpr(
        "*", *[f"cast(null as {table.schema[name].dataType.simpleString()}) as {name}" for name in blank]
    )


def images(spark, keys="abc"):
    return frame(spark, tables.IMAGES, "image_id source key", [(k, "folder", f"{k}.jpg") for k in keys])


def scores(spark, *rows):
    return spark.createDataFrame([(*row, 0) for row in rows], tables.SCORES.schema)


def limits(spark, rows):
    columns = "category model threshold confidence chosen_by"
    return frame(spark, tables.THRESHOLDS, columns, [(*row, 0.95, tables.CHOSEN_BY_LABELS) for row in rows])


def quarantine(spark, rows):
    return spark.createDataFrame([(*row, row[1][0], None, None) for row in rows], tables.QUARANTINE.schema)


def ruled(rows, rules):
    return filter_rules.removed(rows, FilterSettings(rules=rules), {})


def judged(rows, given, thresholds, broken=None, rules=None):
    nothing = rows.sparkSession.createDataFrame([], "image_id string, reason string")
    return filter.verdicts(rows, broken or nothing, given, thresholds, ruled(rows, rules or {}))


@pytest.fixture
def job(lake, spark, monkeypatch):
    monkeypatch.setattr(filter, "current_models", lambda job: {c: MODELS[c] for c in job.settings.categories})
    lake.append(tables.IMAGES, images(spark), Recipe("test"))
    given = [(i, c, m, s) for i, s in (("a", 0.125), ("b", 0.75)) for c, m in MODELS.items()]
    lake.append(tables.SCORES, scores(spark, *given), Recipe("test"))
    lake.append(tables.THRESHOLDS, limits(spark, LIMITS), Recipe("test"))
    return Job(lake, config.load(overrides=CATEGORIES), Progress(Console(file=io.StringIO(), width=500)))


def test_scores_at_or_above_the_threshold_filter(spark):
    given = [
        ("a", "boats", "m1", 0.5),
        ("b", "boats", "m1", 0.4375),
        ("c", "boats", "m1", 0.75),
        ("c", "cars", "m2", 0.25),
    ]

    found = judged(images(spark), scores(spark, *given), limits(spark, LIMITS))

    assert {row.image_id: (row.kept, row.reasons) for row in found.collect()} == {
        "a": (False, ["boats: score 0.500 >= 0.500"]),
        "b": (True, []),
        "c": (False, ["boats: score 0.750 >= 0.500", "cars: score 0.250 >= 0.250"]),
    }


def test_scores_of_another_model_filter_nothing(spark):
    found = judged(images(spark, "a"), scores(spark, ("a", "boats", "old", 1.0)), limits(spark, LIMITS))

    assert [row.kept for row in found.collect()] == [True]


def test_a_threshold_right_above_a_score_keeps_it(spark):
    score = 0.1  # stored as a float, which lies above 0.1
    stored = scores(spark, ("a", "boats", "m1", score))
    above = math.nextafter(stored.first().score, 1.0)

    found = judged(images(spark, "a"), stored, limits(spark, [("boats", "m1", above)]))

    assert found.first().kept


def test_images_that_scoring_could_not_decode_are_filtered(spark):
    rows = [*BROKEN, ("folder", "a.jpg", "ingest", "empty", ""), ("folder", "b.jpg", "score", "corrupt", ""),
            ("folder", "x.jpg", "score", "no image of the lake", "")]  # fmt: skip
    signals = frame(spark, tables.SIGNALS, "image_id", [("b",)])

    broken = gaps.undecodable(images(spark), quarantine(spark, rows), signals)
    found = judged(images(spark), scores(spark), limits(spark, []), broken)

    assert {row.image_id: row.reasons for row in found.collect() if not row.kept} == {"c": ["not decodable: truncated"]}


def sized(spark):
    rows = [("a", 640, '{"punsafe": 0.99}'), ("b", 100, None), ("c", 640, '{"punsafe": "unknown"}')]
    return frame(spark, tables.IMAGES, "image_id width meta", rows)


RULES = {
    "small": "least(width, height) < 256 or  width\n< 256",
    "unsafe": "try_cast(get_json_object(meta, '$.punsafe') as double) > 0.9",
}


def test_rules_filter_by_columns_and_do_not_hold_for_nulls(spark):
    found = judged(sized(spark), scores(spark), limits(spark, []), rules=RULES)

    assert {row.image_id: row.reasons for row in found.collect()} == {
        "a": ["unsafe: try_cast(get_json_object(meta, '$.punsafe') as double) > 0.9"],
        "b": ["small: least(width, height) < 256 or width < 256"],
        "c": [],
    }


def test_a_rule_that_fails_on_a_row_does_not_remove_it(spark):
    rules = {"unsafe": "cast(get_json_object(meta, '$.punsafe') as double) > 0.9", "even": "640 / (width - 100) > 1"}
    filter_rules.check(sized(spark), FilterSettings(rules=rules))

    found = judged(sized(spark), scores(spark), limits(spark, []), rules=rules)

    assert {row.image_id: len(row.reasons) for row in found.collect()} == {"a": 2, "b": 0, "c": 1}
    assert spark.conf.get("spark.sql.ansi.enabled") == "true"


def test_all_invalid_rules_are_named_before_work_begins(spark, capfd):
    wrong = {
        "one": "widht < 256",
        "two": "width <",
        "three": "width + 1",
        "four": "max(width) > 3",
        "five": "length(image) < 9",
        "six": "rand() < 0.5",
        "seven": "cast(meta as date) < current_date()",
        "good": "width < 256",
    }
    with pytest.raises(SettingsError) as caught:
        filter_rules.check(sized(spark), FilterSettings(rules=wrong, words={"toys": ["doll", "?"]}))

    faults = str(caught.value).split("; filter.rules.")
    assert faults[-1].endswith('; filter.words.toys: "?" has no letter or digit, so it matches no caption: remove it')
    assert len(faults) == 7 and "\n" not in str(caught.value) and "good" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert "widht" in faults[0] and all("is not a condition on an image: " in fault for fault in faults)


def test_images_without_a_score_are_counted_by_category(spark):
    given = scores(
        spark, ("a", "boats", "m1", 0.5), ("a", "cars", "m2", 0.5), ("b", "boats", "m1", 0.5), ("b", "cars", "old", 0.5)
    )
    broken = spark.createDataFrame([("c", "truncated")], "image_id string, reason string")

    failed = spark.createDataFrame(
        [("d", "cars", "m2"), ("d", "boats", "old")], "image_id string, category string, model string"
    )

    found = gaps.unscored(images(spark, "abcd"), broken, failed, given, MODELS)

    assert sorted(tuple(row) for row in found.collect()) == [("boats", 1), ("cars", 1)]


def test_every_image_gets_one_verdict(job, spark):
    job.lake.append(tables.QUARANTINE, quarantine(spark, BROKEN), Recipe("test"))

    first, second = filter.run(job), filter.run(job)

    rows = {row.image_id: (row.kept, len(row.reasons)) for row in job.lake.read(tables.VERDICTS).collect()}
    assert rows == {"a": (True, 0), "b": (False, 2), "c": (False, 1)}
    counts = {"images": 3, "kept": 1, "filtered": 2}
    counts |= {"filtered, boats": 1, "filtered, cars": 1, "filtered, not decodable": 1}
    removed = "1 of 2 undecided images (50.0 %); how many belong to it is unknown without labels of the random sample"
    assert first == second == {**counts, "boats: removed by score": removed, "cars: removed by score": removed}
    warning = "filter: keeps only 1 of 3 images (33.3 %). Removed: boats 1, cars 1, not decodable 1"
    assert warning in job.progress.console.file.getvalue()
    assert job.lake.snapshot().version(tables.VERDICTS) == 0


@pytest.mark.slow
def test_an_image_labelled_positive_is_filtered_whatever_its_score(job, spark):
    job.lake.append(tables.QUARANTINE, quarantine(spark, BROKEN), Recipe("test"))
    assert filter.run(job)["kept"] == 1
    when = [datetime(2024, 1, day, tzinfo=UTC) for day in (1, 2, 3)]
    given = [("a", "boats", False, "import", None, when[0]), ("a", "boats", True, "recall", None, when[1]),
             ("a", "trees", True, "import", None, when[0]), ("b", "boats", False, "random", None, when[1])]  # fmt: skip
    write_rows(job.lake, tables.LABELS, given, Recipe("label"))

    assert filter.run(job)["filtered, boats"] == 2

    rows = {row.image_id: row.reasons for row in job.lake.read(tables.VERDICTS).collect()}
    # A negative label does not override a score: recall goes before precision.
    assert rows["a"] == ["boats: labelled"] and len(rows["b"]) == 2
    taken_back = [("a", "boats", False, "recall", None, when[2])]
    write_rows(job.lake, tables.LABELS, taken_back, Recipe("label"))
    assert filter.run(job)["kept"] == 1


def test_images_without_a_score_stop_the_job(job):
    with pytest.raises(
        WinnowError, match=r"1 images have no score for boats; 1 images have no score for cars.*winnow score"
    ):
        filter.run(job)

    assert not job.lake.exists(tables.VERDICTS)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "boats has no threshold; cars has no threshold: run `winnow calibrate` first"),
        (
            [("boats", "old", 0.5), LIMITS[1]],
            "threshold of boats is for model old, but m1 is in use: run `winnow calibrate`",
        ),
    ],
)
def test_missing_or_stale_thresholds_stop_the_job(job, spark, rows, message):
    job.lake.replace(tables.THRESHOLDS, limits(spark, rows), Recipe("test"))

    with pytest.raises(WinnowError, match=message):
        filter.run(job)


def test_a_threshold_whose_classifier_was_not_compared_with_chance_stops_the_job(job, spark):
    rows = frame(spark, tables.THRESHOLDS, "category model threshold confidence", [(*row, 0.95) for row in LIMITS])
    job.lake.replace(tables.THRESHOLDS, rows, Recipe("test"))

    with pytest.raises(WinnowError, match=r"boats was calibrated before .* compared with chance; .*`winnow calibrate`"):
        filter.run(job)


@pytest.mark.parametrize("stored", [("boats", "m1", 0.5, "settings"), ("boats", "m1", 0.8, "labels")])
def test_a_threshold_that_is_not_the_set_one_stops_the_job(job, spark, stored):
    rows = frame(
        spark, tables.THRESHOLDS, "category model threshold chosen_by", [stored, ("cars", "m2", 0.25, "labels")]
    )
    job.lake.replace(tables.THRESHOLDS, rows, Recipe("test"))
    chosen = Job(job.lake, config.load(overrides=[*CATEGORIES, "categories.boats.threshold=0.8"]), job.progress)

    with pytest.raises(WinnowError, match="the threshold of boats is not the one in the settings: run `winnow cal"):
        filter.run(chosen)


@pytest.mark.slow
def test_a_missing_category_or_rule_stops_the_job_unless_it_is_in_forget(job, spark):
    job.lake.append(tables.QUARANTINE, quarantine(spark, BROKEN), Recipe("test"))
    ruled = [*CATEGORIES, "filter.rules.wide='width > 3'"]
    filter.run(Job(job.lake, config.load(overrides=ruled), job.progress))

    with pytest.raises(WinnowError, match=r"filtered for boats, cars, wide, which .*filter.forget=\[\"boats\", \"cars"):
        filter.run(Job(job.lake, config.load(), job.progress))
    assert job.lake.snapshot().version(tables.VERDICTS) == 0

    without = config.load(overrides=[*CATEGORIES[:1], 'filter.forget=["cars", "wide"]'])
    assert filter.run(Job(job.lake, without, job.progress))["filtered, boats"] == 1
    again = filter.run(Job(job.lake, config.load(overrides=CATEGORIES[:1]), job.progress))
    assert again["kept"] == 1 and job.lake.snapshot().version(tables.VERDICTS) == 1


def test_a_top_share_and_words_filter_and_must_not_be_forgotten(lake, spark):
    fields = [("a", "a boat", 0.9), ("b", "A Doll", 0.8), ("c", "a boat", 0.1), ("d", None, None)]
    rows = [(i, caption, "{}" if value is None else f'{{"similarity": {value}}}') for i, caption, value in fields]
    lake.append(tables.IMAGES, frame(spark, tables.IMAGES, "image_id caption meta", rows), Recipe("test"))
    settings = config.load(overrides=["filter.keep_top.similarity=0.5", 'filter.words.toys=["doll"]'])
    job = Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))

    first, second = filter.run(job), filter.run(job)

    assert {row.image_id: row.reasons for row in lake.read(tables.VERDICTS).collect()} == {
        "a": [],
        "b": ['toys: caption has "doll"'],
        "c": ["similarity: 0.1 < 0.8, not in the top 50 %"],
        "d": ["similarity: no value, not in the top 50 %"],
    }
    counts = {"images": 4, "kept": 1, "filtered": 3, "filtered, similarity": 2, "filtered, toys": 1}
    cutoff = {"cutoff of similarity": 0.8, "without a value of similarity": 1}
    assert first == second == {**counts, "filtered, not decodable": 0, **cutoff}
    assert lake.snapshot().version(tables.VERDICTS) == 0
    assert "1 images have no number in the field similarity" in job.progress.console.file.getvalue()
    with pytest.raises(
        WinnowError, match="the lake was filtered for similarity, toys, which these settings do not have"
    ):
        filter.check_forgotten(Job(lake, config.load(), job.progress), lake.snapshot())


def test_a_rule_that_is_null_for_every_image_gives_a_warning(job):
    unsafe = "filter.rules.unsafe=\"get_json_object(meta, '$.punsafe') > 0.9\""
    settings = config.load(overrides=[unsafe, "filter.rules.other='length(image_id) > 9'"])

    filter.run(Job(job.lake, settings, job.progress))

    printed = job.progress.console.file.getvalue()
    assert "the rule unsafe is null for every image, so it removes none" in printed and "rule other" not in printed


def test_verdicts_without_a_recipe_give_a_warning(job, spark):
    bare = Job(job.lake, config.load(), job.progress)
    frame(spark, tables.VERDICTS, "image_id kept", [("a", False)]).write.format("delta").save(job.lake.path("verdicts"))

    filter.run(bare)

    printed = " ".join(bare.progress.console.file.getvalue().split())
    assert "the table verdicts does not say which categories and rules made it" in printed


def test_without_a_category_everything_is_kept_with_a_note(job):
    bare = Job(job.lake, config.load(), job.progress)

    summary = filter.run(bare)

    assert summary["kept"] == summary["images"] == 3
    assert "the settings have no category and no rule" in job.progress.console.file.getvalue()


def test_verdicts_that_do_not_match_the_images_stop_the_job(job, spark):
    # The same image twice, as a faulty ingest would leave it.
    job.lake.append(tables.IMAGES, images(spark, "a"), Recipe("test"))

    with pytest.raises(LostRowsError, match="4 images, but 4 verdicts on 3"):
        filter.run(Job(job.lake, config.load(), job.progress))

    assert not job.lake.exists(tables.VERDICTS)
