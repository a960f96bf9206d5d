"""ONNX models as people export them (a CLIP-like image tower, a classifier of transformers), small, and what they say.

Both see a picture as the means of its four quarters, so that numpy can say what is to come out.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
WEIGHTS = np.random.default_rng(5).normal(size=(12, 8)).astype(np.float32)
TEXTS = np.random.default_rng(6).normal(size=(8, 3)).astype(np.float32)
SCALE = 2.0
SIZE = (32, 48)

_NUMPY = {TensorProto.FLOAT: np.float32, TensorProto.FLOAT16: np.float16}


def image_tower(
    path: Path, batch: int | str = "batch", dtype: int = TensorProto.FLOAT, size: Sequence[int | str] = SIZE
) -> Path:
    """A CLIP-like image tower: pixel_values in; last_hidden_state of four tokens, then image_embeds out."""
    nodes, weights = _quarters(dtype)
    nodes.append(helper.make_node("MatMul", ["flat", "weights"], ["image_embeds"]))
    outputs = {"last_hidden_state": [batch, 3, 4], "image_embeds": [batch, 8]}
    return _save(path, nodes, weights, [batch, 3, *size], outputs, dtype)


def zero_shot(path: Path, batch: int | str = "batch", dtype: int = TensorProto.FLOAT) -> Path:
    """The tower with three captions built in: pixel_values in, logits_per_image out."""
    nodes, weights = _quarters(dtype)
    nodes += [
        helper.make_node("MatMul", ["flat", "weights"], ["embeds"]),
        helper.make_node("LpNormalization", ["embeds"], ["unit"], axis=-1, p=2),
        helper.make_node("MatMul", ["unit", "texts"], ["logits_per_image"]),
    ]
    weights.append(numpy_helper.from_array((SCALE * TEXTS).astype(_NUMPY[dtype]), "texts"))
    return _save(path, nodes, weights, [batch, 3, *SIZE], {"logits_per_image": [batch, 3]}, dtype)


def sequence_classifier(path: Path, batch: int | str = "batch_size") -> Path:
    """A classifier as transformers export it: pixel_values with no fixed side in, logits of eight labels out."""
    nodes, weights = _quarters(TensorProto.FLOAT)
    nodes.append(helper.make_node("MatMul", ["flat", "weights"], ["logits"]))
    shape = [batch, "num_channels", "height", "width"]
    return _save(path, nodes, weights, shape, {"logits": [batch, "labels"]}, TensorProto.FLOAT)


def quarters(pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float64]:
    """What `image_embeds` and `logits` are for pixels of shape (n, 32, 48, 3), RGB: shape (n, 8)."""
    values = (pixels / 255 - np.array(mean)) / np.array(std)
    height, width = SIZE[0] // 2, SIZE[1] // 2
    means = values.reshape(len(pixels), 2, height, 2, width, 3).mean(axis=(2, 4))
    return np.asarray(means.transpose(0, 3, 1, 2).reshape(len(pixels), 12) @ WEIGHTS.astype(np.float64))


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Along the last axis."""
    values = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(values / values.sum(axis=-1, keepdims=True))


def captions_likely(embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
    """The probabilities of the zero-shot model's three captions, shape (n, 3)."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return softmax(SCALE * unit @ TEXTS)


def _quarters(dtype: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    height, width = SIZE[0] // 2, SIZE[1] // 2
    nodes = [
        helper.make_node(
            "AveragePool", ["pixel_values"], ["pooled"], kernel_shape=[height, width], strides=[height, width]
        ),
        helper.make_node("Reshape", ["pooled", "as_tokens"], ["last_hidden_state"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
    ]
    tokens = numpy_helper.from_array(np.array([0, 3, 4], np.int64), "as_tokens")
    return nodes, [tokens, numpy_helper.from_array(WEIGHTS.astype(_NUMPY[dtype]), "weights")]


def _save(
    path: Path,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
    shape: list[int | str],
    outputs: dict[str, list[int | str]],
    dtype: int,
) -> Path:
    made = [helper.make_tensor_value_info(name, dtype, axes) for name, axes in outputs.items()]
    graph = helper.make_graph(
        nodes, "usual", [helper.make_tensor_value_info("pixel_values", dtype, shape)], made, weights
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path
