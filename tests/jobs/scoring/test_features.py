import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from rich.console import Console

from jobs.commands import score
from jobs.job import Job
from jobs.lake import tables
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.runtime import config
from jobs.runtime.progress import Progress
from jobs.scoring.features import ensure_features, score_needs_features
from jobs.scoring.mirrored import ensure_mirrored
from models.images.decoding import Decoder
from models.images.resizing import thumbnail
from tests.builders.images import brightness_model, brightness_settings
from tests.builders.lake_rows import write_rows
from tests.builders.sources import encoded
from tests.builders.spark_settings import SPARK

COLOURS = ("red", "lime", "blue", "white")
BOATS = 'categories.boats={definition="d"}'


def fill(job: Job, *files: bytes) -> None:
    rows = [(f"{n:032x}", f"p{n}", "file:/s", "", file, 24, 16, "PNG", "{}", 0) for n, file in enumerate(files)]
    write_rows(job.lake, tables.IMAGES, rows)


def with_settings(job: Job, *overrides: str) -> Job:
    settings = config.load(overrides=[*SPARK, *overrides])
    return Job(job.lake, settings, Progress(Console(file=io.StringIO(), width=500)))


def test_score_makes_features_if_a_later_command_reads_them(tmp_path):
    def needs(*overrides: str) -> bool:
        return score_needs_features(config.load(overrides=overrides))

    own = brightness_settings(brightness_model(tmp_path))
    assert needs(BOATS) and needs('weigh.features=["embedding"]')
    assert not needs()
    # What the filter removes is searched for images beyond reach, unless the search is off.
    assert needs(*own) and needs('filter.rules.small="width < 9"')
    assert not needs(*own, "weigh.reach_sample=0")
    assert needs(BOATS, "weigh.reach_sample=0")
    assert needs("dedup.semantic=0.9")


@pytest.mark.slow
def test_features_are_made_in_the_decode_of_signals_or_later_in_a_pass_of_their_own(job, tmp_path):
    files = [encoded(colour, size=(24, 16)) for colour in COLOURS]
    fill(job, *files)
    plain, heads = with_settings(job), with_settings(job, BOATS)
    assert score.run(plain)["images scored"] == 4 and not job.lake.exists(tables.FEATURES)

    signed = job.lake.snapshot().version(tables.SIGNALS)
    model = semantic_encoder(heads)
    found = {row.image_id: row.embedding for row in ensure_features(heads, model, "train").collect()}
    assert "train: computed the features of 4 images" in heads.progress.console.file.getvalue()
    assert job.lake.snapshot().version(tables.SIGNALS) == signed
    for number, file in enumerate(files):
        pixels = thumbnail(Decoder(file).at_least(1), model.input.view)
        assert found[f"{number:032x}"] == pytest.approx(model.embed(pixels[None])[0].tolist(), abs=1e-6)

    made = job.lake.snapshot().version(tables.FEATURES)
    assert ensure_features(heads, model, "train").count() == 4 and score.run(heads)["images scored"] == 0
    assert job.lake.snapshot().version(tables.FEATURES) == made

    # New images get signals and features in one decode.
    write_rows(job.lake, tables.IMAGES, [("f" * 32, "new", "file:/s", "", files[0], 24, 16, "PNG", "{}", 1)])
    assert score.run(heads)["images scored"] == 1
    again = {row.image_id: row.embedding for row in job.lake.read(tables.FEATURES).collect()}
    assert again == found | {"f" * 32: found["0" * 32]}


def test_a_pass_for_features_alone_names_and_passes_by_what_cannot_be_decoded(job):
    fill(job, encoded("red", size=(24, 16)), b"no image")
    heads = with_settings(job, BOATS)

    found = ensure_features(heads, semantic_encoder(heads), "label next").collect()

    assert [row.image_id for row in found] == ["0" * 32]
    assert np.linalg.norm(found[0].embedding) == pytest.approx(1)
    printed = heads.progress.console.file.getvalue()
    assert "label next: passes by 1 images that cannot be decoded" in printed and f"such as {1:032x}" in printed
    made = job.lake.snapshot().version(tables.FEATURES)
    ensure_features(heads, semantic_encoder(heads), "label next")
    assert job.lake.snapshot().version(tables.FEATURES) == made, "an empty commit would make later results stale"
    # `score` decides what is quarantined: such images may have signals that others wrote.
    assert not job.lake.exists(tables.QUARANTINE)


@pytest.mark.slow
def test_hashes_of_mirror_images_are_those_of_mirrored_files(job):
    files = [patterned(3), patterned(4)]
    turned = [mirrored(file) for file in files]
    fill(job, *files, *turned, b"no image")
    plain, with_mirrors = with_settings(job), with_settings(job, "dedup.mirrored=true")
    assert score.run(plain)["images scored"] == 4 and not job.lake.exists(tables.MIRRORED)
    encoder = current_encoder(plain)

    rows = {row.image_id: row for row in ensure_mirrored(with_mirrors, encoder, "dedup").collect()}

    signals = {row.image_id: row for row in job.lake.read(tables.SIGNALS).collect()}
    pairs = {0: 2, 1: 3, 2: 0, 3: 1}
    assert set(rows) == set(signals) == {f"{n:032x}" for n in pairs}
    for one, other in pairs.items():
        own, mirror = signals[f"{other:032x}"], rows[f"{one:032x}"]
        assert mirror.encoder == encoder.digest
        assert mirror.pdq == own.pdq and mirror.embedding_hash == own.embedding_hash
        assert mirror.embedding == pytest.approx(own.embedding, abs=1e-4)
        assert mirror.embedding_hash != signals[f"{one:032x}"].embedding_hash
    made = job.lake.snapshot().version(tables.MIRRORED)
    ensure_mirrored(with_mirrors, encoder, "dedup")
    assert job.lake.snapshot().version(tables.MIRRORED) == made
    # New images get both hashes in one decode.
    write_rows(job.lake, tables.IMAGES, [("f" * 32, "new", "file:/s", "", patterned(5), 24, 16, "PNG", "{}", 1)])
    assert score.run(with_mirrors)["images scored"] == 1
    assert job.lake.read(tables.MIRRORED).where(f"image_id = '{'f' * 32}'").count() == 1


def patterned(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).resize((256, 256), Image.Resampling.BICUBIC).save(buffer, "PNG")
    return buffer.getvalue()


def mirrored(file: bytes) -> bytes:
    buffer = io.BytesIO()
    ImageOps.mirror(Image.open(io.BytesIO(file))).save(buffer, "PNG")
    return buffer.getvalue()
