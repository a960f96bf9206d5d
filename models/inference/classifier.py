"""Runs a user's own image classifier: an ONNX model in any of the usual forms."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.inference import onnx_graph, onnx_image_spec, onnx_session
from models.inference.onnx_image_spec import ImageInput
from models.inference.row_faults import Scored, is_score, scored

_ACTIVATIONS = ("Sigmoid", "Softmax")
_ROUNDING = 5e-3  # of a sum of float16 probabilities


@dataclass(frozen=True)
class ImageModel(ImageInput):
    """The description of an ONNX image classifier: its input, and the column of its score.

    Attributes:
        index: Column of the category in the output, counted from 0.
        activation: Function that turns the output into a probability.
    """

    index: int = 0
    activation: Literal["none", "sigmoid", "softmax"] = "none"

    @property
    def inference(self) -> "ImageModel":
        """The description without the choice of the output. Models with the same one share an inference."""
        return replace(self, output=None, index=0, activation="none")


def activate(output: NDArray[Any], model: ImageModel) -> NDArray[np.float32]:
    """Returns the probabilities of the category from a model's output.

    Args:
        output: Shape (n,) or (n, classes); further axes of length 1 are ignored.
        model: The column and the activation.

    Returns:
        float32 of shape (n,).

    Raises:
        ModelError: The column does not exist, or softmax is set for a single column.

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
        # An infinite value makes the row NaN, which is not worth a warning: it becomes a fault of the row.
        with np.errstate(invalid="ignore"):
            values = np.exp(values - values.max(axis=1, keepdims=True))
        values /= values.sum(axis=1, keepdims=True)
    column = values[:, model.index]
    if model.activation == "sigmoid":
        # Equals 1 / (1 + exp(-x)), which would overflow.
        column = 0.5 * (1.0 + np.tanh(0.5 * column))
    return column.astype(np.float32)


def classify_thumbnails(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], model: ImageModel, batch: int
) -> NDArray[np.float32]:
    """Returns the scores of thumbnails from one model, float32 of shape (n,), NaN without one; see `classify_each`."""
    return classify_each(session, pixels, [model], batch).scores[:, 0]


def classify_each(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], models: Sequence[ImageModel], batch: int
) -> Scored:
    """Returns the scores of thumbnails from models that share one inference.

    An image on which the inference fails, or whose score is not a number between 0 and 1, has no score. The other
    images have the same scores as without it.

    Args:
        session: The session of the model.
        pixels: RGB, uint8 of shape (n, height, width, 3) in the models' size.
        models: One or more descriptions that differ only in output, index and activation.
        batch: Rows in each run; a model with a fixed batch overrides it.

    Raises:
        ModelError: The model fails on test images too, or its output does not fit the description.
    """
    names = [onnx_image_spec.output_name(session, model) for model in models]
    wanted = sorted(set(names))
    answers = onnx_image_spec.run_each(session, pixels, models[0], wanted, batch)
    scores = np.full((len(pixels), len(models)), np.nan, np.float32)
    if answers.outputs:
        outputs = dict(zip(wanted, answers.outputs, strict=True))
        each = [activate(outputs[name], model) for name, model in zip(names, models, strict=True)]
        scores[answers.answered] = np.stack(each, axis=1)
    return scored(scores, answers.errors)


def check(data: bytes, model: ImageModel, threads: int = 1, providers: Sequence[str] = onnx_session.CPU) -> None:
    """Checks a description by running the model on a few test images, before work begins.

    Args:
        data: The ONNX file.
        model: The description.
        threads: ONNX Runtime threads.
        providers: ONNX Runtime execution providers, in order of preference.

    Raises:
        ModelError: The description does not fit the model. The message names each fault.
    """
    session = onnx_session.start(data, threads, providers, model.path)
    faults = onnx_image_spec.faults(session, model)
    if faults:
        raise ModelError(f"{model.path} does not fit its description in the settings: {'; '.join(faults)}")
    name = onnx_image_spec.output_name(session, model)
    output = onnx_image_spec.try_out(session, model, [name])[0]
    _require_one_row_of_scores(session, name, output.shape, model)
    _require_no_second_activation(data, name, output, model)
    _require_scores(output, model)


def _require_one_row_of_scores(
    session: ort.InferenceSession, name: str, shape: tuple[int, ...], model: ImageModel
) -> None:
    if sum(length > 1 for length in shape[1:]) <= 1:
        return
    flat = [other.name for other in session.get_outputs() if len(other.shape) <= 2 and "float" in other.type]
    advice = f'write output = "{flat[0]}"' if flat else "export a model that gives an image one score for each class"
    more = f" (or one of {', '.join(flat[1:])})" if flat[1:] else ""
    raise ModelError(
        f"{model.path}: output {name!r} has shape {['n', *shape[1:]]}, such as boxes or masks, not one row of scores "
        f"for each image: {advice}{more}"
    )


def _require_no_second_activation(data: bytes, name: str, output: NDArray[Any], model: ImageModel) -> None:
    if model.activation == "none":
        return
    rows = output.reshape(len(output), -1).astype(np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    operator = onnx_graph.last_operator(data, name)
    if operator in _ACTIVATIONS:
        found = f"is computed by {operator}"
    elif len(rows) and rows.shape[1] > 1 and rows.min() >= 0 and np.allclose(rows.sum(axis=1), 1, atol=_ROUNDING):
        found = "has values that sum to 1"
    else:
        return
    raise ModelError(
        f'{model.path}: output {name!r} {found}, so it has probabilities already: write activation = "none" instead of '
        f'"{model.activation}"'
    )


def _require_scores(output: NDArray[Any], model: ImageModel) -> None:
    scores = activate(output, model)
    wrong = scores[~is_score(scores) & ~np.isnan(scores)]
    if len(wrong):
        raise ModelError(
            f"{model.path} returned {wrong[0]}, not a score in [0, 1]: set activation to sigmoid or softmax"
        )
    # A score that is not a number for one image is a fault of this image.
    if np.isnan(scores).all():
        raise ModelError(
            f"{model.path} returned nan for every test image: check its weights, and scale, mean and std in the "
            "settings"
        )


def _no_column(index: int, columns: int) -> str:
    if index < 0:
        return f"index is {index}, and columns are counted from 0"
    return f"index {index} is beyond its {columns} output column{'s' if columns > 1 else ''}"
