"""The strategy `recall`: images similar to labelled positives that cross-validated models miss."""

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.commands.label.strategies.around import Queries, around
from jobs.commands.label.strategies.request import Pick, PickRequest, Pool
from jobs.job import Job
from jobs.labels.embeddings import labelled_embeddings
from models.errors import WinnowError
from models.stats.batched_logistic import balanced_rows
from udfs.labels.cross_validation import HELD_OUT, CrossValidation

# Most labels that cross-validation uses. People make hundreds or thousands; of more labels, a random part is enough.
_MOST_LABELS = 20_000


def pick(job: Job, request: PickRequest, pool: Pool) -> list[Pick]:
    """Picks neighbours of labelled positives that cross-validated models miss."""
    return around(request, pool, _misses(job, request.category, pool.features))


def missed_positives(held_out: DataFrame) -> DataFrame:
    """Counts how many of the versions that did not see an example call it negative.

    Args:
        held_out: `udfs.labels.cross_validation.HELD_OUT`.

    Returns:
        example, versions (that did not see it), missed (how many of them call it negative), logit (sum of their logits,
        in millionths).
    """
    # The sum of whole numbers does not depend on their order.
    total = F.sum(F.round(F.col("logit") * 1e6).cast("long"))
    return held_out.groupBy("example").agg(
        F.count("*").alias("versions"), F.count_if(F.col("logit") < 0).alias("missed"), total.alias("logit")
    )


def _misses(job: Job, category: str, features: DataFrame) -> Queries:
    """Returns labelled positives that held-out models miss; if none is missed, those with the lowest scores."""
    found = labelled_embeddings(job, category, features, "label next")
    rows = balanced_rows(found.labels, _MOST_LABELS)
    embeddings, labels, ids = found.embeddings[rows], found.labels[rows], [found.image_ids[row] for row in rows]
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if positives < 2 or negatives < 2:
        raise WinnowError(
            f"{category} has {positives} positive and {negatives} negative labels (random ones do not count), and "
            f"recall needs two of each: run `winnow label next {category} --strategy seed` and label the images"
        )
    settings = job.settings.label_next
    fit = CrossValidation(embeddings, labels, settings.folds, job.settings.train.weight_decay[0], job.settings.seed)
    judged = _judged(job, fit)
    hard = sorted(
        (row for row in judged if labels[row.example]), key=lambda row: (-row.missed / row.versions, row.logit)
    )
    missed = [row for row in hard if row.missed]
    if not missed:
        job.progress.note(
            f"label next: the models miss no labelled positive of {category}; Winnow searches around the tenth with "
            "the lowest scores"
        )
        missed = hard[: -(-len(hard) // 10)]
    missed = missed[: settings.queries]
    reasons = tuple(
        f"near {ids[row.example][:12]}, a positive that {row.missed} of {row.versions} models miss that never saw it"
        for row in missed
    )
    return Queries(embeddings[[row.example for row in missed]], reasons)


def _judged(job: Job, fit: CrossValidation) -> list[Row]:
    """Returns `missed_positives` of all versions, fitted in one Spark job."""
    count, spark = fit.folds * job.settings.label_next.repeats, job.lake.spark
    numbers = spark.range(0, count, 1, min(count, 2 * spark.sparkContext.defaultParallelism))
    return missed_positives(numbers.mapInArrow(fit, HELD_OUT)).collect()
