"""A category's head: a small ONNX model that reads an image's embedding and answers with a score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models import runtime
from models.errors import ModelError

INPUT = "embedding"
OUTPUT = "score"

# Rows of one run: large enough that the call costs little beside the arithmetic, small enough to pad.
_BATCH = 256


@dataclass(frozen=True)
class Basis:
    """What a head must have been trained on to be used.

    Attributes:
        category: The category that it scores.
        encoder: Digest of the encoder whose embeddings it reads.
        dims: Length of such an embedding.
    """

    category: str
    encoder: str
    dims: int


class Head:
    """A head that has been checked; made by `load`.

    Args:
        session: Its ONNX Runtime session.
        basis: What it was trained on.
        digest: By which the table scores knows it.
    """

    def __init__(self, session: ort.InferenceSession, basis: Basis, digest: str) -> None:
        self._session = session
        self.basis = basis
        self.digest = digest

    def score(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """How much each image looks like the category.

        Args:
            embeddings: float32 of shape (n, dims).

        Returns:
            float32 of shape (n,), in [0, 1].

        Raises:
            ModelError: The embeddings have another length, or a score is not in [0, 1].
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.basis.dims:
            shape = " x ".join(str(size) for size in embeddings.shape)
            raise ModelError(f"head-{self.basis.category}.onnx reads embeddings of {self.basis.dims}, but got {shape}")
        rows = np.ascontiguousarray(embeddings, dtype=np.float32)
        scores: NDArray[np.float32] = runtime.run_in_batches(self._session, rows, [OUTPUT], _BATCH)[0]
        # Written so that NaN, for which every comparison is false, is refused too.
        wrong = ~((scores >= 0) & (scores <= 1))
        if wrong.any():
            found = f"{scores[wrong][0]} for {int(wrong.sum())} of {len(scores)} images"
            raise ModelError(
                f"head-{self.basis.category}.onnx answers {found}, where a score lies in [0, 1]: {self._again}"
            )
        return scores

    @property
    def _again(self) -> str:
        return _train_again(self.basis.category)


def load(model: bytes, basis: Basis, threads: int = 1, providers: Sequence[str] = runtime.CPU) -> Head:
    """A head, checked before any image is scored with it.

    Args:
        model: The ONNX file's bytes: input `embedding`, float32 [N, dims]; output `score`, float32 [N].
        basis: What it must have been trained on.
        threads: Threads inside one operator.
        providers: ONNX Runtime execution providers, in order of preference.

    Raises:
        ModelError: It is not such a model, or was trained for another category, encoder or length of embedding.
    """
    session = runtime.start(model, threads, providers)
    faults = _form_faults(session) or _basis_faults(session, basis)
    if faults:
        raise ModelError(f"head-{basis.category}.onnx {', and '.join(faults)}: {_train_again(basis.category)}")
    return Head(session, basis, runtime.digest(model))


def _form_faults(session: ort.InferenceSession) -> list[str]:
    inputs, outputs = session.get_inputs(), session.get_outputs()
    faults = []
    if [i.name for i in inputs] != [INPUT] or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 2:
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        faults.append(f"has the input {found}, where '{INPUT}' tensor(float) [N, dims] is expected")
    if OUTPUT not in [o.name for o in outputs]:
        faults.append(f"has the outputs {', '.join(o.name for o in outputs)}, but not '{OUTPUT}'")
    return faults


def _basis_faults(session: ort.InferenceSession, basis: Basis) -> list[str]:
    metadata = session.get_modelmeta().custom_metadata_map
    found = {
        "category": metadata.get("category"),
        "encoder": metadata.get("encoder"),
        "length of embedding": session.get_inputs()[0].shape[1],
    }
    wanted = {"category": basis.category, "encoder": basis.encoder, "length of embedding": basis.dims}
    return [
        f"was trained for {name} {found[name] or 'unknown'}, where {wanted[name]} is used now"
        for name in wanted
        if found[name] != wanted[name]
    ]


def _train_again(category: str) -> str:
    return f"run `winnow train {category}` again"
