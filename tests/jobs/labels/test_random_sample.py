import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from jobs.commands.label.next import PickRequest
from jobs.commands.label.strategies import random_sample as chance
from jobs.job import Job
from jobs.labels import random_sample
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress

NOW = datetime(2024, 1, 1, tzinfo=UTC)
DRAWN = 12


@pytest.fixture
def job(lake):
    return Job(lake, config.load(), Progress(Console(file=io.StringIO(), width=500)))


def order(job):
    """Thirty images in the order in which they are drawn at random."""
    pool = job.lake.spark.createDataFrame([(f"i{n}",) for n in range(30)], "image_id string")
    return [pick.image_id for pick in chance.pick(job, PickRequest("boats", "random", 30), pool, None)]


def append(job, table, rows):
    job.lake.append(table, job.lake.spark.createDataFrame(rows, table.schema), Recipe("test"))


def fill(job, drawn, labelled, scored):
    """Queues images in order as two batches, labels some of them as random and scores some of the lake."""
    queue = [
        (image_id, "boats", "random", "", place % 8, f"batch {place // 8}", NOW + timedelta(days=place // 8))
        for place, image_id in enumerate(drawn)
    ]
    # Neither another strategy, nor another category, nor another model has a say.
    queue += [("other", "boats", "recall", "", 0, "b", NOW), ("i29", "cars", "random", "", 0, "c", NOW)]
    append(job, tables.LABEL_QUEUE, queue)
    append(job, tables.LABELS, [(i, "boats", False, "random", None, NOW) for i in labelled])
    given = [(i, "boats", "m1", 0.5) for i in [*scored, *scored]]
    append(job, tables.SCORES, [*given, ("x", "boats", "m2", 0.5), ("y", "cars", "m1", 0.5)])


def said(job):
    return random_sample.gaps(job, "boats", "m1")


def test_a_beginning_of_the_random_order_has_no_gaps(job):
    images = order(job)
    # The last four wait, and come after all that are answered.
    fill(job, images[:DRAWN], images[: DRAWN - 4], images)

    assert said(job) == {}


def test_images_that_wait_among_those_that_are_answered_are_told(job):
    images = order(job)
    fill(job, images[:DRAWN], [i for n, i in enumerate(images[:DRAWN]) if n not in (3, 5, 11)], images)
    # Unsure is an answer; a label of another origin is none.
    append(job, tables.UNSURE, [(images[5], "boats", "random", "ann", NOW)])
    append(job, tables.LABELS, [(images[3], "boats", True, "import", None, NOW)])

    (told,) = said(job).items()
    assert told[0] == "random images passed over" and told[1].startswith("1 wait for a label among those that have one")


def test_images_that_came_since_and_would_have_been_drawn_are_told(job):
    images = order(job)
    late = {images[2], images[7], images[9], images[-1]}
    there = [i for i in images if i not in late]
    # One of the late ones has been labelled by now, and would not be drawn any more.
    fill(job, there[:DRAWN], [*there[:DRAWN], images[9]], images)

    (told,) = said(job).items()
    assert told[0] == "images that came since" and told[1].startswith("2 would be in the random sample")
    assert "`winnow label next boats --strategy random --count 2`" in told[1]


def test_by_another_seed_only_the_order_of_the_queue_is_known(job):
    images = order(job)
    fill(job, images[:DRAWN], [i for n, i in enumerate(images[:DRAWN]) if n != 3], images)
    other = Job(job.lake, config.load(overrides=["seed=5"]), job.progress)

    waiting, seed = said(other).items()
    assert waiting[0] == "random images passed over" and waiting[1].startswith("1 wait")
    assert seed == ("another seed", "the random sample was drawn by another than 5, so whether images came since "
                    "cannot be told")  # fmt: skip


def test_without_a_random_sample_nothing_is_said(job):
    assert said(job) == {}


def test_images_are_unsettled_once_and_only_while_they_have_no_random_label(spark):
    asked = [("a", "boats", "random", "ann"), ("a", "boats", "random", "bob"), ("b", "boats", "random", "ann"),
             ("c", "boats", "seed", "ann"), ("d", "cars", "random", "ann")]  # fmt: skip
    unsure = spark.createDataFrame([(*row, NOW) for row in asked], tables.UNSURE.schema)
    given = [("a", "boats", True, "import", None, NOW), ("b", "boats", False, "random", None, NOW)]
    labels = spark.createDataFrame(given, tables.LABELS.schema)

    assert [row.image_id for row in random_sample.unsettled(labels, unsure, "boats").collect()] == ["a"]
