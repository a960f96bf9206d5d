"""Finds images of the random sample that the head of a category was trained on.

`train` leaves out the images that have a random label or are queued as random. But labels may be imported with another
origin, trained on, and then be imported again as random. Scores of such images would make recall look too good.
"""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import sets
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Version, is_as_noted
from jobs.models_in_use import head_files
from jobs.runtime import wording

_INPUTS = (tables.LABELS, tables.LABEL_QUEUE)


def also_labelled_otherwise(labels: DataFrame, category: str) -> DataFrame:
    """Returns the image_id of the images with a random label of a category and a label of another origin.

    Args:
        labels: Table labels.
        category: Name of the category.
    """
    own = labels.where((F.col("category") == category) & F.col("label").isNotNull())
    random = F.count_if(F.col("origin") == "random")
    counts = own.groupBy("image_id").agg(random.alias("random"), F.count("*").alias("labels"))
    return counts.where("random between 1 and labels - 1").select("image_id")


def check(job: Job, category: str) -> str | None:
    """Returns why the random labels of a category prove nothing about its head; None if it was trained on none of them.

    Args:
        job: The running command.
        category: A category whose scores come from a head.
    """
    lake, recipe = job.lake, head_files(category).stored(job.lake)
    if recipe is None:
        return None
    now = lake.snapshot().inputs(*_INPUTS)
    noted = {name: recipe.inputs.get(name) for name in now}
    if all(is_as_noted(noted[name], version) for name, version in now.items()):
        return None
    current, by = lake.read(tables.LABELS), job.settings.labels.contradictions
    labels, queue = (_as_noted(lake, table, noted[table.name], now[table.name]) for table in _INPUTS)
    if labels is None or queue is None:
        suspects, was = also_labelled_otherwise(current, category), "may have been"
    else:
        trained = sets.training_labels(labels, queue, category, by).select("image_id")
        suspects, was = sets.random_labels(current, category, by).join(trained, "image_id", "left_semi"), "was"
    count = suspects.count()
    if not count:
        return None
    return (
        f"its head {was} trained on {wording.plural(count, 'image')} of the random sample, by a label of another "
        f"origin: run `winnow train {category}`, `winnow score` and `winnow calibrate`"
    )


def _as_noted(lake: Lake, table: tables.Table, noted: Version | None, now: Version | None) -> DataFrame | None:
    """Returns the rows of a table at a noted version; None if they no longer exist."""
    if noted is None:
        return lake.spark.createDataFrame([], table.schema)
    same_table = now is not None and noted["id"] in (None, now["id"])
    return lake.read_version(table, noted["version"]) if same_table else None
