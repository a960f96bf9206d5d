"""Image encoders: turn images into embeddings of unit length and, for duplicates, 256-bit hashes.

The perceptual encoder says whether two images are copies, the semantic encoder what an image shows. Both have the same
form; only the perceptual encoder's hashes are used.
"""

import json
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
from models.inference.row_faults import RowFault

FAILED, NOT_A_NUMBER = "encoder failed", "embedding is not a number"
"""The reasons in the table quarantine why an encoder has no embedding of an image."""

FITTED = "models/encoder.onnx"
"""The file in the lake to which `fit-encoder` writes its encoder."""

HASH_BITS = 256
ASSUMED_DISTANCE = 31
"""Largest distance of near-duplicates, in bits, if the encoder's file gives none."""

_PROJECTION_SEED = 256
_EMBEDDING, _HASH = "embedding", "hash"
_VIEW = "view"
_CHECK_INPUT = "check its weights, and scale, mean and std in [encoder.model] or [semantic.model]"
_DESCRIBE = "describe its input and output in a table [encoder.model] or [semantic.model]"


@dataclass(frozen=True, eq=False)
class Encoder:
    """A loaded encoder.

    The ONNX file reads uint8 of shape (n, size, size, 3), RGB, and returns `embedding` of shape (n, dims), unless a
    description says otherwise. `view` in its metadata is a JSON object with the fields of `ImageInput` that say how
    images are resized; without it, they are squeezed. The file may return `hash`, of shape (n, 256), whose signs are
    the bits. For a file without `hash`, the bits come from random orthogonal projections of the embedding. These are
    the same for every file with the same number of dimensions.

    Attributes:
        digest: Identifies the file in tables, together with its description if it has one.
        input: The description of its input, and of the output with the embedding.
        dims: Length of an embedding.
        properties: Metadata of the file (`metadata_props`).
        session: The session that runs it.
        batch: Images in one inference. It is fixed, so that a result never depends on the other images of a batch.
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
        """Loads an encoder from the bytes of its file, and checks it on a few test images.

        Args:
            data: The ONNX file.
            threads: ONNX Runtime threads.
            providers: ONNX Runtime execution providers, in order of preference.
            batch: Images in one inference; a file with a fixed batch overrides it.
            described: The description of its input; None for a file in Winnow's own form.

        Raises:
            ModelError: The file does not load or is not an encoder. The message names each fault.
        """
        session = onnx_session.start(data, threads, providers, described.path if described else None)
        return _checked(data, session, described, batch)

    @classmethod
    def open(cls, model: str | ImageInput, threads: int, providers: tuple[str, ...], batch: int) -> "Encoder":
        """Loads an encoder from a local file, once in each process. Spark workers call this for each batch.

        Args:
            model: The file's path, or a description that names it.
            threads: As for `load`.
            providers: As for `load`.
            batch: As for `load`.

        Raises:
            ModelError: As `load`, or the file does not exist.
        """
        return _opened(model, threads, providers, batch)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of its input images, in pixels."""
        return self.input.size

    def embed(self, thumbs: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the embeddings of images, float32 of shape (n, dims), unit length; see `encode`."""
        return _without_faults(self.embed_each(thumbs))

    def encode(self, thumbs: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Returns the embeddings and hashes of images.

        Args:
            thumbs: uint8 of shape (n, height, width, 3) in the encoder's size, RGB, as
                `models.images.resizing.thumbnail` makes them.

        Returns:
            Embeddings, float32 of shape (n, dims), unit length; hashes, uint8 of shape (n, 32), 256 bits packed.

        Raises:
            ModelError: An image has no embedding.
        """
        embedded, hashes = self.encode_each(thumbs)
        return _without_faults(embedded), hashes

    def embed_each(self, thumbs: NDArray[np.uint8]) -> "Embedded":
        """Returns the embeddings of images, and the images that have none; see `encode_each`."""
        return self._run(thumbs, _output_names(self.session, self.input)[:1])[0]

    def encode_each(self, thumbs: NDArray[np.uint8]) -> tuple["Embedded", NDArray[np.uint8]]:
        """Returns the embeddings and hashes of images, and the images that have none.

        An image on which the encoder fails, or whose embedding is not finite, has no embedding. The other images have
        the same embeddings as without it.

        Args:
            thumbs: As for `encode`.

        Returns:
            The embeddings; hashes, uint8 of shape (n, 32), 256 bits packed, 0 for images without an embedding.

        Raises:
            ModelError: The encoder fails on test images too.
        """
        embedded, signs = self._run(thumbs, _output_names(self.session, self.input))
        # Row by row: the kernel of a matrix product, and so its rounding, would depend on the number of rows.
        projected = np.einsum("nd,db->nb", embedded.embeddings, self._projection) if signs is None else signs
        return embedded, np.packbits(projected > 0, axis=1)

    def _run(self, thumbs: NDArray[np.uint8], names: Sequence[str]) -> tuple["Embedded", NDArray[np.float32] | None]:
        """Returns the embeddings, and the second output with NaN where there is none; None if only one is asked for."""
        answers = onnx_image_spec.run_each(self.session, thumbs, self.input, names, self.batch)
        raw = [np.full((len(thumbs), width), np.nan, np.float32) for width in (self.dims, HASH_BITS)[: len(names)]]
        for whole, output in zip(raw, answers.outputs, strict=False):
            whole[answers.answered] = output.reshape(len(output), -1)
        # A user's own file may return vectors of any length. At unit length, distances are comparable.
        embeddings, finite = _unit(raw[0])
        faults = {row: RowFault(FAILED, line) for row, line in answers.errors.items()}
        for row in np.flatnonzero(~finite).tolist():
            faults.setdefault(row, RowFault(NOT_A_NUMBER, "it returned nan or infinity"))
        return Embedded(embeddings, faults), raw[1] if len(names) > 1 else None

    @property
    def max_distance(self) -> int | None:
        """Largest distance of near-duplicates, in bits of 256; None if the file gives none."""
        value = self.properties.get("max_distance")
        return None if value is None else int(value)

    @property
    def presumed_distance(self) -> int:
        """`max_distance`, or PDQ's 31 if the file gives none. Use it only where a wrong value does no harm."""
        return ASSUMED_DISTANCE if self.max_distance is None else self.max_distance

    @property
    def stranger_shares(self) -> NDArray[np.float64] | None:
        """The share of the pairs of different images within each distance from 0 bits on; None if the file gives none.

        The property `strangers` of the file holds their decimal logarithms.
        """
        value = self.properties.get("strangers")
        return None if value is None else np.power(10.0, np.asarray(json.loads(value), np.float64))

    @cached_property
    def _projection(self) -> NDArray[np.float32]:
        return projection(self.dims)


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embeddings of n images.

    Attributes:
        embeddings: float32 of shape (n, dims), unit length; NaN where there is a fault.
        faults: Why there is no embedding, by image, counted from 0.
    """

    embeddings: NDArray[np.float32]
    faults: Mapping[int, RowFault]


def shipped() -> bytes:
    """Returns the ONNX file of the perceptual encoder that ships with Winnow; models/encoder_card.md describes it."""
    return resources.files("models").joinpath("encoder.onnx").read_bytes()


def shipped_semantic() -> bytes:
    """Returns the ONNX file of the semantic encoder that ships with Winnow: models/semantic_encoder_card.md."""
    return resources.files("models").joinpath("semantic_encoder.onnx").read_bytes()


def projection(dims: int) -> NDArray[np.float32]:
    """Returns random hyperplanes in orthogonal groups, so that the bits of a group are not redundant.

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
    """Returns the encoder after checking the inputs and outputs of its file and running it on test images."""
    spec, name = described or _own_form(session), described.path if described else "this ONNX file"
    faults = _faults(session, spec) if spec else [_other_form(session)]
    if spec is None or faults:
        form = "an encoder as described" if described else "an encoder in Winnow's own form"
        advice = "" if described else f": {_DESCRIBE}"
        raise ModelError(f"{name} is not {form}: {'; '.join(faults)}{advice}")
    embedding = onnx_image_spec.try_out(session, spec, _output_names(session, spec)[:1])[0]
    dims = math.prod(embedding.shape[1:])
    if embedding.ndim < 2 or dims not in embedding.shape[1:]:
        raise ModelError(f"{name} is not an encoder: {_wrong_shape(session, spec, embedding.shape)}")
    # An embedding that is not finite for one image is a fault of this image.
    if not _unit(embedding.reshape(len(embedding), dims))[1].any():
        raise ModelError(f"the encoder returned nan or infinity for every test image: {_CHECK_INPUT}")
    digest = described.digest(data) if described else onnx_session.digest(data)
    return Encoder(digest, spec, dims, session.get_modelmeta().custom_metadata_map, session, batch)


def _own_form(session: ort.InferenceSession) -> ImageInput | None:
    """Returns the input description of a file in Winnow's own form; None for another form."""
    first = session.get_inputs()[0]
    side = first.shape[1] if len(first.shape) == 4 else None
    if len(session.get_inputs()) > 1 or first.type != "tensor(uint8)" or not isinstance(side, int):
        return None
    if first.shape[2:] != [side, 3]:
        return None
    view = session.get_modelmeta().custom_metadata_map.get(_VIEW, "{}")
    try:
        # JSON has no tuples, and a view must be hashable.
        given: dict[str, Any] = dict(json.loads(view))
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items()}
        return ImageInput("this ONNX file", (side, side), "NHWC", dtype="uint8", output=_EMBEDDING, **fields)
    except (ValueError, TypeError) as error:
        raise ModelError(f"this ONNX file has the metadata {_VIEW} = {view!r}, not a JSON object of fields") from error


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
    """Returns the names of the output with the embedding and, if there is one, of the hash."""
    names = [output.name for output in session.get_outputs()]
    own = _EMBEDDING if model.output is None and _EMBEDDING in names else onnx_image_spec.output_name(session, model)
    return [own, *(name for name in names if name == _HASH and name != own)]


def _other_form(session: ort.InferenceSession) -> str:
    inputs = ", ".join(f"{found.type} {found.shape}" for found in session.get_inputs())
    outputs = ", ".join(output.name for output in session.get_outputs())
    return f"its input is {inputs}, not uint8 [n, size, size, 3], and its outputs are {outputs}"


def _wrong_shape(session: ort.InferenceSession, model: ImageInput, shape: tuple[int, ...]) -> str:
    others = ", ".join(output.name for output in session.get_outputs())
    name = _output_names(session, model)[0]
    return f"its output {name!r} has shape {['n', *shape[1:]]}, not [n, dims]: set output to one of {others}"


def _unit(vectors: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns rows at unit length, NaN if their length is not finite; and whether it is."""
    rows = vectors.astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    finite = np.isfinite(lengths)
    units = np.divide(rows, np.maximum(lengths, 1e-12), out=np.full_like(rows, np.nan), where=finite)
    return units, finite[:, 0]


def _without_faults(found: Embedded) -> NDArray[np.float32]:
    if found.faults:
        row, fault = next(iter(sorted(found.faults.items())))
        raise ModelError(
            f"the encoder has no embedding of {len(found.faults)} of {len(found.embeddings)} images, such as number "
            f"{row}: {fault.detail}: {_CHECK_INPUT}"
        )
    return found.embeddings
