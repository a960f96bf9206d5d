"""The image pass: decodes images once, part by part, and writes what they lack of signals, features and scores."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import reduce

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import ImageClassifier, distribute_classifiers, distribute_encoder, distribute_semantic_encoder
from jobs.runtime.session import overridden
from jobs.scoring.decode_pass import failures, missing_by_part, outcome_counts, scored, todo
from jobs.scoring.gaps import quarantined, unclassifiable, unembedded
from jobs.scoring.model_faults import failed_counts, fresh, model_failures
from models.errors import LostRowsError, ModelError
from models.inference.encoder import Encoder
from models.inference.onnx_image_spec import ImageInput
from udfs.inference.scoring import Scoring

_TASKS_PER_CORE = 8


@dataclass(frozen=True)
class PassModels:
    """The models whose results every image must have.

    Attributes:
        encoder: The perceptual encoder, for the table signals; None if signals are not needed.
        semantic: The semantic encoder, for the table features; None if features are not needed.
        classifiers: The image classifiers, for the table scores.
        mirror: The perceptual encoder, for the table mirrored; None if mirror images are not needed.
    """

    encoder: Encoder | None = None
    semantic: Encoder | None = None
    classifiers: tuple[ImageClassifier, ...] = ()
    mirror: Encoder | None = None


@dataclass(frozen=True)
class _Output:
    """A table that the pass fills.

    Attributes:
        table: The table.
        present: Reads the image_id of the images that need no row: they have all their rows, or a model failed on them.
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
        models: The models of the whole pass.
    """

    images: DataFrame
    count: int
    outputs: Sequence[_Output]
    scoring: Scoring
    models: PassModels

    @property
    def quarantines(self) -> bool:
        """Whether images that cannot be decoded, or on which a model fails, get a row in the table quarantine."""
        return self.models.encoder is not None


@dataclass(frozen=True)
class _Counts:
    """Numbers of images, as `outcome_counts` returns them."""

    good: int
    bad: int
    faulty: int


def run_image_pass(job: Job, models: PassModels, recipe: Recipe) -> tuple[int, int]:
    """Decodes the images that lack results of the models, and writes these results.

    A killed run loses at most one part. Only what is missing in a part is computed. A pass with the perceptual encoder
    quarantines the images that cannot be decoded, and those on which a model fails. A pass without it leaves them
    without results, because such images have signals or will be quarantined when they get none.

    Args:
        job: The running command.
        models: The models whose results every image must have.
        recipe: The recipe of each commit.

    Returns:
        Number of images with results, and of images that could not be decoded or hashed. In a pass without the
        perceptual encoder, those on which another model failed count among the latter.

    Raises:
        LostRowsError: The results are not as many as the images.
        ModelError: A model fails on all images.
    """
    images, outputs, command = job.lake.read(tables.IMAGES), _outputs(job, models), recipe.command
    with job.progress.step(f"{command}: find images without results"):
        encoder = models.encoder.digest if models.encoder else None
        skipped = quarantined(job.lake.read(tables.QUARANTINE), encoder).select("image_id")
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
        part = _Part(own, row.missing, to_fill, _only(scoring, needed), models)
        with job.progress.step(f"{command}: part {number} of {len(counts)}"), _fine_tasks(job.lake.spark):
            # An image may lack the scores of one model only, and images that are not quarantined come again each time:
            # `_split` finds out both, and makes no empty commit, which would make all later results stale.
            streams = part.quarantines and needed in (["signals"], ["features"])
            good += (_stream if streams else _split)(job, part, recipe)
    return good, sum(row.missing for row in counts) - good


def _outputs(job: Job, models: PassModels) -> dict[str, _Output]:
    lake, outputs = job.lake, {}
    if models.encoder:
        outputs["signals"] = _signals_output(lake, models.encoder.digest)
    if models.semantic:
        outputs["features"] = _features_output(lake, models.semantic.digest)
    if models.mirror:
        outputs["mirrored"] = _mirrored_output(lake, models.mirror.digest)
    if models.classifiers:
        digests = {one.category: one.digest for one in models.classifiers}
        outputs["scores"] = _Output(
            tables.SCORES,
            lambda: _with_scores(lake.read(tables.SCORES), lake.read(tables.QUARANTINE), digests),
            lambda results: _score_rows(results, digests),
            ("image_id", "category", "model"),
        )
    return outputs


def _signals_output(lake: Lake, digest: str) -> _Output:
    return _Output(
        tables.SIGNALS,
        lambda: lake.read(tables.SIGNALS).where(F.col("encoder") == digest).select("image_id"),
        lambda results: results.select(*tables.SIGNALS.schema.names),
        ("image_id", "encoder"),
    )


def _features_output(lake: Lake, digest: str) -> _Output:
    def present() -> DataFrame:
        has = lake.read(tables.FEATURES).where(F.col("encoder") == digest).select("image_id")
        return has.unionByName(unembedded(lake.read(tables.QUARANTINE), digest))

    return _Output(tables.FEATURES, present, _feature_rows, ("image_id", "encoder"))


def _mirrored_output(lake: Lake, digest: str) -> _Output:
    return _Output(
        tables.MIRRORED,
        lambda: lake.read(tables.MIRRORED).where(F.col("encoder") == digest).select("image_id"),
        _mirrored_rows,
        ("image_id", "encoder"),
    )


def _mirrored_rows(results: DataFrame) -> DataFrame:
    hashed = results.where(F.col("mirror").isNotNull())
    encoder, embedding = F.col("mirror").alias("encoder"), F.col("mirror_embedding").alias("embedding")
    hashes = F.col("mirror_pdq").alias("pdq"), F.col("mirror_hash").alias("embedding_hash")
    return hashed.select("image_id", encoder, hashes[0], embedding, hashes[1])


def _feature_rows(results: DataFrame) -> DataFrame:
    embedded = results.where(F.col("features").isNotNull())
    return embedded.select("image_id", F.col("semantic").alias("encoder"), F.col("features").alias("embedding"))


def _with_scores(scores: DataFrame, quarantine: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    """Returns image_id of images that have a score by each of the models, given by category, or on which it failed."""
    key = ["image_id", "category", "model"]
    tried = scores.select(*key).unionByName(unclassifiable(quarantine, digests).select(*key))
    having = [
        tried.where((F.col("category") == category) & (F.col("model") == model)).select("image_id")
        for category, model in digests.items()
    ]
    return reduce(lambda one, other: one.join(other, "image_id", "left_semi"), having)


def _score_rows(results: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    each = [
        F.struct(F.lit(category).alias("category"), F.lit(model).alias("model"), F.col("scores")[place].alias("score"))
        for place, (category, model) in enumerate(digests.items())
    ]
    scores = results.select("image_id", F.explode(F.array(*each)).alias("s")).select("image_id", "s.*")
    return scores.where(~F.isnan("score"))


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
        distribute_encoder(job) if models.mirror else None,
    )


def _only(scoring: Scoring, needed: Sequence[str]) -> Scoring:
    """Returns the decode pass for the needed tables."""
    return replace(
        scoring,
        encoder=scoring.encoder if "signals" in needed else None,
        semantic=scoring.semantic if "features" in needed else None,
        mirror=scoring.mirror if "mirrored" in needed else None,
        classifiers=scoring.classifiers if "scores" in needed else (),
    )


def _fine_tasks(spark: SparkSession) -> AbstractContextManager[None]:
    """Splits a small lake into more tasks than Spark would, so that no core is idle while others decode."""
    tasks = _TASKS_PER_CORE * spark.sparkContext.defaultParallelism
    return overridden(spark, {"spark.sql.files.minPartitionNum": str(tasks)})


def _stream(job: Job, part: _Part, recipe: Recipe) -> int:
    """Writes the results straight into the only table that lacks rows; returns the number of images with results.

    Only for a part that quarantines: the others would make an empty commit if no image can be decoded.
    """
    (output,), seen = part.outputs, Observation()
    results = scored(part.images, part.scoring).observe(seen, *outcome_counts())
    job.lake.append(output.table, output.rows(results.where(F.col("reason").isNull())), recipe)
    counts = _checked(part, _Counts(**seen.get))
    if counts.bad or counts.faulty:
        # They are few: decoding them again costs less than storing the results of all others.
        ids = part.images.select("image_id").join(output.present(), "image_id", "left_anti")
        broken = part.images.join(F.broadcast(ids), "image_id", "left_semi")
        with job.lake.scratch("score") as scratch:
            failed = scratch.keep(scored(broken, part.scoring))
            _require_useful_models(job, part, failed, counts)
            _quarantine(job, part, failed, recipe)
    return counts.good


def _split(job: Job, part: _Part, recipe: Recipe) -> int:
    """Keeps the results on disk and writes them to several tables; returns the number of images with results."""
    with job.lake.scratch("score") as scratch:
        results = scratch.keep(scored(part.images, part.scoring))
        counts = _checked(part, _Counts(*results.agg(*outcome_counts()).collect()[0]))
        if counts.bad or counts.faulty:
            _require_useful_models(job, part, results, counts)
        decoded = results.where(F.col("reason").isNull())
        for output in part.outputs:
            rows = output.rows(decoded).join(job.lake.read(output.table), list(output.key), "left_anti")
            if not rows.isEmpty():
                job.lake.append(output.table, rows, recipe)
        if not part.quarantines:
            return counts.good - counts.faulty
        if counts.bad or counts.faulty:
            _quarantine(job, part, results, recipe)
    return counts.good


def _quarantine(job: Job, part: _Part, results: DataFrame, recipe: Recipe) -> None:
    """Writes the rows of images that cannot be decoded, and of images and models that failed on them."""
    models = part.models
    classifiers = [(one.category, one.digest) for one in models.classifiers]
    semantic = models.semantic.digest if models.semantic else None
    failed = failures(results, part.images).unionByName(model_failures(results, part.images, classifiers, semantic))
    rows = fresh(failed, job.lake.read(tables.QUARANTINE))
    if not rows.isEmpty():
        job.lake.append(tables.QUARANTINE, rows, recipe)


def _require_useful_models(job: Job, part: _Part, results: DataFrame, counts: _Counts) -> None:
    """Checks that each model has a result for an image of this part or of an earlier one.

    Raises:
        ModelError: A model has none; the message names its category and file.
    """
    lake, models, settings = job.lake, part.models, job.settings
    failed = failed_counts(results) if counts.faulty else {}
    for place, one in enumerate(models.classifiers):
        own = (F.col("category") == one.category) & (F.col("model") == one.digest)
        if failed.get(place) == counts.good and lake.read(tables.SCORES).where(own).isEmpty():
            fault = _first_fault(results, F.col("place") == place)
            raise ModelError(_useless(f"the model of {one.category}, {one.model.path},", "score", counts.good, fault))
    if models.semantic and failed.get(None) == counts.good and _is_new(lake, tables.FEATURES, models.semantic):
        name = f"the semantic encoder, {_file(settings.semantic.model)},"
        raise ModelError(_useless(name, "embedding", counts.good, _first_fault(results, F.col("place").isNull())))
    unhashed = results.where(F.col("reason").isNotNull() & F.col("encoder").isNotNull()).select("detail")
    if not counts.good and (found := unhashed.first()) and _is_new(lake, tables.SIGNALS, models.encoder):
        name = f"the perceptual encoder, {_file(settings.encoder.model)},"
        raise ModelError(_useless(name, "embedding", unhashed.count(), found.detail))


def _is_new(lake: Lake, table: tables.Table, encoder: Encoder | None) -> bool:
    return encoder is not None and lake.read(table).where(F.col("encoder") == encoder.digest).isEmpty()


def _useless(model: str, result: str, images: int, fault: str) -> str:
    tried = "the only image" if images == 1 else f"each of the first {images:,} images"
    return (
        f"{model} has no {result} for {tried} ({fault}): check its weights, and scale, mean and std in the settings, "
        "or use another model"
    )


def _first_fault(results: DataFrame, condition: Column) -> str:
    found = results.select(F.explode("faults").alias("fault")).select("fault.*").where(condition).first()
    return f"{found.reason}: {found.detail}" if found else ""


def _file(choice: str | ImageInput) -> str:
    return choice if isinstance(choice, str) else choice.path


def _checked(part: _Part, counts: _Counts) -> _Counts:
    """Returns the numbers of images if they add up to the number of images of the part."""
    if counts.good + counts.bad != part.count:
        raise LostRowsError(
            f"{part.count} images were to be scored, but {counts.good} were and {counts.bad} could not be decoded: run "
            "`winnow score` again, and report a bug if this happens again"
        )
    return counts
