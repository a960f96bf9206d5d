import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import classifier, runtime
from models.classifier import ImageModel
from models.errors import ModelError
from tests.pictures import channel_model

COLOURS = np.array([[255, 51, 0], [0, 102, 204], [255, 255, 255]], np.uint8)
PIXELS = np.broadcast_to(COLOURS[:, None, None], (3, 4, 6, 3))
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@pytest.fixture
def model(tmp_path: Path) -> ImageModel:
    return ImageModel(str(channel_model(tmp_path / "m.onnx")), (4, 6))


def scores(model: ImageModel, batch: int = 2) -> np.ndarray:
    session = runtime.start(model.path)
    classifier.check(session, model)
    return classifier.classify_thumbnails(session, PIXELS, model, batch)


@pytest.mark.parametrize(
    ("layout", "channels", "dtype", "batch"),
    list(itertools.product(["NCHW", "NHWC"], ["RGB", "BGR"], ["float32", "float16"], ["n", 1, 2, 8])),
)
def test_any_layout_channel_order_type_and_batch_gives_the_same_scores(tmp_path, layout, channels, dtype, batch):
    path = channel_model(tmp_path / "m.onnx", layout, TYPES[dtype], batch)
    red = 0 if channels == "RGB" else 2
    model = ImageModel(str(path), (4, 6), layout=layout, channels=channels, dtype=dtype, index=red)
    assert scores(model) == pytest.approx(COLOURS[:, 0] / 255, abs=1e-3)


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_uint8_models_are_fed_the_pixels_as_they_are(tmp_path, layout):
    path = channel_model(tmp_path / "m.onnx", layout, TensorProto.UINT8)
    model = ImageModel(str(path), (4, 6), layout=layout, dtype="uint8", index=1, activation="softmax")
    values = np.exp(COLOURS.astype(float) - 255)
    assert scores(model) == pytest.approx(values[:, 1] / values.sum(axis=1), abs=1e-6)


def test_scale_mean_and_std_come_before_the_model(model):
    described = replace(model, scale=1 / 51, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0), activation="sigmoid")
    logits = (COLOURS / 51 - [1, 2, 3]) / [2, 4, 8]
    for index in range(3):
        expected = 1 / (1 + np.exp(-logits[:, index]))
        assert scores(replace(described, index=index)) == pytest.approx(expected, abs=1e-6)


def test_softmax_is_over_the_columns_of_the_output(model):
    values = np.exp(COLOURS / 255)
    assert scores(replace(model, activation="softmax", index=2)) == pytest.approx(
        values[:, 2] / values.sum(1), abs=1e-6
    )


def test_an_output_is_picked_by_name_and_column(model):
    picked = replace(model, output="others", index=1)
    assert scores(picked) == pytest.approx(1 - COLOURS[:, 1] / 255, abs=1e-6)


def test_models_of_one_inference_share_it(model):
    class Counting:
        runs = 0

        def __init__(self):
            self.session = runtime.start(model.path)
            self.get_inputs, self.get_outputs = self.session.get_inputs, self.session.get_outputs

        def run(self, *arguments):
            self.runs += 1
            return self.session.run(*arguments)

    models = [model, replace(model, index=2), replace(model, output="others", activation="sigmoid")]
    assert len({m.inference for m in models}) == 1
    session = Counting()
    found = classifier.classify_each(session, PIXELS, models, batch=4)
    assert session.runs == 1
    for place, each in enumerate(models):
        assert found[:, place] == pytest.approx(scores(each))


def test_no_picture_gives_no_score(model):
    assert classifier.classify_thumbnails(runtime.start(model.path), PIXELS[:0], model, 4).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (8, 6)}, r"shape \['n', 3, 4, 6\], size and layout say \['N', 3, 8, 6\]"),
        ({"layout": "NHWC"}, r"size and layout say \['N', 4, 6, 3\]"),
        ({"dtype": "uint8"}, r"input is tensor\(float\), dtype says uint8"),
        ({"output": "logits"}, "no output 'logits', only means, others"),
        ({"index": 3}, "index 3 is beyond its 3 output columns"),
        ({"scale": 1.0}, r"answered 128.0, not a score in \[0, 1\]: set activation"),
    ],
)
def test_a_description_that_does_not_fit_is_named(model, change, message):
    described = replace(model, **change)
    with pytest.raises(ModelError, match=message):
        classifier.check(runtime.start(model.path), described)


def test_all_that_does_not_fit_is_named_at_once(model):
    with pytest.raises(ModelError, match=r"dtype says uint8.*size and layout.*no output 'x'"):
        classifier.check(runtime.start(model.path), replace(model, dtype="uint8", size=(1, 1), output="x"))


def altered(model: ImageModel, *nodes: onnx.NodeProto, shape: list[int | str]) -> ImageModel:
    """The model, its output `means` replaced by what nodes make of it."""
    proto = onnx.load(model.path)
    proto.graph.node.extend(nodes)
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("changed", TensorProto.FLOAT, shape))
    onnx.save(proto, model.path)
    return model


def test_a_model_that_answers_nan_is_named(model):
    none = helper.make_node("Sub", ["means", "means"], ["none"])
    nan = helper.make_node("Div", ["none", "none"], ["changed"])
    broken = altered(model, none, nan, shape=["n", 3])
    with pytest.raises(ModelError, match=f"{model.path} answered nan"):
        classifier.check(runtime.start(broken.path), broken)


def test_a_model_that_gives_one_answer_for_a_whole_batch_is_named(model):
    one = helper.make_node("ReduceMean", ["means"], ["changed"], keepdims=1)
    broken = altered(model, one, shape=[1, 1])
    with pytest.raises(ModelError, match=r"'changed' has shape \(1, 1\) for 2 rows"):
        classifier.check(runtime.start(broken.path), broken)


def test_a_file_that_is_no_model_is_named(tmp_path):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"GIF89a, and no model")
    with pytest.raises(ModelError, match=r"wrong.onnx is not an ONNX model"):
        runtime.start(str(wrong))


def test_a_model_with_two_inputs_is_named(tmp_path):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "ab"]
    output = helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", inputs, [output])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(ModelError, match=r"it has 2 inputs \(a, b\), one is expected"):
        classifier.check(runtime.start(str(path)), ImageModel(str(path), (4, 6)))
