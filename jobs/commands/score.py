"""`score`: decodes each image once; writes its signals (hashes), features, and a score for each category."""

from collections.abc import Iterable, Mapping

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.image_files import LARGE_FILES
from jobs.lake.recipe import Recipe
from jobs.models_in_use import HEAD, compatible_heads, current_encoder, image_classifiers, semantic_encoder
from jobs.prerequisites import require_images
from jobs.runtime.wording import plural
from jobs.scoring.features import score_needs_features
from jobs.scoring.from_embeddings import classified, head_failures, unclassified, without_features
from jobs.scoring.gaps import unclassifiable, unembedded
from jobs.scoring.image_pass import PassModels, run_image_pass
from models.errors import ModelError
from models.inference.encoder import Encoder
from models.inference.head import Head
from udfs.inference.classify import head_results
from udfs.inference.model_files import distribute_model


def run(job: Job) -> Summary:
    """Scores all images that have no score yet, with the current encoders and classifiers.

    An image on which a classifier fails gets a row in the table quarantine instead of a score.

    Returns:
        Number of images scored, of images that could not be decoded, and of embeddings scored by heads.

    Raises:
        ModelError: A model does not match its description; nothing has been scored. Or it fails on all images.
        WinnowError: The lake holds no image.
    """
    job.lake.require_written(tables.IMAGES)
    semantic = semantic_encoder(job) if score_needs_features(job.settings) else None
    perceptual = current_encoder(job)
    mirror = perceptual if job.settings.dedup.mirrored else None
    models = PassModels(perceptual, semantic, image_classifiers(job), mirror)
    require_images(job.lake)
    heads = compatible_heads(job, semantic) if semantic else {}
    recipe = Recipe("score", settings={"encoder": perceptual.digest, "semantic": semantic.digest if semantic else None})
    images, faults = run_image_pass(job, models, recipe)
    embeddings = _score_embeddings(job, semantic, heads, recipe) if semantic else 0
    digests = {one.category: one.digest for one in models.classifiers}
    _warn_of_failures(job, digests | {category: head.digest for category, head in heads.items()})
    return {"images scored": images, "images not decodable": faults, "embeddings scored": embeddings}


def _score_embeddings(job: Job, encoder: Encoder, heads: Iterable[str], recipe: Recipe) -> int:
    """Scores the stored embeddings that have no score by the current head of a category; returns their number."""
    total, lost = 0, unembedded(job.lake.read(tables.QUARANTINE), encoder.digest)
    for category in heads:
        with job.progress.step(f"score: {category} from stored embeddings"):
            total += _score_by_head(job, encoder, category, lost, recipe)
    return total


def _score_by_head(job: Job, encoder: Encoder, category: str, lost: DataFrame, recipe: Recipe) -> int:
    """Writes the scores of one head, and the quarantine rows of images without one; returns the number of scores."""
    lake, data = job.lake, job.lake.read_file(HEAD.format(category))
    head = Head.load(data, encoder.digest, encoder.dims)  # it may have been trained again since the pass began
    tried = _tried(job, category, head.digest)
    features = lake.read(tables.FEATURES).where(F.col("encoder") == encoder.digest)
    result = head_results(distribute_model(lake.spark, data))(F.col("embedding"))
    with lake.scratch("score") as scratch:
        results = scratch.keep(classified(unclassified(features, tried), category, head.digest, result))
        rows, good = results.agg(F.count("*"), F.count("score")).collect()[0]
        if rows and not good:
            _require_earlier_score(job, category, head.digest, results)
        if good:
            lake.within(LARGE_FILES).append(tables.SCORES, results.where(F.col("score").isNotNull()), recipe)
        without = results.unionByName(without_features(lost, tried, category, head.digest))
        faults = head_failures(without, lake.read(tables.IMAGES))
        if not faults.isEmpty():
            lake.append(tables.QUARANTINE, faults, recipe)
    return int(good)


def _tried(job: Job, category: str, model: str) -> DataFrame:
    """Returns image_id of the images that have a score by a model, or on which it failed."""
    scored = _scores_by(job, category, model).select("image_id")
    failed = unclassifiable(job.lake.read(tables.QUARANTINE), {category: model})
    return scored.unionByName(failed.select("image_id"))


def _scores_by(job: Job, category: str, model: str) -> DataFrame:
    return job.lake.read(tables.SCORES).where((F.col("category") == category) & (F.col("model") == model))


def _require_earlier_score(job: Job, category: str, model: str, results: DataFrame) -> None:
    if _scores_by(job, category, model).isEmpty():
        fault = results.first()
        raise ModelError(
            f"the head of {category}, {job.lake.path(HEAD.format(category))}, has no score for any image "
            f"({fault.reason if fault else ''}): run `winnow train {category}` again"
        )


def _warn_of_failures(job: Job, models: Mapping[str, str]) -> None:
    """Warns of the images that have no score, because a classifier failed on them."""
    failed = unclassifiable(job.lake.read(tables.QUARANTINE), models)
    counts = failed.groupBy("category", "reason").count().orderBy("category", "reason").collect()
    for category in dict.fromkeys(row["category"] for row in counts):
        why = ", ".join(f"{row['reason']}: {row['count']:,}" for row in counts if row["category"] == category)
        images = plural(sum(row["count"] for row in counts if row["category"] == category), "image")
        job.progress.warn(
            f"score: {category} has no score for {images} ({why}), which `filter` therefore removes: see the table "
            "quarantine"
        )
