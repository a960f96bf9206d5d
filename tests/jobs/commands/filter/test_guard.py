import io
import shlex
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from rich.console import Console

from jobs.commands.calibrate import command as calibrate
from jobs.commands.filter import command as filter
from jobs.commands.filter import guard
from jobs.commands.filter.guard import Removal, Removals
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.stats import thresholds
from models.stats.ranking import ranking
from models.stats.thresholds import Target
from tests.builders.lake_rows import write_rows

DOGS = Removal("dogs", 1000, 100, 10, 190, 0, 0.95)
CATS = Removal("cats", 1000, 300, 60, 140, 0, 0.95)
NOW = datetime(2024, 1, 1, tzinfo=UTC)


def settings(*overrides):
    given = [f'categories.{name}={{definition="d", recall=0.9}}' for name in ("dogs", "cats")]
    return config.load(overrides=[*given, *overrides])


def check(found, *overrides):
    loaded = settings(*overrides)
    guard.check(found, loaded.categories, loaded.filter, "winnow filter")


def removals(*each, together=0):
    return Removals(each, 1000, together)


def test_a_classifier_that_removes_about_what_belongs_to_its_category_passes():
    check(removals(DOGS, CATS, together=380))


def test_a_classifier_that_removes_too_many_times_its_category_stops_the_filter():
    # At most 9.0 % of the images are dogs, so 27 % may be removed.
    assert DOGS.prevalence[2] == pytest.approx(0.09, abs=0.0005)
    check(removals(replace(DOGS, removed=269)))

    with pytest.raises(WinnowError) as caught:
        check(removals(replace(DOGS, removed=400)))

    said = str(caught.value)
    assert said.startswith(
        "dogs would remove 400 of 1,000 undecided images (40.0 %) by score, but at most 9.1 % of the "
        "images belong to it by 200 labels of the random sample (95 % confidence), and filter.max_dropped_ratio = 3 "
        "allows 3 times"
    )
    assert "--strategy precision" in said and "lower categories.dogs.recall" in said and "\n" not in said
    assert said.endswith("let it through with `winnow filter --set filter.max_dropped_ratio=5`")
    check(removals(replace(DOGS, removed=400)), "filter.max_dropped_ratio=5")


def test_all_categories_together_may_remove_half_of_the_images():
    check(removals(CATS, together=500))

    with pytest.raises(
        WinnowError, match=r"dogs, cats would remove 501 of 1,000 undecided images \(50.1 %\)"
    ) as caught:
        check(removals(DOGS, CATS, together=501))

    assert "filter.max_dropped = 0.5 allows 50%" in str(caught.value)
    assert "--strategy precision" in str(caught.value) and "next cats" in str(caught.value)
    assert str(caught.value).endswith("`winnow filter --set filter.max_dropped=0.501`")
    check(removals(DOGS, CATS, together=501), "filter.max_dropped=0.501")


def test_both_limits_are_named_at_once():
    with pytest.raises(WinnowError, match=r"--set filter.max_dropped_ratio=10 --set filter.max_dropped=0.9`"):
        check(removals(replace(DOGS, removed=900), together=900))


def test_a_set_threshold_is_not_checked():
    check(removals(replace(DOGS, removed=1000)), "categories.dogs.threshold=0.2")


def test_an_own_model_is_replaced_and_not_trained():
    own = 'categories.dogs.model={path="dogs.onnx", size=[8, 8]}'

    with pytest.raises(WinnowError, match=r"use a better model for dogs, or lower categories\.dogs\.recall") as caught:
        check(removals(replace(DOGS, removed=900)), own)

    assert "winnow train" not in str(caught.value)


def test_unsure_images_raise_what_may_be_removed():
    check(removals(replace(DOGS, removed=400, unsure=30)))


def test_without_random_labels_the_share_in_the_category_is_unknown():
    none = replace(DOGS, positives=0, negatives=0, removed=450)

    check(removals(none, together=450))

    assert none.in_words().endswith("(45.0 %); how many belong to it is unknown without labels of the random sample")


def blind_scores(rng, truth):
    """Scores of a head that knows most images of its category, and that is blind to each sixth: these score lowest."""
    logits = rng.normal(0, 1, len(truth)) + np.where(truth, 2.0, 0.0)
    logits[np.flatnonzero(truth)[::6]] -= 6
    return 1 / (1 + np.exp(4 - logits))


@pytest.mark.parametrize("seed", range(5))
def test_a_head_that_is_blind_to_a_part_of_its_category_is_stopped(seed):
    # 250 random labels and a wanted recall of 0.9: the threshold that the bound asks for drops nearly every image.
    rng = np.random.default_rng(seed)
    truth = np.arange(500) % 7 == 0
    scores = blind_scores(rng, truth)
    random = np.arange(500) < 250
    yes, no = random & truth, random & ~truth

    found = thresholds.calibrate(scores[yes], scores[no], Target(0.9, 0.95, 0.002))

    removed = int((scores >= found.threshold).sum())
    assert removed >= 480 and found.recall_lower >= 0.9 and found.threshold < 0.01
    assert ranking(scores[yes], scores[no], [], 0.95).better_than_chance
    with pytest.raises(WinnowError, match="dogs would remove"):
        check(Removals((Removal("dogs", 500, removed, int(yes.sum()), int(no.sum()), 0, 0.95),), 500, removed))


@pytest.fixture
def job(lake, monkeypatch):
    """A lake of 500 images of which a seventh are dogs, with 250 random labels and no scores yet."""
    for command in (calibrate, filter):
        monkeypatch.setattr(command, "current_models", lambda job: dict.fromkeys(job.settings.categories, "m"))
    ids, truth = [f"{i:03}" for i in range(500)], np.arange(500) % 7 == 0
    blank = len(tables.IMAGES.schema) - 3
    write_rows(lake, tables.IMAGES, [(i, f"{i}.jpg", "folder", *[None] * (blank - 1), 0) for i in ids])
    labels = [(ids[i], "dogs", bool(truth[i]), "random", None, NOW) for i in range(250)]
    write_rows(lake, tables.LABELS, labels)
    return Job(lake, one_category(), Progress(Console(file=io.StringIO(), width=500)))


def one_category(*overrides):
    return config.load(overrides=['categories.dogs={definition="d", recall=0.9}', *overrides])


def score(job, scores):
    rows = [(f"{i:03}", "dogs", "m", float(value)) for i, value in enumerate(scores)]
    write_rows(job.lake, tables.SCORES, rows, mode="overwrite")


def test_a_head_that_knows_nothing_gets_no_threshold_and_filters_nothing(job):
    score(job, np.random.default_rng(4).random(500))

    with pytest.raises(
        WinnowError, match=r"no threshold for dogs: 36 positive and 214 negative labels of the random sample do not"
    ):
        calibrate.run(job)
    with pytest.raises(WinnowError, match="dogs has no threshold: run `winnow calibrate` first"):
        filter.run(job)

    assert job.lake.read(tables.THRESHOLDS).isEmpty() and not job.lake.exists(tables.VERDICTS)


def test_a_blind_head_stops_the_filter_before_it_writes_unless_it_is_let_through(job):
    score(job, blind_scores(np.random.default_rng(1), np.arange(500) % 7 == 0))
    assert calibrate.run(job)["dogs: recall at least"].startswith("9")

    with pytest.raises(WinnowError, match=r"dogs would remove 4\d\d of 464 undecided images") as caught:
        filter.run(job)

    assert not job.lake.exists(tables.VERDICTS)
    words = shlex.split(str(caught.value).rpartition("`")[0].rpartition("`")[2])
    assert words[:4] == ["winnow", "filter", "--lake", job.lake.uri] and set(words[4::2]) == {"--set"}
    allowed = Job(job.lake, one_category(*words[5::2]), job.progress)
    found = filter.run(allowed)
    assert found["kept"] < 20
    assert found["dogs: removed by score"].endswith(
        "14.4 % [10.3, 19.4] belong to it, by 250 labels of the random sample"
    )
    assert "filter: keeps only" in job.progress.console.file.getvalue()
    # An up-to-date filter is checked too, with the settings of this run.
    with pytest.raises(WinnowError, match="dogs would remove"):
        filter.run(job)


def test_images_are_counted_once_and_not_if_they_are_labelled_positive(spark):
    rows = [("a", "dogs", "m", 0.9), ("a", "dogs", "m", 0.9), ("a", "cats", "m", 0.1), ("b", "dogs", "m", 0.1),
            ("b", "cats", "m", 0.9), ("c", "dogs", "m", 0.9), ("c", "cats", "m", 0.9), ("d", "dogs", "old", 0.9),
            ("d", "dogs", "m", 0.5)]  # fmt: skip
    scores = spark.createDataFrame([(*row, 0) for row in rows], tables.SCORES.schema)
    limits = spark.createDataFrame(
        [("dogs", "m", 0.5), ("cats", "m", 0.5)], "category string, model string, threshold double"
    )
    settled = spark.createDataFrame([("c", "dogs"), ("a", "cats")], "image_id string, category string")

    def counts(**trained):
        return guard.removed_by_score(scores, limits, settled, trained).first().asDict()

    each = {"images dogs": 3, "removed dogs": 2, "images cats": 2, "removed cats": 2}
    assert counts(dogs=True, cats=True) == {"images": 4, "removed": 4, **each}
    assert counts(dogs=True, cats=False) == {"images": 3, "removed": 2, **each}
    assert counts(dogs=False, cats=False) == {"images": 0, "removed": 0, **each}
