import io
import json
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from rich.console import Console

from jobs.commands import train
from jobs.job import Job
from jobs.labels import embeddings, sets
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.inference import onnx_session
from models.inference.head import Head

BOATS = 'categories.boats={definition="Pictures of boats."}'
OWN = 'categories.cars={definition="Pictures of cars.", model={path="cars.onnx", size=[8, 8]}}'
DIMS = 4
BY = ("newest", "majority")


@pytest.fixture
def job(lake, monkeypatch):
    monkeypatch.setattr(train, "semantic_encoder", lambda job: SimpleNamespace(digest="enc"))
    return Job(lake, config.load(overrides=[BOATS, OWN]), Progress(Console(file=io.StringIO(), width=500)))


def labels(spark, *rows):
    """Returns rows of the table labels from (image_id, label, origin)."""
    when = datetime(2024, 1, 1, tzinfo=UTC)
    full = [(image_id, "boats", value, origin, None, when) for image_id, value, origin in rows]
    return spark.createDataFrame(full, tables.LABELS.schema)


def features(spark, ids, encoder="enc"):
    """Returns embeddings whose first number separates even from odd ids."""
    rng = np.random.default_rng(0)
    rows = []
    for i in ids:
        values = [1.0 if i % 2 else -1.0, *rng.normal(size=DIMS - 1).tolist()]
        rows.append((f"id{i}", encoder, values, 0))
    return spark.createDataFrame(rows, tables.FEATURES.schema)


def fill(job, spark, label_rows, ids):
    job.lake.append(tables.LABELS, labels(spark, *label_rows), Recipe("test"))
    job.lake.append(tables.FEATURES, features(spark, ids), Recipe("test"))
    known = spark.createDataFrame([(f"id{i}", f"k{i}") for i in range(32)], "image_id string, key string")
    others = [name for name in tables.IMAGES.schema.names if name not in known.columns]
    images = known.selectExpr("*", *[f"{0 if name == 'part' else 'null'} as {name}" for name in others])
    job.lake.append(tables.IMAGES, images, Recipe("test"))


def odd_labels(ids):
    return [(f"id{i}", bool(i % 2), "import") for i in ids]


def queue(spark, *rows):
    """Returns rows of the table label_queue from (image_id, strategy)."""
    full = [(image_id, "boats", strategy, "", 0, "b", None) for image_id, strategy in rows]
    return spark.createDataFrame(full, tables.LABEL_QUEUE.schema)


def training_labels(spark, rows, queued=(), by="newest"):
    return sets.training_labels(rows, queue(spark, *queued), "boats", by)


def test_images_with_a_random_label_are_never_trained_on(spark):
    rows = [("id1", True, "import"), ("id2", False, "random"), ("id3", True, "precision"), ("id3", True, "random")]

    found = training_labels(spark, labels(spark, *rows, ("id4", True, "import")), [("id4", "random"), ("id1", "seed")])

    assert [(row.image_id, row.label) for row in found.collect()] == [("id1", True)]


def test_random_labels_of_another_category_do_not_exclude_an_image(spark):
    rows = labels(spark, ("id1", True, "import"))
    other = labels(spark, ("id1", True, "random")).selectExpr(
        "image_id", "'cars' as category", "label", "origin", "annotator", "labelled_at"
    )

    assert training_labels(spark, rows.unionByName(other)).count() == 1


def test_the_training_set_has_the_embeddings_of_labelled_images(spark):
    made = training_labels(spark, labels(spark, *odd_labels([1, 2])))

    found = embeddings.training_set(made, features(spark, [1, 2, 3]), seed=0).collect()

    assert sorted((row.image_id, row.label, row.embedding[0]) for row in found) == [
        ("id1", True, 1.0),
        ("id2", False, -1.0),
    ]


def test_a_training_set_has_each_image_once_and_some_of_each_class(spark, monkeypatch):
    monkeypatch.setattr(embeddings, "MOST_LABELS", 3)
    rows = [("id0", True, "import"), *[(f"id{i}", False, "import") for i in range(1, 20)]]
    stored = features(spark, range(20))

    found = embeddings.training_set(training_labels(spark, labels(spark, *rows)), stored.unionByName(stored), 0)

    ids = [row.image_id for row in found.collect()]
    assert len(ids) == 4 == len(set(ids)) and "id0" in ids


def test_the_order_of_a_training_set_depends_only_on_the_seed(spark):
    made = training_labels(spark, labels(spark, *odd_labels(range(20))))
    stored = features(spark, range(20))

    first, again, other = (
        [row.image_id for row in embeddings.training_set(rows, stored, seed).collect()]
        for rows, seed in ((made, 0), (made.repartition(3), 0), (made, 1))
    )

    assert first == again
    assert sorted(first) == sorted(other) and first != other


@pytest.mark.slow
def test_a_head_is_trained_again_only_when_labels_change(job, spark):
    fill(job, spark, [*odd_labels(range(30)), ("id30", False, "random"), ("id31", True, "random")], range(32))

    first = train.run(job, "boats")
    model = job.lake.read_file("models/head-boats.onnx")
    second = train.run(job, "boats")
    job.lake.append(tables.LABELS, labels(spark, ("id30", True, "random")), Recipe("test"))
    third = train.run(job, "boats")

    head = Head.load(model, "enc", DIMS)
    scores = head.score(np.array([[1, 0, 0, 0], [-1, 0, 0, 0]], np.float32))
    assert scores[0] > 0.8 and scores[1] < 0.2
    assert (first["positives"], first["negatives"], first["model"]) == (15, 15, onnx_session.digest(model))
    assert second == first
    assert job.progress.console.file.getvalue().count("up to date") == 1
    # The new label is a random one: training runs again on the same examples and gives the same bytes.
    assert third == first
    assert "trained_at" in json.loads(job.lake.read_file("models/head-boats.json"))


def test_labels_of_unknown_images_are_reported_and_ignored(job, spark):
    fill(job, spark, [*odd_labels(range(8)), ("gone", True, "import"), ("id1", False, "seed")], range(32))

    found = embeddings.labelled_embeddings(job, "boats", job.lake.read(tables.FEATURES))
    sets.report_contradictions(job, job.lake.read(tables.LABELS), "train", "boats")

    assert sorted(found.image_ids) == [f"id{i}" for i in range(8)] and found.embeddings.shape == (8, DIMS)
    printed = job.progress.console.file.getvalue()
    assert "train: ignored 1 labels for boats, whose images are not in the table images: gone" in printed
    text = 'train: 1 images are labelled both yes and no for boats; labels.contradictions = "newest" decides: id1'
    assert text in printed
    assert job.lake.read(tables.LABELS).where("image_id = 'gone'").count() == 1


def test_contradicting_labels_are_resolved_by_the_newest_or_the_majority(spark):
    def given(image_id, annotator, value, day):
        return image_id, "boats", value, "seed", annotator, datetime(2024, 1, day, tzinfo=UTC)

    rows = [
        *[given("a", "ann", True, 1), given("a", "bob", True, 1), given("a", "cy", False, 2)],
        *[given("b", "ann", True, 1), given("b", "bob", False, 2)],
        # Several labels of one person are one vote.
        *[
            given("c", "ann", True, 1),
            given("c", "ann", True, 2),
            given("c", "ann", False, 3),
            given("c", "bob", False, 1),
        ],
    ]
    frame = spark.createDataFrame(rows, tables.LABELS.schema)

    newest, majority = (
        {row.image_id: row.label for row in training_labels(spark, frame, (), by).collect()} for by in BY
    )

    assert newest == {"a": False, "b": False, "c": False}
    assert majority == {"a": True, "b": False, "c": False}


def test_the_exported_head_stores_what_it_was_trained_on(job, spark):
    fill(job, spark, odd_labels(range(30)), range(30))

    summary = train.run(job, "boats")

    model = onnx.load_model_from_string(job.lake.read_file("models/head-boats.onnx"))
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert metadata == {
        **{"category": "boats", "encoder": "enc", "positives": "15", "negatives": "15"},
        **{"hidden": "0", "weight_decay": f"{summary['weight decay']:g}"},
        **{"labels": metadata["labels"], "lowest_positive": metadata["lowest_positive"]},
        **{key: f"{summary[key]:.4f}" for key in ("auc", "average_precision")},
    }
    assert len(metadata["labels"]) == 16 and 0 < float(metadata["lowest_positive"]) < 1


@pytest.mark.parametrize(
    ("category", "rows", "ids", "message"),
    [
        ("planes", [], [], "no category 'planes' in the settings, they have boats, cars"),
        ("cars", [], [], r"scored by your own model cars\.onnx"),
        ("boats", [("id1", True, "import"), ("id2", False, "random")], [1, 2], "1 positive and 0 negative labels"),
        ("boats", [("id1", False, "import")], [1], "0 positive and 1 negative.*--strategy seed`, label the images"),
        ("boats", odd_labels([1, 2, 3]), [1], "1 positive and 0 negative labels"),
    ],
)
def test_missing_labels_or_embeddings_are_errors(job, spark, category, rows, ids, message):
    if rows:
        fill(job, spark, rows, ids)

    with pytest.raises(WinnowError, match=message):
        train.run(job, category)

    assert not job.lake.has_file(f"models/head-{category}.onnx")
    if len(rows) > len(ids):
        printed = job.progress.console.file.getvalue()
        assert "train: ignored 2 labels for boats, whose images have no features: id2, id3" in printed
