import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from jobs.commands.label.strategies import random_sample as chance
from jobs.commands.label.strategies.request import PickRequest, Pool
from jobs.job import Job
from jobs.labels import random_sample
from jobs.lake import tables
from jobs.runtime import config
from jobs.runtime.progress import Progress
from tests.builders.lake_rows import write_rows

NOW = datetime(2024, 1, 1, tzinfo=UTC)
DRAWN = 12


@pytest.fixture
def job(lake):
    return Job(lake, config.load(), Progress(Console(file=io.StringIO(), width=500)))


def order(job):
    """Thirty images in the order in which they are drawn at random."""
    pool = job.lake.spark.createDataFrame([(f"i{n}",) for n in range(30)], "image_id string")
    picked = chance.pick(job, PickRequest("boats", "random", 30), Pool(pool, pool, pool, None, 0))
    return [pick.image_id for pick in picked]


def append(job, table, rows):
    write_rows(job.lake, table, rows)


def fill(job, drawn, labelled, scored):
    """Queues images in order as two batches, labels some of them as random and scores some of the lake."""
    queue = [
        (image_id, "boats", "random", "", place % 8, f"batch {place // 8}", NOW + timedelta(days=place // 8))
        for place, image_id in enumerate(drawn)
    ]
    # Rows of another strategy, category or model must not count.
    queue += [("other", "boats", "recall", "", 0, "b", NOW), ("i29", "cars", "random", "", 0, "c", NOW)]
    append(job, tables.LABEL_QUEUE, queue)
    append(job, tables.LABELS, [(i, "boats", False, "random", None, NOW) for i in labelled])
    given = [(i, "boats", "m1", 0.5) for i in [*scored, *scored]]
    append(job, tables.SCORES, [*given, ("x", "boats", "m2", 0.5), ("y", "cars", "m1", 0.5)])


def gaps(job):
    return random_sample.gaps(job, "boats", "m1")


def test_beginning_of_the_random_order_has_no_gaps(job):
    images = order(job)
    # The last four wait, after all answered images.
    fill(job, images[:DRAWN], images[: DRAWN - 4], images)

    assert gaps(job) == {}


def test_unanswered_images_before_answered_ones_are_reported(job):
    images = order(job)
    fill(job, images[:DRAWN], [i for n, i in enumerate(images[:DRAWN]) if n not in (3, 5, 11)], images)
    # Unsure counts as an answer; a label of another origin does not.
    append(job, tables.UNSURE, [(images[5], "boats", "random", "ann", NOW)])
    append(job, tables.LABELS, [(images[3], "boats", True, "import", None, NOW)])

    (gap,) = gaps(job).items()
    assert gap[0] == "random images passed over" and gap[1].startswith("1 have no label although later images have one")


def test_new_images_that_belong_in_the_sample_are_reported(job):
    images = order(job)
    late = {images[2], images[7], images[9], images[-1]}
    there = [i for i in images if i not in late]
    # One of the late images has a label by now, and would not be drawn any more.
    fill(job, there[:DRAWN], [*there[:DRAWN], images[9]], images)

    (gap,) = gaps(job).items()
    assert gap[0] == "images that came since" and gap[1].startswith("2 belong in the random sample")
    assert "`winnow label next boats --strategy random --count 2`" in gap[1]


def test_with_another_seed_only_the_order_of_the_queue_is_checked(job):
    images = order(job)
    fill(job, images[:DRAWN], [i for n, i in enumerate(images[:DRAWN]) if n != 3], images)
    other = Job(job.lake, config.load(overrides=["seed=5"]), job.progress)

    waiting, seed = gaps(other).items()
    assert waiting[0] == "random images passed over" and waiting[1].startswith("1 have no label although")
    text = "the random sample was not drawn with seed 5, so Winnow cannot check whether images came since then"
    assert seed == ("another seed", text)


def test_no_random_sample_has_no_gaps(job):
    assert gaps(job) == {}


def test_unsettled_has_each_unsure_image_without_random_label_once(spark):
    rows = [("a", "boats", "random", "ann"), ("a", "boats", "random", "bob"), ("b", "boats", "random", "ann"),
             ("c", "boats", "seed", "ann"), ("d", "cars", "random", "ann")]  # fmt: skip
    unsure = spark.createDataFrame([(*row, NOW) for row in rows], tables.UNSURE.schema)
    given = [("a", "boats", True, "import", None, NOW), ("b", "boats", False, "random", None, NOW)]
    labels = spark.createDataFrame(given, tables.LABELS.schema)

    assert [row.image_id for row in random_sample.unsettled(labels, unsure, "boats").collect()] == ["a"]
