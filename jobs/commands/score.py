"""`score`: decodes each image once and writes its signals (hashes, embedding) and a score for each category."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import (
    HEAD,
    ImageClassifier,
    compatible_heads,
    current_encoder,
    decode_pass_of,
    image_classifiers,
)
from jobs.prerequisites import require_images
from jobs.runtime.session import overridden
from jobs.scoring.decode_pass import failures, finished, missing_by_part, outcome_counts, scored
from jobs.scoring.from_embeddings import classified, unclassified
from jobs.scoring.gaps import quarantined
from models.errors import LostRowsError
from models.inference.encoder import Encoder
from models.inference.head import Head
from udfs.inference.classify import head_scores
from udfs.inference.model_files import distribute_model
from udfs.inference.scoring import Scoring

_TASKS_PER_CORE = 8


@dataclass(frozen=True)
class Part:
    """Images that `score` processes in one commit of each table.

    Attributes:
        images: Rows of the table images that have no result yet.
        count: Number of these rows.
        scoring: The decode pass to run on them.
        encoder: Digest of the encoder.
        digests: Digest of each category's image classifier.
    """

    images: DataFrame
    count: int
    scoring: Scoring
    encoder: str
    digests: Mapping[str, str]

    def check(self, good: int, bad: int) -> tuple[int, int]:
        """Returns both numbers if they add up to the number of images.

        Args:
            good: Number of images that were scored.
            bad: Number of images that could not be decoded.

        Raises:
            LostRowsError: They do not add up.
        """
        if good + bad != self.count:
            raise LostRowsError(
                f"{self.count} images were to be scored, but {good} were and {bad} could not be decoded: run "
                "`winnow score` again, and report a bug if this happens again"
            )
        return good, bad


def run(job: Job) -> Summary:
    """Scores all images that have no score yet, with the current encoder and classifiers.

    Returns:
        Number of images scored, of images that could not be decoded, and of embeddings scored.

    Raises:
        ModelError: A model does not match its description; nothing has been scored.
        WinnowError: The lake holds no image.
    """
    job.lake.require(tables.IMAGES)
    require_images(job.lake)
    current = current_encoder(job)
    classifiers = image_classifiers(job)
    heads = compatible_heads(job, current)
    recipe = Recipe("score", settings={"encoder": current.digest})
    images, faults = _score_images(job, current, classifiers, recipe)
    embeddings = _score_embeddings(job, current, heads, recipe)
    return {"images scored": images, "images not decodable": faults, "embeddings scored": embeddings}


# Images -------------------------------------------------------------------------------------------------------------


def _score_images(job: Job, current: Encoder, classifiers: list[ImageClassifier], recipe: Recipe) -> tuple[int, int]:
    """Decodes and scores images part by part, so that a killed run loses at most one part."""
    digests = {one.category: one.digest for one in classifiers}
    images = job.lake.read(tables.IMAGES)
    with job.progress.step("score: find images without scores"):
        signals, scores, quarantine = (job.lake.read(t) for t in (tables.SIGNALS, tables.SCORES, tables.QUARANTINE))
        done = finished(signals, scores, current.digest, digests).unionByName(
            quarantined(quarantine).select("image_id")
        )
        counts = [row for row in missing_by_part(images, done).orderBy("part").collect() if row.missing]
    scoring = decode_pass_of(job, classifiers)
    score_part = _score_part if digests else _embed_part
    good = 0
    for number, row in enumerate(counts, 1):
        todo = images.where(F.col("part") == row.part)
        if row.done:
            # Broadcasts the ids of one part at most, so memory does not grow with the lake.
            ids = todo.select("image_id").join(done, "image_id", "left_anti")
            todo = todo.join(F.broadcast(ids), "image_id", "left_semi")
        with job.progress.step(f"score: part {number} of {len(counts)}"), _fine_tasks(job.lake.spark):
            good += score_part(job, Part(todo, row.missing, scoring, current.digest, digests), recipe)
    return good, sum(row.missing for row in counts) - good


def _fine_tasks(spark: SparkSession) -> AbstractContextManager[None]:
    """Splits a small lake into more tasks than Spark would, so that no core is idle while others decode."""
    tasks = _TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    return overridden(spark, {"spark.sql.files.minPartitionNum": str(tasks)})


def _embed_part(job: Job, part: Part, recipe: Recipe) -> int:
    """Scores a part without image classifiers, straight into the table signals; returns the number of good images."""
    seen = Observation()
    results = scored(part.images, part.scoring).observe(seen, *outcome_counts())
    job.lake.append(tables.SIGNALS, results.where(F.col("reason").isNull()), recipe)
    good, bad = part.check(seen.get["good"], seen.get["bad"])
    if bad:
        # They are few: decoding them again costs less than storing the results of all others.
        signals = job.lake.read(tables.SIGNALS).where(F.col("encoder") == part.encoder)
        ids = part.images.select("image_id").join(signals.select("image_id"), "image_id", "left_anti")
        broken = part.images.join(F.broadcast(ids), "image_id", "left_semi")
        job.lake.append(tables.QUARANTINE, failures(scored(broken, part.scoring), broken), recipe)
    return good


def _score_part(job: Job, part: Part, recipe: Recipe) -> int:
    """Scores a part with image classifiers; keeps the pass on disk because it feeds two tables."""
    lake = job.lake
    with lake.scratch("score") as scratch:
        results = scratch.keep(scored(part.images, part.scoring))
        good, bad = part.check(*results.agg(*outcome_counts()).collect()[0])
        fine = results.where(F.col("reason").isNull())
        unsigned = fine.join(lake.read(tables.SIGNALS), ["image_id", "encoder"], "left_anti")
        if not unsigned.isEmpty():
            lake.append(tables.SIGNALS, unsigned, recipe)
        lake.append(tables.SCORES, _new_scores(fine, lake.read(tables.SCORES), part.digests), recipe)
        if bad:
            lake.append(tables.QUARANTINE, failures(results, part.images), recipe)
    return good


def _new_scores(fine: DataFrame, scores: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    each = [
        F.struct(F.lit(category).alias("category"), F.lit(model).alias("model"), F.col("scores")[place].alias("score"))
        for place, (category, model) in enumerate(digests.items())
    ]
    rows = fine.select("image_id", F.explode(F.array(*each)).alias("s")).select("image_id", "s.*")
    return rows.join(scores, ["image_id", "category", "model"], "left_anti")


# Embeddings ---------------------------------------------------------------------------------------------------------


def _score_embeddings(job: Job, current: Encoder, heads: Mapping[str, Head], recipe: Recipe) -> int:
    total = 0
    for category, head in heads.items():
        with job.progress.step(f"score: {category} from stored embeddings"):
            signals = job.lake.read(tables.SIGNALS).where(F.col("encoder") == current.digest)
            name = distribute_model(job.lake.spark, job.lake.read_file(HEAD.format(category)))
            todo = unclassified(signals, job.lake.read(tables.SCORES), category, head.digest)
            count = todo.count()
            if count:
                score = head_scores(name)(F.col("embedding"))
                job.lake.append(tables.SCORES, classified(todo, category, head.digest, score), recipe)
            total += count
    return total
