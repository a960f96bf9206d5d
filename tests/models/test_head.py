import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import head
from models.errors import ModelError
from models.head import Basis

BASIS = Basis("boats", "abc", 3)


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
    scores = head.load(model(), BASIS).score(np.array([[0, 0, 0], [1, 2, -1]], np.float32))

    np.testing.assert_allclose(scores, [0.5, 1 / (1 + np.exp(-2))], rtol=1e-6)
    assert scores.dtype == np.float32


def test_score_of_a_row_does_not_depend_on_its_neighbours():
    embeddings = np.random.default_rng(0).normal(size=(700, 3)).astype(np.float32)
    loaded = head.load(model(), BASIS)

    assert np.array_equal(loaded.score(embeddings)[300:310], loaded.score(embeddings[300:310]))


def test_no_rows_give_no_scores():
    assert head.load(model(), BASIS).score(np.zeros((0, 3), np.float32)).shape == (0,)


@pytest.mark.parametrize(
    ("data", "basis", "message"),
    [
        (b"no model", BASIS, "not an ONNX model"),
        (model(source="image"), BASIS, "has the input image"),
        (model(dims=4), BASIS, "length of embedding 4, where 3 is used now: run `winnow train boats` again"),
        (model(), Basis("boats", "new", 3), "encoder abc, where new is used now: run `winnow train boats` again"),
        (model(), Basis("cars", "abc", 3), "category boats, where cars"),
        (model(metadata={}), BASIS, "category unknown"),
    ],
)
def test_unfit_heads_are_refused(data, basis, message):
    with pytest.raises(ModelError, match=message):
        head.load(data, basis)


@pytest.mark.parametrize(("operator", "wrong", "right"), [("Log", -1.0, 0.5), ("Exp", 1.0, -1.0)])
def test_scores_outside_the_unit_interval_are_refused(operator, wrong, right):
    embeddings = np.array([[wrong] * 3, [right] * 3], np.float32)

    with pytest.raises(ModelError, match=r"1 of 2 images.*run `winnow train boats` again"):
        head.load(model(operator), BASIS).score(embeddings)


def test_embeddings_of_another_length_are_refused():
    with pytest.raises(ModelError, match="embeddings of 3, but got 2 x 5"):
        head.load(model(), BASIS).score(np.zeros((2, 5), np.float32))
