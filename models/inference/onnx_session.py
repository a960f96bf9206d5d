"""ONNX Runtime sessions: one for each process and model, with a fixed number of threads."""

import hashlib
import importlib.util
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError

CPU = ("CPUExecutionProvider",)

_NO_FOLDER = os.devnull  # a path that can hold no file
_PACKAGE = "package:"


def digest(model: bytes) -> str:
    """Returns the identifier of a model in tables: the first 16 hexadecimal digits of its file's SHA-256.

    Examples:
        >>> digest(b"")
        'e3b0c44298fc1c14'
    """
    return hashlib.sha256(model).hexdigest()[:16]


def read(path: str) -> bytes:
    """Returns the bytes of a user's model file.

    Args:
        path: A path on the local disk, or `package:NAME/FILE` for a file of an installed Python package.

    Raises:
        ModelError: The file cannot be read, or the package is not installed.
    """
    if path.startswith(_PACKAGE):
        return _read_from_package(path)
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}") from error


def _read_from_package(path: str) -> bytes:
    package, _, file = path.removeprefix(_PACKAGE).partition("/")
    if not package.isidentifier():
        raise ModelError(f"model file {path}: {package!r} is not the name of a Python package")
    # Importing the package would run its code, and a settings file may name any package.
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        name = package.replace("_", "-")
        raise ModelError(f"model file {path} is in a Python package: run `pip install {name}`")
    try:
        return Path(next(iter(spec.submodule_search_locations)), file).read_bytes()
    except (OSError, ValueError) as error:
        raise ModelError(f"model file {path} cannot be read: the package {package!r} has no file {file!r}") from error


def start(
    model: bytes | str, threads: int = 1, providers: Sequence[str] = CPU, name: str | None = None
) -> ort.InferenceSession:
    """Starts a session for a model.

    Args:
        model: The ONNX file's bytes, or its local path.
        threads: Threads within one operator. Spark already runs a worker for each core.
        providers: ONNX Runtime execution providers, in order of preference.
        name: Name of the model in messages.

    Raises:
        ModelError: ONNX Runtime cannot load the model, or lacks one of the providers.
    """
    missing = sorted(set(providers) - set(ort.get_available_providers()))
    if missing:
        have = ", ".join(ort.get_available_providers())
        raise ModelError(f"this onnxruntime has no {', '.join(missing)}; it has {have}: change score.providers")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would occupy cores that Spark's threads need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # ONNX Runtime would look for weights of another file in the working folder, but workers get the model's file alone.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
    try:
        session = ort.InferenceSession(model, options, providers=list(providers))
    except Exception as error:
        label = name or (model if isinstance(model, str) else f"the model ({len(model)} bytes)")
        raise ModelError(_load_error(label, str(error).splitlines()[0])) from error
    # If a provider's libraries or devices are missing, ONNX Runtime silently uses the CPU.
    lost = [provider for provider in providers if provider not in session.get_providers()]
    if lost:
        raise ModelError(
            f"{', '.join(lost)} does not start on this machine: check its libraries and devices, or change "
            "score.providers"
        )
    return session


def _load_error(name: str, error: str) -> str:
    if "external" in error.lower() or f"{_NO_FOLDER}/" in error:
        return (
            f"{name} has its weights in another file: save it as one file with `onnx.save(onnx.load(...), ...)`, or "
            "export it from torch with external_data=False"
        )
    return f"{name} is not an ONNX model that onnxruntime can load: {error}"


@lru_cache(maxsize=32)
def session_of_file(path: str, threads: int, providers: tuple[str, ...]) -> ort.InferenceSession:
    """Returns the session for a model file, started once in each process. Spark workers call this for each batch."""
    if not Path(path).is_file():
        raise ModelError(f"model file {path} does not exist")
    return start(path, threads, providers)


def run_in_batches(
    session: ort.InferenceSession, inputs: NDArray[Any], outputs: Sequence[str], batch: int
) -> list[NDArray[Any]]:
    """Runs a model on rows in batches of one fixed size. The last batch is padded.

    The fixed size makes a row's result independent of the other rows: ONNX Runtime chooses kernels by shape, and
    kernels round differently.

    Args:
        session: A model with one input whose first axis is the batch.
        inputs: Rows, in the dtype of the model's input.
        outputs: Names of the outputs to return.
        batch: Rows in each run.

    Returns:
        One array for each output, with as many rows as `inputs`.

    Raises:
        ModelError: An output does not have one row for each row of the input.
    """
    name = session.get_inputs()[0].name
    parts = []
    for begin in range(0, max(len(inputs), 1), batch):
        rows = inputs[begin : begin + batch]
        padded = np.concatenate([rows, np.zeros((batch - len(rows), *rows.shape[1:]), rows.dtype)])
        answers = session.run(list(outputs), {name: padded})
        for output, answer in zip(outputs, answers, strict=True):
            if np.shape(answer)[:1] != (batch,):
                raise ModelError(
                    f"output {output!r} has shape {np.shape(answer)} for {batch} rows of input: export the model with "
                    "one result for each row, or with a fixed batch size"
                )
        parts.append([answer[: len(rows)] for answer in answers])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
