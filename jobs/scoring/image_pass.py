"""The image pass: decodes images once, some parts at a time, and writes their missing signals, features and scores."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyspark.sql import Column, DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.image_files import LARGE_FILES
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.models_in_use import ImageClassifier, distribute_classifiers, distribute_encoder, distribute_semantic_encoder
from jobs.scoring import image_bytes
from jobs.scoring.decode_pass import (
    NO_PART,
    counted,
    failures,
    lacking,
    lacks,
    lacks_any,
    outcome_counts,
    scored,
    scored_in_place,
)
from jobs.scoring.gaps import quarantined, unclassifiable, unembedded
from jobs.scoring.model_faults import failed_counts, fresh, model_failures
from models.errors import LostRowsError, ModelError
from models.inference.encoder import Encoder
from models.inference.onnx_image_spec import ImageInput
from udfs.inference.scoring import Scoring

_TASKS_PER_CORE = 8
# Of a batch: 20 minutes of work with both encoders (25 images a second), 2 minutes without the semantic one (250).
_IMAGES_PER_CORE = 30_000
_BROADCAST_IDS = 1_000_000


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
        present: For each kind of its rows, the image_id of the images that have it, or on which the model failed.
        rows: Returns the rows of the table that decodable images lack, from results with the columns `lacks(kind)`.
    """

    table: tables.Table
    present: Mapping[str, DataFrame]
    rows: Callable[[DataFrame], DataFrame]


@dataclass(frozen=True)
class Batch:
    """Parts whose images the pass processes together, in one commit of each table.

    Attributes:
        parts: Numbers of the parts.
        kinds: The kinds of results that some of their images lack.
        missing: Number of images that lack one.
        done: Number of the other images.
        is_uniform: Whether the missing images lack the same kinds.
    """

    parts: tuple[int, ...]
    kinds: tuple[str, ...]
    missing: int
    done: int
    is_uniform: bool


@dataclass(frozen=True)
class _Work:
    """A batch and what it is processed with.

    Attributes:
        batch: The batch.
        images: Rows of the table images that lack a result.
        lacking: Which kinds each of these images lacks; None if all of them lack all kinds of the batch.
        outputs: The tables that lack rows of them.
        scoring: The decode pass that computes these rows.
        models: The models of the whole pass.
        is_in_place: Whether the tasks read the bytes of images themselves, not Spark.
    """

    batch: Batch
    images: DataFrame
    lacking: DataFrame | None
    outputs: Sequence[_Output]
    scoring: Scoring
    models: PassModels
    is_in_place: bool

    @property
    def quarantines(self) -> bool:
        """Whether images that cannot be decoded, or on which a model fails, get a row in the table quarantine."""
        return self.models.encoder is not None

    def scored(self, images: DataFrame) -> DataFrame:
        """Returns the results of images: rows of `udfs.inference.scoring.SCORED`."""
        return (scored_in_place if self.is_in_place else scored)(images, self.scoring)

    def with_lacks(self, results: DataFrame) -> DataFrame:
        """Adds the columns `lacks(kind)` to results."""
        kinds = [kind for output in self.outputs for kind in output.present]
        if self.lacking is None:
            return results.withColumns({lacks(kind): F.lit(kind in self.batch.kinds) for kind in kinds})
        return results.join(self.lacking.select("image_id", *map(lacks, kinds)), "image_id")


@dataclass(frozen=True)
class _Counts:
    """Numbers of images, as `outcome_counts` returns them."""

    good: int
    bad: int
    faulty: int


def run_image_pass(job: Job, models: PassModels, recipe: Recipe) -> tuple[int, int]:
    """Decodes the images that lack results of the models, and writes these results.

    A killed run loses at most one batch of parts, which is 2 to 20 minutes of work. Only what is missing in a part is
    computed. A pass with the perceptual encoder quarantines the images that cannot be decoded, and those on which a
    model fails. A pass without it leaves them without results, because such images have signals or will be quarantined
    when they get none.

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
    lake, outputs, command = job.lake, _outputs(job, models), recipe.command
    images = _fine_tasks(lake).read(tables.IMAGES).withColumn("part", F.coalesce("part", F.lit(NO_PART)))
    kinds = [kind for output in outputs for kind in output.present]
    with job.progress.step(f"{command}: find images without results"):
        encoder = models.encoder.digest if models.encoder else None
        skipped = quarantined(lake.read(tables.QUARANTINE), encoder).select("image_id")
        present = {kind: ids for output in outputs for kind, ids in output.present.items()}
        lack = lacking(images, present, skipped)
        todo = batches(counted(lack, kinds).collect(), kinds, _images_of_a_batch(lake.spark))
    if not todo:
        return 0, 0
    good, scoring, is_in_place = 0, _scoring(job, models), image_bytes.can_read(images)
    if is_in_place:
        images = image_bytes.with_places(images)
    with lake.scratch("lacking") as scratch:
        # The tables grow while the pass runs, so that which images lack what is found out once.
        kept = scratch.stage("lacking", lack.where(_in_parts(todo))) if any(_is_partial(one) for one in todo) else None
        for number, batch in enumerate(todo, 1):
            needed = [output for output in outputs if not output.present.keys().isdisjoint(batch.kinds)]
            own, flags = _missing(images, kept, batch, kinds)
            work = _Work(batch, own, flags, needed, _only(scoring, needed), models, is_in_place)
            with job.progress.step(f"{command}: batch {number} of {len(todo)}"):
                # An image may lack the scores of one model only, and images that are not quarantined come again each
                # time: `_split` makes no empty commit, which would make all later results stale.
                streams = work.quarantines and batch.is_uniform and batch.kinds in (("signals",), ("features",))
                good += (_stream if streams else _split)(job, work, recipe)
    return good, sum(batch.missing for batch in todo) - good


def batches(counts: Iterable[Row], kinds: Sequence[str], most: int) -> list[Batch]:
    """Returns the batches of parts that lack results.

    Args:
        counts: From `jobs.scoring.decode_pass.counted`.
        kinds: The kinds of results.
        most: Images of a batch; a larger part is a batch of its own.
    """
    alike: dict[tuple[Any, ...], list[Row]] = {}
    for row in sorted(counts, key=lambda row: int(row["part"])):
        needed = tuple(kind for kind in kinds if row[lacks(kind)])
        is_uniform = all(row[lacks(kind)] == row["missing"] for kind in needed)
        alike.setdefault((needed, is_uniform, row["missing"] < row["images"]), []).append(row)
    return [
        Batch(
            tuple(int(row["part"]) for row in some),
            needed,
            sum(row["missing"] for row in some),
            sum(row["images"] - row["missing"] for row in some),
            is_uniform,
        )
        for (needed, is_uniform, _), rows in alike.items()
        for some in _cut(rows, most)
    ]


def _cut(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    some: list[Row] = []
    images = ids = 0
    for row in rows:
        # The ids that the batch broadcasts: see `_missing`.
        few = min(row["missing"], row["images"] - row["missing"])
        if some and (images + row["missing"] > most or ids + few > _BROADCAST_IDS):
            yield some
            some, images, ids = [], 0, 0
        some.append(row)
        images, ids = images + row["missing"], ids + few
    if some:
        yield some


def _images_of_a_batch(spark: SparkSession) -> int:
    return _IMAGES_PER_CORE * spark.sparkContext.defaultParallelism


def _is_partial(batch: Batch) -> bool:
    return bool(batch.done) or not batch.is_uniform


def _in_parts(todo: Iterable[Batch]) -> Column:
    return F.col("part").isin([part for batch in todo if _is_partial(batch) for part in batch.parts])


def _missing(
    images: DataFrame, kept: DataFrame | None, batch: Batch, kinds: Sequence[str]
) -> tuple[DataFrame, DataFrame | None]:
    """Returns the images of a batch that lack results, and what each lacks if not all lack the same.

    Broadcasts the smaller of the two sets of ids, those to take and those to leave out, so that no image is shuffled.
    """
    own = images.where(F.col("part").isin(list(batch.parts)))
    if kept is None or not _is_partial(batch):
        return own, None
    flags = kept.where(F.col("part").isin(list(batch.parts)))
    missing, done = flags.where(lacks_any(kinds)), flags.where(~lacks_any(kinds))
    if batch.done:
        few, how = (done, "left_anti") if batch.done < batch.missing else (missing, "left_semi")
        own = own.join(F.broadcast(few.select("image_id")), "image_id", how)
    return own, None if batch.is_uniform else missing


def _outputs(job: Job, models: PassModels) -> list[_Output]:
    lake, outputs = job.lake, []
    if models.encoder:
        outputs.append(_signals_output(lake, models.encoder.digest))
    if models.semantic:
        outputs.append(_features_output(lake, models.semantic.digest))
    if models.mirror:
        outputs.append(_mirrored_output(lake, models.mirror.digest))
    if models.classifiers:
        outputs.append(_scores_output(lake, [(one.category, one.digest) for one in models.classifiers]))
    return outputs


def _signals_output(lake: Lake, digest: str) -> _Output:
    has = lake.read(tables.SIGNALS).where(F.col("encoder") == digest).select("image_id")
    return _Output(
        tables.SIGNALS,
        {"signals": has},
        lambda results: results.where(lacks("signals")).select(*tables.SIGNALS.schema.names),
    )


def _features_output(lake: Lake, digest: str) -> _Output:
    has = lake.read(tables.FEATURES).where(F.col("encoder") == digest).select("image_id")
    return _Output(
        tables.FEATURES,
        {"features": has.unionByName(unembedded(lake.read(tables.QUARANTINE), digest))},
        _feature_rows,
    )


def _mirrored_output(lake: Lake, digest: str) -> _Output:
    has = lake.read(tables.MIRRORED).where(F.col("encoder") == digest).select("image_id")
    return _Output(tables.MIRRORED, {"mirrored": has}, _mirrored_rows)


def _mirrored_rows(results: DataFrame) -> DataFrame:
    hashed = results.where(F.col("mirror").isNotNull() & F.col(lacks("mirrored")))
    encoder, embedding = F.col("mirror").alias("encoder"), F.col("mirror_embedding").alias("embedding")
    hashes = F.col("mirror_pdq").alias("pdq"), F.col("mirror_hash").alias("embedding_hash")
    return hashed.select("image_id", encoder, hashes[0], embedding, hashes[1], "part")


def _feature_rows(results: DataFrame) -> DataFrame:
    embedded = results.where(F.col("features").isNotNull() & F.col(lacks("features")))
    return embedded.select("image_id", F.col("semantic").alias("encoder"), F.col("features").alias("embedding"), "part")


def _scores_output(lake: Lake, models: Sequence[tuple[str, str]]) -> _Output:
    """The output of the table scores, with a kind for each classifier: its place among the models.

    Args:
        lake: The lake.
        models: Category and digest of each.
    """
    key = ["image_id", "category", "model"]
    failed = unclassifiable(lake.read(tables.QUARANTINE), dict(models))
    tried = lake.read(tables.SCORES).select(*key).unionByName(failed.select(*key))
    present = {
        f"score_{place}": tried.where((F.col("category") == category) & (F.col("model") == model)).select("image_id")
        for place, (category, model) in enumerate(models)
    }
    return _Output(tables.SCORES, present, lambda results: _score_rows(results, models))


def _score_rows(results: DataFrame, models: Sequence[tuple[str, str]]) -> DataFrame:
    each = [
        F.struct(
            F.lit(category).alias("category"),
            F.lit(model).alias("model"),
            F.col("scores")[place].alias("score"),
            F.col(lacks(f"score_{place}")).alias("is_wanted"),
        )
        for place, (category, model) in enumerate(models)
    ]
    scores = results.select("image_id", "part", F.explode(F.array(*each)).alias("s")).select("image_id", "part", "s.*")
    return scores.where(F.col("is_wanted") & ~F.isnan("score")).drop("is_wanted")


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


def _only(scoring: Scoring, needed: Sequence[_Output]) -> Scoring:
    """Returns the decode pass for the needed tables."""
    made = [output.table for output in needed]
    return replace(
        scoring,
        encoder=scoring.encoder if tables.SIGNALS in made else None,
        semantic=scoring.semantic if tables.FEATURES in made else None,
        mirror=scoring.mirror if tables.MIRRORED in made else None,
        classifiers=scoring.classifiers if tables.SCORES in made else (),
    )


def _fine_tasks(lake: Lake) -> Lake:
    """Splits a small lake into more tasks than Spark would, so that no core is idle while others decode."""
    least = "spark.sql.files.minPartitionNum"
    tasks = _TASKS_PER_CORE * lake.spark.sparkContext.defaultParallelism
    return lake.within({least: lake.spark.conf.get(least, None) or str(tasks)})


def _stream(job: Job, work: _Work, recipe: Recipe) -> int:
    """Writes the results straight into the only table that lacks rows; returns the number of images with results.

    Only for a pass that quarantines: the others would make an empty commit if no image can be decoded.
    """
    (output,), lake = work.outputs, job.lake
    results = work.scored(work.images)
    good = _append(lake, output.table, output.rows(work.with_lacks(results.where(F.col("reason").isNull()))), recipe)
    if good == work.batch.missing:
        return good
    # They are few: decoding them again costs less than storing the results of all others.
    own = lake.read(output.table).where(F.col("part").isin(list(work.batch.parts)))
    ids = work.images.select("image_id").join(own.where(_is_by(work.models, output)), "image_id", "left_anti")
    broken = work.images.join(F.broadcast(ids), "image_id", "left_semi")
    with lake.scratch("score") as scratch:
        failed = scratch.keep(work.scored(broken))
        found = _Counts(*failed.agg(*outcome_counts()).collect()[0])
        counts = _checked(work, _Counts(good + found.faulty, found.bad, found.faulty))
        _require_useful_models(job, work, failed, counts)
        _quarantine(job, work, failed, recipe)
    return counts.good


def _is_by(models: PassModels, output: _Output) -> Column:
    """Returns whether a row of signals or features is by the current encoder."""
    encoder = models.encoder if output.table == tables.SIGNALS else models.semantic
    assert encoder is not None  # otherwise the table would be no output
    return F.col("encoder") == encoder.digest


def _split(job: Job, work: _Work, recipe: Recipe) -> int:
    """Keeps the results on disk and writes them to several tables; returns the number of images with results."""
    with job.lake.scratch("score") as scratch:
        results = scratch.keep(work.scored(work.images))
        counts = _checked(work, _Counts(*results.agg(*outcome_counts()).collect()[0]))
        if counts.bad or counts.faulty:
            _require_useful_models(job, work, results, counts)
        decoded = work.with_lacks(results.where(F.col("reason").isNull()))
        for output in work.outputs:
            rows = output.rows(decoded)
            if (expected := rows.count()) and (made := _append(job.lake, output.table, rows, recipe)) != expected:
                raise LostRowsError(
                    f"{expected} rows were to be added to {output.table.name}, but {made} were: restore its earlier "
                    "version, and report a bug if this happens again"
                )
        if not work.quarantines:
            return counts.good - counts.faulty
        if counts.bad or counts.faulty:
            _quarantine(job, work, results, recipe)
    return counts.good


def _append(lake: Lake, table: tables.Table, rows: DataFrame, recipe: Recipe) -> int:
    """Appends rows in large files; returns how many were committed."""
    lake.within(LARGE_FILES).append(table, rows, recipe)
    return lake.rows_written(table)


def _quarantine(job: Job, work: _Work, results: DataFrame, recipe: Recipe) -> None:
    """Writes the rows of images that cannot be decoded, and of images and models that failed on them."""
    models = work.models
    classifiers = [(one.category, one.digest) for one in models.classifiers]
    semantic = models.semantic.digest if models.semantic else None
    failed = failures(results, work.images).unionByName(model_failures(results, work.images, classifiers, semantic))
    rows = fresh(failed, job.lake.read(tables.QUARANTINE))
    if not rows.isEmpty():
        job.lake.append(tables.QUARANTINE, rows, recipe)


def _require_useful_models(job: Job, work: _Work, results: DataFrame, counts: _Counts) -> None:
    """Checks that each model has a result for an image of this batch or of an earlier one.

    Raises:
        ModelError: A model has none; the message names its category and file.
    """
    lake, models, settings = job.lake, work.models, job.settings
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


def _checked(work: _Work, counts: _Counts) -> _Counts:
    """Returns the numbers of images if they add up to the number of images of the batch."""
    images = work.batch.missing
    if counts.good + counts.bad != images:
        raise LostRowsError(
            f"{images} images were to be scored, but {counts.good} were and {counts.bad} could not be decoded: run "
            "`winnow score` again, and report a bug if this happens again"
        )
    return counts
