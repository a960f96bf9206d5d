"""The strategy `seed`: varied images of the whole lake, or the images nearest to given image files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.commands.label.strategies.around import Queries, around
from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job
from jobs.labels.random_order import first_in_random_order
from models.errors import WinnowError
from models.images import decoding
from models.images.resizing import View, thumbnail_of_file
from models.stats import diverse_sampling
from udfs.arrays.arrow import matrix
from udfs.hashes.pdq import PDQ_SIDE


def pick(job: Job, request: PickRequest, pool: Pool) -> list[Pick]:
    """Picks the image in the middle of each cluster of embeddings, or the images nearest to given image files."""
    if request.like:
        thumbnails = np.stack([_thumbnail(file, pool.encoder.input.view) for file in request.like])
        queries = pool.encoder.embed(thumbnails)
        return around(request, pool, Queries(queries, tuple(f"like {file}" for file in request.like)))
    count = max(job.settings.label_next.sample, request.count)
    rows = first_in_random_order(
        pool.images.select("image_id", "embedding"), job.settings.seed, "seed", count
    ).toArrow()
    if not len(rows):
        return []
    places, shares = diverse_sampling.centres(
        matrix(rows["embedding"]), min(request.count, len(rows)), job.settings.seed
    )
    ids = rows["image_id"].to_pylist()
    return [
        Pick(ids[place], f"middle of a group of about {share:.2%} of the images")
        for place, share in zip(places.tolist(), shares.tolist(), strict=True)
    ]


def _thumbnail(file: str, view: View) -> NDArray[np.uint8]:
    try:
        data = Path(file).expanduser().read_bytes()
        return thumbnail_of_file(decoding.Decoder(data), view, PDQ_SIDE)
    except OSError as error:
        raise WinnowError(f"image file {file} cannot be read: {error.strerror}") from error
    except decoding.ImageFault as fault:
        raise WinnowError(f"image file {file} cannot be decoded: {fault}") from fault
