"""The strategy `random`: the next images of a fixed random order, set apart for calibration."""

from pyspark.sql import DataFrame

from jobs.commands.label.strategies.request import Pick, PickRequest
from jobs.job import Job
from jobs.labels.random_order import RANDOM_SAMPLE, in_random_order
from models.inference.encoder import Encoder


def pick(job: Job, request: PickRequest, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """Picks the next images of a fixed random order, which does not depend on the labels."""
    rows = in_random_order(pool, job.settings.seed, RANDOM_SAMPLE).select("image_id").limit(request.count).collect()
    return [Pick(row.image_id, "random sample, set apart for calibration") for row in rows]
