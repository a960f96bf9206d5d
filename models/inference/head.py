"""The head of a category: a small ONNX model that reads an image's embedding and returns a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError, OtherEncoderError
from models.inference import onnx_session
from models.inference.row_faults import Scored, run_rows, scored

INPUT = "embedding"
OUTPUT = "score"

LOWEST_POSITIVE = "lowest_positive"
"""Key in a head's metadata of the lowest score of a labelled positive in cross-validation."""

# Rows of one run: large enough to make the cost of the call negligible, small enough to pad.
_BATCH = 256


@dataclass(frozen=True, eq=False)
class Head:
    """A loaded head.

    The ONNX file reads `embedding`, float32 of shape (n, dims), and returns `score`, float32 of shape (n,). Its
    metadata_props name the category and the digest of the encoder whose embeddings it was trained on.

    Attributes:
        category: The category that it scores.
        encoder: Digest of the encoder whose embeddings it reads.
        dims: Length of an embedding.
        digest: Identifies the file in tables (`models.inference.onnx_session.digest`).
        session: The session that runs it.
    """

    category: str
    encoder: str
    dims: int
    digest: str
    session: ort.InferenceSession

    @classmethod
    def load(
        cls, model: bytes, encoder: str, dims: int, threads: int = 1, providers: Sequence[str] = onnx_session.CPU
    ) -> "Head":
        """Loads a head from the bytes of its file, and checks it against the encoder in use.

        Args:
            model: The ONNX file.
            encoder: Digest of the encoder in use.
            dims: Length of its embeddings.
            threads: ONNX Runtime threads.
            providers: ONNX Runtime execution providers, in order of preference.

        Raises:
            OtherEncoderError: The head was trained for another encoder.
            ModelError: The file does not load, or is not a head.
        """
        head = _head(model, threads, providers)
        if (head.encoder, head.dims) != (encoder, dims):
            raise OtherEncoderError(
                f"the head of {head.category} was trained on encoder {head.encoder} ({head.dims} dimensions), but "
                f"{encoder} ({dims} dimensions) is in use: {head._train_again}"
            )
        return head

    @classmethod
    def open(cls, path: str) -> "Head":
        """Loads a head from a local file, once in each process. Spark workers call this for each batch.

        Raises:
            ModelError: The file does not exist, or is not a head.
        """
        return _opened(path)

    def score(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Returns the scores of images for the category.

        Args:
            embeddings: float32 of shape (n, dims).

        Returns:
            float32 of shape (n,), in [0, 1].

        Raises:
            ModelError: The embeddings have the wrong length, or an image has no score.
        """
        found = self.score_each(embeddings)
        if found.faults:
            fault = next(iter(found.faults.values()))
            images = f"{len(found.faults)} of {len(embeddings)} images"
            raise ModelError(
                f"the head of {self.category} has no score for {images} ({fault.reason}: {fault.detail}): "
                f"{self._train_again}"
            )
        return found.scores[:, 0]

    def score_each(self, embeddings: NDArray[np.float32]) -> Scored:
        """Returns the scores of images for the category, shape (n, 1), and the images that have none.

        Args:
            embeddings: As for `score`.

        Raises:
            ModelError: The embeddings have the wrong length, or the head fails on an embedding of zeros too.
        """
        if embeddings.ndim != 2 or embeddings.shape[1] != self.dims:
            shape = " x ".join(str(size) for size in embeddings.shape)
            raise ModelError(f"the head of {self.category} reads embeddings of {self.dims}, but got {shape}")
        rows = np.ascontiguousarray(embeddings, dtype=np.float32)
        answers = run_rows(self._run, rows, np.zeros((1, self.dims), np.float32))
        scores = np.full((len(rows), 1), np.nan, np.float32)
        if answers.outputs:
            scores[answers.answered, 0] = answers.outputs[0]
        return scored(scores, answers.errors)

    def _run(self, rows: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        return onnx_session.run_in_batches(self.session, rows, [OUTPUT], _BATCH)

    @property
    def _train_again(self) -> str:
        return f"run `winnow train {self.category}` again"


@lru_cache(maxsize=32)
def _opened(path: str) -> Head:
    try:
        model = Path(path).read_bytes()
    except OSError as error:
        raise ModelError(f"model file {path} cannot be read: {error.strerror}") from error
    return _head(model, 1, onnx_session.CPU)


def _head(model: bytes, threads: int, providers: Sequence[str]) -> Head:
    session = onnx_session.start(model, threads, providers)
    faults = _faults(session)
    if faults:
        raise ModelError(f"the model is not a head: it {', and '.join(faults)}: run `winnow train` for its category")
    metadata = session.get_modelmeta().custom_metadata_map
    dims = int(session.get_inputs()[0].shape[1])
    return Head(metadata["category"], metadata["encoder"], dims, onnx_session.digest(model), session)


def _faults(session: ort.InferenceSession) -> list[str]:
    inputs, outputs = session.get_inputs(), [o.name for o in session.get_outputs()]
    first = inputs[0]
    faults = []
    fits = len(inputs) == 1 and first.name == INPUT and first.type == "tensor(float)" and len(first.shape) == 2
    if not fits or not isinstance(first.shape[1], int):
        found = ", ".join(f"'{i.name}' {i.type} {i.shape}" for i in inputs)
        faults.append(f"has the input {found}, not '{INPUT}' tensor(float) [N, dims]")
    if OUTPUT not in outputs:
        faults.append(f"has the outputs {', '.join(outputs)}, not '{OUTPUT}'")
    missing = [key for key in ("category", "encoder") if key not in session.get_modelmeta().custom_metadata_map]
    if missing:
        faults.append(f"has no {' and no '.join(missing)} in its metadata")
    return faults
