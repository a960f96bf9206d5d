"""The perceptual encoder: pictures to embeddings of unit length and to hashes of 256 bits."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from models.errors import ModelError
from models.inference import onnx_image_spec, onnx_session
from models.inference.onnx_image_spec import ImageInput

FITTED = "models/encoder.onnx"
"""Where `fit-encoder` puts the encoder fitted to a lake, below the lake."""

HASH_BITS = 256
ASSUMED_DISTANCE = 31
"""Bits within which hashes are called near-duplicates where the encoder's file does not say."""

_PROJECTION_SEED = 256
_EMBEDDING, _HASH = "embedding", "hash"
_DESCRIBE = "what it takes and gives can be described under [encoder.model]"


@dataclass(frozen=True, eq=False)
class Encoder:
    """An encoder at work.

    The ONNX file takes uint8 of shape (n, size, size, 3), RGB, and gives `embedding` of shape (n, dims); or what it
    takes and gives is described. It may give `hash`, of shape (n, 256), whose signs are the bits. A file without `hash`
    gets its bits from random orthogonal projections of the embedding, the same ones for every file of as many
    dimensions.

    Attributes:
        digest: Names the file, and how it is read if that is described, in tables.
        input: What it takes, and which output is the embedding.
        dims: Length of an embedding.
        properties: What the file says of itself (`metadata_props`).
        session: Runs it.
        batch: Pictures in one inference; fixed, so that a result never depends on a picture's neighbours.
    """

    digest: str
    input: ImageInput
    dims: int
    properties: Mapping[str, str]
    session: ort.InferenceSession
    batch: int

    @classmethod
    def load(
        cls,
        data: bytes,
        threads: int = 1,
        providers: Sequence[str] = onnx_session.CPU,
        batch: int = 32,
        described: ImageInput | None = None,
    ) -> "Encoder":
        """An encoder from the bytes of its file, tried out on a few pictures.

        Args:
            data: The ONNX file.
            threads: ONNX Runtime threads.
            providers: ONNX Runtime execution providers, in order of preference.
            batch: Pictures in one inference; a file with a fixed batch overrides it.
            described: How it wants its input; None where the file is made as Winnow's own are.

        Raises:
            ModelError: It does not load or is no encoder; the message names all that does not fit.
        """
        session = onnx_session.start(data, threads, providers, described.path if described else None)
        return _checked(data, session, described, batch)

    @classmethod
    def open(cls, model: str | ImageInput, threads: int, providers: tuple[str, ...], batch: int) -> "Encoder":
        """An encoder from a local file, made once in each process: what a Spark worker calls for each batch.

        Args:
            model: The file's path, or a description that names it.
            threads: As for `load`.
            providers: As for `load`.
            batch: As for `load`.

        Raises:
            ModelError: As `load`, and when there is no such file.
        """
        return _opened(model, threads, providers, batch)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the pictures that it takes, pixels."""
        return self.input.size

    def encode(self, thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Embeddings and hashes of pictures.

        Args:
            thumbs: uint8 of shape (n, height, width, 3) in the encoder's size, RGB, as
                `models.images.decoding.thumbnail` makes them.

        Returns:
            Embeddings, float32 of shape (n, dims), unit length; hashes, uint8 of shape (n, 32), 256 bits packed.

        Raises:
            ModelError: An embedding is not made of numbers.
        """
        names = _output_names(self.session, self.input)
        embedding, *signs = onnx_image_spec.run(self.session, thumbs, self.input, names, self.batch)
        # A file of the user's own may give vectors of any length; distances between them should mean the same.
        embedding = _unit(embedding, self.dims)
        # Row by row: a matrix product would choose its kernel, and so its rounding, by the number of rows.
        projected = signs[0] if signs else np.einsum("nd,db->nb", embedding, self._projection)
        return embedding, np.packbits(projected > 0, axis=1)

    @property
    def max_distance(self) -> int | None:
        """Bits of 256 within which its hashes call two pictures near-duplicates; None when the file does not say."""
        said = self.properties.get("max_distance")
        return None if said is None else int(said)

    @property
    def presumed_distance(self) -> int:
        """The same, or PDQ's 31 when the file does not say: for choices that lose nothing where it is wrong."""
        return ASSUMED_DISTANCE if self.max_distance is None else self.max_distance

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
def _opened(model: str | ImageInput, threads: int, providers: tuple[str, ...], batch: int) -> Encoder:
    path, described = (model, None) if isinstance(model, str) else (model.path, model)
    session = onnx_session.session_of_file(path, threads, providers)
    return _checked(Path(path).read_bytes(), session, described, batch)


def _checked(data: bytes, session: ort.InferenceSession, described: ImageInput | None, batch: int) -> Encoder:
    """The encoder, once the file's inputs and outputs are seen to fit and it has been tried."""
    found, name = described or _as_made_here(session), described.path if described else "this ONNX file"
    faults = _faults(session, found) if found else [_other_form(session)]
    if found is None or faults:
        advice = "" if described else f": {_DESCRIBE}"
        raise ModelError(
            f"{name} is no encoder as {'described' if described else 'it is'}: {'; '.join(faults)}{advice}"
        )
    embedding = onnx_image_spec.try_out(session, found, _output_names(session, found)[:1])[0]
    dims = math.prod(embedding.shape[1:])
    if embedding.ndim < 2 or dims not in embedding.shape[1:]:
        raise ModelError(f"{name} is no encoder: {_shapeless(session, found, embedding.shape)}")
    _unit(embedding, dims)
    digest = described.digest(data) if described else onnx_session.digest(data)
    return Encoder(digest, found, dims, session.get_modelmeta().custom_metadata_map, session, batch)


def _as_made_here(session: ort.InferenceSession) -> ImageInput | None:
    """What a file of Winnow's own form takes; None for another."""
    first = session.get_inputs()[0]
    side = first.shape[1] if len(first.shape) == 4 else None
    if len(session.get_inputs()) > 1 or first.type != "tensor(uint8)" or not isinstance(side, int):
        return None
    fits = first.shape[2:] == [side, 3]
    return ImageInput("this ONNX file", (side, side), "NHWC", dtype="uint8", output=_EMBEDDING) if fits else None


def _faults(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    found = onnx_image_spec.faults(session, model)
    outputs = {output.name: output.shape for output in session.get_outputs()}
    if model.output is None and len(outputs) > 1 and _EMBEDDING not in outputs:
        found.append(
            f"its outputs are {', '.join(outputs)}, and none is called {_EMBEDDING}: set output to one of them"
        )
    if _HASH in outputs and outputs[_HASH][1:] != [HASH_BITS]:
        found.append(f"its hash has shape {outputs[_HASH]}, not [n, {HASH_BITS}]")
    return found


def _output_names(session: ort.InferenceSession, model: ImageInput) -> list[str]:
    """The output that is the embedding, and the one of the hash if there is one."""
    names = [output.name for output in session.get_outputs()]
    own = _EMBEDDING if model.output is None and _EMBEDDING in names else onnx_image_spec.output_name(session, model)
    return [own, *(name for name in names if name == _HASH and name != own)]


def _other_form(session: ort.InferenceSession) -> str:
    inputs = ", ".join(f"{found.type} {found.shape}" for found in session.get_inputs())
    outputs = ", ".join(output.name for output in session.get_outputs())
    return f"its input is {inputs}, not uint8 [n, size, size, 3], and its outputs are {outputs}"


def _shapeless(session: ort.InferenceSession, model: ImageInput, shape: tuple[int, ...]) -> str:
    others = ", ".join(output.name for output in session.get_outputs())
    name = _output_names(session, model)[0]
    return f"its output {name!r} has shape {['n', *shape[1:]]}, not [n, dims]: set output to one of {others}"


def _unit(vectors: NDArray[Any], dims: int) -> NDArray[np.float32]:
    rows = vectors.reshape(len(vectors), dims).astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not np.isfinite(lengths).all():
        raise ModelError(
            "the encoder answered nan or infinity: its weights, or scale, mean and std, are not what it was made with"
        )
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)
