"""`train`: trains the head of a category on labels and stored embeddings, and writes it to the lake as ONNX."""

import itertools

from pyspark.sql import DataFrame

from jobs.job import Job, Summary
from jobs.labels import sets
from jobs.labels.embeddings import MOST_LABELS, LabelledEmbeddings, labelled_embeddings
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.models_in_use import HEAD, head_files, semantic_encoder
from jobs.prerequisites import require_labels
from jobs.runtime import config, training_extra
from jobs.scoring.features import ensure_features
from models.errors import WinnowError
from models.inference import onnx_session


def run(job: Job, category: str) -> Summary:
    """Trains the head of a category, unless its labels, the encoder and the settings are unchanged.

    Raises:
        WinnowError: The category is not in the settings, or has its own image model; there are no labels of one class;
            torch is not installed.
    """
    _check(job, category)
    require_labels(job, category)
    encoder = semantic_encoder(job)
    recipe = _recipe(job, category, encoder.digest)
    files = head_files(category)
    if (before := job.up_to_date(files.made_by(job.lake, recipe))) is not None:
        return before
    features = ensure_features(job, encoder, "train")
    with job.progress.step(f"train: gather the labels of {category}"):
        found = _examples(job, category, features)
    with job.progress.step(f"train: fit the head of {category}"):
        summary = _fit(job, category, encoder.digest, found)
    files.keep(job.lake, recipe.with_result(summary))
    return summary


def _check(job: Job, category: str) -> None:
    own = job.settings.category(category).model
    if own is not None:
        raise WinnowError(
            f"{category} is scored by your own model {own.path}: remove categories.{category}.model to train a head"
        )


def _recipe(job: Job, category: str, encoder: str) -> Recipe:
    settings = {
        "category": category,
        "encoder": encoder,
        "seed": job.settings.seed,
        "train": config.fingerprint(job.settings.train),
        "labels": config.fingerprint(job.settings.labels),
    }
    # Not the table features: the embedding of an image depends only on the encoder.
    return Recipe("train", job.lake.snapshot().inputs(tables.LABELS, tables.LABEL_QUEUE), settings)


def _examples(job: Job, category: str, features: DataFrame) -> LabelledEmbeddings:
    """Returns the labelled embeddings to train on; both classes have at least one."""
    sets.report_contradictions(job, job.lake.read(tables.LABELS), "train", category)
    found = labelled_embeddings(job, category, features)
    positives, negatives = int(found.labels.sum()), int((~found.labels).sum())
    if not positives or not negatives:
        raise WinnowError(
            f"{category} has {positives} positive and {negatives} negative labels to train on (random ones are kept "
            f"for calibration) and needs both: run `winnow label next {category} --strategy seed`, label the images, "
            "then train again"
        )
    if max(positives, negatives) == MOST_LABELS:
        job.progress.note(f"train: {category} has many labels: uses a random {MOST_LABELS:,} of a class")
    return found


def _fit(job: Job, category: str, encoder: str, found: LabelledEmbeddings) -> Summary:
    head = training_extra.module("head")
    settings = job.settings.train
    candidates = [
        head.HeadOptions(hidden, decay, settings.epochs, job.settings.seed)
        for hidden, decay in itertools.product(settings.hidden, settings.weight_decay)
    ]
    basis = head.Basis(category, encoder, found.digest)
    trained = head.train(head.Examples(found.embeddings, found.labels), basis, candidates)
    address = job.lake.write_file(HEAD.format(category), trained.model)
    counts = {"positives": int(found.labels.sum()), "negatives": int((~found.labels).sum())}
    chosen = {"hidden": trained.options.hidden, "weight decay": trained.options.weight_decay}
    return {**counts, **chosen, **trained.metrics, "model": onnx_session.digest(trained.model), "file": address}
