from datetime import UTC, datetime

from jobs.commands.calibrate import trained_on
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import HEAD, head_files
from models.inference import onnx_session
from tests.builders.lake_rows import write_rows

NOW = datetime(2024, 1, 1, tzinfo=UTC)


def label(lake, *rows):
    """Adds labels of boats from (image_id, label, origin)."""
    write_rows(lake, tables.LABELS, [(i, "boats", value, origin, None, NOW) for i, value, origin in rows])


def train(lake):
    """Stores a head with the recipe that `train` would store now."""
    lake.write_file(HEAD.format("boats"), b"head")
    made = Recipe("train", lake.snapshot().inputs(tables.LABELS, tables.LABEL_QUEUE))
    head_files("boats").keep(lake, made.with_result({"model": onnx_session.digest(b"head")}))


def test_a_random_label_of_an_image_that_the_head_was_trained_on_is_found(job):
    lake = job.lake
    assert trained_on.check(job, "boats") is None
    label(lake, ("a", True, "import"), ("b", False, "import"), ("queued", True, "import"))
    write_rows(lake, tables.LABEL_QUEUE, [("queued", "boats", "random", "", 0, "batch", NOW)])
    train(lake)

    label(lake, ("c", True, "random"))
    assert trained_on.check(job, "boats") is None
    label(lake, ("a", True, "random"), ("queued", True, "random"))

    assert trained_on.check(job, "boats") == (
        "its head was trained on 1 image of the random sample, by a label of another origin: run `winnow train boats`, "
        "`winnow score` and `winnow calibrate`"
    )
    train(lake)
    assert trained_on.check(job, "boats") is None


def test_if_the_labels_of_the_training_are_gone_each_image_with_both_kinds_counts(job):
    lake = job.lake
    label(lake, ("a", True, "import"), ("b", True, "random"))
    train(lake)
    lake.drop(tables.LABELS)
    label(lake, ("a", True, "import"), ("a", True, "random"), ("b", True, "random"))

    assert trained_on.check(job, "boats").startswith("its head may have been trained on 1 image of the random sample")
