"""`label simulate`: labels the queue from a known truth, for demos, tests and benchmarks."""

from dataclasses import dataclass
from datetime import UTC, datetime

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.label.page import store
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.runtime.scratch import literal
from models.errors import WinnowError
from udfs.labels.simulated_labeller import SimulatedLabeller, simulated_answers


@dataclass(frozen=True)
class SimulationRequest:
    """A request to label the queue of a category from a known truth.

    Attributes:
        category: Name of the category.
        truth: Parquet file with the columns key and categories (names, array of string), as `generate` writes it. The
            workers must be able to read it.
        labeller: The simulated labeller.
    """

    category: str
    truth: str
    labeller: SimulatedLabeller


def run(job: Job, request: SimulationRequest) -> Summary:
    """Labels the queued images of a category that this labeller has not labelled yet.

    Raises:
        WinnowError: The category is not in the settings, nothing is queued for it, or the truth cannot be read.
    """
    category, labeller = request.category, request.labeller
    job.settings.category(category)
    labels = job.lake.read(tables.LABELS)
    queue = store.queue(job.lake.require(tables.LABEL_QUEUE), labels, category)
    mine = labels.where((F.col("category") == category) & (F.col("annotator") == labeller.name))
    keys = job.lake.require(tables.IMAGES).select("image_id", "key")
    waiting = queue.join(mine.select("image_id"), "image_id", "left_anti").join(keys, "image_id")
    step = job.progress.step(f"label simulate: label the queue of {category}")
    with step, job.lake.scratch("simulate") as scratch:
        made = scratch.keep(answered(waiting, _truth(job, request), request, datetime.now(UTC)))
        unknown = made.where(F.col("label").isNull()).count()
        known = made.where(F.col("label").isNotNull())
        given, yes = known.agg(F.count("*"), F.count_if("label")).collect()[0]
        if given:
            settings = {"category": category, "annotator": labeller.name, "errors": labeller.errors}
            job.lake.append(tables.LABELS, known, Recipe("label simulate", settings=settings))
    if unknown:
        job.progress.warn(f"label simulate: {unknown:,} queued images are not in {request.truth} and stay unlabelled")
    return {"labels added": given, "of them yes": yes, "without ground truth": unknown}


def answered(waiting: DataFrame, truth: DataFrame, request: SimulationRequest, now: datetime) -> DataFrame:
    """Returns the answers of the labeller.

    Args:
        waiting: image_id, key, origin.
        truth: key, categories.
        request: The category and the labeller.
        now: Time of the answers.

    Returns:
        The columns of the table labels; label is null if the truth is not known.
    """
    known = truth.select("key", F.array_contains("categories", request.category).alias("true"))
    joined = waiting.join(known.dropDuplicates(["key"]), "key", "left")
    answer = simulated_answers(request.labeller, request.category)("key", F.coalesce("true", F.lit(False)))
    columns = {
        "category": F.lit(request.category),
        "label": F.when(F.col("true").isNotNull(), answer),
        "annotator": F.lit(request.labeller.name),
        "labelled_at": F.lit(now),
    }
    return joined.select(*[columns.get(name, F.col(name)).alias(name) for name in tables.LABELS.schema.names])


def _truth(job: Job, request: SimulationRequest) -> DataFrame:
    try:
        rows = job.lake.spark.read.parquet(literal(request.truth))
        return rows.select("key", "categories")
    except AnalysisException as error:
        remedy = "give a Parquet file with the columns key and categories, as `winnow generate` writes it"
        raise WinnowError(
            f"truth file {request.truth} cannot be used ({str(error).splitlines()[0]}): {remedy}"
        ) from error
