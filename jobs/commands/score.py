"""`score`: decodes each image once; writes its signals (hashes), features, and a score for each category."""

from collections.abc import Iterable

from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import HEAD, compatible_heads, current_encoder, image_classifiers, semantic_encoder
from jobs.prerequisites import require_images
from jobs.scoring.features import score_needs_features
from jobs.scoring.from_embeddings import classified, unclassified
from jobs.scoring.image_pass import PassModels, run_image_pass
from models.inference.encoder import Encoder
from models.inference.head import Head
from udfs.inference.classify import head_scores
from udfs.inference.model_files import distribute_model


def run(job: Job) -> Summary:
    """Scores all images that have no score yet, with the current encoders and classifiers.

    Returns:
        Number of images scored, of images that could not be decoded, and of embeddings scored by heads.

    Raises:
        ModelError: A model does not match its description; nothing has been scored.
        WinnowError: The lake holds no image.
    """
    job.lake.require(tables.IMAGES)
    require_images(job.lake)
    semantic = semantic_encoder(job) if score_needs_features(job.settings) else None
    perceptual = current_encoder(job)
    models = PassModels(perceptual, semantic, image_classifiers(job))
    heads = compatible_heads(job, semantic) if semantic else {}
    recipe = Recipe("score", settings={"encoder": perceptual.digest, "semantic": semantic.digest if semantic else None})
    images, faults = run_image_pass(job, models, recipe)
    embeddings = _score_embeddings(job, semantic, heads, recipe) if semantic else 0
    return {"images scored": images, "images not decodable": faults, "embeddings scored": embeddings}


def _score_embeddings(job: Job, encoder: Encoder, heads: Iterable[str], recipe: Recipe) -> int:
    """Scores the stored embeddings that have no score by the current head of a category; returns their number."""
    total = 0
    for category in heads:
        with job.progress.step(f"score: {category} from stored embeddings"):
            features = job.lake.read(tables.FEATURES).where(F.col("encoder") == encoder.digest)
            data = job.lake.read_file(HEAD.format(category))
            head = Head.load(data, encoder.digest, encoder.dims)  # it may have been trained again since the pass began
            name = distribute_model(job.lake.spark, data)
            todo = unclassified(features, job.lake.read(tables.SCORES), category, head.digest)
            count = todo.count()
            if count:
                score = head_scores(name)(F.col("embedding"))
                job.lake.append(tables.SCORES, classified(todo, category, head.digest, score), recipe)
            total += count
    return total
