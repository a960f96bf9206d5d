"""A row on which a model fails costs only that row, with real ONNX models."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from models.errors import ModelError
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from models.inference.encoder import Encoder
from models.inference.head import Head
from models.inference.row_faults import run_rows
from tests.builders.faulty_models import faulty_classifier, faulty_encoder
from tests.builders.heads import head_model

GREY, RED, GREEN, BLUE = (128, 128, 128), (255, 0, 0), (0, 255, 0), (0, 0, 255)
CASES = [(RED, "classifier failed"), (GREEN, "score is not a number"), (BLUE, "score is outside 0 to 1")]
"""What the model of `faulty_classifier` does with these colours."""


def pixels(*colours: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.repeat(np.array(colours, np.uint8)[:, None, None], 8, axis=1).repeat(8, axis=2)


@pytest.fixture
def model(tmp_path: Path) -> ImageModel:
    return ImageModel(str(faulty_classifier(tmp_path)), (8, 8))


def test_a_model_with_faults_for_some_images_passes_the_check(model: ImageModel) -> None:
    classifier.check(Path(model.path).read_bytes(), model)


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_an_image_without_a_score_has_a_reason_and_the_others_keep_their_scores(model: ImageModel, batch: int) -> None:
    session = onnx_session.start(model.path)
    greys = [(level, level, level) for level in range(0, 250, 10)]
    alone = classifier.classify_thumbnails(session, pixels(*greys), model, batch)

    colours = [*greys[:7], RED, *greys[7:9], GREEN, *greys[9:], BLUE, RED]
    found = classifier.classify_each(session, pixels(*colours), [model], batch)

    without = {7: RED, 10: GREEN, 27: BLUE, 28: RED}
    assert {row: found.faults[row, 0].reason for row in without} == {row: dict(CASES)[c] for row, c in without.items()}
    assert len(found.faults) == len(without) and np.isnan(found.scores[list(without), 0]).all()
    assert np.array_equal(np.delete(found.scores[:, 0], list(without)), alone)
    assert "Reshape" in found.faults[7, 0].detail and "\n" not in found.faults[7, 0].detail


@pytest.mark.parametrize(("colour", "reason"), CASES)
def test_an_image_alone_has_the_same_reason(model: ImageModel, colour: tuple[int, int, int], reason: str) -> None:
    found = classifier.classify_each(onnx_session.start(model.path), pixels(colour), [model], 4)

    assert {place: fault.reason for place, fault in found.faults.items()} == {(0, 0): reason}


def test_a_model_that_no_longer_runs_at_all_is_an_error_that_names_it(model: ImageModel) -> None:
    session = onnx_session.start(model.path)

    class Dead:
        get_inputs, get_outputs = session.get_inputs, session.get_outputs

        def run(self, *_: object) -> None:
            raise RuntimeError("CUDA failure 999\nat line 3")

    with pytest.raises(
        ModelError, match=rf"^{model.path}: it failed on an image \(CUDA failure 999\) and then on a test"
    ):
        classifier.classify_each(Dead(), pixels(GREY), [model], 4)


def test_a_model_whose_output_has_a_wrong_shape_is_an_error() -> None:
    def run(rows: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        raise ModelError("wrong shape")

    with pytest.raises(ModelError, match="wrong shape"):
        run_rows(run, np.zeros((4, 2), np.uint8), np.zeros((1, 2), np.uint8))


@pytest.mark.parametrize("batch", [1, 4])
def test_an_image_without_an_embedding_has_a_reason_and_the_others_keep_theirs(tmp_path: Path, batch: int) -> None:
    encoder = Encoder.load(faulty_encoder(tmp_path).read_bytes(), batch=batch)
    greys = [(level, level, level) for level in range(10, 250, 40)]
    alone, bits = encoder.encode(pixels(*greys))

    found, hashes = encoder.encode_each(pixels(*greys[:3], RED, *greys[3:], GREEN))

    assert {row: fault.reason for row, fault in found.faults.items()} == {
        3: "encoder failed",
        7: "embedding is not a number",
    }
    assert np.array_equal(np.delete(found.embeddings, [3, 7], 0), alone) and np.isnan(found.embeddings[[3, 7]]).all()
    assert np.array_equal(np.delete(hashes, [3, 7], 0), bits)
    assert np.array_equal(encoder.embed_each(pixels(RED, greys[0])).embeddings[1], alone[0])
    with pytest.raises(ModelError, match="no embedding of 1 of 2 images, such as number 1: "):
        encoder.embed(pixels(greys[0], RED))


def test_a_head_has_no_score_for_an_embedding_that_is_not_finite_or_gives_none() -> None:
    rows = np.array([[0, 0, 0], [np.nan, 0, 0], [-1, -1, -1]], np.float32)

    found = Head.load(head_model("Exp"), "abc", 3).score_each(np.concatenate([rows, -rows]))

    reasons = {row: fault.reason for (row, _), fault in found.faults.items()}
    assert reasons == {1: "score is not a number", 4: "score is not a number", 5: "score is outside 0 to 1"}
    assert found.scores[[0, 2], 0].tolist() == pytest.approx([1, np.exp(-3)])


def test_the_builder_makes_valid_models(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(faulty_classifier(tmp_path)))
