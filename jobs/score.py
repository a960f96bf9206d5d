"""`score`: one decode for each image gives signals (hashes, embedding) and a score for each category."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs import model_files, tables
from jobs.config import ScoreSettings
from jobs.job import Job, Summary
from jobs.lake import Recipe
from models import classifier, encoder, runtime
from models.classifier import ImageModel
from models.encoder import Encoder
from models.errors import WinnowError
from models.head import Head
from udfs.classify import head_scores
from udfs.scoring import SCORED, Scoring

HEAD = "models/head-{}.onnx"


@dataclass(frozen=True)
class ImageClassifier:
    """A category's own image model: its description, bytes and digest."""

    category: str
    model: ImageModel
    data: bytes

    @property
    def digest(self) -> str:
        """The name by which tables know it."""
        return runtime.digest(self.data)


def run(job: Job) -> Summary:
    """Scores what is not scored yet, with the encoder and classifiers of the settings.

    Raises:
        ModelError: A model does not fit its description; nothing has been scored.
    """
    job.lake.require(tables.IMAGES)
    current = current_encoder(job)
    classifiers = image_classifiers(job)
    heads = category_heads(job, current)
    recipe = Recipe("score", settings={"encoder": current.digest})
    images, faults = _score_images(job, current, classifiers, recipe)
    scored = _score_embeddings(job, current, heads, recipe)
    return {"images scored": images, "images not decodable": faults, "embeddings scored": scored}


# Models -------------------------------------------------------------------------------------------------------------


def encoder_file(job: Job) -> bytes:
    """The ONNX file of the encoder that the settings name."""
    choice = job.settings.encoder.model
    if choice == "auto":
        fitted = job.lake.has_file(encoder.FITTED)
        return job.lake.read_file(encoder.FITTED) if fitted else encoder.shipped()
    return encoder.shipped() if choice == "shipped" else model_files.read(choice)


def current_encoder(job: Job) -> Encoder:
    """The encoder that the settings name, loaded and checked.

    Raises:
        ModelError: It is no encoder.
    """
    score = job.settings.score
    return Encoder.load(encoder_file(job), score.threads, tuple(score.providers), score.batch)


def image_classifiers(job: Job) -> list[ImageClassifier]:
    """The categories' own image models, each checked with one picture.

    Raises:
        ModelError: A file is missing or is not what the settings say.
    """
    found = []
    for category, settings in job.settings.categories.items():
        if settings.model is not None:
            data = model_files.read(settings.model.path)
            session = runtime.start(data, job.settings.score.threads, job.settings.score.providers)
            classifier.check(session, settings.model)
            found.append(ImageClassifier(category, settings.model, data))
    return found


def category_heads(job: Job, current: Encoder) -> dict[str, Head]:
    """The trained heads of the categories that have one, checked against the encoder."""
    heads = {}
    for category, settings in job.settings.categories.items():
        if settings.model is None and job.lake.has_file(HEAD.format(category)):
            heads[category] = Head.load(job.lake.read_file(HEAD.format(category)), current.digest, current.dims)
    return heads


def current_models(job: Job) -> dict[str, str]:
    """The digest of each category's classifier.

    Raises:
        WinnowError: A category has neither an image model nor a trained head.
    """
    digests = {found.category: found.digest for found in image_classifiers(job)}
    digests |= {category: head.digest for category, head in category_heads(job, current_encoder(job)).items()}
    untrained = sorted(set(job.settings.categories) - set(digests))
    if untrained:
        what = ", ".join(untrained)
        raise WinnowError(f"no classifier for {what}: import labels and run `winnow train`, or set its model")
    return digests


# Images -------------------------------------------------------------------------------------------------------------


def _score_images(job: Job, current: Encoder, classifiers: list[ImageClassifier], recipe: Recipe) -> tuple[int, int]:
    """Decodes and scores part by part, so that a killed run loses one part at most."""
    digests = {found.category: found.digest for found in classifiers}
    with job.progress.step("score: look for what is missing"):
        images, signals, scores = (job.lake.read(t) for t in (tables.IMAGES, tables.SIGNALS, tables.SCORES))
        todo = unscored(images, signals, scores, current.digest, digests)
        counts = {row.part: row for row in missing_by_part(images, todo).collect()}
    scoring = _scoring(job.lake.spark, job.settings.score, current, classifiers, encoder_file(job))
    done = faults = 0
    for number, part in enumerate(sorted(p for p in counts if counts[p].missing), 1):
        rows = images.where(F.col("part") == part)
        if counts[part].missing < counts[part].images:
            # Ids of one part at most: bounded by the size of a part, never by the size of the lake.
            rows = rows.join(F.broadcast(todo.where(F.col("part") == part).select("image_id")), "image_id", "left_semi")
        with job.progress.step(f"score: part {number} of {sum(bool(c.missing) for c in counts.values())}"):
            good, bad = _score_part(job, rows, scoring, digests, recipe)
        done, faults = done + good, faults + bad
    return done, faults


def _scoring(
    spark: SparkSession, settings: ScoreSettings, current: Encoder, found: list[ImageClassifier], encoder_data: bytes
) -> Scoring:
    shipped = tuple(replace(c.model, path=model_files.ship(spark, c.data)) for c in found)
    name = model_files.ship(spark, encoder_data)
    return Scoring(name, shipped, settings.batch, settings.threads, tuple(settings.providers))


def _score_part(
    job: Job, images: DataFrame, scoring: Scoring, digests: Mapping[str, str], recipe: Recipe
) -> tuple[int, int]:
    lake = job.lake
    results = scored(images, scoring).persist(StorageLevel.DISK_ONLY)
    try:
        good, bad = results.agg(F.count_if(F.col("reason").isNull()), F.count("reason")).collect()[0]
        # Without image classifiers an image is only here because it has no signal.
        known = lake.read(tables.SIGNALS) if digests else None
        fresh = results.join(known, ["image_id", "encoder"], "left_anti") if known is not None else results
        lake.append(tables.SIGNALS, fresh.where(F.col("reason").isNull()), recipe)
        if digests:
            lake.append(tables.SCORES, _new_scores(results, lake.read(tables.SCORES), digests), recipe)
        if bad:
            lake.append(tables.QUARANTINE, failures(results, images), recipe)
    finally:
        results.unpersist()
    return int(good), int(bad)


def unscored(
    images: DataFrame, signals: DataFrame, scores: DataFrame, encoder_digest: str, digests: Mapping[str, str]
) -> DataFrame:
    """Images that lack a signal of the encoder or a score of an image classifier.

    Args:
        images: Table images.
        signals: Table signals.
        scores: Table scores.
        encoder_digest: The current encoder.
        digests: Digest of each category's image classifier.

    Returns:
        image_id, part.
    """
    done = signals.where(F.col("encoder") == encoder_digest).select("image_id")
    for category, model in digests.items():
        has = (F.col("category") == category) & (F.col("model") == model)
        done = done.join(scores.where(has).select("image_id"), "image_id", "left_semi")
    return images.select("image_id", "part").join(done, "image_id", "left_anti")


def missing_by_part(images: DataFrame, todo: DataFrame) -> DataFrame:
    """part, images, missing: how many images each part holds and how many of them are to be scored."""
    present = images.groupBy("part").agg(F.count("*").alias("images"))
    missing = todo.groupBy("part").agg(F.count("*").alias("missing"))
    return present.join(missing, "part", "left").na.fill(0, ["missing"])


def scored(images: DataFrame, scoring: Scoring) -> DataFrame:
    """Images decoded, hashed, embedded and classified.

    Args:
        images: image_id, image.
        scoring: What to run.

    Returns:
        The columns of `udfs.scoring.SCORED`.
    """
    return images.select("image_id", "image").mapInArrow(scoring, SCORED)


def failures(results: DataFrame, images: DataFrame) -> DataFrame:
    """A quarantine row for each image that could not be decoded after all."""
    failed = results.where(F.col("reason").isNotNull()).select("image_id", "reason", "detail")
    named = images.select("image_id", "source", "key").join(F.broadcast(failed), "image_id")
    return named.select("source", "key", F.lit("score").alias("stage"), "reason", "detail")


def _new_scores(results: DataFrame, scores: DataFrame, digests: Mapping[str, str]) -> DataFrame:
    each = [
        F.struct(F.lit(category).alias("category"), F.lit(model).alias("model"), F.col("scores")[place].alias("score"))
        for place, (category, model) in enumerate(digests.items())
    ]
    good = results.where(F.col("reason").isNull())
    rows = good.select("image_id", F.explode(F.array(*each)).alias("s")).select("image_id", "s.*")
    return rows.join(scores, ["image_id", "category", "model"], "left_anti")


# Embeddings ---------------------------------------------------------------------------------------------------------


def _score_embeddings(job: Job, current: Encoder, heads: Mapping[str, Head], recipe: Recipe) -> int:
    total = 0
    for category, head in heads.items():
        with job.progress.step(f"score: {category} from stored embeddings"):
            signals = job.lake.read(tables.SIGNALS).where(F.col("encoder") == current.digest)
            name = model_files.ship(job.lake.spark, job.lake.read_file(HEAD.format(category)))
            todo = unclassified(signals, job.lake.read(tables.SCORES), category, head.digest)
            count = todo.count()
            if count:
                score = head_scores(name)(F.col("embedding"))
                job.lake.append(tables.SCORES, classified(todo, category, head.digest, score), recipe)
            total += count
    return total


def unclassified(signals: DataFrame, scores: DataFrame, category: str, model: str) -> DataFrame:
    """Signals without a score of a category's present model: image_id, embedding."""
    has = (F.col("category") == category) & (F.col("model") == model)
    return signals.select("image_id", "embedding").join(scores.where(has).select("image_id"), "image_id", "left_anti")


def classified(signals: DataFrame, category: str, model: str, score: Column) -> DataFrame:
    """Rows of the table scores: image_id, category, model, score."""
    return signals.select(
        "image_id", F.lit(category).alias("category"), F.lit(model).alias("model"), score.alias("score")
    )
