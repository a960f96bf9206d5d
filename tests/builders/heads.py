"""Heads in ONNX that are simple enough to say by hand what comes out."""

from collections.abc import Mapping

import onnx
from onnx import TensorProto, helper


def head_model(
    operator: str = "Sigmoid", metadata: Mapping[str, str] | None = None, dims: int = 3, source: str = "embedding"
) -> bytes:
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
