"""`random`: the next images of one fixed random order, set apart for calibration."""

from pyspark.sql import Column, DataFrame

from jobs.job import Job
from jobs.label_strategies.pool import in_random_order, random_place
from jobs.label_strategies.request import Pick, Request
from models.inference.encoder import Encoder

_PURPOSE = "random"


def place(seed: int) -> Column:
    """The place of image_id in the order in which images are drawn with a seed, long."""
    return random_place(seed, _PURPOSE)


def pick(job: Job, request: Request, pool: DataFrame, encoder: Encoder) -> list[Pick]:
    """The next images of one fixed random order, which the labels have nothing to do with."""
    rows = in_random_order(pool, job.settings.seed, _PURPOSE).select("image_id").limit(request.count).collect()
    return [Pick(row.image_id, "random sample, set apart for calibration") for row in rows]
