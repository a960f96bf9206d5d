"""`fit-encoder`: the lake's own images, without labels, make a perceptual encoder that suits them."""

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
from models.inference import encoder, onnx_session

RECIPE = "models/encoder.json"
_FILES = ModelRecipe(encoder.FITTED, RECIPE, "encoder", "fitted_at")
STAGING = "_staging/fit_encoder"

FEWEST = 500
"""Images below which an encoder would learn them by heart."""

STRANGERS = 0.001
"""Images that may lie within an image's `max_distance` without being copies of it, on average."""

SHARED_LAYOUT = 5
"""Bits by which images may lie nearer to each other than to mirror images by chance: photographs do by 0 or 1."""

_REVISION = 2
_FETCHED = 32 << 20  # Bytes of pixels that the driver fetches at once.
_THUMBNAILS = "image_id string, pixels binary"


@dataclass(frozen=True)
class Thumbnails:
    """Images to small pictures: the function for `DataFrame.mapInArrow`.

    Attributes:
        side: Width and height, pixels.
    """

    side: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Batches of (image_id, image) to (image_id, pixels: RGB bytes row by row), without what does not decode."""
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
        return decoding.thumbnail(picture, (self.side, self.side)).tobytes()


@dataclass(frozen=True)
class EncoderComparison:
    """The fitted encoder beside the shipped one, each within the distance that the lake would use it with.

    Where that distance takes too many different images for copies, what it finds counts only within the one that does
    not: an image that is removed for nothing is worse than a copy that stays.

    Attributes:
        fitted: What the fitted encoder does, a `models.training.measure.MeasuredEncoder`.
        shipped: What the shipped one does, likewise.
        said: Bits within which the shipped one's file says that images are copies.
    """

    fitted: Any
    shipped: Any
    said: int

    @property
    def recall_fitted(self) -> float:
        """Share of the changed copies that the fitted encoder finds."""
        return float(self.fitted.recall_within(self.fitted.max_distance))

    @property
    def recall_shipped(self) -> float:
        """Share of the changed copies that the shipped encoder finds."""
        return float(self.shipped.recall_within(self.said))

    @property
    def better(self) -> bool:
        """Whether the fitted encoder finds more."""
        return self.recall_fitted > self.recall_shipped

    def tell(self, progress: Progress) -> None:
        """Says what both find, and warns of what these numbers do not show."""
        fitted_within = self.fitted.used_within(self.fitted.max_distance)
        progress.note(
            f"copies found: {self.recall_fitted:.1%} within {fitted_within} bits by the fitted encoder, "
            f"{self.recall_shipped:.1%} within {self.shipped.used_within(self.said)} by the shipped one"
        )
        if not self.better:
            self._warn_of_the_shipped(progress)
        layout = (self.fitted if self.better else self.shipped).layout_bits
        if layout > SHARED_LAYOUT:
            progress.warn(
                f"the images share a layout: different ones lie {layout} bits nearer to each other than to mirror "
                "images; look at the duplicate groups in the report before you trust them"
            )

    def _warn_of_the_shipped(self, progress: Progress) -> None:
        progress.warn("the fitted encoder finds no more copies than the shipped one, which is kept: try more minutes")
        if 0 < self.shipped.allowed_distance < self.said:
            progress.warn(
                f"too many different images lie within the shipped encoder's {self.said} bits: set "
                f"dedup.max_distance to {self.shipped.max_distance}"
            )


def run(job: Job) -> Summary:
    """Fits an encoder to a sample of the lake's images, unless that has been done, and keeps it if it is the better.

    The fitted encoder and the shipped one are measured by changed copies of images that neither saw; the better one
    becomes the lake's.

    Raises:
        WinnowError: There are too few images, or torch is not installed.
    """
    rows = job.lake.require(tables.IMAGES)
    wanted = job.settings.encoder
    with job.progress.step("fit-encoder: choose images"):
        ids = sample(rows, wanted.images, job.settings.seed)
        chosen = [row.image_id for row in ids.toLocalIterator()]
    if len(chosen) < FEWEST:
        raise WinnowError(
            f"fit-encoder found {len(chosen)} images and needs at least {FEWEST}: ingest more, or use the shipped "
            "encoder, which needs no fitting"
        )
    recipe = _recipe(job, chosen)
    if (before := job.up_to_date(_FILES.made_by(job.lake, recipe))) is not None:
        return before
    trainer = training_extra.module("encoder")
    with job.progress.step(f"fit-encoder: decode {len(chosen)} images"):
        thumbs = _thumbnails(job.lake, ids, chosen, trainer.SOURCE_SIDE)
    if len(thumbs) < FEWEST:
        raise WinnowError(
            f"fit-encoder: only {len(thumbs)} of {len(chosen)} images can be decoded, and {FEWEST} are needed: "
            "ingest more, or use the shipped encoder, which needs no fitting"
        )
    summary = _fit(job, trainer, thumbs, rows.count())
    _FILES.keep(job.lake, recipe.with_result(summary))
    return summary


def sample(rows: DataFrame, count: int, seed: int) -> DataFrame:
    """A random sample that depends on nothing but the images' ids and the seed.

    Args:
        rows: Table images.
        count: At most so many.
        seed: Another seed, another sample.

    Returns:
        image_id, in no order.
    """
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    return rows.select("image_id").orderBy(chance, "image_id").limit(count)


def _recipe(job: Job, chosen: list[str]) -> Recipe:
    settings: dict[str, Any] = config.fingerprint(job.settings.encoder)
    of_training = {key: settings[key] for key in ("images", "minutes", "batch")}
    # Not the version of the table: repeats that are ingested again change it and leave the sample as it is.
    identity = hashlib.sha256("\n".join(sorted(chosen)).encode()).hexdigest()
    start = onnx_session.digest(encoder.shipped())
    drawn = {"seed": job.settings.seed, "sample": identity, "start": start, "revision": _REVISION}
    return Recipe("fit-encoder", {}, {**of_training, **drawn})


def _thumbnails(lake: Lake, ids: DataFrame, chosen: list[str], side: int) -> NDArray[np.uint8]:
    """The sample's small pictures, uint8 of shape (n, side, side, 3), in the order of their ids; those that decode."""
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
    wanted, shipped, progress = job.settings.encoder, encoder.shipped(), job.progress
    plan = trainer.TrainingPlan(
        minutes=wanted.minutes,
        batch=wanted.batch,
        seed=job.settings.seed,
        same_within=encoder.Encoder.load(shipped).presumed_distance,
        # Each image has as many strangers as the lake has images: the more there are, the nearer is the nearest.
        collisions=min(trainer.COLLISIONS, STRANGERS / images_in_lake),
    )
    with progress.step(f"fit-encoder: train for {wanted.minutes:g} minutes on {len(thumbs)} images"):
        fitted = trainer.fit(
            thumbs, plan, lambda done, loss: progress.note(f"{done:.0%} of the time, loss {loss:.2f}"), shipped
        )
    with progress.step("fit-encoder: measure the shipped encoder"):
        given = trainer.measured(shipped, thumbs, plan)
    compared = EncoderComparison(fitted.measured, given, encoder.Encoder.load(shipped).presumed_distance)
    compared.tell(progress)
    model = fitted.model if compared.better else shipped
    return {
        "images": len(thumbs),
        "recall of copies, fitted": round(compared.recall_fitted, 4),
        "recall of copies, shipped": round(compared.recall_shipped, 4),
        "max distance": encoder.Encoder.load(model).presumed_distance,
        "encoder": onnx_session.digest(model),
        "file": job.lake.write_file(encoder.FITTED, model),
    }
