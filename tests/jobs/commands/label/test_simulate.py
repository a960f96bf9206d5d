import io
from datetime import UTC, datetime

import pytest
from rich.console import Console

from jobs.commands.label import simulate
from jobs.commands.label.simulate import SimulationRequest
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.lake_rows import write_rows
from tests.builders.spark_settings import SPARK
from udfs.labels.simulated_labeller import SimulatedLabeller

BOATS = {"a", "c", "e"}


@pytest.fixture
def job(lake):
    """Images a to f, of which a, c and e show boats; a to e are queued as seed, and c also as random."""
    settings = config.load(overrides=[*SPARK, 'categories.boats.definition="b"', 'categories.cars.definition="c"'])
    own = Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))
    images = [{"image_id": f"id-{key}", "key": key, "part": 0} for key in "abcdef"]
    rows = [tuple(row.get(name) for name in tables.IMAGES.schema.names) for row in images]
    write_rows(lake, tables.IMAGES, rows)
    queue(own, "seed", "abcde")
    queue(own, "random", "c")
    return own


def queue(job, strategy, keys, category="boats"):
    now = datetime.now(UTC)
    rows = [(f"id-{key}", category, strategy, "why", place, strategy, now) for place, key in enumerate(keys)]
    made = job.lake.spark.createDataFrame(rows, tables.LABEL_QUEUE.schema)
    job.lake.append(tables.LABEL_QUEUE, made, Recipe("test"))


@pytest.fixture
def truth(job, tmp_path):
    path = str(tmp_path / "truth.parquet")
    rows = [(key, ["boats", "trees"] if key in BOATS else []) for key in "abcde"]
    job.lake.spark.createDataFrame(rows, "key string, categories array<string>").write.parquet(path)
    return path


def labels(job, annotator):
    rows = job.lake.read(tables.LABELS).where(f"annotator = '{annotator}'").orderBy("image_id").collect()
    assert all(row.category == "boats" and row.labelled_at is not None for row in rows)
    return [(row.image_id[3:], row.label, row.origin) for row in rows]


@pytest.mark.slow
def test_each_labeller_labels_the_queue_once_from_the_truth(job, truth):
    always_right = SimulationRequest("boats", truth, SimulatedLabeller())
    expected = [(key, key in BOATS, "random" if key == "c" else "seed") for key in "abcde"]

    assert simulate.run(job, always_right) == {"labels added": 5, "of them yes": 3, "without ground truth": 0}
    assert labels(job, "simulated") == expected
    before = job.lake.snapshot().version(tables.LABELS)
    assert simulate.run(job, always_right)["labels added"] == 0
    assert job.lake.snapshot().version(tables.LABELS) == before

    always_wrong = SimulationRequest("boats", truth, SimulatedLabeller(1.0, name="fool"))
    assert simulate.run(job, always_wrong)["of them yes"] == 2
    assert labels(job, "fool") == [(key, not value, origin) for key, value, origin in expected]
    assert labels(job, "simulated") == expected


def test_image_without_known_truth_is_reported_and_stays_queued(job, truth):
    queue(job, "recall", "f")

    summary = simulate.run(job, SimulationRequest("boats", truth, SimulatedLabeller()))

    assert summary == {"labels added": 5, "of them yes": 3, "without ground truth": 1}
    assert "1 queued images are not in" in job.progress.console.file.getvalue()
    assert "f" not in [key for key, *_ in labels(job, "simulated")]


def test_unusable_requests_fail_with_one_line(job, truth, tmp_path):
    for category, file, message in (
        ("planes", truth, "no category 'planes'"),
        (
            "boats",
            str(tmp_path / "none.parquet"),
            r"none\.parquet cannot be used .*: give a Parquet file with the columns key",
        ),
        ("boats", job.lake.path("images"), "cannot be used .*: give a Parquet file"),
    ):
        with pytest.raises(WinnowError, match=message) as caught:
            simulate.run(job, SimulationRequest(category, file, SimulatedLabeller()))
        assert "\n" not in str(caught.value)
    assert simulate.run(job, SimulationRequest("cars", truth, SimulatedLabeller()))["labels added"] == 0
    assert not job.lake.exists(tables.LABELS)
