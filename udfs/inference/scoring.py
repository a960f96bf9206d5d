"""The scoring pass: a single decode of each image feeds PDQ, the encoder and every image classifier."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image
from pyspark import SparkFiles
from pyspark.sql.pandas.types import from_arrow_schema

from models.images import decoding
from models.inference import onnx_session
from models.inference.classifier import ImageModel, classify_each
from models.inference.encoder import Encoder
from models.inference.onnx_image_spec import ImageInput, View
from udfs.arrays.arrow import cells, lists
from udfs.hashes.pdq import PDQ_SIDE, pdq_of

_ARROW = pa.schema(
    [
        ("image_id", pa.string()),
        ("pdq", pa.binary()),
        ("pdq_quality", pa.int32()),
        ("encoder", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("embedding_hash", pa.binary()),
        ("content", pa.string()),
        ("thumbnail", pa.binary()),
        ("scores", pa.list_(pa.float32())),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
SCORED = from_arrow_schema(_ARROW)
"""What the pass returns for each image: signals and scores, or a reason and its detail."""


# Inferences between two results: enough that building columns costs little, few enough that pixels take some MB.
_RUNS = 4

_GREY: View = ((decoding.GREY_SIDE, decoding.GREY_SIDE), "squeeze")


@dataclass(frozen=True)
class Scoring:
    """What the pass runs; model files are named as `SparkContext.addFile` shipped them.

    Attributes:
        encoder: Name of the perceptual encoder's file, or its description, the path being that name.
        classifiers: For each image classifier its description, the path being its shipped file's name.
        batch: Images in one inference.
        threads: ONNX Runtime threads.
        providers: ONNX Runtime execution providers.
    """

    encoder: str | ImageInput
    classifiers: tuple[ImageModel, ...]
    batch: int
    threads: int
    providers: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Scores Arrow batches of (image_id, image): the function for `DataFrame.mapInArrow` with schema `SCORED`."""
        encoder = Encoder.open(self._encoder_here(), self.threads, self.providers, self.batch)
        views = sorted({encoder.input.view, _GREY, *(model.view for model in self.classifiers)})
        seen = (
            (image_id.as_py(), _read(data, views))
            for batch in batches
            for image_id, data in zip(batch.column("image_id"), batch.column("image"), strict=True)
        )
        # Models run on full batches: of the pictures of a task, whatever Arrow's batches hold of them.
        while some := list(islice(seen, _RUNS * self.batch)):
            yield from self._score(encoder, views, some)

    def _score(
        self, encoder: Encoder, views: Sequence[View], seen: Sequence[tuple[str, "_Picture | decoding.ImageFault"]]
    ) -> Iterator[pa.RecordBatch]:
        ids, pictures = pa.array([image_id for image_id, _ in seen], pa.string()), [picture for _, picture in seen]
        good = [picture for picture in pictures if isinstance(picture, _Picture)]
        thumbnails = {view: _stack([p.thumbnails[view] for p in good], view[0]) for view in views}
        embeddings, hashes = encoder.encode(thumbnails[encoder.input.view])
        is_good = pa.array([isinstance(picture, _Picture) for picture in pictures])
        signals = {
            "encoder": pa.array([encoder.digest] * len(good)),
            "embedding": lists(embeddings),
            "embedding_hash": cells(hashes),
            "thumbnail": cells(decoding.grey(thumbnails[_GREY]).reshape(len(good), decoding.GREY_SIDE**2)),
            "scores": lists(self._classify(thumbnails)),
        }
        yield _succeeded(ids.filter(is_good), good, signals)
        if len(good) < len(pictures):
            faults = [picture for picture in pictures if isinstance(picture, decoding.ImageFault)]
            yield _failed(ids.filter(pc.invert(is_good)), faults)

    def _encoder_here(self) -> str | ImageInput:
        """The encoder with its file's path on this worker."""
        if isinstance(self.encoder, str):
            return str(SparkFiles.get(self.encoder))
        return replace(self.encoder, path=SparkFiles.get(self.encoder.path))

    def _classify(self, thumbnails: Mapping[View, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Scores of shape (n, classifiers); classifiers that read one inference share it."""
        scores = np.zeros((len(next(iter(thumbnails.values()))), len(self.classifiers)), np.float32)
        for inference in dict.fromkeys(model.inference for model in self.classifiers):
            places = [place for place, model in enumerate(self.classifiers) if model.inference == inference]
            session = onnx_session.session_of_file(SparkFiles.get(inference.path), self.threads, self.providers)
            models = [self.classifiers[place] for place in places]
            scores[:, places] = classify_each(session, thumbnails[inference.view], models, self.batch)
        return scores


@dataclass(frozen=True)
class _Picture:
    pdq: bytes
    quality: int
    content: str
    thumbnails: Mapping[View, NDArray[np.uint8]]


def _read(cell: pa.BinaryScalar, views: Iterable[View]) -> _Picture | decoding.ImageFault:
    """Everything that one decode yields, or the reason why it failed."""
    data = cell.as_py() or b""
    try:
        image = decoding.decode(data, PDQ_SIDE)
        bits, quality = pdq_of(image)
        thumbnails = {view: decoding.thumbnail(_at_least(image, data, view[0]), *view) for view in views}
    except decoding.ImageFault as fault:
        return fault
    return _Picture(bits, quality, hashlib.sha256(data).hexdigest()[:32], thumbnails)


def _at_least(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """The image, decoded again only where its reduced decoding is smaller than a large model wants it.

    What is seen at one size never depends on the other sizes, so that signals do not depend on which classifiers run.
    """
    height, width = size
    enough = min(image.size) >= max(height, width) or max(height, width) <= PDQ_SIDE
    return image if enough else decoding.decode(data, max(height, width))


def _stack(pixels: list[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack(pixels) if pixels else np.zeros((0, *size, 3), dtype=np.uint8)


def _succeeded(ids: pa.Array, pictures: list[_Picture], signals: Mapping[str, pa.Array]) -> pa.RecordBatch:
    seen = {
        "pdq": pa.array([picture.pdq for picture in pictures], pa.binary()),
        "pdq_quality": pa.array([picture.quality for picture in pictures], pa.int32()),
        "content": pa.array([picture.content for picture in pictures], pa.string()),
    }
    return _batch({"image_id": ids, **seen, **signals})


def _failed(ids: pa.Array, faults: list[decoding.ImageFault]) -> pa.RecordBatch:
    reasons = {"reason": [fault.reason for fault in faults], "detail": [fault.detail for fault in faults]}
    return _batch({"image_id": ids, **{name: pa.array(texts, pa.string()) for name, texts in reasons.items()}})


def _batch(columns: Mapping[str, pa.Array]) -> pa.RecordBatch:
    """Rows of `SCORED` that hold the given columns, all others null: built by column, since objects cost time."""
    count = len(columns["image_id"])
    held = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in _ARROW]
    return pa.RecordBatch.from_arrays(held, schema=_ARROW)
