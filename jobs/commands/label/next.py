"""`label next`: picks the images to label next, and writes them with a reason to the table label_queue."""

from collections.abc import Callable
from dataclasses import dataclass

from pyspark.sql import functions as F

from jobs.commands.label.strategies import precision, random_sample, recall, seed
from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job, Summary
from jobs.labels.queue import queue
from jobs.labels.unseen import seen, unseen
from jobs.lake import tables
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.prerequisites import require_images
from jobs.scoring.features import ensure_features
from models.errors import WinnowError

__all__ = ["STRATEGIES", "Pick", "PickRequest", "Picked", "run", "unseen"]

STRATEGIES: dict[str, Callable[[Job, PickRequest, Pool], list[Pick]]] = {
    "seed": seed.pick,
    "random": random_sample.pick,
    "precision": precision.pick,
    "recall": recall.pick,
}


@dataclass(frozen=True)
class Picked:
    """The result of `label next`.

    Attributes:
        picks: Picked images, in the order in which to label them.
        summary: Counts for the summary of the command.
    """

    picks: tuple[Pick, ...]
    summary: Summary


def run(job: Job, request: PickRequest) -> Picked:
    """Picks images that are neither labelled nor queued for the category, and queues them.

    Raises:
        WinnowError: The category or strategy is unknown, there are no signals, or the strategy lacks labels or a model.
    """
    _check(job, request)
    job.lake.require_written(tables.SIGNALS)
    require_images(job.lake)
    pool = _pool(job, request.category)
    with job.progress.step(f"label next: pick {request.count:,} by {request.strategy} for {request.category}"):
        picked = STRATEGIES[request.strategy](job, request, pool)
    if not picked:
        _explain_nothing(request, pool)
    elif len(picked) < request.count:
        job.progress.note(f"label next: found {len(picked):,} of the {request.count:,} images requested")
    with job.progress.step(f"label next: queue {len(picked):,} images"):
        rows = [(pick.image_id, pick.reason) for pick in picked]
        asked = {"count": request.count, "like": list(request.like)}
        batch = queue(job, request.category, request.strategy, rows, asked)
    counts: Summary = {"picked": len(picked), "strategy": request.strategy, "batch": batch}
    return Picked(tuple(picked), counts)


def _check(job: Job, request: PickRequest) -> None:
    job.settings.category(request.category)
    if request.strategy not in STRATEGIES:
        raise WinnowError(f"no strategy '{request.strategy}': choose one of {', '.join(STRATEGIES)}")
    if request.like and request.strategy != "seed":
        raise WinnowError(f"--like works only with --strategy seed, not with {request.strategy}")


def _pool(job: Job, category: str) -> Pool:
    """Returns the images that are neither labelled nor queued for a category; computes features that are missing."""
    perceptual, encoder = current_encoder(job), semantic_encoder(job)
    features = ensure_features(job, encoder, "label next")
    signals = job.lake.read(tables.SIGNALS).where(F.col("encoder") == perceptual.digest)
    return Pool(
        images=unseen(features, *seen(job), category),
        features=features,
        signals=signals.select("image_id", "embedding_hash"),
        encoder=encoder,
        max_distance=perceptual.presumed_distance,
    )


def _explain_nothing(request: PickRequest, pool: Pool) -> None:
    if pool.features.isEmpty():
        raise WinnowError("no image of the lake can be decoded, so none can be labelled: see the table quarantine")
    if pool.images.isEmpty():
        raise WinnowError(
            f"every image is already labelled or queued for {request.category}: label the queued images with "
            f"`winnow label serve {request.category}`"
        )
    raise WinnowError(
        f"the model calls no unlabelled image positive for {request.category}: try --strategy recall or random"
    )
