"""ONNX models that fail on some images: they raise an error for red, and return NaN for green."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper


def faulty_classifier(folder: Path, scale: float = 1.0, nan: bool = True) -> Path:
    """A classifier of 8 x 8 pixels whose score is the brightness of grey images.

    Red raises an error, green gives NaN (if `nan`, else 0), blue gives 2.

    Args:
        folder: Where to write the file.
        scale: Factor on the score of grey images; another value is another model.
        nan: Whether green gives NaN.
    """
    nodes = [
        helper.make_node("ReduceMean", ["pixels", "sides"], ["means"], keepdims=0),
        helper.make_node("Split", ["means"], ["r", "g", "b"], axis=1, num_outputs=3),
        *_reshape_that_fails_if_red(),
        helper.make_node("Mul", ["fine", "scale"], ["plain"]),
        helper.make_node("Sub", ["b", "g"], ["b_g"]),
        helper.make_node("Greater", ["b_g", "half"], ["is_blue"]),
        helper.make_node("Sub", ["g", "b"], ["g_b"]),
        helper.make_node("Greater", ["g_b", "half"], ["is_green"]),
        helper.make_node("Where", ["is_blue", "two", "plain"], ["with_blue"]),
        helper.make_node("Where", ["is_green", "nan" if nan else "r", "with_blue"], ["column"]),
        helper.make_node("Squeeze", ["column", "last"], ["score"]),
    ]
    values = {"half": [0.5], "two": [2.0], "nan": [float("nan")], "scale": [scale]}
    floats = [helper.make_tensor(name, TensorProto.FLOAT, [1], value) for name, value in values.items()]
    shapes = [helper.make_tensor("sides", TensorProto.INT64, [2], [2, 3]), *_shape_constants()]
    output = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])
    graph = helper.make_graph(nodes, "faulty", [pixels], [output], [*floats, *shapes])
    return _saved(graph, folder / f"faulty{scale}{nan}.onnx")


def faulty_encoder(folder: Path) -> Path:
    """An encoder in Winnow's own form, of 8 x 8 pixels, whose embedding is the means of the channels plus one.

    Red raises an error, green gives NaN.
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["bytes", "most"], ["values"]),
        helper.make_node("ReduceMean", ["values", "sides"], ["means"], keepdims=0),
        helper.make_node("Split", ["means"], ["r", "g", "b"], axis=1, num_outputs=3),
        *_reshape_that_fails_if_red(),
        helper.make_node("Sub", ["g", "b"], ["g_b"]),
        helper.make_node("Greater", ["g_b", "half"], ["is_green"]),
        helper.make_node("Where", ["is_green", "nan", "fine"], ["first"]),
        helper.make_node("Concat", ["first", "g", "b"], ["joined"], axis=1),
        helper.make_node("Add", ["joined", "one"], ["embedding"]),
    ]
    values = {"half": [0.5], "nan": [float("nan")], "most": [255.0], "one": [1.0]}
    floats = [helper.make_tensor(name, TensorProto.FLOAT, [1], value) for name, value in values.items()]
    shapes = [helper.make_tensor("sides", TensorProto.INT64, [2], [1, 2]), *_shape_constants()]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 8, 8, 3])
    output = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3])
    return _saved(helper.make_graph(nodes, "faulty", [image], [output], [*floats, *shapes]), folder / "encoder.onnx")


def _reshape_that_fails_if_red() -> list[onnx.NodeProto]:
    """Nodes that return `r` as `fine`; with a red image in the batch, the wanted shape has too many rows."""
    return [
        helper.make_node("Sub", ["r", "b"], ["r_b"]),
        helper.make_node("Greater", ["r_b", "half"], ["is_red"]),
        helper.make_node("Cast", ["is_red"], ["red"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["red", "all"], ["reds"], keepdims=0),
        helper.make_node("Unsqueeze", ["reds", "start"], ["more"]),
        helper.make_node("Shape", ["r"], ["shape"]),
        helper.make_node("Add", ["shape", "more"], ["wanted"]),
        helper.make_node("Reshape", ["r", "wanted"], ["fine"]),
    ]


def _shape_constants() -> list[onnx.TensorProto]:
    return [
        helper.make_tensor("all", TensorProto.INT64, [2], [0, 1]),
        helper.make_tensor("start", TensorProto.INT64, [1], [0]),
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
    ]


def _saved(graph: onnx.GraphProto, path: Path) -> Path:
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
