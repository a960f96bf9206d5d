"""The strategy `random`: the next images of a fixed random order, set apart for calibration."""

from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job
from jobs.labels.random_order import RANDOM_SAMPLE, in_random_order


def pick(job: Job, request: PickRequest, pool: Pool) -> list[Pick]:
    """Picks the next images of a fixed random order, which does not depend on the labels."""
    rows = (
        in_random_order(pool.images, job.settings.seed, RANDOM_SAMPLE).select("image_id").limit(request.count).collect()
    )
    return [Pick(row.image_id, "random sample, set apart for calibration") for row in rows]
