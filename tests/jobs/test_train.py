import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from jobs import config, tables, train
from jobs.job import Job
from jobs.lake import Recipe
from jobs.progress import Progress
from models import runtime
from models.errors import WinnowError
from models.head import Head

BOATS = 'categories.boats={definition="Pictures of boats."}'
OWN = 'categories.cars={definition="Pictures of cars.", model={path="cars.onnx", size=[8, 8]}}'
DIMS = 4


@pytest.fixture
def job(lake, monkeypatch):
    monkeypatch.setattr(train, "current_encoder", lambda job: SimpleNamespace(digest="enc"))
    return Job(lake, config.load(overrides=[BOATS, OWN]), Progress(Console(file=io.StringIO(), width=500)))


def labels(spark, *rows):
    """Rows of the table labels from (image_id, label, origin)."""
    when = datetime(2024, 1, 1, tzinfo=UTC)
    full = [(image_id, "boats", value, origin, None, when) for image_id, value, origin in rows]
    return spark.createDataFrame(full, tables.LABELS.schema)


def signals(spark, ids, encoder="enc"):
    """Embeddings whose first number tells even from odd ids."""
    rng = np.random.default_rng(0)
    rows = []
    for i in ids:
        values = [1.0 if i % 2 else -1.0, *rng.normal(size=DIMS - 1).tolist()]
        rows.append((f"id{i}", None, None, encoder, values, None))
    schema = (
        "image_id string, pdq binary, pdq_quality int, encoder string, embedding array<float>, embedding_hash binary"
    )
    return spark.createDataFrame(rows, schema)


def fill(job, spark, label_rows, ids):
    job.lake.append(tables.LABELS, labels(spark, *label_rows), Recipe("test"))
    rows = signals(spark, ids)
    blank = [name for name in tables.SIGNALS.schema.names if name not in rows.columns]
    job.lake.append(tables.SIGNALS, rows.selectExpr("*", *[f"null as {name}" for name in blank]), Recipe("test"))


def odd_labels(ids):
    return [(f"id{i}", bool(i % 2), "import") for i in ids]


def test_images_with_a_random_label_are_never_trained_on(spark):
    rows = [("id1", True, "import"), ("id2", False, "random"), ("id3", True, "precision"), ("id3", True, "random")]

    found = train.training_labels(labels(spark, *rows), "boats")

    assert [tuple(row) for row in found.collect()] == [("id1", True)]


def test_another_category_sets_nothing_apart(spark):
    rows = labels(spark, ("id1", True, "import"))
    other = labels(spark, ("id1", True, "random")).selectExpr(
        "image_id", "'cars' as category", "label", "origin", "annotator", "labelled_at"
    )

    assert train.training_labels(rows.unionByName(other), "boats").count() == 1


def test_training_set_takes_the_embeddings_of_the_encoder_in_use(spark):
    wanted = train.training_labels(labels(spark, *odd_labels([1, 2])), "boats")
    stored = signals(spark, [1, 2, 3]).unionByName(signals(spark, [1], "old"))

    found = train.training_set(wanted, stored, "enc", seed=0).collect()

    assert sorted((row.image_id, row.label, row.embedding[0]) for row in found) == [
        ("id1", True, 1.0),
        ("id2", False, -1.0),
    ]


def test_the_order_of_a_training_set_depends_on_the_seed_alone(spark):
    wanted = train.training_labels(labels(spark, *odd_labels(range(20))), "boats")
    stored = signals(spark, range(20))

    first, again, other = (
        [row.image_id for row in train.training_set(rows, stored, "enc", seed).collect()]
        for rows, seed in ((wanted, 0), (wanted.repartition(3), 0), (wanted, 1))
    )

    assert first == again
    assert sorted(first) == sorted(other) and first != other


def test_a_head_is_trained_once_and_again_when_labels_come(job, spark):
    fill(job, spark, [*odd_labels(range(30)), ("id30", False, "random"), ("id31", True, "random")], range(32))

    first = train.run(job, "boats")
    model = job.lake.read_file("models/head-boats.onnx")
    second = train.run(job, "boats")
    job.lake.append(tables.LABELS, labels(spark, ("id30", True, "random")), Recipe("test"))
    third = train.run(job, "boats")

    head = Head.load(model, "enc", DIMS)
    scores = head.score(np.array([[1, 0, 0, 0], [-1, 0, 0, 0]], np.float32))
    assert scores[0] > 0.8 and scores[1] < 0.2
    assert (first["positives"], first["negatives"], first["model"]) == (15, 15, runtime.digest(model))
    assert second == first
    assert job.progress.console.file.getvalue().count("up to date") == 1
    # The new label is a random one: trained again, on the same examples, to the same bytes.
    assert third == first
    assert "trained_at" in json.loads(job.lake.read_file("models/head-boats.json"))


@pytest.mark.parametrize(
    ("category", "rows", "ids", "message"),
    [
        ("planes", [], [], "no category 'planes' in the settings, it has boats, cars"),
        ("cars", [], [], r"scored by your own model cars\.onnx"),
        ("boats", [("id1", True, "import"), ("id2", False, "random")], [1, 2], "1 positive and 0 negative labels"),
        ("boats", odd_labels([1, 2, 3]), [1], "2 of 3 images labelled for boats have no embedding.*run `winnow score`"),
    ],
)
def test_what_cannot_be_trained_is_said(job, spark, category, rows, ids, message):
    if rows:
        fill(job, spark, rows, ids)

    with pytest.raises(WinnowError, match=message):
        train.run(job, category)

    assert not job.lake.has_file(f"models/head-{category}.onnx")
