"""The scoring pass: a single decode of each image feeds PDQ, the encoder and every image classifier."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from pyspark import SparkFiles
from pyspark.sql import types as T

from models import images, runtime
from models.classifier import ImageModel, classify_thumbnails
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
        session = runtime.session_of_file
        encoder = Encoder.open(SparkFiles.get(self.encoder), self.threads, self.providers, self.batch)
        size = (encoder.size, encoder.size)
        pictures = [_read(data, size, self.classifiers) for data in rows.column("image")]
        good = [picture for picture in pictures if isinstance(picture, _Picture)]
        embeddings, hashes = encoder.encode(_stack([p.thumbnail for p in good], size))
        scores = [
            classify_thumbnails(
                session(SparkFiles.get(model.path), self.threads, self.providers),
                _stack([p.inputs[place] for p in good], model.size),
                model,
                self.batch,
            )
            for place, model in enumerate(self.classifiers)
        ]
        results = iter(
            zip(good, embeddings, hashes, np.stack(scores, axis=1) if scores else hashes[:, :0], strict=True)
        )
        ids = rows.column("image_id").to_pylist()
        table = [
            _failed(image_id, picture)
            if isinstance(picture, images.ImageFault)
            else _succeeded(image_id, encoder.digest, *next(results))
            for image_id, picture in zip(ids, pictures, strict=True)
        ]
        return pa.RecordBatch.from_pylist(table, schema=_ARROW)


@dataclass(frozen=True)
class _Picture:
    pdq: bytes
    quality: int
    content: str
    thumbnail: NDArray[np.uint8]
    inputs: tuple[NDArray[np.uint8], ...]


def _read(
    cell: pa.BinaryScalar, size: tuple[int, int], classifiers: tuple[ImageModel, ...]
) -> _Picture | images.ImageFault:
    """Everything that one decode yields, or the reason why it failed."""
    data = cell.as_py() or b""
    try:
        image = images.decode(data, PDQ_SIDE)
        bits, quality = pdq_of(image)
        inputs = tuple(images.thumbnail(_at_least(image, data, model.size), model.size) for model in classifiers)
    except images.ImageFault as fault:
        return fault
    content = hashlib.sha256(data).hexdigest()[:32]
    return _Picture(bits, quality, content, images.thumbnail(image, size), inputs)


def _at_least(image: Image.Image, data: bytes, size: tuple[int, int]) -> Image.Image:
    """The image, decoded again only where its reduced decoding is smaller than a large classifier wants it.

    PDQ and the encoder always see the same decoding, so that signals do not depend on which classifiers run.
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
