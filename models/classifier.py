"""Classifiers of the user's own: ONNX models that read images, of any usual shape."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.runtime import digest, run_in_batches

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}


@dataclass(frozen=True)
class ImageModel:
    """How an ONNX image classifier wants its input and where its answer stands.

    Attributes:
        path: The ONNX file.
        size: Height and width of the input, pixels; images are squeezed to it whatever their aspect.
        layout: Order of the input's axes.
        channels: Order of the colours.
        dtype: Type of the input; `uint8` is fed 0 to 255 as it is, floats after scale, mean and std.
        scale: Factor on the 0 to 255 values, before mean and std.
        mean: Taken from each channel, in the order of `channels`.
        std: Then divided by, likewise.
        output: Name of the output that is read; None is the first.
        index: Column of that output that is the category's.
        activation: What turns the output into a probability.
    """

    # Read by the settings: a misspelt key is a fault there.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    path: str
    size: tuple[int, int]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    scale: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    output: str | None = None
    index: int = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"

    @property
    def inference(self) -> "ImageModel":
        """The description without what is read from the answer: models that share it share one inference."""
        return replace(self, output=None, index=0, activation="none")

    def digest(self, data: bytes) -> str:
        """The name by which tables know the classifier: its file and how it is read, wherever the file lies.

        Args:
            data: The ONNX file.

        Examples:
            >>> model = ImageModel("m.onnx", (224, 224))
            >>> model.digest(b"") == replace(model, path="elsewhere/m.onnx").digest(b"")
            True
            >>> model.digest(b"") == replace(model, index=1).digest(b"")
            False
        """
        description = {name: value for name, value in asdict(self).items() if name != "path"}
        return digest(data + json.dumps(description, sort_keys=True).encode())


def preprocess(pixels: NDArray[np.uint8], model: ImageModel) -> NDArray[Any]:
    """Thumbnails as a model's input.

    Args:
        pixels: RGB, uint8 of shape (n, height, width, 3).
        model: What the model wants.

    Returns:
        Array in the model's dtype, of shape (n, 3, height, width) or (n, height, width, 3) by its layout.

    Examples:
        >>> red = np.zeros((1, 2, 2, 3), np.uint8)
        >>> red[..., 0] = 255
        >>> preprocess(red, ImageModel("m.onnx", (2, 2), channels="BGR"))[0, :, 0, 0]
        array([0., 0., 1.], dtype=float32)
    """
    ordered = pixels[..., ::-1] if model.channels == "BGR" else pixels
    if model.dtype == "uint8":
        values: NDArray[Any] = ordered
    else:
        mean, std = (np.asarray(v, dtype=np.float32) for v in (model.mean, model.std))
        values = ((ordered.astype(np.float32) * np.float32(model.scale) - mean) / std).astype(model.dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if model.layout == "NCHW" else values)


def activate(output: NDArray[Any], model: ImageModel) -> NDArray[np.float32]:
    """A model's output as probabilities of its category.

    Args:
        output: Of shape (n,) or (n, classes).
        model: Which column, and which activation.

    Returns:
        float32 of shape (n,).
    """
    values = output.reshape(len(output), int(np.prod(output.shape[1:]))).astype(np.float64)
    if model.activation == "softmax":
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    column = values[:, model.index]
    if model.activation == "sigmoid":
        column = 1.0 / (1.0 + np.exp(-column))
    return column.astype(np.float32)


def classify_thumbnails(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], model: ImageModel, batch: int
) -> NDArray[np.float32]:
    """Scores of thumbnails by one model, float32 of shape (n,); the rest as `classify_each` says."""
    return classify_each(session, pixels, [model], batch)[:, 0]


def classify_each(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], models: Sequence[ImageModel], batch: int
) -> NDArray[np.float32]:
    """Scores of thumbnails by models that read different answers of one inference.

    Args:
        session: The running model.
        pixels: RGB, uint8 of shape (n, height, width, 3) in the models' size.
        models: Descriptions that differ in output, index and activation only, one or more.
        batch: Rows for each run; a model with a fixed batch overrides it.

    Returns:
        float32 of shape (n, models), each in [0, 1].

    Raises:
        ModelError: A score is not a number between 0 and 1.
    """
    fixed = session.get_inputs()[0].shape[0]
    rows = fixed if isinstance(fixed, int) and fixed > 0 else batch
    names = [model.output or session.get_outputs()[0].name for model in models]
    wanted = sorted(set(names))
    found = dict(zip(wanted, run_in_batches(session, preprocess(pixels, models[0]), wanted, rows), strict=True))
    return np.stack([_scores(found[name], model) for name, model in zip(names, models, strict=True)], axis=1)


def _scores(output: NDArray[Any], model: ImageModel) -> NDArray[np.float32]:
    scores = activate(output, model)
    wrong = scores[~((scores >= 0) & (scores <= 1))]
    if np.isnan(wrong).any():
        raise ModelError(
            f"{model.path} answered nan: its weights, or scale, mean and std, are not what it was made with"
        )
    if len(wrong):
        raise ModelError(
            f"{model.path} answered {wrong[0]}, not a score in [0, 1]: set activation to sigmoid or softmax"
        )
    return scores


def check(session: ort.InferenceSession, model: ImageModel) -> None:
    """Runs one grey picture through a model, so that a wrong description is found before work begins.

    Raises:
        ModelError: The description does not fit the model; the message names what does not.
    """
    faults = [*_input_faults(session, model), *_output_faults(session, model)]
    if faults:
        raise ModelError(f"{model.path} is not as the settings describe it: {'; '.join(faults)}")
    height, width = model.size
    probe = np.full((1, height, width, 3), 128, dtype=np.uint8)
    try:
        classify_thumbnails(session, probe, model, batch=2)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{model.path} cannot run one picture: {str(error).splitlines()[0]}") from error


def _input_faults(session: ort.InferenceSession, model: ImageModel) -> list[str]:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        return [f"it has {len(inputs)} inputs ({', '.join(i.name for i in inputs)}), one is expected"]
    faults = []
    if _DTYPES.get(inputs[0].type) != model.dtype:
        faults.append(f"its input is {inputs[0].type}, dtype says {model.dtype}")
    height, width = model.size
    wanted = [3, height, width] if model.layout == "NCHW" else [height, width, 3]
    shape: Sequence[Any] = inputs[0].shape
    fits = len(shape) == 4 and all(
        not isinstance(have, int) or have == want for have, want in zip(shape[1:], wanted, strict=True)
    )
    if not fits:
        faults.append(f"its input has shape {list(shape)}, size and layout say {['N', *wanted]}")
    return faults


def _output_faults(session: ort.InferenceSession, model: ImageModel) -> list[str]:
    outputs = {output.name: output for output in session.get_outputs()}
    name = model.output or next(iter(outputs))
    if name not in outputs:
        return [f"it has no output {name!r}, only {', '.join(outputs)}"]
    columns = outputs[name].shape[1] if len(outputs[name].shape) > 1 else 1
    if isinstance(columns, int) and model.index >= columns:
        return [f"index {model.index} is beyond its {columns} output column{'s' if columns > 1 else ''}"]
    return []
