import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from onnx import TensorProto
from PIL import Image
from pyspark.sql import Row
from pyspark.sql import functions as F

from jobs import models_in_use
from jobs.commands import score
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.scoring import decode_pass, image_pass
from models.errors import LostRowsError, ModelError, SettingsError
from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder, onnx_session
from models.inference.encoder import Encoder
from tests.builders import exported_models
from tests.builders.exported_models import image_tower, quarters, sequence_classifier, zero_shot
from tests.builders.heads import head_model
from tests.builders.images import brightness_model, brightness_settings, channel_model
from tests.builders.lake_rows import write_rows
from tests.builders.sources import Picture, encoded
from tests.builders.spark_settings import SPARK
from udfs.hashes.pdq import pdq_of
from udfs.inference.model_files import distribute_model
from udfs.inference.scoring import Scoring

COLOURS = ("red", "lime", "blue", "white", "black")
PICTURES = [Picture(f"p{n}", encoded(colour, size=(24, 16)), f"all {colour}") for n, colour in enumerate(COLOURS)]
BROKEN = PICTURES[0].image[:-30]


def fill(job: Job, pictures: list[Picture], part: int = 0) -> None:
    """Writes the table images as ingest does, one part for each call."""
    rows = [(p.key.rjust(32, "0"), p.key, "file:/s", p.caption, p.image, 24, 16, "PNG", "{}", part) for p in pictures]
    write_rows(job.lake, tables.IMAGES, rows)


def add_broken(job: Job) -> None:
    """Adds an image that passed ingest and that score cannot decode."""
    fill(job, [Picture("broken", BROKEN, "a caption")])


def rows(job: Job, table: tables.Table) -> list[Row]:
    return sorted(job.lake.read(table).collect(), key=lambda row: row.image_id)


def with_categories(job: Job, *overrides: str) -> Job:
    return Job(job.lake, config.load(overrides=[*SPARK, *overrides]), job.progress)


def category(name: str, model: Path, index: int, output: str = "means") -> list[str]:
    described = f'{{path="{model}",size=[4,6],index={index},output="{output}"}}'
    return [f'categories.{name}.definition="{name}"', f"categories.{name}.model={described}"]


def table(name: str, model: dict[str, object]) -> str:
    """Returns the description of a model as TOML: the encoder, or a category of this name."""
    head = (
        "[encoder.model]" if name == "encoder" else f'[categories.{name}]\ndefinition = "d"\n[categories.{name}.model]'
    )
    lines = [
        f"{field} = {value if isinstance(value, list | int) else repr(str(value))}" for field, value in model.items()
    ]
    return "\n".join([head, *lines])


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def found(job: Job, name: str) -> dict[str, float]:
    """Returns the scores of a category by key, rounded to two digits."""
    keys = job.lake.read(tables.IMAGES).select("image_id", "key")
    rows = job.lake.read(tables.SCORES).where(F.col("category") == name).join(keys, "image_id").collect()
    assert len(rows) == len({row.key for row in rows})
    return {row.key: round(row.score, 2) for row in rows}


def versions(job: Job) -> dict[str, int | None]:
    return job.lake.snapshot().inputs(tables.SIGNALS, tables.SCORES, tables.QUARANTINE)


@pytest.mark.slow
def test_signals_match_one_decode_and_only_missing_images_are_scored(job, tmp_path):
    fill(job, PICTURES)
    assert score.run(job) == {"images scored": 5, "images not decodable": 0, "embeddings scored": 0}
    model = Encoder.load(encoder.shipped())
    signals = {row.image_id: row for row in job.lake.read(tables.SIGNALS).collect()}
    assert len(signals) == 5
    for picture in PICTURES:
        row, image = signals[picture.key.rjust(32, "0")], decoding.decode(picture.image, 256)
        embedding, bits = model.encode(thumbnail(image, View(model.size))[None])
        assert (bytes(row.pdq), row.pdq_quality) == pdq_of(image)
        assert (row.encoder, row.embedding, bytes(row.embedding_hash)) == (
            model.digest, embedding[0].tolist(), bits.tobytes(),
        )  # fmt: skip
        small = thumbnail(image, View((decoding.GREY_SIDE, decoding.GREY_SIDE)))
        assert bytes(row.thumbnail) == decoding.grey(small[None]).tobytes()

    before = versions(job)
    assert score.run(job)["images scored"] == 0
    assert versions(job) == before, "an empty commit would make all later results stale"
    fill(job, [Picture("new", encoded("navy"), "all navy")])
    assert score.run(job)["images scored"] == 1
    again = {row.image_id: row for row in job.lake.read(tables.SIGNALS).collect()}
    assert len(again) == 6 and signals.items() <= again.items()


@pytest.mark.slow
def test_an_undecodable_image_gives_one_quarantine_row_in_repeated_runs(job, tmp_path):
    fill(job, PICTURES)
    add_broken(job)
    expected = [("file:/s", "broken", "score", "truncated", "broken".rjust(32, "0"))]
    columns = ("source", "key", "stage", "reason", "image_id")
    assert score.run(job) == {"images scored": 5, "images not decodable": 1, "embeddings scored": 0}
    assert [tuple(r) for r in job.lake.read(tables.QUARANTINE).select(*columns).collect()] == expected
    before = versions(job)
    assert score.run(job) == {"images scored": 0, "images not decodable": 0, "embeddings scored": 0}
    assert versions(job) == before

    # A run with a classifier adds no second quarantine row.
    judged = with_categories(job, *brightness_settings(brightness_model(tmp_path)))
    assert score.run(judged)["images scored"] == 5
    assert [tuple(r) for r in job.lake.read(tables.QUARANTINE).select(*columns).collect()] == expected
    assert len(found(judged, "bright")) == 5


@pytest.mark.slow
def test_with_classifiers_an_undecodable_image_gives_one_quarantine_row(job, tmp_path):
    fill(job, PICTURES)
    add_broken(job)
    judged = with_categories(job, *brightness_settings(brightness_model(tmp_path)))
    assert score.run(judged)["images not decodable"] == 1
    assert [r.reason for r in job.lake.read(tables.QUARANTINE).collect()] == ["truncated"]
    assert job.lake.read(tables.SIGNALS).count() == len(found(judged, "bright")) == 5


def test_arrow_batch_sizes_change_no_row(spark):
    pictures = [*(encoded(colour, size=(24, 16)) for colour in COLOURS), BROKEN, *(p.image for p in PICTURES)]
    ids = [f"{n:032x}" for n in range(len(pictures))]
    whole = pa.record_batch({"image_id": ids, "part": pa.array([7] * len(ids), pa.int32()), "image": pictures})
    scoring = Scoring(distribute_model(spark, encoder.shipped()), None, (), 2, 1, onnx_session.CPU)

    def scored(*sizes: int) -> list[dict[str, object]]:
        cut = [whole.slice(sum(sizes[:place]), size) for place, size in enumerate(sizes)]
        found = [row for batch in scoring(iter(cut)) for row in batch.to_pylist()]
        return sorted(found, key=lambda row: row["image_id"])

    expected = scored(len(pictures))
    assert {row["part"] for row in expected if not row["reason"]} == {7}
    assert [row["reason"] for row in expected] == [None] * 5 + ["truncated"] + [None] * 5
    assert scored(*[1] * len(pictures)) == scored(3, 0, 7, 1) == scored(0, 11) == expected
    assert scored() == []


@pytest.mark.slow
@pytest.mark.parametrize("classified", [False, True])
def test_only_a_lost_part_is_scored_again(job, tmp_path, classified):
    if classified:
        job = with_categories(job, *brightness_settings(brightness_model(tmp_path)))
    for number, few in enumerate((PICTURES[:2], PICTURES[2:4], PICTURES[4:])):
        fill(job, few, number)
    score.run(job)
    signals, scores = (rows(job, table) for table in (tables.SIGNALS, tables.SCORES))
    part = job.lake.read(tables.IMAGES).where("part = 1").select("image_id")
    whole = job.lake.read(tables.SIGNALS)
    kept = whole.join(part, "image_id", "left_anti").localCheckpoint()
    job.lake.replace(tables.SIGNALS, kept, Recipe("test"))
    assert score.run(job)["images scored"] == 2
    assert (rows(job, tables.SIGNALS), rows(job, tables.SCORES)) == (signals, scores)
    assert len(signals) == 5 and len(scores) == 5 * classified


@pytest.mark.slow
def test_parts_share_a_commit_by_the_size_of_the_cluster(job, monkeypatch):
    for number, few in enumerate((PICTURES[:2], PICTURES[2:4], PICTURES[4:])):
        fill(job, few, number)
    assert score.run(job)["images scored"] == 5
    assert job.lake.snapshot().version(tables.SIGNALS) == 0
    signals = rows(job, tables.SIGNALS)
    assert [row.part for row in signals] == [0, 0, 1, 1, 2]

    job.lake.drop(tables.SIGNALS)
    monkeypatch.setattr(image_pass, "_IMAGES_PER_CORE", 2)
    assert score.run(job)["images scored"] == 5
    assert job.lake.snapshot().version(tables.SIGNALS) == 2
    assert rows(job, tables.SIGNALS) == signals


@pytest.mark.slow
def test_images_of_a_part_that_lack_different_results_get_these_only(job, tmp_path):
    """As a run that was killed between two tables, and another settings file, leave them."""
    fill(job, PICTURES)
    fill(job, [Picture("q", encoded("navy", size=(24, 16)), "all navy")], 1)
    channels = channel_model(tmp_path / "channels.onnx")
    job = with_categories(job, *category("reddish", channels, 0), *category("bluish", channels, 2))
    score.run(job)
    signals, scores = rows(job, tables.SIGNALS), sorted(rows(job, tables.SCORES))
    without = {
        tables.SIGNALS: "image_id not like '%p1' and image_id not like '%p2'",
        tables.SCORES: "image_id not like '%p2' and not (image_id like '%p3' and category = 'bluish')",
    }
    for table, condition in without.items():
        job.lake.replace(table, job.lake.read(table).where(condition).localCheckpoint(), Recipe("test"))

    assert score.run(job)["images scored"] == 3

    assert (rows(job, tables.SIGNALS), sorted(rows(job, tables.SCORES))) == (signals, scores)
    assert len(signals) == 6 and len(scores) == 12
    assert score.run(job)["images scored"] == 0


@pytest.mark.slow
def test_a_lake_without_parts_is_scored(job, tmp_path):
    """As Winnow 0.1.0 made them."""
    fill(job, PICTURES[:2])
    images = job.lake.read(tables.IMAGES).drop("part").localCheckpoint()
    job.lake.drop(tables.IMAGES)
    job.lake.mark()
    images.write.format("delta").save(job.lake.path("images"))

    assert score.run(job)["images scored"] == 2

    signals = job.lake.read(tables.SIGNALS).drop("part").localCheckpoint()
    job.lake.drop(tables.SIGNALS)
    job.lake.mark()
    signals.write.format("delta").save(job.lake.path("signals"))
    assert score.run(with_categories(job, *brightness_settings(brightness_model(tmp_path))))["images scored"] == 2
    assert [row.part for row in rows(job, tables.SIGNALS)] == [None, None]
    assert [row.part for row in rows(job, tables.SCORES)] == [decode_pass.NO_PART] * 2


@pytest.mark.slow
def test_categories_that_share_a_model_and_others_are_all_scored(job, tmp_path):
    fill(job, PICTURES)
    channels = channel_model(tmp_path / "channels.onnx")
    settings = [
        *category("reddish", channels, 0), *category("not_blue", channels, 2, "others"),
        *brightness_settings(brightness_model(tmp_path)),
    ]  # fmt: skip
    judged = with_categories(job, *settings)
    assert score.run(judged)["images scored"] == 5
    assert found(judged, "reddish") == {"p0": 1, "p1": 0, "p2": 0, "p3": 1, "p4": 0}
    assert found(judged, "not_blue") == {"p0": 1, "p1": 1, "p2": 0, "p3": 0, "p4": 1}
    assert found(judged, "bright") == {"p0": 0.33, "p1": 0.33, "p2": 0.33, "p3": 1, "p4": 0}

    # Another column of the same file is another classifier: it gets new scores, the signals stay.
    signed = job.lake.snapshot().version(tables.SIGNALS)
    changed = with_categories(job, *category("reddish", channels, 1))
    assert score.run(changed)["images scored"] == 5
    assert job.lake.snapshot().version(tables.SIGNALS) == signed
    newest = models_in_use.current_models(changed)["reddish"]
    by_model = job.lake.read(tables.SCORES).where(F.col("model") == newest)
    assert by_model.count() == 5 and by_model.agg(F.sum("score")).collect()[0][0] == pytest.approx(2)


@pytest.mark.slow
def test_exported_models_score_and_embed_as_described(job, tmp_path):
    noise = np.random.default_rng(3).integers(0, 256, (5, 64, 128, 3), dtype=np.uint8)
    drawn = [Picture(f"p{n}", png(Image.fromarray(pixels)), "noise") for n, pixels in enumerate(noise)]
    fill(job, drawn)
    size, halves = list(exported_models.SIZE), [0.5, 0.5, 0.5]
    clip = {"size": size, "mean": list(exported_models.CLIP_MEAN), "std": list(exported_models.CLIP_STD)}
    made = {
        "encoder": clip | {"path": image_tower(tmp_path / "tower.onnx", 1), "output": "image_embeds"},
        "captioned": clip
        | {"path": zero_shot(tmp_path / "z.onnx", 8), "fit": "crop", "index": 2, "activation": "softmax"},
        "labelled": {
            "path": sequence_classifier(tmp_path / "vit.onnx"),
            "size": size,
            "mean": halves,
            "std": halves,
            "output": 0,
            "index": 1,
            "activation": "sigmoid",
        },
        "greenish": {
            "path": channel_model(tmp_path / "bgr.onnx", "NHWC", TensorProto.FLOAT16, 2),
            "size": [4, 6],
            "layout": "NHWC",
            "channels": "BGR",
            "dtype": "float16",
            "output": "others",
            "index": 1,
        },
    }
    file = tmp_path / "own.toml"
    file.write_text("\n".join(table(name, model) for name, model in made.items()))
    own = Job(job.lake, config.load([file], SPARK), job.progress)

    assert score.run(own)["images scored"] == 5

    thumbs = np.stack([thumbnail(Image.fromarray(pixels), View(exported_models.SIZE)) for pixels in noise])
    seen = quarters(thumbs, exported_models.CLIP_MEAN, exported_models.CLIP_STD)
    cropped = np.stack([np.asarray(Image.fromarray(p[:, 16:112]).resize((48, 32), 2)) for p in noise])
    middle = quarters(cropped, exported_models.CLIP_MEAN, exported_models.CLIP_STD)
    small = np.stack([thumbnail(Image.fromarray(pixels), View((4, 6))) for pixels in noise])
    expected = {
        "captioned": exported_models.captions_likely(middle)[:, 2],
        "labelled": 1 / (1 + np.exp(-quarters(thumbs, halves, halves)[:, 1])),
        "greenish": 1 - small[..., 1].mean(axis=(1, 2)) / 255,
    }
    for name, values in expected.items():
        got = found(own, name)
        assert [got[f"p{n}"] for n in range(5)] == pytest.approx(values.tolist(), abs=6e-3), name
    signals = rows(own, tables.SIGNALS)
    embeddings = np.array([row.embedding for row in signals])
    np.testing.assert_allclose(embeddings, seen / np.linalg.norm(seen, axis=1, keepdims=True), atol=1e-5)
    assert {row.encoder for row in signals} == {models_in_use.current_encoder(own).digest}
    assert score.run(own)["images scored"] == 0


def test_errors_of_a_described_encoder_name_the_field_or_the_file(job, tmp_path):
    file = tmp_path / "own.toml"
    file.write_text('[encoder.model]\npath = "x.onnx"\nsise = [1, 1]\n')
    with pytest.raises(SettingsError, match=r"encoder\.model\.size: missing; encoder\.model\.sise: there is no such"):
        config.load([file])
    file.write_text(table("encoder", {"path": image_tower(tmp_path / "t.onnx"), "size": [224, 224], "output": 1}))
    fill(job, PICTURES)
    wrong = Job(job.lake, config.load([file], SPARK), job.progress)
    with pytest.raises(
        ModelError, match=r"t\.onnx is not an encoder as described: its input has shape .* \['N', 3, 224, 224"
    ):
        score.run(wrong)
    assert not job.lake.exists(tables.SIGNALS)


def test_a_model_that_does_not_match_its_description_stops_before_writing(job, tmp_path):
    fill(job, PICTURES)
    wrong = with_categories(job, *category("reddish", channel_model(tmp_path / "m.onnx"), 7))
    with pytest.raises(ModelError, match="index 7 is beyond its 3 output columns"):
        score.run(wrong)
    missing = with_categories(job, *category("reddish", tmp_path / "nowhere.onnx", 0))
    with pytest.raises(ModelError, match=r"nowhere\.onnx cannot be read"):
        score.run(missing)
    assert not job.lake.exists(tables.SIGNALS) and not job.lake.exists(tables.SCORES)


def test_a_head_of_another_encoder_is_skipped_with_a_warning_until_trained_again(job, capsys):
    fill(job, PICTURES)
    settings = config.load(overrides=[*SPARK, 'categories.boats={definition="d"}'])
    current, boats = models_in_use.semantic_encoder(job), Job(job.lake, settings, Progress())
    job.lake.write_file(
        models_in_use.HEAD.format("boats"), head_model(metadata={"category": "boats", "encoder": "old"})
    )

    assert score.run(boats) == {"images scored": 5, "images not decodable": 0, "embeddings scored": 0}

    printed = " ".join(capsys.readouterr().err.split())
    assert "the head of boats is for another encoder: run `winnow train boats`" in printed
    with pytest.raises(ModelError, match=r"trained on encoder old .*: run `winnow train boats` again"):
        models_in_use.current_models(boats)
    metadata = {"category": "boats", "encoder": current.digest}
    job.lake.write_file(models_in_use.HEAD.format("boats"), head_model(metadata=metadata, dims=current.dims))
    assert score.run(boats)["embeddings scored"] == 5 and "boats" in models_in_use.current_models(boats)


@pytest.mark.parametrize("classified", [False, True])
def test_a_lost_row_stops_the_job(job, tmp_path, monkeypatch, classified):
    if classified:
        job = with_categories(job, *brightness_settings(brightness_model(tmp_path)))
    fill(job, PICTURES)
    whole = decode_pass.scored_in_place
    monkeypatch.setattr(image_pass, "scored_in_place", lambda rows, scoring: whole(rows.where("key != 'p0'"), scoring))
    with pytest.raises(LostRowsError, match="5 images were to be scored, but 4 were and 0"):
        score.run(job)


def test_distributing_a_model_twice_sends_it_once(spark):
    data = encoder.shipped()
    assert distribute_model(spark, data) == distribute_model(spark, data) == f"{onnx_session.digest(data)}.onnx"
