"""Removed images that no kept image resembles, so that no weight can replace them."""

from typing import NamedTuple

import numpy as np
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.commands.weigh.features import Unfiltered
from jobs.matching.nearest import nearest_by_embedding
from jobs.runtime.config import WeighSettings
from models.stats import probe

_SHOWN = 48
_NEIGHBOURS = 4


class LostImage(NamedTuple):
    """A removed image that no kept image resembles, and its nearest kept image.

    Attributes:
        image_id: The removed image.
        nearest_id: The kept image.
        similarity: Inner product of their embeddings.
    """

    image_id: str
    nearest_id: str
    similarity: float


class BeyondReach(NamedTuple):
    """Removed images beyond reach: no weight can replace them.

    Attributes:
        share: Share of the sampled removed images, in [0, 1]; None if there is nothing to compare.
        images: At most 48 of them, the least similar to any kept image first.
    """

    share: float | None = None
    images: tuple[LostImage, ...] = ()


def beyond_reach(data: Unfiltered, settings: WeighSettings, seed: int) -> BeyondReach:
    """Returns the removed images beyond reach, from samples of removed and kept images against all kept images.

    Args:
        data: The unfiltered reference, and embeddings.
        settings: Size of the samples.
        seed: Seed of the samples.
    """
    embedded = data.embeddings.where(F.col("embedding").isNotNull()).select("image_id", "embedding")
    sides = [data.rows.where(side).select("image_id") for side in (~F.col("kept"), F.col("kept"))]
    removed, kept = (_sample(embedded, ids, settings.reach_sample, seed + 2) for ids in sides)
    if not removed or len(kept) < 2:
        return BeyondReach()
    nearest = _nearest_others([*removed, *kept], embedded.join(sides[1], "image_id", "left_semi"))
    similarity = np.array([similarity for _, similarity in nearest])
    lost = probe.beyond_reach(similarity[: len(removed)], similarity[len(removed) :])
    least = sorted(np.flatnonzero(lost).tolist(), key=lambda i: (similarity[i], removed[i].image_id))[:_SHOWN]
    return BeyondReach(float(np.mean(lost)), tuple(LostImage(removed[i].image_id, *nearest[i]) for i in least))


def _sample(embedded: DataFrame, ids: DataFrame, size: int, seed: int) -> list[Row]:
    """Returns image_id, embedding of the first images by a hash of the id, in that order."""
    order = F.xxhash64(F.lit(seed), "image_id"), F.col("image_id")
    # A broadcast of the few ids avoids a shuffle of all embeddings.
    some = F.broadcast(ids.orderBy(*order).limit(size))
    return list(embedded.join(some, "image_id").dropDuplicates(["image_id"]).orderBy(*order).collect())


def _nearest_others(images: list[Row], pool: DataFrame) -> list[tuple[str, float]]:
    """Returns for each image the nearest other image of the pool, and their similarity."""
    queries = np.asarray([row.embedding for row in images], dtype=np.float32)
    nearest: dict[int, tuple[str, float]] = {}
    # A kept image is nearest to itself, so the next one counts. An image may have its features more than once.
    for row in nearest_by_embedding(pool, queries, _NEIGHBOURS).orderBy("query", "rank").collect():
        if row.image_id != images[row.query].image_id:
            nearest.setdefault(row.query, (row.image_id, row.similarity))
    return [nearest[i] for i in range(len(images))]
