"""The command `weigh`: checks its inputs, and writes the weights and the curated set."""

from dataclasses import astuple

from pyspark.sql import functions as F

from jobs.commands.weigh.importance_weights import (
    ImportanceWeights,
    WeighingConfig,
    WeightQuality,
    importance_weights,
)
from jobs.facts import sentences
from jobs.facts import weights as facts
from jobs.facts.reference import REFERENCE, read_reference
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.prerequisites import require_kept, require_verdicts
from jobs.runtime.config import WeighSettings, fingerprint
from jobs.runtime.wording import number, percent
from jobs.scoring.features import ensure_features
from jobs.scoring.gaps import is_decodable
from models.errors import LostRowsError, WinnowError

# Raised if this version would write other tables than the version before: then older ones are stale.
_REVISION = 5

# In the order of writing.
_WRITTEN = (tables.WEIGHTS, tables.WEIGHT_QUALITY, tables.RELIABILITY, tables.BEYOND_REACH, tables.CURATED)


def run(job: Job) -> Summary:
    """Weighs the kept images and writes weights, weight_quality, reliability, beyond_reach and curated.

    Raises:
        WinnowError: The verdicts or duplicates are stale, or no image is kept.
        LostRowsError: The number of images is not the sum of kept, filtered and duplicates.
    """
    lake, settings = job.lake, job.settings
    perceptual = current_encoder(job)
    _check_compared(_checked(lake), perceptual.digest)
    require_kept(lake)
    semantic = semantic_encoder(job)
    embeddings = ensure_features(job, semantic, "weigh") if _needs_features(lake, settings.weigh) else None
    models = {"encoder": perceptual.digest, "semantic": semantic.digest}
    used = {**fingerprint(settings.weigh), **models, "seed": settings.seed, "revision": _REVISION}
    inputs = REFERENCE if embeddings is None else (*REFERENCE, tables.FEATURES)
    now = lake.snapshot()
    recipe = Recipe("weigh", now.inputs(*inputs), used)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    config = WeighingConfig(settings.weigh, semantic.dims, settings.seed)
    with lake.scratch("weigh") as scratch:
        found = importance_weights(read_reference(lake), embeddings, config, scratch, job.progress)
        beyond = facts.reach_of(found.quality, settings.weigh.reach_sample)
        if beyond and beyond.low > 0:
            job.progress.note(f"weigh: {sentences.reach(beyond)}")
        summary = _checked_summary(lake, found.quality)
        with job.progress.step("weigh: write the curated set"):
            _write(lake, found, recipe, summary)
    return summary


def _needs_features(lake: Lake, settings: WeighSettings) -> bool:
    """Returns whether the probe reads embeddings, or removed images may be beyond reach of the kept ones.

    Images that cannot be decoded have no embedding, so nobody can look for those near to them.
    """
    if "embedding" in settings.features:
        return True
    removed = lake.read(tables.VERDICTS).where(~F.col("kept") & is_decodable())
    return settings.reach_sample > 0 and not removed.isEmpty()


def _checked(lake: Lake) -> Snapshot:
    """Checks that the inputs of `weigh` exist and are not stale, and returns a snapshot of the lake."""
    lake.require_written(tables.IMAGES)
    lake.require_written(tables.DUPLICATES)
    now = lake.snapshot()
    require_verdicts(now)
    now.require_current(tables.DUPLICATES, tables.IMAGES, tables.VERDICTS)
    return now


def _check_compared(now: Snapshot, encoder: str) -> None:
    """Checks that `dedup` finished and used the current encoder, so that all images have its signals."""
    made, first = (now.recipe(table) for table in (tables.DUPLICATES, tables.FILTERED_DUPLICATES))
    compared = made.settings.get("encoder", encoder) if made else encoder
    if compared != encoder:
        raise WinnowError(
            f"the table duplicates was made with encoder {compared}, but {encoder} is in use: run `winnow score` and "
            "`winnow dedup` first"
        )
    if made and first and not made.makes_the_same(first):
        raise WinnowError("`winnow dedup` was stopped while it ran with other settings: run `winnow dedup` first")


def _checked_summary(lake: Lake, quality: WeightQuality) -> Summary:
    """Checks that the numbers of images add up, and returns the summary of the command."""
    kept, size = quality.kept, quality.effective_sample_size
    images = lake.read(tables.IMAGES).count()
    filtered = lake.read(tables.VERDICTS).where(~F.col("kept")).count()
    duplicates = lake.read(tables.DUPLICATES).count()
    if images != kept + filtered + duplicates:
        raise LostRowsError(
            f"weigh: {images} images are not {kept} kept + {filtered} filtered + {duplicates} duplicates: "
            "run `winnow filter`, `winnow dedup` and `winnow weigh` again"
        )
    return {
        "images": images, "filtered": filtered, "duplicates": duplicates, "kept": kept,
        "effective sample size": f"{size:,.0f} ({percent(size / kept)})", "clipped": quality.clipped,
        "largest weight": number(quality.max_weight),
    }  # fmt: skip


def _write(lake: Lake, found: ImportanceWeights, recipe: Recipe, summary: Summary) -> None:
    """Writes all tables; curated is the last one and shows that the command finished."""
    lake.replace(tables.WEIGHTS, found.weights, recipe)
    small = (
        (tables.WEIGHT_QUALITY, [astuple(found.quality)]),
        (tables.RELIABILITY, [astuple(one) for one in found.reliability]),
        (tables.BEYOND_REACH, [tuple(one) for one in found.beyond_reach]),
    )
    for table, rows in small:
        lake.replace(table, lake.spark.createDataFrame(rows, table.schema), recipe)
    curated = lake.read(tables.WEIGHTS).join(lake.read(tables.IMAGES), "image_id")
    lake.replace(tables.CURATED, curated, recipe.with_result(summary))
