import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from jobs.commands import fit_encoder
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder, onnx_session
from models.inference.encoder import Encoder
from models.training import encoder as training
from models.training import noise
from models.training.measure import MeasuredEncoder

FEWEST = 60
QUICK = ["encoder.minutes=0.02", "encoder.batch=8", "encoder.images=64"]


def png(index: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise.picture(seed=9, index=index, side=100)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(lake: Lake, files: list[bytes], first: int = 0) -> None:
    numbered = enumerate(files, first)
    values = [(f"{i:032x}", str(i), "s", None, data, 100, 100, "PNG", "{}", 0) for i, data in numbered]
    lake.append(tables.IMAGES, lake.spark.createDataFrame(values, tables.IMAGES.schema).repartition(3), Recipe("test"))


def job_on(lake: Lake, *overrides: str) -> Job:
    settings = config.load(overrides=[*QUICK, *overrides])
    return Job(lake, settings, Progress(Console(file=io.StringIO(), width=500)))


def printed(job: Job) -> str:
    return job.progress.console.file.getvalue()


@pytest.fixture
def filled(lake, monkeypatch):
    monkeypatch.setattr(fit_encoder, "FEWEST", FEWEST)
    fill(lake, [png(i) for i in range(80)])
    return lake


def measured(copies: list[int], allowed: int = 90, most: int = 48, layout: int = 0) -> MeasuredEncoder:
    return MeasuredEncoder(10, 0, 0.0, allowed, most, layout, np.array(copies))


FINDS_LITTLE = measured([99, 99, 99, 99, 1])
FINDS_MUCH = measured([1, 1, 1, 99, 1])


def fake_measurements(monkeypatch, fitted: MeasuredEncoder, shipped: MeasuredEncoder) -> None:
    """Replaces the measurement of both encoders by the given ones."""
    results = fitted, shipped
    monkeypatch.setattr(training, "measured", lambda model, thumbs, plan: results[model == encoder.shipped()])


def test_too_few_images_are_an_error_that_names_the_minimum(lake):
    fill(lake, [png(i) for i in range(3)])

    with pytest.raises(WinnowError, match="found 3 images and needs at least 500"):
        fit_encoder.run(job_on(lake))

    assert not lake.has_file(encoder.FITTED)


@pytest.mark.slow
def test_a_better_fitted_encoder_is_stored_and_not_fitted_again(filled, monkeypatch):
    monkeypatch.setattr(training, "fit", fit_from_nothing)
    fake_measurements(monkeypatch, FINDS_MUCH, FINDS_LITTLE)
    first = fit_encoder.run(job_on(filled))
    model = filled.read_file(encoder.FITTED)
    again = job_on(filled)

    second = fit_encoder.run(again)

    assert first["images"] == 64 and first["recall of copies, fitted"] == 0.8
    assert onnx_session.digest(model) == first["encoder"] != onnx_session.digest(encoder.shipped())
    assert Encoder.load(model).max_distance == first["max distance"]
    assert second == first and filled.read_file(encoder.FITTED) == model
    assert "up to date" in printed(again)


def fit_from_nothing(thumbs, plan, report, start):
    report(0.5, 1.0)
    model = training.with_properties(start, {"max_distance": "33", "trained_on": str(len(thumbs))})
    return training.Fitted(model, training.measured(model, thumbs, plan))


@pytest.mark.slow
def test_training_gets_the_decodable_thumbnails_in_the_order_of_their_ids(filled, monkeypatch):
    fill(filled, [b"no image"], first=80)
    seen = []
    monkeypatch.setattr(
        training, "fit", lambda thumbs, *others: seen.append(thumbs) or fit_from_nothing(thumbs, *others)
    )
    fake_measurements(monkeypatch, FINDS_MUCH, FINDS_LITTLE)

    summary = fit_encoder.run(job_on(filled, "encoder.images=90"))

    size = (training.SOURCE_SIDE, training.SOURCE_SIDE)
    expected = np.stack([thumbnail(decoding.decode(png(i), size[0]), View(size)) for i in range(80)])
    assert summary["images"] == 80
    np.testing.assert_array_equal(seen[0], expected)


@pytest.mark.slow
def test_a_larger_lake_allows_fewer_collisions(filled, monkeypatch):
    plans = []
    monkeypatch.setattr(training, "fit", lambda *args: plans.append(args[1]) or fit_from_nothing(*args))
    fake_measurements(monkeypatch, FINDS_MUCH, FINDS_LITTLE)

    fit_encoder.run(job_on(filled))
    monkeypatch.setattr(fit_encoder, "MAX_FALSE_MATCHES", 8e-7)
    fit_encoder.run(job_on(filled, "seed=5"))

    # 64 of the 80 images are sampled: the size of the lake counts, not that of the sample.
    assert [plan.collisions for plan in plans] == [1e-6, pytest.approx(1e-8)]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["encoder.images=70", "seed=5", "encoder.minutes=0.03"])
def test_changed_settings_fit_again(filled, monkeypatch, change):
    fitted = []
    monkeypatch.setattr(training, "fit", lambda *args: fitted.append(1) or fit_from_nothing(*args))
    fake_measurements(monkeypatch, FINDS_MUCH, FINDS_LITTLE)

    fit_encoder.run(job_on(filled))
    fit_encoder.run(job_on(filled, change))

    assert len(fitted) == 2


def test_the_shipped_encoder_is_stored_if_it_is_better(filled, monkeypatch):
    monkeypatch.setattr(training, "fit", fit_from_nothing)
    fake_measurements(monkeypatch, FINDS_LITTLE, FINDS_MUCH)
    job = job_on(filled)

    summary = fit_encoder.run(job)

    assert filled.read_file(encoder.FITTED) == encoder.shipped()
    assert summary["encoder"] == onnx_session.digest(encoder.shipped())
    assert "finds no more copies than the shipped one" in printed(job)


def test_encoders_are_compared_at_the_distance_that_the_lake_would_use():
    copies = [10, 40, 50, 52, 60]
    nearer = fit_encoder.EncoderComparison(
        measured(copies, allowed=48, most=48), measured(copies, allowed=60), shipped_distance=54
    )
    job = Job(None, None, Progress(Console(file=io.StringIO(), width=500)))

    nearer.report(job.progress)

    assert (nearer.recall_fitted, nearer.recall_shipped, nearer.better) == (0.4, 0.8, False)
    assert "40.0% within 48 bits by the fitted encoder, 80.0% within 54 by the shipped one" in printed(job)
    assert "dedup.max_distance" not in printed(job) and "layout" not in printed(job)


def test_copies_beyond_the_safe_distance_do_not_count():
    fitted, shipped = measured([10, 40, 50], allowed=48, most=48), measured([35, 45, 50], allowed=40, most=40)
    careless = fit_encoder.EncoderComparison(fitted, shipped, shipped_distance=54)
    blind = fit_encoder.EncoderComparison(measured([0, 0, 0], allowed=0, most=31), shipped, shipped_distance=54)
    job = Job(None, None, Progress(Console(file=io.StringIO(), width=500)))

    blind.report(job.progress)

    assert careless.better and careless.recall_shipped == pytest.approx(1 / 3)
    assert not blind.better and blind.recall_fitted == 0
    assert "within the shipped encoder's 54 bits: set dedup.max_distance to 40" in printed(job)


def test_a_shared_layout_gives_a_warning(filled, monkeypatch):
    monkeypatch.setattr(training, "fit", fit_from_nothing)
    fake_measurements(monkeypatch, measured([1], layout=22), FINDS_LITTLE)
    job = job_on(filled)

    fit_encoder.run(job)

    assert "! the images share a layout: different images are 22 bits nearer" in printed(job)


@pytest.mark.slow
def test_a_short_training_stores_an_encoder(filled):
    summary = fit_encoder.run(job_on(filled))

    assert 0 <= summary["recall of copies, fitted"] <= 1
    assert Encoder.load(filled.read_file(encoder.FITTED)).digest == summary["encoder"]


@pytest.mark.slow
def test_a_number_of_steps_gives_the_same_encoder_again(filled, monkeypatch):
    fake_measurements(monkeypatch, FINDS_MUCH, FINDS_LITTLE)
    models = []
    for steps in (2, 2, 3):
        for name in (encoder.FITTED, fit_encoder.RECIPE):
            Path(filled.uri, name).unlink(missing_ok=True)
        fit_encoder.run(job_on(filled, f"encoder.steps={steps}"))
        models.append(filled.read_file(encoder.FITTED))

    assert models[0] == models[1] != models[2]
    assert models[0] != encoder.shipped()


def test_a_sample_depends_only_on_ids_and_seed(spark):
    ids = [f"id{i}" for i in range(200)]
    few = spark.createDataFrame([(i,) for i in ids], "image_id string").repartition(2)
    many = spark.createDataFrame([(i,) for i in reversed(ids)], "image_id string").repartition(7)

    chosen, same, other = (
        {row.image_id for row in fit_encoder.sample(rows, 50, seed).collect()}
        for rows, seed in ((few, 0), (many, 0), (few, 1))
    )

    assert len(chosen) == 50 and chosen == same and chosen != other


def test_thumbnails_are_pixels_and_skip_undecodable_images(spark):
    red = io.BytesIO()
    Image.new("RGB", (40, 20), (250, 0, 0)).save(red, "PNG")
    rows = spark.createDataFrame([("a", red.getvalue()), ("b", b"no image")], "image_id string, image binary")

    found = rows.mapInArrow(fit_encoder.Thumbnails(8), "image_id string, pixels binary").collect()

    assert [row.image_id for row in found] == ["a"]
    np.testing.assert_array_equal(np.frombuffer(bytes(found[0].pixels), np.uint8).reshape(8, 8, 3)[3, 3], [250, 0, 0])
