"""ONNX Runtime sessions: made once for each process and model, with threads bounded."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError

CPU = ("CPUExecutionProvider",)


def digest(model: bytes) -> str:
    """The name by which tables know a model: the first 16 hexadecimal digits of its file's SHA-256.

    Examples:
        >>> digest(b"")
        'e3b0c44298fc1c14'
    """
    return hashlib.sha256(model).hexdigest()[:16]


def read(path: str) -> bytes:
    """The bytes of a model file of the user's, on the local disk.

    Raises:
        ModelError: It cannot be read.
    """
    try:
        return Path(path).expanduser().read_bytes()
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}") from error


def start(
    model: bytes | str, threads: int = 1, providers: Sequence[str] = CPU, name: str | None = None
) -> ort.InferenceSession:
    """A session for a model.

    Args:
        model: The ONNX file's bytes, or its local path.
        threads: Threads inside one operator; Spark runs a worker for each core already.
        providers: ONNX Runtime execution providers, in order of preference.
        name: What messages call the model.

    Raises:
        ModelError: ONNX Runtime cannot load it, or has not one of the providers.
    """
    missing = sorted(set(providers) - set(ort.get_available_providers()))
    if missing:
        have = ", ".join(ort.get_available_providers())
        raise ModelError(f"this onnxruntime has no {', '.join(missing)}; it has {have}: change score.providers")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would burn the cores that Spark's own threads need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(model, options, providers=list(providers))
    except Exception as error:
        called = name or (model if isinstance(model, str) else f"the model ({len(model)} bytes)")
        raise ModelError(_why_not(called, str(error).splitlines()[0])) from error
    # ONNX Runtime says nothing when a provider's libraries or devices are missing, and goes on with the CPU.
    lost = [provider for provider in providers if provider not in session.get_providers()]
    if lost:
        raise ModelError(
            f"{', '.join(lost)} does not start on this machine: see to its libraries and devices, or "
            "change score.providers"
        )
    return session


def _why_not(name: str, error: str) -> str:
    if "external" in error.lower():
        return (
            f"{name} keeps its weights in another file: make one file of it, by `onnx.save(onnx.load(...), ...)` or "
            "by external_data=False when it is exported from torch"
        )
    return f"{name} is not an ONNX model that onnxruntime can load: {error}"


@lru_cache(maxsize=32)
def session_of_file(path: str, threads: int, providers: tuple[str, ...]) -> ort.InferenceSession:
    """The session for a model file, made once in each process: what a Spark worker calls for each batch."""
    if not Path(path).is_file():
        raise ModelError(f"model file {path} is not there")
    return start(path, threads, providers)


def run_in_batches(
    session: ort.InferenceSession, inputs: NDArray[Any], outputs: Sequence[str], batch: int
) -> list[NDArray[Any]]:
    """Runs a model over rows in batches of one fixed size, the last one padded.

    The fixed size makes a row's result independent of how many rows came with it: ONNX Runtime picks kernels by shape,
    and other kernels round otherwise.

    Args:
        session: A model with one input whose first axis is the batch.
        inputs: Rows, in the dtype the model wants.
        outputs: Names of the outputs to return.
        batch: Rows for each run.

    Returns:
        One array for each output, with as many rows as `inputs`.

    Raises:
        ModelError: An output has not one row for each row of the input.
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
                    "one answer for each row, or with its batch fixed"
                )
        parts.append([answer[: len(rows)] for answer in answers])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
