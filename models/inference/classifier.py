"""Classifiers of the user's own: ONNX models that read images, of any usual shape."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.inference import onnx_image_spec
from models.inference.onnx_image_spec import ImageInput


@dataclass(frozen=True)
class ImageModel(ImageInput):
    """How an ONNX image classifier wants its input and where its answer stands.

    Attributes:
        index: Column of the output that is the category's, counted from 0.
        activation: What turns the output into a probability.
    """

    index: int = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"

    @property
    def inference(self) -> "ImageModel":
        """The description without what is read from the answer: models that share it share one inference."""
        return replace(self, output=None, index=0, activation="none")


def activate(output: NDArray[Any], model: ImageModel) -> NDArray[np.float32]:
    """A model's output as probabilities of its category.

    Args:
        output: Of shape (n,) or (n, classes); axes of length 1 beside them do not count.
        model: Which column, and which activation.

    Returns:
        float32 of shape (n,).

    Raises:
        ModelError: There is no such column, or softmax of one column is asked for.

    Examples:
        >>> nsfw = ImageModel("m.onnx", (224, 224), index=1, activation="softmax")
        >>> activate(np.array([[0.0, 0.0], [0.0, 100.0]]), nsfw)
        array([0.5, 1. ], dtype=float32)
    """
    values = output.reshape(len(output), prod(output.shape[1:])).astype(np.float64)
    columns = values.shape[1]
    if not 0 <= model.index < columns:
        raise ModelError(f"{model.path}: {_no_column(model.index, columns)}")
    if model.activation == "softmax":
        if columns == 1:
            raise ModelError(f"{model.path}: softmax over one column is always 1: set activation to sigmoid or none")
        values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    column = values[:, model.index]
    if model.activation == "sigmoid":
        # The same as 1 / (1 + exp(-x)), which overflows.
        column = 0.5 * (1.0 + np.tanh(0.5 * column))
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
    names = [onnx_image_spec.output_name(session, model) for model in models]
    wanted = sorted(set(names))
    found = dict(zip(wanted, onnx_image_spec.run(session, pixels, models[0], wanted, batch), strict=True))
    return np.stack([_scores(found[name], model) for name, model in zip(names, models, strict=True)], axis=1)


def check(session: ort.InferenceSession, model: ImageModel) -> None:
    """Runs a few pictures through a model, so that a wrong description is found before work begins.

    Raises:
        ModelError: The description does not fit the model; the message names what does not.
    """
    faults = onnx_image_spec.faults(session, model)
    if faults:
        raise ModelError(f"{model.path} is not as the settings describe it: {'; '.join(faults)}")
    _scores(onnx_image_spec.try_out(session, model, [onnx_image_spec.output_name(session, model)])[0], model)


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


def _no_column(index: int, columns: int) -> str:
    if index < 0:
        return f"index is {index}, and columns are counted from 0"
    return f"index {index} is beyond its {columns} output column{'s' if columns > 1 else ''}"
