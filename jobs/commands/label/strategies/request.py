"""The request to a strategy of `label next`, and its result."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from models.inference.encoder import Encoder
from udfs.hashes import hamming


@dataclass(frozen=True)
class PickRequest:
    """A request to pick images.

    Attributes:
        category: Name of the category.
        strategy: Name of the strategy: `seed`, `random`, `precision` or `recall`.
        count: Number of images.
        like: Only for `seed`: local image files around which to search.
    """

    category: str
    strategy: str
    count: int
    like: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pool:
    """The images to pick from.

    Attributes:
        images: image_id, embedding (what the image shows): images that are neither labelled nor queued for the
            category.
        features: image_id, embedding: all images.
        signals: image_id, embedding_hash: all images with a hash by the current perceptual encoder.
        encoder: The semantic encoder, which made the embeddings.
        max_distance: Largest distance of near-duplicates between hashes, in bits of 256.
    """

    images: DataFrame
    features: DataFrame
    signals: DataFrame
    encoder: Encoder
    max_distance: int

    def hashes(self, image_ids: Sequence[str]) -> NDArray[np.uint64]:
        """Returns the hashes of a few images, as `udfs.hashes.hamming.words` does, of shape (n, 4).

        An image without a hash, because `score` has not seen it, gets one from its id, which is near no other.
        """
        if not image_ids:
            return np.zeros((0, 4), np.uint64)
        wanted = self.signals.sparkSession.createDataFrame(pa.table({"image_id": pa.array(image_ids, pa.string())}))
        rows = self.signals.join(F.broadcast(wanted.distinct()), "image_id").toArrow()
        known = dict(zip(rows["image_id"].to_pylist(), rows["embedding_hash"].to_pylist(), strict=True))
        every = [known.get(image_id) or hashlib.sha256(image_id.encode()).digest() for image_id in image_ids]
        return hamming.words(hamming.hashes_of(pa.array(every, pa.binary())))


@dataclass(frozen=True)
class Pick:
    """An image to label, and the reason."""

    image_id: str
    reason: str
