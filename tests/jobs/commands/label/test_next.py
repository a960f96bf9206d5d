import io
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from jobs.commands import train
from jobs.commands.label import next
from jobs.commands.label.next import PickRequest
from jobs.commands.label.strategies import precision
from jobs.commands.label.strategies.around import Queries, around
from jobs.job import Job
from jobs.labels import random_order, sets, unseen
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.inference.encoder import projection
from models.inference.onnx_image_spec import ImageInput
from tests.builders.lake_rows import completed, write_rows
from udfs.hashes.hamming import distances, words

SET = [
    'categories.boats={definition="Pictures of boats."}',
    'categories.cars={definition="Pictures of cars."}',
    'categories.own={definition="o", model={path="cars.onnx", size=[8, 8]}}',
    "label_next.folds=4",
    "label_next.repeats=3",
]
DIMS, NEAR = 8, 6
# Groups of images: two of boats (a small one that differs from the large one), and three of other things.
SIZES = {"sail": 40, "raft": 12, "tree": 60, "house": 60, "hill": 60}
BOATS = ("sail", "raft")


def embeddings():
    """Returns ids and unit vectors: each group is around its own axis, and each image has an exact copy."""
    rng = np.random.default_rng(0)
    ids, rows = [], []
    for axis, (group, size) in enumerate(SIZES.items()):
        for number in range(size // 2):
            row = np.eye(DIMS)[axis] + rng.normal(size=DIMS) * 0.15
            ids += [f"{group}-{number}", f"{group}-{number}-copy"]
            rows += [row, row]
    vectors = np.array(rows, np.float32)
    return ids, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


ENCODER = SimpleNamespace(
    digest="enc",
    dims=DIMS,
    input=ImageInput("enc.onnx", (8, 8)),
    presumed_distance=NEAR,
    embed=lambda images: np.eye(DIMS, dtype=np.float32)[[1] * len(images)],
)


@pytest.fixture(scope="module")
def filled(spark, tmp_path_factory):
    """A lake with signals and features, and nothing else."""
    lake = Lake(spark, str(tmp_path_factory.mktemp("lake")))
    ids, vectors = embeddings()
    bits = np.packbits(vectors @ projection(DIMS) > 0, axis=1)
    rows = pd.DataFrame({"image_id": ids, "encoder": "enc"})
    rows["embedding"], rows["embedding_hash"] = [v.tolist() for v in vectors], [b.tobytes() for b in bits]
    frame = spark.createDataFrame(rows)
    lake.append(tables.SIGNALS, completed(frame, tables.SIGNALS), Recipe("test"))
    lake.append(tables.FEATURES, completed(frame, tables.FEATURES), Recipe("test"))
    return lake


@pytest.fixture
def job(filled, monkeypatch):
    monkeypatch.setattr(next, "current_encoder", lambda job: ENCODER)
    for module in (next, train):
        monkeypatch.setattr(module, "semantic_encoder", lambda job: ENCODER)
    yield Job(filled, config.load(overrides=SET), Progress(Console(file=io.StringIO(), width=500)))
    for name in ("labels", "label_queue", "thresholds", "unsure", "models"):
        shutil.rmtree(Path(filled.uri) / name, ignore_errors=True)


def label(job, ids, origin="seed", category="boats"):
    when = datetime(2024, 1, 1, tzinfo=UTC)
    rows = [(i, category, i.startswith(BOATS), origin, None, when) for i in ids]
    write_rows(job.lake, tables.LABELS, rows)


def calibrated(job, rows):
    frame = job.lake.spark.createDataFrame(rows, "category string, model string, threshold double")
    blank = [f.name for f in tables.THRESHOLDS.schema if f.name not in frame.columns]
    job.lake.append(tables.THRESHOLDS, frame.selectExpr("*", *[f"null as {n}" for n in blank]), Recipe("test"))


def picked(job, strategy, count, **more):
    return [pick.image_id for pick in next.run(job, PickRequest("boats", strategy, count, **more)).picks]


def groups(ids):
    return [i.split("-")[0] for i in ids]


@pytest.mark.slow
def test_random_samples_never_overlap_and_are_queued_in_order(job):
    label(job, ["tree-0"])

    first, second = picked(job, "random", 100), picked(job, "random", 500)

    assert len(first) == 100 and sorted(first + second) == sorted(set(embeddings()[0]) - {"tree-0"})
    queue = job.lake.read(tables.LABEL_QUEUE).orderBy("queued_at", "place").collect()
    assert [row.image_id for row in queue] == first + second
    assert {(row.category, row.strategy) for row in queue} == {("boats", "random")}
    assert len({row.batch for row in queue}) == 2 and "set apart" in queue[0].reason
    assert "found 131 of the 500 images requested" in job.progress.console.file.getvalue()
    with pytest.raises(WinnowError, match=r"already labelled or queued for boats: .*`winnow label serve boats`"):
        picked(job, "random", 1)


def test_random_order_depends_only_on_seed_and_purpose(job):
    everything = job.lake.read(tables.FEATURES).select("image_id")

    orders = [
        [row.image_id for row in random_order.in_random_order(rows, seed, purpose).collect()]
        for rows, seed, purpose in (
            (everything, 0, "a"),
            (everything.repartition(7), 0, "a"),
            (everything, 1, "a"),
            (everything, 0, "b"),
        )
    ]

    assert orders[0] == orders[1] and orders[0] != orders[2] and orders[0] != orders[3]
    # The first half has about half of each group.
    shares = pd.Series(groups(orders[0][:116])).value_counts()
    assert all(abs(shares[group] / size - 0.5) < 0.3 for group, size in SIZES.items())


def test_queued_random_images_are_never_trained_on_whatever_their_origin(job):
    random = picked(job, "random", 30)
    label(job, random[:10], "random")
    label(job, random[10:20], "import")
    label(job, ["sail-0", "tree-0"] if not {"sail-0", "tree-0"} & set(random) else ["sail-1", "tree-1"])

    found = sets.training_labels(job.lake.read(tables.LABELS), job.lake.read(tables.LABEL_QUEUE), "boats")

    assert len(found.collect()) == 2
    assert not {row.image_id for row in found.collect()} & set(random)


def test_sample_over_all_scores_has_images_of_every_band(spark):
    rows = [(f"{i:04d}", 0.9 if i < 20 else 0.1) for i in range(2000)]
    scored = spark.createDataFrame(rows, "image_id string, score float")

    found = [row.image_id for row in precision.over_all_scores(scored, 0, 20).collect()]

    assert len(found) == 20 and 5 <= sum(i < "0020" for i in found) <= 15
    assert found == [row.image_id for row in precision.over_all_scores(scored.repartition(5), 0, 20).collect()]


def test_unseen_excludes_labelled_queued_and_unsure_images_of_the_category(spark):
    signals = spark.createDataFrame([(c,) for c in "abcde"], "image_id string")
    named = [
        spark.createDataFrame([(image, "boats"), ("e", "cars")], "image_id string, category string") for image in "abc"
    ]

    assert sorted(row.image_id for row in unseen.unseen(signals, *named, "boats").collect()) == ["d", "e"]


def test_seed_picks_from_every_group(job):
    found = next.run(job, PickRequest("boats", "seed", 2 * len(SIZES)))

    assert set(groups(pick.image_id for pick in found.picks)) == set(SIZES)
    assert "middle of a group of about" in found.picks[0].reason


def test_seed_like_picks_neighbours_without_copies(job, tmp_path):
    file = tmp_path / "raft.png"
    Image.new("RGB", (20, 20), "red").save(file)

    found = next.run(job, PickRequest("boats", "seed", 4, (str(file),)))

    ids = [pick.image_id for pick in found.picks]
    assert set(groups(ids)) == {"raft"} and len({i.removesuffix("-copy") for i in ids}) == 4
    assert "raft.png" in found.picks[0].reason


def test_an_image_that_score_has_not_seen_is_near_no_other(job):
    whole = next._pool(job, "boats")
    pool = replace(whole, signals=whole.signals.where("image_id != 'house-1'"))
    ids = ["house-1", "house-2", "house-2-copy"]

    hashes = pool.hashes(ids)

    unseen, seen, copy = hashes
    assert distances(seen, copy) == 0 and 64 < distances(unseen, seen) < 192
    assert (pool.hashes(ids[::-1]) == hashes[::-1]).all() and pool.hashes([]).shape == (0, 4)
    # Without any hash, as after `fit-encoder`, there are picks too.
    bare = replace(pool, signals=pool.signals.limit(0))
    queries = Queries(np.eye(DIMS, dtype=np.float32)[[1]], ("a raft",))
    assert groups(pick.image_id for pick in around(PickRequest("boats", "seed", 3), bare, queries)) == ["raft"] * 3


@pytest.mark.slow
def test_precision_picks_predicted_positives_of_all_scores(job):
    label(job, ["sail-0", "sail-1", "sail-2", "tree-0", "house-0", "hill-0", "raft-0"])
    model = train.run(job, "boats")["model"]

    found = next.run(job, PickRequest("boats", "precision", 8))

    ids = [pick.image_id for pick in found.picks]
    matches = [re.match(r"the model gives (\S+), at or above (\S+), which every", pick.reason) for pick in found.picks]
    assert all(float(match[1]) >= float(match[2]) for match in matches)
    # Images near the threshold are among them, not only images with high scores.
    assert {group in BOATS for group in groups(ids)} == {True, False}

    assert len(ids) == 8
    signs = {i: np.packbits(v @ projection(DIMS) > 0) for i, v in zip(*embeddings(), strict=True)}
    hashes = words(np.stack([signs[i] for i in ids]))
    apart = distances(hashes[:, None], hashes[None])[np.triu_indices(8, 1)]
    assert apart.min() > NEAR
    # The calibrated threshold of the current model counts, not that of an old model.
    calibrated(job, [("boats", model, 2.0), ("boats", "old", 0.0)])
    with pytest.raises(WinnowError, match="calls no unlabelled image positive for boats"):
        picked(job, "precision", 3)


@pytest.mark.slow
def test_recall_picks_neighbours_of_missed_positives(job):
    # One raft among sails: models that did not see it miss it.
    label(job, [f"sail-{i}" for i in range(8)] + ["raft-0"] + [f"{g}-{i}" for g in ("tree", "hill") for i in range(8)])

    found = next.run(job, PickRequest("boats", "recall", 5))

    ids = [pick.image_id for pick in found.picks]
    assert groups(ids) == ["raft"] * 5 and len({i.removesuffix("-copy") for i in ids}) == 5
    assert "near raft-0, a positive that 3 of 3 models miss that never saw it" in found.picks[0].reason
    # They are queued now, so the next round picks others.
    assert not set(ids) & set(picked(job, "recall", 5))


@pytest.mark.slow
def test_recall_without_a_missed_positive_searches_around_the_lowest_scores(job):
    label(job, [f"{g}-{i}" for g in ("sail", "tree") for i in range(8)])

    assert "sail" in groups(picked(job, "recall", 2))
    assert "the models miss no labelled positive of boats" in job.progress.console.file.getvalue()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (PickRequest("planes", "seed", 1), "no category 'planes' in the settings, they have boats, cars, own"),
        (PickRequest("boats", "best", 1), "no strategy 'best': choose one of seed, random, precision, recall"),
        (PickRequest("boats", "random", 1, ("a.png",)), "--like works only with --strategy seed, not with random"),
        (PickRequest("boats", "seed", 1, ("none.png",)), r"none\.png cannot be read: No such file"),
        (
            PickRequest("boats", "precision", 1),
            "boats has no classifier yet: label some images, then run `winnow train",
        ),
        (PickRequest("boats", "recall", 1), "boats has 0 positive and 0 negative labels"),
    ],
)
def test_impossible_requests_fail_with_one_line(job, request_, message):
    with pytest.raises(WinnowError, match=message) as caught:
        next.run(job, request_)

    assert "\n" not in str(caught.value) and not job.lake.exists(tables.LABEL_QUEUE)


def test_next_without_signals_suggests_score(lake, job, monkeypatch):
    bare = Job(lake, job.settings, job.progress)
    with pytest.raises(WinnowError, match="has no table 'signals': run `winnow score` first"):
        next.run(bare, PickRequest("boats", "random", 1))

    monkeypatch.setattr(next, "semantic_encoder", lambda job: SimpleNamespace(digest="new"))
    with pytest.raises(WinnowError, match="no image of the lake can be decoded, so none can be labelled"):
        picked(job, "random", 1)
