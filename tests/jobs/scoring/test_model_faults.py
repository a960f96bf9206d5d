"""A model that fails on an image costs this image, once; a model that fails on all images stops the job."""

import io
from pathlib import Path

import pytest
from pyspark.sql import functions as F
from rich.console import Console

from jobs.commands import score
from jobs.commands.filter import command as filter
from jobs.facts.decisions import KEEP
from jobs.job import Job
from jobs.lake import tables
from jobs.models_in_use import HEAD, current_models, semantic_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import ModelError
from tests.builders.faulty_models import faulty_classifier, faulty_encoder
from tests.builders.heads import head_model
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded
from tests.builders.spark_settings import SPARK

THRESHOLD = 0.9
LOOKED_AT = (tables.SIGNALS, tables.FEATURES, tables.SCORES, tables.QUARANTINE)


def fill(job: Job, *colours: str) -> None:
    """Writes an image of each colour; its id begins with the colour."""
    files = {colour: encoded(colour, size=(24, 16)) for colour in colours}
    rows = [(name, f"{name}.png", "file:/s", "", file, 24, 16, "PNG", "{}", 0) for name, file in files.items()]
    write_rows(job.lake, tables.IMAGES, rows)


def with_settings(job: Job, *overrides: str) -> Job:
    settings = config.load(overrides=[*SPARK, "weigh.reach_sample=0", *overrides])
    return Job(job.lake, settings, Progress(Console(file=io.StringIO(), width=500)))


def judging(job: Job, model: Path) -> Job:
    """Returns the job with a category of this model, whose threshold is set."""
    described = f'{{path="{model}",size=[8,8]}}'
    bright = f'categories.bright={{definition="d",threshold={THRESHOLD},model={described}}}'
    made = with_settings(job, bright)
    row = ("bright", current_models(made)["bright"], THRESHOLD, None, 0.95, 0, 0, 0, 0, 0, tables.SET)
    write_rows(made.lake, tables.THRESHOLDS, [row], mode="overwrite")
    return made


def failed(job: Job) -> dict[tuple[str, str], str]:
    """Returns the reasons in the table quarantine, by image and model; each once."""
    rows = job.lake.read(tables.QUARANTINE).collect()
    assert len(rows) == len({(row.image_id, row.model) for row in rows})
    assert all((row.source, row.key) == ("file:/s", f"{row.image_id}.png") for row in rows)
    return {(row.image_id, row.model): f"{row.stage}: {row.reason}" for row in rows}


def scores(job: Job, model: str) -> dict[str, float]:
    rows = job.lake.read(tables.SCORES).where(F.col("model") == model).collect()
    return {row.image_id: round(row.score, 1) for row in rows}


def verdicts(job: Job) -> dict[str, tuple[bool, list[str]]]:
    return {row.image_id: (row.kept, row.reasons) for row in job.lake.read(tables.VERDICTS).collect()}


def test_an_image_on_which_a_classifier_fails_is_filtered_and_tried_again_only_with_another_model(job, tmp_path):
    fill(job, "gray", "black", "white", "red", "lime", "blue")
    first = judging(job, faulty_classifier(tmp_path))
    digest = current_models(first)["bright"]

    assert score.run(first)["images scored"] == 6

    reasons = {"red": "classifier failed", "lime": "score is not a number", "blue": "score is outside 0 to 1"}
    expected = {(name, digest): f"classify: {reason}" for name, reason in reasons.items()}
    assert failed(first) == expected
    assert scores(first, digest) == {"gray": 0.5, "black": 0.0, "white": 1.0}
    assert first.lake.read(tables.SIGNALS).count() == 6
    row = first.lake.read(tables.QUARANTINE).where("image_id = 'red'").collect()[0]
    assert row.detail.startswith(f"bright, model {digest}: ") and "Reshape" in row.detail and row.category == "bright"
    warning = (
        "bright has no score for 3 images (classifier failed: 1, score is not a number: 1, score is outside 0 to 1"
    )
    assert warning in first.progress.console.file.getvalue()

    before = first.lake.snapshot().inputs(*LOOKED_AT)
    assert score.run(first)["images scored"] == 0
    assert first.lake.snapshot().inputs(*LOOKED_AT) == before

    write_rows(first.lake, tables.DECISIONS, [("lime", KEEP, "it is fine", "me", None)])
    counts = filter.run(first)
    assert (counts["images"], counts["kept"], counts["filtered"], counts["filtered, no score"]) == (6, 3, 3, 2)
    assert verdicts(first) == {
        "gray": (True, []),
        "black": (True, []),
        "lime": (True, []),
        "white": (False, ["bright: score 1.00 >= 0.900"]),
        "red": (False, ["no score: bright, classifier failed"]),
        "blue": (False, ["no score: bright, score is outside 0 to 1"]),
    }

    second = judging(job, faulty_classifier(tmp_path, scale=0.5, nan=False))
    other = current_models(second)["bright"]
    assert score.run(second)["images scored"] == 6
    again = {("red", other): "classifier failed", ("blue", other): "score is outside 0 to 1"}
    assert failed(second) == expected | {key: f"classify: {reason}" for key, reason in again.items()}
    assert scores(second, other) == {"gray": 0.3, "black": 0.0, "white": 0.5, "lime": 0.0}
    filter.run(second)
    assert {name for name, (kept, _) in verdicts(second).items() if kept} == {"gray", "black", "white", "lime"}


def test_a_classifier_that_fails_on_all_images_stops_the_job_with_its_file(job, tmp_path):
    fill(job, "lime")
    judged = judging(job, faulty_classifier(tmp_path))

    with pytest.raises(
        ModelError, match=r"^the model of bright, .*faulty.*\.onnx, has no score for the only image \(score"
    ):
        score.run(judged)

    assert not any(job.lake.exists(table) for table in LOOKED_AT)


def test_an_image_on_which_the_semantic_encoder_fails_has_no_score_by_heads(job, tmp_path):
    fill(job, "gray", "black", "red", "lime")
    boats = with_settings(job, f'semantic.model="{faulty_encoder(tmp_path)}"', 'categories.boats={definition="d"}')
    encoder = semantic_encoder(boats)
    head = head_model(metadata={"category": "boats", "encoder": encoder.digest})
    boats.lake.write_file(HEAD.format("boats"), head)
    digest = current_models(boats)["boats"]

    assert score.run(boats)["embeddings scored"] == 2

    assert failed(boats) == {
        ("red", encoder.digest): "embed: encoder failed",
        ("lime", encoder.digest): "embed: embedding is not a number",
        ("red", digest): "classify: encoder failed",
        ("lime", digest): "classify: encoder failed",
    }
    assert scores(boats, digest).keys() == {"gray", "black"}
    assert boats.lake.read(tables.SIGNALS).count() == 4 and boats.lake.read(tables.FEATURES).count() == 2
    before = boats.lake.snapshot().inputs(*LOOKED_AT)
    assert score.run(boats)["images scored"] == 0
    assert boats.lake.snapshot().inputs(*LOOKED_AT) == before


def test_an_image_on_which_the_perceptual_encoder_fails_is_filtered_and_tried_again_with_another(job, tmp_path):
    fill(job, "gray", "black", "red")
    own = with_settings(job, f'encoder.model="{faulty_encoder(tmp_path)}"')

    counts = score.run(own)

    assert (counts["images scored"], counts["images not decodable"]) == (2, 1)
    assert list(failed(own).values()) == ["hash: encoder failed"]
    filter.run(own)
    assert verdicts(own)["red"] == (False, ["not decodable: encoder failed"])
    assert score.run(own)["images scored"] == 0
    shipped = with_settings(job)
    assert score.run(shipped)["images scored"] == 3
    filter.run(shipped)
    assert all(kept for kept, _ in verdicts(shipped).values())
