"""How an ONNX model wants its pictures, whatever its shape: what classifiers and encoders of the user's own share."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.images.decoding import Fit
from models.inference.onnx_session import digest, run_in_batches

View = tuple[tuple[int, int], Fit]
"""Height and width in pixels, and how an image of another aspect comes to them."""

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_NUMBERS = ("tensor(float)", "tensor(float16)", "tensor(double)")


@dataclass(frozen=True)
class ImageInput:
    """How an ONNX model wants its input, and which of its outputs is read.

    Attributes:
        path: The ONNX file.
        size: Height and width of the input, pixels.
        fit: How an image of another aspect becomes so small: `squeeze` shows all of it, `crop` its middle.
        layout: Order of the input's axes.
        channels: Order of the colours.
        dtype: Type of the input; `uint8` is fed 0 to 255 as it is, floats after scale, mean and std.
        scale: Factor on the 0 to 255 values, before mean and std.
        mean: Taken from each channel, in the order of `channels`.
        std: Then divided by, likewise.
        output: Name of the output that is read, or its place, counted from 0; None is the first.
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
    output: str | int | None = None
    fit: Fit = "squeeze"

    @property
    def view(self) -> View:
        """What the model sees of an image: models with the same view share their thumbnails."""
        return self.size, self.fit

    def digest(self, data: bytes) -> str:
        """The name by which tables know the model: its file and how it is read, wherever the file lies.

        Args:
            data: The ONNX file.

        Examples:
            >>> model, moved = ImageInput("m.onnx", (224, 224)), ImageInput("elsewhere/m.onnx", (224, 224))
            >>> model.digest(b"") == moved.digest(b"")
            True
            >>> model.digest(b"") == ImageInput("m.onnx", (224, 224), channels="BGR").digest(b"")
            False
        """
        description = {name: value for name, value in asdict(self).items() if name != "path"}
        return digest(data + json.dumps(description, sort_keys=True).encode())


def preprocess(pixels: NDArray[np.uint8], model: ImageInput) -> NDArray[Any]:
    """Thumbnails as a model's input.

    Args:
        pixels: RGB, uint8 of shape (n, height, width, 3).
        model: What the model wants.

    Returns:
        Array in the model's dtype, of shape (n, 3, height, width) or (n, height, width, 3) by its layout.

    Examples:
        >>> red = np.zeros((1, 2, 2, 3), np.uint8)
        >>> red[..., 0] = 255
        >>> preprocess(red, ImageInput("m.onnx", (2, 2), channels="BGR"))[0, :, 0, 0]
        array([0., 0., 1.], dtype=float32)
    """
    ordered = pixels[..., ::-1] if model.channels == "BGR" else pixels
    if model.dtype == "uint8":
        values: NDArray[Any] = ordered
    else:
        mean, std = (np.asarray(v, dtype=np.float32) for v in (model.mean, model.std))
        values = ((ordered.astype(np.float32) * np.float32(model.scale) - mean) / std).astype(model.dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if model.layout == "NCHW" else values)


def run(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], model: ImageInput, outputs: Sequence[str], batch: int
) -> list[NDArray[Any]]:
    """What a model answers to thumbnails.

    Args:
        session: The running model.
        pixels: RGB, uint8 of shape (n, height, width, 3) in the model's size.
        model: What it wants.
        outputs: Names of the outputs to return.
        batch: Rows for each run; a model with a fixed batch overrides it.

    Returns:
        One array for each output, with n rows.
    """
    shape = session.get_inputs()[0].shape
    rows = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else batch
    return run_in_batches(session, preprocess(pixels, model), outputs, rows)


def output_name(session: ort.InferenceSession, model: ImageInput) -> str:
    """The name of the output that a description means, once `faults` found none."""
    if isinstance(model.output, str):
        return model.output
    return str(session.get_outputs()[model.output or 0].name)


def faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    """All that does not fit between a description and the file it describes, as parts of a sentence."""
    return [*_description_faults(model), *_input_faults(session, model), *_output_faults(session, model)]


def probes(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pictures on which a model is tried before work begins: black, white and noise, uint8 of shape (3, *size, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    return np.concatenate([np.zeros_like(noise), np.full_like(noise, 255), noise])


def try_out(session: ort.InferenceSession, model: ImageInput, outputs: Sequence[str]) -> list[NDArray[Any]]:
    """What a model answers to `probes`, two in a batch, so that the batch is tried as well.

    Raises:
        ModelError: It does not run.
    """
    try:
        return run(session, probes(model.size), model, outputs, batch=2)
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from error
    except Exception as error:
        raise ModelError(f"{model.path} cannot run a picture: {str(error).splitlines()[0]}") from error


def _description_faults(model: ImageInput) -> list[str]:
    found = []
    if min(model.size) < 1:
        found.append(f"size is {list(model.size)}, and both sides must be 1 pixel at least")
    if 0 in model.std or not all(map(math.isfinite, (model.scale, *model.mean, *model.std))):
        found.append("scale, mean and std must be numbers, and std not 0")
    if model.dtype == "uint8" and (set(model.mean) != {0.0} or set(model.std) != {1.0}):
        found.append("mean and std are for float inputs: with dtype uint8 pixels go in as they are")
    return found


def _input_faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        return [f"it has {len(inputs)} inputs ({names}), one is expected: export the part that reads images"]
    found = []
    if _DTYPES.get(inputs[0].type) != model.dtype:
        found.append(f"its input is {inputs[0].type}, dtype says {model.dtype}")
    height, width = model.size
    wanted = [3, height, width] if model.layout == "NCHW" else [height, width, 3]
    shape: Sequence[Any] = inputs[0].shape
    # No shape at all is one that the file does not tell: trying it out will show.
    fits = not shape or (
        len(shape) == 4
        and all(not isinstance(have, int) or have == want for have, want in zip(shape[1:], wanted, strict=True))
    )
    if not fits:
        found.append(f"its input has shape {list(shape)}, size and layout say {['N', *wanted]}")
    return found


def _output_faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    outputs = {output.name: output for output in session.get_outputs()}
    have = ", ".join(outputs)
    if isinstance(model.output, int) and not 0 <= model.output < len(outputs):
        return [f"it has no output number {model.output}, only {len(outputs)}, counted from 0 ({have})"]
    name = output_name(session, model)
    if name not in outputs:
        return [f"it has no output {name!r}, only {have}"]
    if outputs[name].type not in _NUMBERS:
        return [
            f"its output {name!r} is {outputs[name].type}, not numbers with a fraction: set output to one of {have}"
        ]
    return []
