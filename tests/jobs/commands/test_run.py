import io
import sys

import pytest
from rich.console import Console

from jobs.commands import run
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime import config
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from tests.builders.images import brightness_model, brightness_settings
from tests.builders.sources import Picture, encoded, pictures, write_folder
from tests.builders.spark_settings import SPARK


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("encoder.model=nosuch.onnx", r"nosuch\.onnx"),
        ('categories.cats={definition="d", model={path="missing.onnx", size=[8, 8]}}', r"missing\.onnx"),
        ("filter.rules.small='widht < 9'", "not a condition on an image"),
        ('filter.words.toys=["?"]', "matches no caption"),
    ],
)
def test_an_unusable_setting_or_model_stops_the_run_before_ingest(job, tmp_path, setting, message):
    other = Job(job.lake, config.load(overrides=[setting]), job.progress)
    with pytest.raises(WinnowError, match=message):
        run.run(other, [str(write_folder(tmp_path / "in", pictures()))])
    assert not job.lake.exists(tables.IMAGES)


def test_a_field_that_no_image_has_stops_the_run_after_ingest(job, tmp_path):
    other = Job(job.lake, config.load(overrides=["filter.keep_top.similarity=0.3"]), job.progress)
    with pytest.raises(WinnowError, match="no image has a number in a field similarity; the fields are width, height"):
        run.run(other, [str(write_folder(tmp_path / "in", pictures()))])
    assert job.lake.exists(tables.IMAGES) and not job.lake.exists(tables.SIGNALS)


@pytest.mark.parametrize("setting", ['categories.cats={definition="d"}', "encoder.fit=true"])
def test_training_without_torch_stops_the_run_before_ingest(job, tmp_path, monkeypatch, setting):
    for name in [name for name in sys.modules if name.startswith("models.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    other = Job(job.lake, config.load(overrides=[setting]), job.progress)
    with pytest.raises(WinnowError, match=r"training needs torch, which is not installed: .*extra `train`"):
        run.run(other, [str(write_folder(tmp_path / "in", pictures()))])
    assert not job.lake.exists(tables.IMAGES)


@pytest.mark.slow
def test_an_own_model_with_a_set_threshold_needs_neither_a_label_nor_torch(job, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("models.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    model = brightness_settings(brightness_model(tmp_path))
    chosen = config.load(overrides=[*SPARK, *model, "categories.bright.threshold=0.9", "dedup.sample=10"])
    folder = write_folder(tmp_path / "in", [*pictures(), Picture("white", encoded("white"), "a white square")])

    found = run.run(Job(job.lake, chosen, job.progress), [str(folder)])

    assert found["filter: filtered, bright"] == 1 and found["filter: kept"] == 7
    assert found["calibrate: bright: recall at least"] == "unknown (no label of the random sample is positive)"


def test_a_category_with_neither_labels_nor_model_is_named_at_once(job):
    console = Console(file=io.StringIO(), width=1000)
    other = Job(job.lake, config.load(overrides=['categories.cats={definition="d"}']), Progress(console))
    run.check(other, [])
    said = console.file.getvalue()
    command = f"winnow label next cats --strategy random --lake {job.lake.uri}"
    assert (
        f"cats has neither labels nor a model: this run ingests and scores, then stops; label next: {command}" in said
    )


def test_a_missing_label_file_stops_the_run_before_ingest(job, tmp_path):
    with pytest.raises(WinnowError, match=r"label file .*labels\.csv cannot be read"):
        run.run(job, [str(write_folder(tmp_path / "in", pictures()))], labels=[str(tmp_path / "labels.csv")])
    assert not job.lake.exists(tables.IMAGES)


def test_an_encoder_is_fitted_only_if_the_lake_has_none(job):
    fits = Job(job.lake, config.load(overrides=["encoder.fit=true"]), job.progress)
    assert "fit-encoder" in [name for name, _ in run._steps(fits, [], [])]
    job.lake.write_file("models/encoder.onnx", b"fitted")
    assert "fit-encoder" not in [name for name, _ in run._steps(fits, [], [])]


def test_fitting_an_unused_encoder_is_an_error():
    with pytest.raises(WinnowError, match='fit = true needs model = "auto": another model would not use the fitted'):
        config.load(overrides=["encoder.fit=true", "encoder.model=shipped"])


@pytest.mark.parametrize(
    "setting",
    [f"seed={2**63}", "encoder.minutes=inf", "weigh.max_weight=inf", "train.weight_decay=nan", 'spark.master=""',
     "spark.driver_memory=0m"],
)  # fmt: skip
def test_values_that_spark_or_torch_cannot_use_are_errors(setting):
    with pytest.raises(WinnowError, match=rf"wrong setting: {setting.partition('=')[0]}(\.0)? = "):
        config.load(overrides=[setting])
