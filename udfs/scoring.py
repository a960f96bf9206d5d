"""The scoring pass: a single decode of each image feeds PDQ, the encoder and every image classifier."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyspark import SparkFiles
from pyspark.sql import types as T

from models import images, runtime
from models.classifier import ImageModel, classify_each
from models.encoder import Encoder
from udfs.hashes import PDQ_SIDE, pdq_of

SCORED = T.StructType(
    [
        T.StructField("image_id", T.StringType()),
        T.StructField("pdq", T.BinaryType()),
        T.StructField("pdq_quality", T.IntegerType()),
        T.StructField("encoder", T.StringType()),
        T.StructField("embedding", T.ArrayType(T.FloatType())),
        T.StructField("embedding_hash", T.BinaryType()),
        T.StructField("content", T.StringType()),
        T.StructField("scores", T.ArrayType(T.FloatType())),
        T.StructField("reason", T.StringType()),
        T.StructField("detail", T.StringType()),
    ]
)
"""What the pass returns for each image: signals and scores, or a reason and its detail."""


@dataclass(frozen=True)
class Scoring:
    """What the pass runs; model files are named as `SparkContext.addFile` shipped them.

    Attributes:
        encoder: Name of the perceptual encoder's file.
        classifiers: For each image classifier its description, the path being its shipped file's name.
        batch: Images in one inference.
        threads: ONNX Runtime threads.
        providers: ONNX Runtime execution providers.
    """

    encoder: str
    classifiers: tuple[ImageModel, ...]
    batch: int
    threads: int
    providers: tuple[str, ...]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Scores Arrow batches of (image_id, image): the function for `DataFrame.mapInArrow` with schema `SCORED`."""
        for batch in batches:
            for begin in range(0, batch.num_rows, 4 * self.batch):
                yield self._score(batch.slice(begin, 4 * self.batch))

    def _score(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        encoder = Encoder.open(SparkFiles.get(self.encoder), self.threads, self.providers, self.batch)
        size = (encoder.size, encoder.size)
        sizes = sorted({size, *(model.size for model in self.classifiers)})
        pictures = [_read(data, sizes) for data in rows.column("image")]
        good = [picture for picture in pictures if isinstance(picture, _Picture)]
        thumbnails = {size: _stack([p.thumbnails[size] for p in good], size) for size in sizes}
        results = zip(good, *encoder.encode(thumbnails[size]), self._classify(thumbnails), strict=True)
        ids = rows.column("image_id").to_pylist()
        table = [
            _failed(image_id, picture)
            if isinstance(picture, images.ImageFault)
            else _succeeded(image_id, encoder.digest, *next(results))
            for image_id, picture in zip(ids, pictures, strict=True)
        ]
        return pa.RecordBatch.from_pylist(table, schema=_ARROW)

    def _classify(self, thumbnails: Mapping[tuple[int, int], NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Scores of shape (n, classifiers); classifiers that read one inference share it."""
        scores = np.zeros((len(next(iter(thumbnails.values()))), len(self.classifiers)), np.float32)
        for inference in dict.fromkeys(model.inference for model in self.classifiers):
            places = [place for place, model in enumerate(self.classifiers) if model.inference == inference]
            session = runtime.session_of_file(SparkFiles.get(inference.path), self.threads, self.providers)
            models = [self.classifiers[place] for place in places]
            scores[:, places] = classify_each(session, thumbnails[inference.size], models, self.batch)
        return scores


@dataclass(frozen=True)
class _Picture:
    pdq: bytes
    quality: int
    content: str
    thumbnails: Mapping[tuple[int, int], NDArray[np.uint8]]


def _read(cell: pa.BinaryScalar, sizes: Iterable[tuple[int, int]]) -> _Picture | images.ImageFault:
    """Everything that one decode yields, or the reason why it failed."""
    data = cell.as_py() or b""
    try:
        image = images.decode(data, PDQ_SIDE)
        bits, quality = pdq_of(image)
        thumbnails = {size: images.thumbnail(_at_least(image, data, size), size) for size in sizes}
    except images.ImageFault as fault:
        return fault
    return _Picture(bits, quality, hashlib.sha256(data).hexdigest()[:32], thumbnails)


def _at_least(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """The image, decoded again only where its reduced decoding is smaller than a large model wants it.

    What is seen at one size never depends on the other sizes, so that signals do not depend on which classifiers run.
    """
    height, width = size
    enough = min(image.size) >= max(height, width) or max(height, width) <= PDQ_SIDE
    return image if enough else images.decode(data, max(height, width))


def _stack(pixels: list[NDArray[np.uint8]], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack(pixels) if pixels else np.zeros((0, *size, 3), dtype=np.uint8)


def _succeeded(
    image_id: str,
    encoder: str,
    picture: _Picture,
    embedding: NDArray[np.float32],
    bits: NDArray[np.uint8],
    scores: NDArray[Any],
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "pdq": picture.pdq,
        "pdq_quality": picture.quality,
        "encoder": encoder,
        "embedding": embedding,
        "embedding_hash": bits.tobytes(),
        "content": picture.content,
        "scores": scores.tolist(),
    }


def _failed(image_id: str, fault: images.ImageFault) -> dict[str, Any]:
    return {"image_id": image_id, "reason": fault.reason, "detail": fault.detail}


_ARROW = pa.schema(
    [
        ("image_id", pa.string()),
        ("pdq", pa.binary()),
        ("pdq_quality", pa.int32()),
        ("encoder", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("embedding_hash", pa.binary()),
        ("content", pa.string()),
        ("scores", pa.list_(pa.float32())),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
