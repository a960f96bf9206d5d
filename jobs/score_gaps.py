"""Which images scoring has not got to, and which it had to give up."""

from collections.abc import Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from models.errors import WinnowError

STAGE = "score"
"""What the table quarantine calls scoring."""


def require_images(lake: Lake) -> None:
    """Makes sure that a lake that was ingested holds an image: without one no command has anything to do.

    Raises:
        WinnowError: It holds none; the message says what became of the rows that were read.
    """
    if not lake.exists(tables.IMAGES) or not lake.read(tables.IMAGES).isEmpty():
        return
    faults = lake.read(tables.QUARANTINE).groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(3)
    found = ", ".join(f"{row['reason']} {row['count']:,}" for row in faults.collect())
    why = f"every row that was read is in the table quarantine ({found})" if found else "its sources hold no row"
    raise WinnowError(
        f"{lake.uri} holds no image, since {why}: run `winnow run SOURCE --lake {lake.uri}` with images that can be "
        "read"
    )


def require_signals(job: Job, encoder: str, found: int) -> None:
    """Makes sure that every image which can be decoded has a signal.

    Args:
        job: The command at work.
        encoder: Digest of the encoder in use.
        found: Images that have one. Where these are all, nothing more is looked at.

    Raises:
        WinnowError: Some have none, so that they would not be compared with the others.
    """
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    total = images.count()
    if found == total:
        return
    present = signals.where(F.col("encoder") == encoder)
    missing = total - found - undecodable(images, quarantine, present).count()
    if missing:
        raise WinnowError(f"{missing} of {total} images have no signals of encoder {encoder}: run `winnow score` first")


def given_up(quarantine: DataFrame) -> DataFrame:
    """Images that could not be decoded before; to try them again, delete their rows of the table quarantine.

    Args:
        quarantine: Table quarantine.

    Returns:
        image_id, reason.
    """
    return quarantine.where(F.col("stage") == STAGE).select("image_id", "reason")


def undecodable(images: DataFrame, quarantine: DataFrame, signals: DataFrame) -> DataFrame:
    """Images that scoring could not decode: quarantined by it, and without signals.

    Args:
        images: Table images.
        quarantine: Table quarantine.
        signals: Table signals.

    Returns:
        image_id, reason.
    """
    failed = given_up(quarantine).groupBy("image_id").agg(F.min("reason").alias("reason"))
    there = failed.join(images.select("image_id"), "image_id", "left_semi")
    return there.join(signals.select("image_id"), "image_id", "left_anti")


def unscored(images: DataFrame, broken: DataFrame, scores: DataFrame, models: Mapping[str, str]) -> DataFrame:
    """How many images lack the score of a category's present model.

    Args:
        images: Table images.
        broken: image_id of images that cannot be scored.
        scores: Table scores.
        models: Digest of each category's present model.

    Returns:
        category, missing: only categories that miss some.
    """
    spark = images.sparkSession
    present = spark.createDataFrame(list(models.items()), "category string, model string")
    wanted = images.select("image_id").join(broken, "image_id", "left_anti").crossJoin(F.broadcast(present))
    done = scores.where(F.col("score").isNotNull()).select("image_id", "category", "model")
    absent = wanted.join(done, ["image_id", "category", "model"], "left_anti")
    return absent.groupBy("category").agg(F.count("*").alias("missing"))
