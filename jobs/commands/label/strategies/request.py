"""The request to a strategy of `label next`, and its result."""

from dataclasses import dataclass

from pyspark.sql import DataFrame

from models.inference.encoder import Encoder


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
        images: image_id, embedding (what the image shows), embedding_hash (null if it has no signals): images that are
            neither labelled nor queued for the category.
        features: image_id, embedding: all images.
        encoder: The semantic encoder, which made the embeddings.
        max_distance: Largest distance of near-duplicates between hashes, in bits of 256.
    """

    images: DataFrame
    features: DataFrame
    encoder: Encoder
    max_distance: int


@dataclass(frozen=True)
class Pick:
    """An image to label, and the reason."""

    image_id: str
    reason: str
