"""The encoder's network, its export to ONNX and its import."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.errors import ModelError

Floats = NDArray[np.float32]

CHANNELS = (24, 40, 80, 112, 160, 224)
STRIDES = (2, 1, 2, 1, 2, 2)
_QUIET = 12.0
"""Grey levels added to the contrast before the division. Otherwise noise of flat images would be amplified."""


class Network(nn.Module):
    """A network of six 3×3 convolutions, a residual block on the last grid, and one linear layer to a unit vector.

    The grid is flattened, not averaged, since a copy has its objects in the same places. A crop moves them by up to one
    cell, so the residual block, two more 3×3 convolutions, mixes neighbouring cells. Brightness and contrast of the
    whole image are normalised first.

    Args:
        side: Width and height of the images, in pixels; a multiple of 16.
        dims: Length of the embedding.
    """

    def __init__(self, side: int, dims: int) -> None:
        super().__init__()
        self.side = side
        self.dims = dims
        widths = (3, *CHANNELS)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, 1)
            for before, after, stride in zip(widths, widths[1:], STRIDES, strict=False)
        )
        self.residual = nn.ModuleList(nn.Conv2d(CHANNELS[-1], CHANNELS[-1], 3, 1, 1) for _ in range(2))
        self.linear = nn.Linear(CHANNELS[-1] * (side // 16) ** 2, dims)
        for layer in (*self.convolutions, *self.residual):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        # The block initially adds nothing, as in Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 5.1.
        nn.init.zeros_(self.residual[1].weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """Returns the embeddings of images.

        Args:
            pixels: float32 of shape (n, 3, side, side), 0 to 255.

        Returns:
            float32 of shape (n, dims), unit length.
        """
        mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
        centred = pixels - mean
        values = centred / ((centred * centred).mean(dim=(1, 2, 3), keepdim=True).sqrt() + _QUIET)
        values = values.contiguous(memory_format=torch.channels_last)
        for layer in self.convolutions:
            values = torch.relu(layer(values))
        inner, outer = self.residual
        values = torch.relu(values + outer(torch.relu(inner(values))))
        return nn.functional.normalize(self.linear(values.flatten(1)).float(), dim=1)


@dataclass(frozen=True)
class Hyperplanes:
    """The hyperplanes that turn an embedding into bits: each bit is a side of a hyperplane.

    Attributes:
        centre: float32 of shape (d,): the mean embedding, so that about half of the images are on either side.
        directions: float32 of shape (d, 256).
    """

    centre: Floats
    directions: Floats


def to_onnx(network: Network, planes: Hyperplanes, properties: Mapping[str, str]) -> bytes:
    """Exports the network to an ONNX file that reads images and returns embeddings and hashes.

    Weights have half precision. This halves the file and changes an embedding less than the rounding of a JPEG.

    Args:
        network: The trained network.
        planes: The hyperplanes of the output `hash`.
        properties: The `metadata_props` of the file.

    Returns:
        The file: input `image` uint8 (n, side, side, 3) RGB; outputs `embedding` float32 (n, d) of unit length and
        `hash` float32 (n, 256), whose signs are the bits.
    """
    half, exact = _weights(network)
    exact |= {"centre": planes.centre, "quiet": np.float32(_QUIET), "planes": planes.directions}
    stored = [numpy_helper.from_array(value.astype(np.float16), f"{name}.half") for name, value in half.items()]
    stored += [numpy_helper.from_array(np.asarray(value, dtype=np.float32), name) for name, value in exact.items()]
    stored.append(numpy_helper.from_array(np.array([1, 2, 3]), "axes"))
    stored.append(numpy_helper.from_array(np.array([1]), "axis"))
    widened = [helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT) for name in half]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", network.side, network.side, 3])
    outputs = [
        helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", network.dims]),
        helper.make_tensor_value_info("hash", TensorProto.FLOAT, ["n", planes.directions.shape[1]]),
    ]
    graph = helper.make_graph([*widened, *_nodes()], "encoder", [image], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], producer_name="winnow", ir_version=9)
    helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def from_onnx(model: bytes) -> Network:
    """Loads the network from a file that `to_onnx` wrote, for further training.

    A file without a residual block, as encoders had none before, gets a block that initially adds nothing.

    Args:
        model: The ONNX file.

    Raises:
        ModelError: The file contains another network.
    """
    tensors = onnx.load_from_string(model).graph.initializer
    stored = {tensor.name.removesuffix(".half"): numpy_helper.to_array(tensor).astype(np.float32) for tensor in tensors}
    try:
        dims, features = stored["linear.weight"].shape
        network = Network(side=16 * round((features / CHANNELS[-1]) ** 0.5), dims=dims)
        initial = network.state_dict()
        names = [name for name in initial if name in stored or not name.startswith("residual.")]
        network.load_state_dict({**initial, **{name: torch.from_numpy(stored[name]) for name in names}})
    except (KeyError, RuntimeError, ValueError) as error:
        raise ModelError("this encoder was not written by fit-encoder, so training cannot start from it") from error
    return network


def _weights(network: Network) -> tuple[dict[str, Floats], dict[str, Floats | np.float32]]:
    """Returns the network's parameters: the weights to round, and the biases, which are too few to round."""
    state = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    half = {name: value for name, value in state.items() if name.endswith("weight")}
    return half, {name: value for name, value in state.items() if name.endswith("bias")}


def _nodes() -> list[onnx.NodeProto]:
    make = helper.make_node
    nodes = [
        make("Cast", ["image"], ["bytes"], to=TensorProto.FLOAT),
        make("Transpose", ["bytes"], ["pixels"], perm=[0, 3, 1, 2]),
        make("ReduceMean", ["pixels", "axes"], ["mean"]),
        make("Sub", ["pixels", "mean"], ["centred"]),
        make("Mul", ["centred", "centred"], ["squares"]),
        make("ReduceMean", ["squares", "axes"], ["variance"]),
        make("Sqrt", ["variance"], ["deviation"]),
        make("Add", ["deviation", "quiet"], ["scale"]),
        make("Div", ["centred", "scale"], ["values0"]),
    ]
    for i, stride in enumerate(STRIDES):
        nodes.append(_convolution(f"convolutions.{i}", f"values{i}", f"sums{i}", stride))
        nodes.append(make("Relu", [f"sums{i}"], [f"values{i + 1}"]))
    grid = f"values{len(STRIDES)}"
    return [
        *nodes,
        _convolution("residual.0", grid, "inner_sums", 1),
        make("Relu", ["inner_sums"], ["inner"]),
        _convolution("residual.1", "inner", "outer_sums", 1),
        make("Add", [grid, "outer_sums"], ["grid_sums"]),
        make("Relu", ["grid_sums"], ["grid"]),
        make("Flatten", ["grid"], ["features"]),
        make("Gemm", ["features", "linear.weight", "linear.bias"], ["vector"], transB=1),
        make("ReduceL2", ["vector", "axis"], ["length"]),
        make("Div", ["vector", "length"], ["embedding"]),
        make("Sub", ["embedding", "centre"], ["from_centre"]),
        make("MatMul", ["from_centre", "planes"], ["hash"]),
    ]


def _convolution(name: str, source: str, target: str, stride: int) -> onnx.NodeProto:
    sizes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [stride, stride]}
    return helper.make_node("Conv", [source, f"{name}.weight", f"{name}.bias"], [target], **sizes)
