"""`fit-encoder`: trains a perceptual encoder on the images of the lake, without labels."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.model_recipe import ModelRecipe
from jobs.lake.recipe import Recipe
from jobs.runtime import config, training_extra
from jobs.runtime.progress import Progress
from models.errors import WinnowError
from models.images import decoding
from models.images.resizing import View, thumbnail
from models.inference import encoder, onnx_session

RECIPE = "models/encoder.json"
_FILES = ModelRecipe(encoder.FITTED, RECIPE, "encoder", "fitted_at")
STAGING = "_staging/fit_encoder"

FEWEST = 500
"""Minimum number of images; with fewer, the encoder would overfit."""

MAX_FALSE_MATCHES = 0.001
"""Average number of images that may lie within `max_distance` of an image without being copies of it."""

SHARED_LAYOUT = 5
"""If images are nearer to each other than to mirror images by more bits than this, they share a layout.

For photographs the difference is 0 or 1."""

_REVISION = 2
_FETCHED = 32 << 20  # Bytes of pixels that the driver fetches at a time.
_THUMBNAILS = "image_id string, pixels binary"


@dataclass(frozen=True)
class Thumbnails:
    """A function for `DataFrame.mapInArrow` that turns images into thumbnails.

    Attributes:
        side: Width and height, pixels.
    """

    side: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Maps (image_id, image) to (image_id, pixels: RGB bytes row by row); drops images that cannot be decoded."""
        for batch in batches:
            pixels = [self._pixels(image.as_buffer()) for image in batch.column("image")]
            yield pa.RecordBatch.from_arrays(
                [batch.column("image_id").cast(pa.string()), pa.array(pixels, pa.binary())], ["image_id", "pixels"]
            ).filter(pa.array([row is not None for row in pixels]))

    def _pixels(self, image: pa.Buffer) -> bytes | None:
        try:
            picture = decoding.decode(bytes(image), self.side)
        except decoding.ImageFault:
            return None
        return thumbnail(picture, View((self.side, self.side))).tobytes()


@dataclass(frozen=True)
class EncoderComparison:
    """The comparison of the fitted and the shipped encoder, each at the maximum distance that the lake would use.

    If that distance gives too many false positives, only copies within a safe distance count: a wrongly removed image
    is worse than a copy that stays.

    Attributes:
        fitted: Measurement of the fitted encoder, a `models.training.measure.MeasuredEncoder`.
        shipped: Measurement of the shipped encoder, likewise.
        shipped_distance: Maximum distance of copies in bits, as the shipped encoder's file states it.
    """

    fitted: Any
    shipped: Any
    shipped_distance: int

    @property
    def recall_fitted(self) -> float:
        """Returns the share of edited copies that the fitted encoder finds."""
        return float(self.fitted.recall_within(self.fitted.max_distance))

    @property
    def recall_shipped(self) -> float:
        """Returns the share of edited copies that the shipped encoder finds."""
        return float(self.shipped.recall_within(self.shipped_distance))

    @property
    def better(self) -> bool:
        """Returns whether the fitted encoder finds more copies."""
        return self.recall_fitted > self.recall_shipped

    def report(self, progress: Progress) -> None:
        """Prints what both encoders find, and warns of what these numbers do not show."""
        fitted_within = self.fitted.used_within(self.fitted.max_distance)
        progress.note(
            f"copies found: {self.recall_fitted:.1%} within {fitted_within} bits by the fitted encoder, "
            f"{self.recall_shipped:.1%} within {self.shipped.used_within(self.shipped_distance)} by the shipped one"
        )
        if not self.better:
            self._warn_of_shipped_encoder(progress)
        layout = (self.fitted if self.better else self.shipped).layout_bits
        if layout > SHARED_LAYOUT:
            progress.warn(
                f"the images share a layout: different images are {layout} bits nearer to each other than to mirror "
                "images. Check the duplicate groups in the report before you use the result"
            )

    def _warn_of_shipped_encoder(self, progress: Progress) -> None:
        progress.warn(
            "the fitted encoder finds no more copies than the shipped one, so the lake uses the shipped one: try a "
            "larger encoder.minutes"
        )
        if 0 < self.shipped.allowed_distance < self.shipped_distance:
            progress.warn(
                f"too many different images lie within the shipped encoder's {self.shipped_distance} bits: set "
                f"dedup.max_distance to {self.shipped.max_distance}"
            )


def run(job: Job) -> Summary:
    """Fits an encoder to a sample of the lake's images, unless it is up to date, and keeps the better encoder.

    Both the fitted and the shipped encoder are measured on edited copies of images that neither was trained on. The
    better one becomes the encoder of the lake.

    Raises:
        WinnowError: There are too few images, or torch is not installed.
    """
    rows = job.lake.require(tables.IMAGES)
    with job.progress.step("fit-encoder: sample images"):
        ids = sample(rows, job.settings.encoder.images, job.settings.seed)
        chosen = [row.image_id for row in ids.toLocalIterator()]
    if len(chosen) < FEWEST:
        raise WinnowError(
            f"fit-encoder found {len(chosen)} images and needs at least {FEWEST}: ingest more with `winnow ingest`, or "
            "use the shipped encoder, which needs no fitting"
        )
    recipe = _recipe(job, chosen)
    if (before := job.up_to_date(_FILES.made_by(job.lake, recipe))) is not None:
        return before
    trainer = training_extra.module("encoder")
    with job.progress.step(f"fit-encoder: decode {len(chosen)} images"):
        thumbs = _thumbnails(job.lake, ids, chosen, trainer.SOURCE_SIDE)
    if len(thumbs) < FEWEST:
        raise WinnowError(
            f"fit-encoder: only {len(thumbs)} of {len(chosen)} images can be decoded, and {FEWEST} are needed: ingest "
            "more with `winnow ingest`, or use the shipped encoder, which needs no fitting"
        )
    summary = _fit(job, trainer, thumbs, rows.count())
    _FILES.keep(job.lake, recipe.with_result(summary))
    return summary


def sample(rows: DataFrame, count: int, seed: int) -> DataFrame:
    """Returns a random sample of images that depends only on their ids and the seed.

    Args:
        rows: Table images.
        count: Maximum number of images.
        seed: Random seed.

    Returns:
        image_id, in no order.
    """
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    return rows.select("image_id").orderBy(chance, "image_id").limit(count)


def _recipe(job: Job, chosen: list[str]) -> Recipe:
    settings: dict[str, Any] = config.fingerprint(job.settings.encoder)
    length = "minutes" if settings["steps"] is None else "steps"
    training = {key: settings[key] for key in ("images", length, "batch")}
    # Not the version of the table images: it may change while the sample stays the same.
    identity = hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest()
    start = onnx_session.digest(encoder.shipped())
    drawn = {"seed": job.settings.seed, "sample": identity, "start": start, "revision": _REVISION}
    return Recipe("fit-encoder", {}, {**training, **drawn})


def _thumbnails(lake: Lake, ids: DataFrame, chosen: list[str], side: int) -> NDArray[np.uint8]:
    """Returns the thumbnails of the decodable images, uint8 of shape (n, side, side, 3), in the order of their ids."""
    rows = lake.read(tables.IMAGES).select("image_id", "image").join(F.broadcast(ids), "image_id", "left_semi")
    parts = -(-len(chosen) * side * side * 3 // _FETCHED)
    small = rows.mapInArrow(Thumbnails(side), _THUMBNAILS).repartition(parts, "image_id")
    places = {image_id: place for place, image_id in enumerate(sorted(chosen))}
    thumbs = np.empty((len(chosen), side, side, 3), np.uint8)
    decoded = np.zeros(len(chosen), bool)
    for part in lake.fetch(STAGING, small):
        for image_id, pixels in zip(part["image_id"].to_pylist(), part["pixels"], strict=True):
            place = places[image_id]
            thumbs[place] = np.frombuffer(pixels.as_buffer(), np.uint8).reshape(side, side, 3)
            decoded[place] = True
    return thumbs if decoded.all() else thumbs[decoded]


def _fit(job: Job, trainer: ModuleType, thumbs: NDArray[np.uint8], images_in_lake: int) -> Summary:
    settings, shipped, progress = job.settings.encoder, encoder.shipped(), job.progress
    plan = trainer.TrainingPlan(
        minutes=settings.minutes,
        steps=settings.steps,
        batch=settings.batch,
        seed=job.settings.seed,
        same_within=encoder.Encoder.load(shipped).presumed_distance,
        # Each image is compared with the whole lake, so a larger lake needs a lower rate of collisions of pairs.
        collisions=min(trainer.COLLISIONS, MAX_FALSE_MATCHES / images_in_lake),
    )
    length = f"{settings.minutes:g} minutes" if settings.steps is None else f"{settings.steps} steps"
    with progress.step(f"fit-encoder: train for {length} on {len(thumbs)} images"):
        fitted = trainer.fit(
            thumbs, plan, lambda done, loss: progress.note(f"{done:.0%} of {length}, loss {loss:.2f}"), shipped
        )
    with progress.step("fit-encoder: measure the shipped encoder"):
        shipped_measured = trainer.measured(shipped, thumbs, plan)
    shipped_distance = encoder.Encoder.load(shipped).presumed_distance
    comparison = EncoderComparison(fitted.measured, shipped_measured, shipped_distance)
    comparison.report(progress)
    model = fitted.model if comparison.better else shipped
    return {
        "images": len(thumbs),
        "recall of copies, fitted": round(comparison.recall_fitted, 4),
        "recall of copies, shipped": round(comparison.recall_shipped, 4),
        "max distance": encoder.Encoder.load(model).presumed_distance,
        "encoder": onnx_session.digest(model),
        "file": job.lake.write_file(encoder.FITTED, model),
    }
