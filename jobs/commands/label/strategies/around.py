"""Nearest neighbours of a few images in the whole pool, without near-duplicates; used by `seed --like` and `recall`."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.matching import nearest
from models.stats import diverse_sampling

# Neighbours searched for each image requested, because some are near-duplicates of each other.
_SPARE = 4
_FEWEST, _MOST = 5, 200


@dataclass(frozen=True, eq=False)
class Queries:
    """Images around which to search, the most important first.

    Attributes:
        embeddings: Their embeddings, float32 of shape (q, dims).
        reasons: Why each was chosen.
    """

    embeddings: NDArray[np.float32]
    reasons: tuple[str, ...]


def around(request: PickRequest, pool: Pool, queries: Queries) -> list[Pick]:
    """Returns the images nearest to each query in turn; no two of them are near-duplicates."""
    each = -(-_SPARE * request.count // len(queries.embeddings))
    near = nearest.nearest_by_embedding(
        pool.images.select("image_id", "embedding"), queries.embeddings, min(max(each, _FEWEST), _MOST)
    )
    # A bounded number, however large the pool: at most _MOST rows for each of at most label_next.queries queries.
    rows = near.select("query", "rank", "similarity", "image_id").orderBy("rank", "query").toArrow()
    ids, places = rows["image_id"].to_pylist(), rows["query"].to_pylist()
    first = {image_id: place for place, image_id in reversed(list(enumerate(ids)))}
    chosen = diverse_sampling.distinct(pool.hashes(ids), sorted(first.values()), request.count, pool.max_distance)
    similarity = rows["similarity"].to_numpy()
    return [Pick(ids[i], f"similarity {similarity[i]:.2f}, {queries.reasons[places[i]]}") for i in chosen]
