"""The table mirrored: hashes of mirror images, which `dedup` compares if `dedup.mirrored` is set."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.scoring.image_pass import PassModels, run_image_pass
from models.errors import WinnowError
from models.inference.encoder import Encoder


def ensure_mirrored(job: Job, encoder: Encoder, command: str) -> DataFrame:
    """Hashes the mirror images of the images that lack these hashes, in a pass of its own, and returns all of them.

    `score` makes them in its decode pass if the setting is on. So this decodes only images that were scored before.

    Args:
        job: The running command.
        encoder: The perceptual encoder.
        command: Name of the command, for messages and the recipe.

    Returns:
        Rows of the table mirrored. Images that cannot be decoded, or on which the encoder fails, have no row.
    """
    recipe = Recipe(command, settings={"encoder": encoder.digest})
    made, faults = run_image_pass(job, PassModels(mirror=encoder), recipe)
    if made:
        job.progress.note(f"{command}: hashed the mirror images of {made:,} images")
    if faults:
        job.progress.warn(
            f"{command}: {faults:,} images have no hash of their mirror image, because they cannot be decoded"
        )
    return job.lake.read(tables.MIRRORED).where(F.col("encoder") == encoder.digest)


def require_mirrored(job: Job, encoder: Encoder) -> None:
    """Checks that a dry run, which writes no table, finds the hashes of mirror images.

    Raises:
        WinnowError: Images with signals have none.
    """
    signals, mirrored = (job.lake.read(table) for table in (tables.SIGNALS, tables.MIRRORED))
    own = F.col("encoder") == encoder.digest
    without = signals.where(own).join(mirrored.where(own).select("image_id"), "image_id", "left_anti").count()
    if without:
        raise WinnowError(
            f"{without:,} images have no hash of their mirror image, and a dry run writes none: run "
            "`winnow score --set dedup.mirrored=true` first"
        )
