"""The strategy `random`: the next images of a fixed random order, set apart for calibration."""

from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job
from jobs.labels.random_order import RANDOM_SAMPLE, first_in_random_order


def pick(job: Job, request: PickRequest, pool: Pool) -> list[Pick]:
    """Picks the next images of a fixed random order, which does not depend on the labels."""
    images = pool.images.select("image_id").distinct()  # features may hold an image twice
    rows = first_in_random_order(images, job.settings.seed, RANDOM_SAMPLE, request.count).collect()
    return [Pick(row.image_id, "random sample, set apart for calibration") for row in rows]
