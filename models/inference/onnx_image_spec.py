"""Describes the image input of a user's own ONNX model, classifier or encoder, and runs the model."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.images.resizing import Fit, Resample, View
from models.inference.onnx_session import digest, run_in_batches
from models.inference.row_faults import Answers, first_line, run_rows

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
_LUMA = (19595, 38470, 7471)  # of 65,536
_NEWER = ("crop_pct", "resample", "antialias", "pad_colour", "jpeg")
_NUMBERS = ("tensor(float)", "tensor(float16)", "tensor(double)")


@dataclass(frozen=True)
class ImageInput:
    """The description of an ONNX model's input, and of the output to read.

    Attributes:
        path: The ONNX file, or `package:NAME/FILE` for a file of an installed Python package.
        size: Height and width of the input, in pixels.
        layout: Order of the input's axes.
        channels: Order of the colours, or `grey` for one channel with the luma.
        dtype: Type of the input. With `uint8`, the model gets the values 0 to 255; with a float type, the values after
            scale, mean and std.
        scale: Factor on the 0 to 255 values, before mean and std.
        mean: Subtracted from each channel, in the order of `channels`; one value is for all of them.
        std: Divides each channel after that, in the same way.
        output: Name or position (counted from 0) of the output to read; off: the first output, or for an encoder the
            output `embedding` if there is one.
        fit: How an image with another aspect ratio fits `size`: `squeeze` changes its aspect ratio, `crop` cuts off
            what is beyond the centre, `pad` adds a border.
        crop_pct: Share of each side, above 0, that the centre crop keeps. With 0.875 and `size` 224, the image is
            resized to 256 pixels, and the centre of 224 is kept.
        resample: Filter of the resizing.
        antialias: Whether the filter widens when an image shrinks, as in Pillow. `false` reads only the nearest pixels,
            as OpenCV does with bilinear and bicubic.
        pad_colour: Colour of the border of `pad`: red, green, blue, each 0 to 255.
        jpeg: Whether the resized image is written as JPEG (quality 75) and read again, as open_nsfw was trained.
    """

    # The settings contain this class. A misspelt key there is an error.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    path: str
    size: tuple[int, int]
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal["RGB", "BGR", "grey"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    output: str | int | None = None
    fit: Fit = "squeeze"
    crop_pct: float = 1.0
    resample: Resample = "bilinear"
    antialias: bool = True
    pad_colour: tuple[int, int, int] = (0, 0, 0)
    jpeg: bool = False

    @property
    def view(self) -> View:
        """How images are resized for it. Models with the same view share their thumbnails."""
        return View(self.size, self.fit, self.crop_pct, self.resample, self.antialias, self.pad_colour, self.jpeg)

    @property
    def bands(self) -> int:
        """The number of channels."""
        return 1 if self.channels == "grey" else 3

    def digest(self, data: bytes) -> str:
        """Returns the identifier of the model in tables. It depends on the file and its description, not on the path.

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
        # Lakes have digests of descriptions without the newer fields, and with three values for mean and std.
        for field in fields(self):
            if field.name in _NEWER and description[field.name] == field.default:
                del description[field.name]
        description |= {name: _per_channel(description[name], self.bands) for name in ("mean", "std")}
        return digest(data + json.dumps(description, sort_keys=True).encode())


def preprocess(pixels: NDArray[np.uint8], model: ImageInput) -> NDArray[Any]:
    """Converts thumbnails to a model's input.

    Args:
        pixels: RGB, uint8 of shape (n, height, width, 3).
        model: The description of the model.

    Returns:
        Array in the model's dtype, of shape (n, channels, height, width) or (n, height, width, channels) by its layout.

    Examples:
        >>> red = np.zeros((1, 2, 2, 3), np.uint8)
        >>> red[..., 0] = 255
        >>> preprocess(red, ImageInput("m.onnx", (2, 2), channels="BGR"))[0, :, 0, 0]
        array([0., 0., 1.], dtype=float32)
    """
    ordered = _ordered(pixels, model)
    if model.dtype == "uint8":
        values: NDArray[Any] = ordered
    else:
        mean, std = (np.asarray(v, dtype=np.float32) for v in (model.mean, model.std))
        values = ((ordered.astype(np.float32) * np.float32(model.scale) - mean) / std).astype(model.dtype)
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2) if model.layout == "NCHW" else values)


def _ordered(pixels: NDArray[np.uint8], model: ImageInput) -> NDArray[np.uint8]:
    """Returns the channels that a model reads, in its order."""
    if model.channels == "grey":
        # The luma of Pillow's mode L, ITU-R BT.601.
        luma = pixels.astype(np.uint32) @ np.array(_LUMA, np.uint32) + (1 << 15) >> 16
        return luma[..., None].astype(np.uint8)
    return pixels[..., ::-1] if model.channels == "BGR" else pixels


def _per_channel(values: Sequence[float], channels: int) -> list[float]:
    return list(values) * channels if len(values) == 1 else list(values)


def run(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], model: ImageInput, outputs: Sequence[str], batch: int
) -> list[NDArray[Any]]:
    """Runs a model on thumbnails.

    Args:
        session: The session of the model.
        pixels: RGB, uint8 of shape (n, height, width, 3) in the model's size.
        model: The description of the model.
        outputs: Names of the outputs to return.
        batch: Rows in each run; a model with a fixed batch overrides it.

    Returns:
        One array for each output, with n rows.
    """
    shape = session.get_inputs()[0].shape
    rows = shape[0] if shape and isinstance(shape[0], int) and shape[0] > 0 else batch
    return run_in_batches(session, preprocess(pixels, model), outputs, rows)


def run_each(
    session: ort.InferenceSession, pixels: NDArray[np.uint8], model: ImageInput, outputs: Sequence[str], batch: int
) -> Answers:
    """Runs a model on thumbnails, and finds those on which it fails. The arguments are those of `run`.

    Raises:
        ModelError: The model fails on test images too, or an output has a wrong shape; the message names the model.
    """
    try:
        return run_rows(lambda rows: run(session, rows, model, outputs, batch), pixels, probes(model.size))
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from error


def output_name(session: ort.InferenceSession, model: ImageInput) -> str:
    """Returns the name of the described output. Call `faults` first."""
    if isinstance(model.output, str):
        return model.output
    return str(session.get_outputs()[model.output or 0].name)


def faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    """Returns all mismatches between a description and its file, as parts of a sentence."""
    return [*_description_faults(model), *_input_faults(session, model), *_output_faults(session, model)]


def probes(size: tuple[int, int]) -> NDArray[np.uint8]:
    """Returns test images to check a model: black, white and noise, uint8 of shape (3, *size, 3)."""
    noise = np.random.default_rng(0).integers(0, 256, (1, *size, 3), dtype=np.uint8)
    return np.concatenate([np.zeros_like(noise), np.full_like(noise, 255), noise])


def try_out(session: ort.InferenceSession, model: ImageInput, outputs: Sequence[str]) -> list[NDArray[Any]]:
    """Runs a model on `probes`, two in a batch, so that batches are tested too.

    Raises:
        ModelError: The model does not run.
    """
    try:
        return run(session, probes(model.size), model, outputs, batch=2)
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}") from error
    except Exception as error:
        raise ModelError(f"{model.path} failed on a test image: {first_line(error)}") from error


def _description_faults(model: ImageInput) -> list[str]:
    # The settings check these values; the metadata of a file and Python code may have others.
    choices = {name: get_args(kind) for name, kind in get_type_hints(ImageInput).items() if get_origin(kind) is Literal}
    found = [
        f"{name} is {getattr(model, name)!r}, but must be one of {', '.join(allowed)}"
        for name, allowed in choices.items()
        if getattr(model, name) not in allowed
    ]
    if min(model.size) < 1:
        found.append(f"size is {list(model.size)}, but both sides must be at least 1 pixel")
    if 0 in model.std or not all(map(math.isfinite, (model.scale, *model.mean, *model.std))):
        found.append("scale, mean and std must be numbers, and std not 0")
    if not 0 < model.crop_pct <= 1:
        found.append(f"crop_pct is {model.crop_pct}, but must be above 0 and at most 1")
    for name, values in (("mean", model.mean), ("std", model.std)):
        if len(values) not in (1, model.bands):
            found.append(f"{name} has {len(values)} values, but channels is {model.channels}: give 1 or {model.bands}")
    if not all(0 <= value <= 255 for value in model.pad_colour):
        found.append(f"pad_colour is {list(model.pad_colour)}, but its values are from 0 to 255")
    if model.dtype == "uint8" and (set(model.mean) != {0.0} or set(model.std) != {1.0}):
        found.append("mean and std are set, but dtype uint8 uses unchanged pixels")
    return found


def _input_faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        return [f"it has {len(inputs)} inputs ({names}), not one: export only the part that reads images"]
    found = []
    if _DTYPES.get(inputs[0].type) != model.dtype:
        found.append(f"its input is {inputs[0].type}, but dtype is {model.dtype}")
    height, width = model.size
    wanted = [model.bands, height, width] if model.layout == "NCHW" else [height, width, model.bands]
    shape: Sequence[Any] = inputs[0].shape
    # An empty shape means that the file does not state it. The test run then shows whether it fits.
    fits = not shape or (
        len(shape) == 4
        and all(not isinstance(have, int) or have == want for have, want in zip(shape[1:], wanted, strict=True))
    )
    if not fits:
        found.append(f"its input has shape {list(shape)}, but size and layout give {['N', *wanted]}")
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
        return [f"its output {name!r} is {outputs[name].type}, not floating-point: set output to one of {have}"]
    return []
