"""Reads the graph of an ONNX file. Only checks on the driver need it, so workers do not import onnx."""

_CHANGE_FORM = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def last_operator(model: bytes, output: str) -> str:
    """Returns the operator that computes the values of an output, such as `Softmax`; empty if there is none.

    Operators that only change the type or the shape of values do not count.

    Args:
        model: The ONNX file.
        output: Name of one of its outputs.
    """
    import onnx

    maker = {name: node for node in onnx.load_model_from_string(model).graph.node for name in node.output}
    while output in maker and maker[output].op_type in _CHANGE_FORM:
        output = maker[output].input[0]
    return str(maker[output].op_type) if output in maker else ""
