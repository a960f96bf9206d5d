"""Queues images for labelling: the rows of the table label_queue."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe


def queue(
    job: Job, category: str, strategy: str, picked: Sequence[tuple[str, str]], settings: dict[str, Any] | None = None
) -> str:
    """Appends images to the queue of a category, in one commit.

    Args:
        job: The running command.
        category: Name of the category.
        strategy: What picked the images; it becomes the origin of their labels.
        picked: image_id and reason of each image, in the order in which to label them.
        settings: What else the recipe of the commit says.

    Returns:
        The name of the batch.
    """
    now = datetime.now(UTC)
    batch = f"{category}-{strategy}-{now:%Y%m%dT%H%M%S%f}"
    rows = [(one, category, strategy, reason, place, batch, now) for place, (one, reason) in enumerate(picked)]
    recipe = Recipe("label next", settings={"batch": batch, **(settings or {})})
    job.lake.append(tables.LABEL_QUEUE, job.lake.spark.createDataFrame(rows, tables.LABEL_QUEUE.schema), recipe)
    return batch
