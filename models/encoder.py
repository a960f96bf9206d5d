"""The perceptual encoder: pictures to embeddings of unit length and to hashes of 256 bits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models import runtime
from models.errors import ModelError

FITTED = "models/encoder.onnx"
"""Where `fit-encoder` puts the encoder fitted to a lake, below the lake."""

HASH_BITS = 256
_ASSUMED_DISTANCE = 31
_PROJECTION_SEED = 256


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder at work.

    The ONNX file takes `image`, uint8 of shape (n, size, size, 3), RGB, and gives `embedding`, float32 of shape
    (n, dims), and may give `hash`, float32 of shape (n, 256), whose signs are the bits. A file without `hash` gets its
    bits from random orthogonal projections of the embedding, the same ones for every file of as many dimensions.

    Attributes:
        digest: Names the file in tables, as `models.runtime.digest` does.
        size: Width and height of the pictures that it takes, pixels.
        dims: Length of an embedding.
        properties: What the file says of itself (`metadata_props`).
        session: Runs it.
        batch: Pictures in one inference; fixed, so that a result never depends on a picture's neighbours.
    """

    digest: str
    size: int
    dims: int
    properties: Mapping[str, str]
    session: ort.InferenceSession
    batch: int

    @classmethod
    def load(cls, model: bytes, threads: int = 1, providers: Sequence[str] = runtime.CPU, batch: int = 32) -> "Encoder":
        """An encoder from the bytes of its file.

        Args:
            model: The ONNX file.
            threads: ONNX Runtime threads.
            providers: ONNX Runtime execution providers, in order of preference.
            batch: Pictures in one inference.

        Raises:
            ModelError: It does not load or is no encoder; the message names all that does not fit.
        """
        session = runtime.start(model, threads, providers)
        size, dims = _check(session)
        return cls(runtime.digest(model), size, dims, session.get_modelmeta().custom_metadata_map, session, batch)

    @classmethod
    def open(cls, path: str, threads: int, providers: tuple[str, ...], batch: int) -> "Encoder":
        """An encoder from a local file, made once in each process: what a Spark worker calls for each batch.

        Raises:
            ModelError: As `load`, and when there is no such file.
        """
        return _opened(path, threads, providers, batch)

    def encode(self, thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Embeddings and hashes of pictures.

        Args:
            thumbs: uint8 of shape (n, size, size, 3), RGB, as `models.images.thumbnail` makes them.

        Returns:
            Embeddings, float32 of shape (n, dims), unit length; hashes, uint8 of shape (n, 32), 256 bits packed.
        """
        outputs = [output.name for output in self.session.get_outputs() if output.name in ("embedding", "hash")]
        results = runtime.run_in_batches(self.session, thumbs, outputs, self.batch)
        found = dict(zip(outputs, results, strict=True))
        # A file of the user's own may give vectors of any length; distances between them should mean the same.
        embedding = _unit(found["embedding"])
        # Row by row: a matrix product would choose its kernel, and so its rounding, by the number of rows.
        projected = found["hash"] if "hash" in found else np.einsum("nd,db->nb", embedding, self._projection)
        return embedding, np.packbits(projected > 0, axis=1)

    @property
    def max_distance(self) -> int:
        """Bits of 256 within which its hashes call two pictures near-duplicates; 31 when the file does not say."""
        return int(self.properties.get("max_distance", _ASSUMED_DISTANCE))

    @property
    def strict_distance(self) -> int:
        """Bits of 256 within which two pictures are copies and not just alike; half as far when the file says none."""
        return int(self.properties.get("strict_distance", self.max_distance // 2))

    @cached_property
    def _projection(self) -> NDArray[np.float32]:
        return projection(self.dims)


def shipped() -> bytes:
    """The ONNX file of the encoder that comes with Winnow; models/encoder_card.md describes it."""
    return resources.files("models").joinpath("encoder.onnx").read_bytes()


def projection(dims: int) -> NDArray[np.float32]:
    """Random hyperplanes in orthogonal groups, so that no two bits of a group say the same.

    Args:
        dims: Length of an embedding.

    Returns:
        float32 of shape (dims, 256): unit columns, orthogonal in groups of `dims` (or all of them, if dims ≥ 256).

    Source:
        Ji et al., "Super-Bit Locality-Sensitive Hashing", NIPS 2012, algorithm 1.

    Examples:
        >>> planes = projection(128)
        >>> planes.shape, bool(np.allclose(planes[:, :128].T @ planes[:, :128], np.eye(128), atol=1e-5))
        ((128, 256), True)
    """
    rng = np.random.default_rng(_PROJECTION_SEED)
    groups = [np.linalg.qr(rng.normal(size=(dims, dims)))[0] for _ in range(-(-HASH_BITS // dims))]
    return np.concatenate(groups, axis=1)[:, :HASH_BITS].astype(np.float32)


@lru_cache(maxsize=4)
def _opened(path: str, threads: int, providers: tuple[str, ...], batch: int) -> Encoder:
    session = runtime.session_of_file(path, threads, providers)
    size, dims = _check(session)
    properties = session.get_modelmeta().custom_metadata_map
    return Encoder(runtime.digest(Path(path).read_bytes()), size, dims, properties, session, batch)


def _check(session: ort.InferenceSession) -> tuple[int, int]:
    """The size of the pictures and the length of the embeddings, once the file's inputs and outputs are seen to fit."""
    inputs, outputs = session.get_inputs(), {output.name: output for output in session.get_outputs()}
    faults = []
    size = dims = 0
    if len(inputs) != 1:
        faults.append(f"it has {len(inputs)} inputs, not one")
    else:
        shape = inputs[0].shape
        size = shape[1] if len(shape) == 4 and isinstance(shape[1], int) else 0
        if inputs[0].type != "tensor(uint8)" or shape[1:] != [size, size, 3] or isinstance(shape[0], int):
            faults.append(f"its input is {inputs[0].type} {shape}, not uint8 [n, size, size, 3]")
    if "embedding" not in outputs:
        faults.append(f"its outputs are {', '.join(sorted(outputs))}, and none is called embedding")
    else:
        shape = outputs["embedding"].shape
        dims = shape[1] if len(shape) == 2 and isinstance(shape[1], int) else 0
        if not dims or outputs["embedding"].type != "tensor(float)":
            faults.append(f"its embedding is {outputs['embedding'].type} {shape}, not float32 [n, dims]")
    if "hash" in outputs and outputs["hash"].shape[1:] != [HASH_BITS]:
        faults.append(f"its hash has shape {outputs['hash'].shape}, not [n, {HASH_BITS}]")
    if faults:
        raise ModelError("this ONNX file is no encoder: " + "; ".join(faults))
    return size, dims


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)
