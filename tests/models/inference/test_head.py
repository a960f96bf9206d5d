import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import ModelError
from models.inference import onnx_session
from models.inference.head import Head


def model(operator="Sigmoid", metadata=None, dims=3, source="embedding"):
    """A head that sums the embedding and puts an operator over it."""
    nodes = [
        helper.make_node("ReduceSum", [source, "axes"], ["sum"], keepdims=0),
        helper.make_node(operator, ["sum"], ["score"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    inputs = [helper.make_tensor_value_info(source, TensorProto.FLOAT, ["N", dims])]
    outputs = [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["N"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [axes])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(proto, {"category": "boats", "encoder": "abc"} if metadata is None else metadata)
    onnx.checker.check_model(proto)
    return proto.SerializeToString()


def test_score_is_what_the_model_says():
    scores = Head.load(model(), "abc", 3).score(np.array([[0, 0, 0], [1, 2, -1]], np.float32))

    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert scores.dtype == np.float32


def test_score_of_a_row_does_not_depend_on_its_neighbours():
    embeddings = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
    loaded = Head.load(model(), "abc", 3)

    assert np.array_equal(loaded.score(embeddings)[300:310], loaded.score(embeddings[300:310]))


def test_no_rows_give_no_scores():
    assert Head.load(model(), "abc", 3).score(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"no model", "not an ONNX model"),
        (model(source="image"), "has the input 'image'"),
        (model(metadata={"category": "boats"}), "has no encoder in its metadata"),
        (model(dims=4), r"\(4 dimensions\), but abc \(3 dimensions\) is in use: run `winnow train boats` again"),
        (model(metadata={"category": "boats", "encoder": "old"}), "trained on encoder old .* run `winnow train boats`"),
    ],
)
def test_wrong_heads_are_refused(data, message):
    with pytest.raises(ModelError, match=message):
        Head.load(data, "abc", 3)


def test_a_head_is_loaded_once_in_a_process(tmp_path):
    file = tmp_path / "head.onnx"
    file.write_bytes(model())

    opened = Head.open(str(file))

    assert (opened.category, opened.encoder, opened.dims) == ("boats", "abc", 3)
    assert opened.digest == onnx_session.digest(model())
    assert Head.open(str(file)) is opened


def test_the_error_names_a_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"missing\.onnx cannot be read"):
        Head.open(str(tmp_path / "missing.onnx"))


@pytest.mark.parametrize(("operator", "wrong", "right"), [("Log", -1.0, 0.5), ("Exp", 1.0, -1.0)])
def test_scores_outside_the_unit_interval_are_refused(operator, wrong, right):
    embeddings = np.array([[wrong] * 3, [right] * 3], np.float32)

    with pytest.raises(ModelError, match=r"1 of 2 images.*run `winnow train boats` again"):
        Head.load(model(operator), "abc", 3).score(embeddings)


def test_embeddings_with_the_wrong_length_are_refused():
    with pytest.raises(ModelError, match="embeddings of 3, but got 2 x 5"):
        Head.load(model(), "abc", 3).score(np.zeros((2, 5), np.float32))
