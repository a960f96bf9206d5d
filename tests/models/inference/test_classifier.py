import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.errors import ModelError
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from tests.builders import exported_models
from tests.builders.images import blobs, channel_model

COLOURS = np.array([[255, 51, 0], [0, 102, 204], [255, 255, 255]], np.uint8)
PIXELS = np.broadcast_to(COLOURS[:, None, None], (3, 4, 6, 3))
TYPES = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}


@pytest.fixture
def model(tmp_path: Path) -> ImageModel:
    return ImageModel(str(channel_model(tmp_path / "m.onnx")), (4, 6))


def scores(model: ImageModel, batch: int = 2) -> np.ndarray:
    session = onnx_session.start(model.path)
    classifier.check(Path(model.path).read_bytes(), model)
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
def test_uint8_models_get_unchanged_pixels(tmp_path, layout):
    path = channel_model(tmp_path / "m.onnx", layout, TensorProto.UINT8)
    model = ImageModel(str(path), (4, 6), layout=layout, dtype="uint8", index=1, activation="softmax")
    values = np.exp(COLOURS.astype(float) - 255)
    assert scores(model) == pytest.approx(values[:, 1] / values.sum(axis=1), abs=1e-6)


def test_scale_mean_and_std_are_applied_to_the_input(model):
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


def test_an_output_is_chosen_by_name_and_column(model):
    picked = replace(model, output="others", index=1)
    assert scores(picked) == pytest.approx(1 - COLOURS[:, 1] / 255, abs=1e-6)


def test_models_with_the_same_input_share_one_inference(model):
    class Counting:
        runs = 0

        def __init__(self):
            self.session = onnx_session.start(model.path)
            self.get_inputs, self.get_outputs = self.session.get_inputs, self.session.get_outputs

        def run(self, *arguments):
            self.runs += 1
            return self.session.run(*arguments)

    models = [model, replace(model, index=2), replace(model, output="others", activation="sigmoid")]
    assert len({m.inference for m in models}) == 1
    session = Counting()
    found = classifier.classify_each(session, PIXELS, models, batch=4).scores
    assert session.runs == 1
    for place, each in enumerate(models):
        assert found[:, place] == pytest.approx(scores(each))


def test_no_images_give_no_scores(model):
    assert classifier.classify_thumbnails(onnx_session.start(model.path), PIXELS[:0], model, 4).shape == (0,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (8, 6)}, r"shape \['n', 3, 4, 6\], but size and layout give \['N', 3, 8, 6\]"),
        ({"layout": "NHWC"}, r"size and layout give \['N', 4, 6, 3\]"),
        ({"dtype": "uint8"}, r"input is tensor\(float\), but dtype is uint8"),
        ({"output": "logits"}, "no output 'logits', only means, others"),
        ({"index": 3}, "index 3 is beyond its 3 output columns"),
        ({"output": 2}, r"no output number 2, only 2, counted from 0 \(means, others\)"),
        ({"output": -1}, "no output number -1"),
        ({"index": -1}, "index is -1, and columns are counted from 0"),
        ({"size": (0, 6)}, r"size is \[0, 6\], but both sides must be at least 1 pixel"),
        ({"std": (0.2, 0.0, 0.2)}, "scale, mean and std must be numbers, and std not 0"),
        ({"scale": float("nan")}, "scale, mean and std must be numbers"),
        ({"mean": (0.5, 0.5)}, "mean has 2 values, but channels is RGB: give 1 or 3"),
        ({"channels": "grey"}, r"shape \['n', 3, 4, 6\], but size and layout give \['N', 1, 4, 6\]"),
        ({"crop_pct": 1.5}, "crop_pct is 1.5, but must be above 0 and at most 1"),
        ({"crop_pct": 0.0}, "crop_pct is 0.0, but must be above 0"),
        ({"resample": "area"}, "resample is 'area', but must be one of nearest, bilinear, bicubic, lanczos"),
        ({"fit": "pad", "pad_colour": (0, 0, 256)}, r"pad_colour is \[0, 0, 256\], but its values are from 0 to 255"),
        ({"scale": 1.0}, r"returned 255.0, not a score in \[0, 1\]: set activation"),
        # The logits of black are in [0, 1], so a black test image alone would pass.
        ({"scale": 1 / 200}, r"returned 1.27\d*, not a score"),
    ],
)
def test_the_error_for_a_wrong_description_names_the_fault(model, change, message):
    described = replace(model, **change)
    with pytest.raises(ModelError, match=message):
        classifier.check(Path(model.path).read_bytes(), described)


def test_the_error_names_all_faults(model):
    with pytest.raises(ModelError, match=r"dtype is uint8.*size and layout.*no output 'x'"):
        classifier.check(Path(model.path).read_bytes(), replace(model, dtype="uint8", size=(1, 1), output="x"))


def test_mean_and_std_are_refused_for_a_uint8_model(tmp_path):
    path = channel_model(tmp_path / "m.onnx", dtype=TensorProto.UINT8)
    model = ImageModel(str(path), (4, 6), dtype="uint8", mean=(0.5, 0.5, 0.5))
    with pytest.raises(ModelError, match="mean and std are set, but dtype uint8"):
        classifier.check(Path(model.path).read_bytes(), model)


def altered(
    model: ImageModel, *nodes: onnx.NodeProto, shape: list[int | str], dtype: int = TensorProto.FLOAT
) -> ImageModel:
    """Replaces the model's outputs: first the result of `nodes` on `means`, then `means`."""
    proto = onnx.load(model.path)
    proto.graph.node.extend(nodes)
    means = next(output for output in proto.graph.output if output.name == "means")
    kept = [helper.make_tensor_value_info("changed", dtype, shape), means]
    del proto.graph.output[:]
    proto.graph.output.extend(kept)
    onnx.save(proto, model.path)
    return model


def test_a_model_that_returns_nan_is_refused(model):
    none = helper.make_node("Sub", ["means", "means"], ["none"])
    nan = helper.make_node("Div", ["none", "none"], ["changed"])
    broken = altered(model, none, nan, shape=["n", 3])
    with pytest.raises(ModelError, match=f"{model.path} returned nan for every test image"):
        classifier.check(Path(broken.path).read_bytes(), broken)


def test_a_model_that_returns_nan_only_for_white_is_accepted(model):
    none = helper.make_node("Sub", ["others", "others"], ["none"])
    nan = helper.make_node("Div", ["none", "others"], ["changed"])
    assert np.isnan(scores(altered(model, none, nan, shape=["n", 3]))).tolist() == [True, False, True]


def test_output_axes_of_length_one_are_ignored(model):
    axes = helper.make_node("Constant", [], ["last"], value=helper.make_tensor("l", TensorProto.INT64, [2], [2, 3]))
    wide = altered(model, axes, helper.make_node("Unsqueeze", ["means", "last"], ["changed"]), shape=["n", 3, 1, 1])
    assert scores(replace(wide, index=2)) == pytest.approx(COLOURS[:, 2] / 255)


def test_an_output_with_several_axes_is_refused_with_the_line_to_write(model):
    boxes = helper.make_node("Unsqueeze", ["others", "first"], ["wide"])
    first = helper.make_node("Constant", [], ["first"], value=helper.make_tensor("f", TensorProto.INT64, [1], [1]))
    twice = helper.make_node("Concat", ["wide", "wide"], ["changed"], axis=1)
    detector = altered(model, first, boxes, twice, shape=["n", 2, 3])
    with pytest.raises(ModelError, match=r"'changed' has shape \['n', 2, 3\], such as .*: write output = \"means\"$"):
        classifier.check(Path(detector.path).read_bytes(), detector)
    assert scores(replace(detector, output="means", index=1)) == pytest.approx(COLOURS[:, 1] / 255)


@pytest.mark.parametrize("operator", ["Sigmoid", "Softmax"])
@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_an_activation_over_an_activated_output_is_refused(model, operator, activation):
    activated = helper.make_node(operator, ["means"], ["made"])
    same = helper.make_node("Identity", ["made"], ["changed"])
    whole = altered(model, activated, same, shape=["n", 3])
    with pytest.raises(ModelError, match=f"'changed' is computed by {operator}, .*write activation = \"none\" instead"):
        classifier.check(Path(whole.path).read_bytes(), replace(whole, activation=activation))
    assert scores(whole).max() < 1


def test_an_activation_over_probabilities_that_other_operators_compute_is_refused(model):
    exponent = helper.make_node("Exp", ["means"], ["exponent"])
    axis = helper.make_node("Constant", [], ["axis"], value=helper.make_tensor("a", TensorProto.INT64, [1], [1]))
    total = helper.make_node("ReduceSum", ["exponent", "axis"], ["total"])
    whole = altered(
        model, exponent, axis, total, helper.make_node("Div", ["exponent", "total"], ["changed"]), shape=["n", 3]
    )
    with pytest.raises(ModelError, match=r"'changed' has values that sum to 1, .*write activation = .none. instead"):
        classifier.check(Path(whole.path).read_bytes(), replace(whole, activation="softmax"))


def test_an_activation_over_values_between_0_and_1_that_may_be_logits_is_accepted(model):
    classifier.check(Path(model.path).read_bytes(), replace(model, activation="sigmoid"))


def test_an_integer_output_is_refused_and_another_output_can_be_read(model):
    label = helper.make_node("ArgMax", ["means"], ["changed"], axis=1, keepdims=0)
    both = altered(model, label, shape=["n"], dtype=TensorProto.INT64)
    with pytest.raises(ModelError, match=r"'changed' is tensor\(int64\), .*: set output to one of changed, means"):
        classifier.check(Path(both.path).read_bytes(), both)
    assert scores(replace(both, output=1, index=1)) == pytest.approx(COLOURS[:, 1] / 255)


def test_softmax_over_a_single_column_is_refused(model):
    one = helper.make_node("ReduceMean", ["means", "second"], ["changed"], keepdims=1)
    second = helper.make_node("Constant", [], ["second"], value=helper.make_tensor("s", TensorProto.INT64, [1], [1]))
    single = replace(altered(model, second, one, shape=["n", 1]), activation="softmax")
    with pytest.raises(ModelError, match="softmax over one column is always 1: set activation to sigmoid"):
        classifier.check(Path(single.path).read_bytes(), single)


def test_a_missing_column_is_found_by_the_test_run(tmp_path):
    path = exported_models.sequence_classifier(tmp_path / "m.onnx")
    model = ImageModel(str(path), exported_models.SIZE, index=8, activation="softmax")
    with pytest.raises(ModelError, match="index 8 is beyond its 8 output columns"):
        classifier.check(Path(model.path).read_bytes(), model)


@pytest.mark.parametrize("batch", ["batch", 1, 8])
def test_a_clip_tower_with_built_in_captions_gives_their_probabilities(tmp_path, batch):
    path = exported_models.zero_shot(tmp_path / "clip.onnx", batch)
    model = ImageModel(
        str(path),
        exported_models.SIZE,
        mean=exported_models.CLIP_MEAN,
        std=exported_models.CLIP_STD,
        index=1,
        activation="softmax",
    )
    pixels = blobs(9, 48)[:, :32]
    session = onnx_session.start(model.path)
    classifier.check(Path(model.path).read_bytes(), model)
    embeddings = exported_models.quarters(pixels, model.mean, model.std)
    expected = exported_models.captions_likely(embeddings)[:, 1]
    assert classifier.classify_thumbnails(session, pixels, model, 4) == pytest.approx(expected, abs=1e-5)
    assert expected.std() > 0.05


def test_a_transformers_classifier_with_free_sides_gives_softmax_of_its_logits(tmp_path):
    path = exported_models.sequence_classifier(tmp_path / "vit.onnx")
    halves = (0.5, 0.5, 0.5)
    model = ImageModel(
        str(path), exported_models.SIZE, mean=halves, std=halves, output="logits", index=3, activation="softmax"
    )
    pixels = blobs(5, 48)[:, :32]
    session = onnx_session.start(model.path)
    classifier.check(Path(model.path).read_bytes(), model)
    expected = exported_models.softmax(exported_models.quarters(pixels, halves, halves))[:, 3]
    assert classifier.classify_thumbnails(session, pixels, model, 4) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("threshold", [0, 90])  # all constants, or only the weights
def test_weights_in_a_separate_file_are_refused_even_in_their_folder(tmp_path, monkeypatch, threshold):
    path = exported_models.zero_shot(tmp_path / "m.onnx")
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="weights.bin", size_threshold=threshold)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"m\.onnx has its weights in another file: save it as one file"):
        onnx_session.start(path.read_bytes(), name=str(path))


def test_a_missing_provider_and_one_that_does_not_start_are_refused(model, monkeypatch):
    with pytest.raises(ModelError, match=r"this onnxruntime has no FancyExecutionProvider; it has .*CPUExecution"):
        onnx_session.start(model.path, providers=("FancyExecutionProvider",))
    known = (*onnx_session.ort.get_available_providers(), "CUDAExecutionProvider")
    monkeypatch.setattr(onnx_session.ort, "get_available_providers", lambda: known)
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(ModelError, match="CUDAExecutionProvider does not start on this machine"),
    ):
        onnx_session.start(model.path, providers=("CUDAExecutionProvider", "CPUExecutionProvider"))


def test_a_model_with_one_result_for_a_whole_batch_is_refused(model):
    one = helper.make_node("ReduceMean", ["means"], ["changed"], keepdims=1)
    broken = altered(model, one, shape=[1, 1])
    with pytest.raises(ModelError, match=r"'changed' has shape \(1, 1\) for 2 rows"):
        classifier.check(Path(broken.path).read_bytes(), broken)


def test_a_file_that_is_not_a_model_is_refused(tmp_path):
    wrong = tmp_path / "wrong.onnx"
    wrong.write_bytes(b"GIF89a, and no model")
    with pytest.raises(ModelError, match=r"wrong.onnx is not an ONNX model"):
        onnx_session.start(str(wrong))


def test_a_model_with_two_inputs_is_refused(tmp_path):
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "ab"]
    output = helper.make_tensor_value_info("c", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "two", inputs, [output])
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    with pytest.raises(ModelError, match=r"it has 2 inputs \(a, b\), not one"):
        classifier.check(path.read_bytes(), ImageModel(str(path), (4, 6)))
