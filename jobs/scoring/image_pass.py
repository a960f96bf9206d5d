"""The image pass: decodes images once, part by part, and writes what they lack of signals, features and scores."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import ImageClassifier, distribute_classifiers, distribute_encoder, distribute_semantic_encoder
from jobs.runtime.session import overridden
from jobs.scoring.decode_pass import failures, missing_by_part, outcome_counts, scored, todo
from jobs.scoring.gaps import quarantined
from models.errors import LostRowsError
from models.inference.encoder import Encoder
from udfs.inference.scoring import Scoring

_TASKS_PER_CORE = 8


@dataclass(frozen=True)
class PassModels:
    """The models whose results every image must have.

    Attributes:
        encoder: The perceptual encoder, for the table signals; None if signals are not needed.
        semantic: The semantic encoder, for the table features; None if features are not needed.
        classifiers: The image classifiers, for the table scores.
    """

    encoder: Encoder | None = None
    semantic: Encoder | None = None
    classifiers: tuple[ImageClassifier, ...] = ()


@dataclass(frozen=True)
class _Output:
    """A table that the pass fills.

    Attributes:
        table: The table.
        present: Reads the image_id of the images that already have all their rows.
        rows: Returns the rows of the table from the results of decodable images.
        key: Columns that name a row of the table.
    """

    table: tables.Table
    present: Callable[[], DataFrame]
    rows: Callable[[DataFrame], DataFrame]
    key: tuple[str, ...]


@dataclass(frozen=True)
class _Part:
    """Images that the pass processes in one commit of each table.

    Attributes:
        images: Rows of the table images that lack a result.
        count: Number of these rows.
        outputs: The tables that lack rows of them.
        scoring: The decode pass that computes these rows.
        quarantines: Whether images that cannot be decoded get a row in the table quarantine.
    """

    images: DataFrame
    count: int
    outputs: Sequence[_Output]
    scoring: Scoring
    quarantines: bool


def run_image_pass(job: Job, models: PassModels, recipe: Recipe) -> tuple[int, int]:
    """Decodes the images that lack results of the models, and writes these results.

    A killed run loses at most one part. Only what is missing in a part is computed. A pass with the perceptual encoder
    quarantines the images that cannot be decoded; a pass without it leaves them without results, because such images
    have signals or will be quarantined when they get none.

    Args:
        job: The running command.
        models: The models whose results every image must have.
        recipe: The recipe of each commit.

    Returns:
        Number of images that were decoded, and of images that could not be decoded.

    Raises:
        LostRowsError: The results are not as many as the images.
    """
    images, outputs, command = job.lake.read(tables.IMAGES), _outputs(job, models), recipe.command
    with job.progress.step(f"{command}: find images without results"):
        skipped = quarantined(job.lake.read(tables.QUARANTINE)).select("image_id")
        present = {name: output.present() for name, output in outputs.items()}
        counts = [row for row in missing_by_part(images, present, skipped).orderBy("part").collect() if row.missing]
    if not counts:
        return 0, 0
    good, scoring = 0, _scoring(job, models)
    for number, row in enumerate(counts, 1):
        needed = [name for name in outputs if row[name]]
        own = images.where(F.col("part") == row.part)
        if row.done:
            own = todo(own, {name: present[name] for name in needed}, skipped)
        to_fill = [outputs[name] for name in needed]
        part = _Part(own, row.missing, to_fill, _only(scoring, needed), models.encoder is not None)
        with job.progress.step(f"{command}: part {number} of {len(counts)}"), _fine_tasks(job.lake.spark):
            # An image may lack the scores of one model only, and images that are not quarantined come again each time:
            # `_split` finds out both, and makes no empty commit, which would make all later results stale.
            streams = part.quarantines and needed in (["signals"], ["features"])
            good += (_stream if streams else _split)(job, part, recipe)
    return good, sum(row.missing for row in counts) - good


def _outputs(job: Job, models: PassModels) -> dict[str, _Output]:
    lake, outputs = job.lake, {}
    if models.encoder:
        outputs["signals"] = _embedding_output(lake, tables.SIGNALS, models.encoder.digest, _signal_rows)
    if models.semantic:
        outputs["features"] = _embedding_output(lake, tables.FEATURES, models.semantic.digest, _feature_rows)
    if models.classifiers:
        digests = {one.category: one.digest for one in models.classifiers}
        outputs["scores"] = _Output(
            tables.SCORES,
            lambda: _with_scores(lake.read(tables.SCORES), digests),
            lambda results: _score_rows(results, digests),
            ("image_id", "category", "model"),
        )
    return outputs


def _embedding_output(lake: Lake, table: tables.Table, digest: str, rows: Callable[[DataFrame], DataFrame]) -> _Output:
    """Returns the output of an encoder, whose table has a row for each image and encoder."""
    return _Output(
        table,
        lambda: lake.read(table).where(F.col("encoder") == digest).select("image_id"),
        rows,
        ("image_id", "encoder"),
    )


def _signal_rows(results: DataFrame) -> DataFrame:
    return results.select(*tables.SIGNALS.schema.names)


def _feature_rows(results: DataFrame) -> DataFrame:
    return results.select("image_id", F.col("semantic").alias("encoder"), F.col("features").alias("embedding"))


def _with_scores(scores: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    """Returns the image_id of images with a score by each of the models, given by category."""
    having = [
        scores.where((F.col("category") == category) & (F.col("model") == model)).select("image_id")
        for category, model in digests.items()
    ]
    return reduce(lambda one, other: one.join(other, "image_id", "left_semi"), having)


def _score_rows(results: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    each = [
        F.struct(F.lit(category).alias("category"), F.lit(model).alias("model"), F.col("scores")[place].alias("score"))
        for place, (category, model) in enumerate(digests.items())
    ]
    return results.select("image_id", F.explode(F.array(*each)).alias("s")).select("image_id", "s.*")


def _scoring(job: Job, models: PassModels) -> Scoring:
    """Returns the decode pass for all tables; sends the files of its models to the workers."""
    settings = job.settings.score
    return Scoring(
        distribute_encoder(job) if models.encoder else None,
        distribute_semantic_encoder(job) if models.semantic else None,
        distribute_classifiers(job, models.classifiers),
        settings.batch,
        settings.threads,
        tuple(settings.providers),
    )


def _only(scoring: Scoring, needed: Sequence[str]) -> Scoring:
    """Returns the decode pass for the needed tables."""
    return replace(
        scoring,
        encoder=scoring.encoder if "signals" in needed else None,
        semantic=scoring.semantic if "features" in needed else None,
        classifiers=scoring.classifiers if "scores" in needed else (),
    )


def _fine_tasks(spark: SparkSession) -> AbstractContextManager[None]:
    """Splits a small lake into more tasks than Spark would, so that no core is idle while others decode."""
    tasks = _TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    return overridden(spark, {"spark.sql.files.minPartitionNum": str(tasks)})


def _stream(job: Job, part: _Part, recipe: Recipe) -> int:
    """Writes the results straight into the only table that lacks rows; returns the number of decodable images.

    Only for a part that quarantines: the others would make an empty commit if no image can be decoded.
    """
    (output,), seen = part.outputs, Observation()
    results = scored(part.images, part.scoring).observe(seen, *outcome_counts())
    job.lake.append(output.table, output.rows(results.where(F.col("reason").isNull())), recipe)
    good, bad = _checked(part, seen.get["good"], seen.get["bad"])
    if bad:
        # They are few: decoding them again costs less than storing the results of all others.
        ids = part.images.select("image_id").join(output.present(), "image_id", "left_anti")
        broken = part.images.join(F.broadcast(ids), "image_id", "left_semi")
        job.lake.append(tables.QUARANTINE, failures(scored(broken, part.scoring), broken), recipe)
    return good


def _split(job: Job, part: _Part, recipe: Recipe) -> int:
    """Keeps the results on disk and writes them to several tables; returns the number of decodable images."""
    with job.lake.scratch("score") as scratch:
        results = scratch.keep(scored(part.images, part.scoring))
        good, bad = _checked(part, *results.agg(*outcome_counts()).collect()[0])
        decoded = results.where(F.col("reason").isNull())
        for output in part.outputs:
            rows = output.rows(decoded).join(job.lake.read(output.table), list(output.key), "left_anti")
            if not rows.isEmpty():
                job.lake.append(output.table, rows, recipe)
        if bad and part.quarantines:
            job.lake.append(tables.QUARANTINE, failures(results, part.images), recipe)
    return good


def _checked(part: _Part, good: int, bad: int) -> tuple[int, int]:
    """Returns the numbers of decodable and undecodable images if they add up to the number of images."""
    if good + bad != part.count:
        raise LostRowsError(
            f"{part.count} images were to be scored, but {good} were and {bad} could not be decoded: run "
            "`winnow score` again, and report a bug if this happens again"
        )
    return good, bad
