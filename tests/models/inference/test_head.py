import numpy as np
import pytest

from models.errors import ModelError
from models.inference import onnx_session
from models.inference.head import Head
from tests.builders.heads import head_model


def test_score_is_what_the_model_says():
    scores = Head.load(head_model(), "abc", 3).score(np.array([[0, 0, 0], [1, 2, -1]], np.float32))

    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert scores.dtype == np.float32


def test_score_of_a_row_does_not_depend_on_its_neighbours():
    embeddings = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
    loaded = Head.load(head_model(), "abc", 3)

    assert np.array_equal(loaded.score(embeddings)[300:310], loaded.score(embeddings[300:310]))


def test_no_rows_give_no_scores():
    assert Head.load(head_model(), "abc", 3).score(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no model", "not an ONNX model"),
        (head_model(source="image"), "has the input 'image'"),
        (head_model(metadata={"category": "boats"}), "has no encoder in its metadata"),
        (head_model(dims=4), r"\(4 dimensions\), but abc \(3 dimensions\) is in use: run `winnow train boats` again"),
        (
            head_model(metadata={"category": "boats", "encoder": "old"}),
            "trained on encoder old .* run `winnow train boats`",
        ),
    ],
)
def test_wrong_heads_are_refused(data, message):
    with pytest.raises(ModelError, match=message):
        Head.load(data, "abc", 3)


def test_a_head_is_loaded_once_in_a_process(tmp_path):
    file = tmp_path / "head.onnx"
    file.write_bytes(head_model())

    opened = Head.open(str(file))

    assert (opened.category, opened.encoder, opened.dims) == ("boats", "abc", 3)
    assert opened.digest == onnx_session.digest(head_model())
    assert Head.open(str(file)) is opened


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.onnx cannot be read"):
        Head.open(str(tmp_path / "missing.onnx"))


@pytest.mark.parametrize(("operator", "wrong", "right"), [("Log", -1.0, 0.5), ("Exp", 1.0, -1.0)])
def test_scores_outside_the_unit_interval_are_refused(operator, wrong, right):
    embeddings = np.array([[wrong] * 3, [right] * 3], np.float32)

    with pytest.raises(ModelError, match=r"no score for 1 of 2 images.*run `winnow train boats` again"):
        Head.load(head_model(operator), "abc", 3).score(embeddings)


def test_embeddings_with_the_wrong_length_are_refused():
    with pytest.raises(ModelError, match="embeddings of 3, but got 2 x 5"):
        Head.load(head_model(), "abc", 3).score(np.zeros((2, 5), np.float32))
