"""The table features: which settings need it, and how a command gets it when it is first needed."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import head_categories
from jobs.runtime.config import Settings
from jobs.scoring.image_pass import PassModels, run_image_pass
from models.inference.encoder import Encoder

_NAMED = 3


def score_needs_features(settings: Settings) -> bool:
    """Returns whether `score` computes features in its decode pass, since a later command will need them.

    Heads and `dedup.semantic` read them; `weigh` reads them if `weigh.features` says so, and to find filtered images
    beyond reach.
    """
    filters = bool(settings.categories or settings.filter.names)
    looks_beyond_reach = filters and settings.weigh.reach_sample > 0
    is_semantic = settings.dedup.semantic is not None
    return (
        bool(head_categories(settings)) or is_semantic or "embedding" in settings.weigh.features or looks_beyond_reach
    )


def ensure_features(job: Job, encoder: Encoder, command: str) -> DataFrame:
    """Computes the features that images lack, in a pass of its own, and returns all of them.

    Args:
        job: The running command.
        encoder: The semantic encoder.
        command: Name of the command, for messages and the recipe.

    Returns:
        image_id, embedding. Images that cannot be decoded, or on which the encoder fails, have no row.
    """
    recipe = Recipe(command, settings={"semantic": encoder.digest})
    made, faults = run_image_pass(job, PassModels(semantic=encoder), recipe)
    if made:
        job.progress.note(f"{command}: computed the features of {made:,} images")
    own = job.lake.read(tables.FEATURES).where(F.col("encoder") == encoder.digest).select("image_id", "embedding")
    if faults:
        without = job.lake.read(tables.IMAGES).select("image_id").join(own.select("image_id"), "image_id", "left_anti")
        some = ", ".join(row.image_id for row in without.limit(_NAMED).collect())
        job.progress.warn(
            f"{command}: passes by {faults:,} images that cannot be decoded, or on which the semantic encoder fails, "
            f"such as {some}"
        )
    return own
