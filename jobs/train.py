"""`train`: the labels of a category and the stored embeddings become a head, an ONNX model beside the tables."""

import json
from dataclasses import asdict
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs import config, label, tables
from jobs.job import Job, Summary
from jobs.lake import Recipe
from jobs.score import HEAD, current_encoder
from models import runtime
from models.errors import WinnowError

RECIPE = "models/head-{}.json"

# Labels are trained on in one process. People make some hundreds or thousands; of an imported million a sample does.
_MOST_LABELS = 100_000


def run(job: Job, category: str) -> Summary:
    """Trains the head of a category, unless its labels, the encoder and the settings are what they were.

    Raises:
        WinnowError: The category is not in the settings or has a model of its own; labels of a class, or embeddings
            of labelled images, are missing; torch is not installed.
    """
    _check(job, category)
    job.lake.require(tables.LABELS)
    encoder = current_encoder(job).digest
    recipe = _recipe(job, category, encoder)
    before = _made_before(job, category)
    if recipe.makes_the_same(before) and before is not None:
        job.progress.note(f"train: the head of {category} is up to date")
        return dict(before.result)
    with job.progress.step(f"train: gather the labels of {category}"):
        embeddings, values = _examples(job, category, encoder)
    with job.progress.step(f"train: fit the head of {category}"):
        summary = _fit(job, category, encoder, embeddings, values)
    _keep_recipe(job, category, recipe, summary)
    return summary


def training_labels(labels: DataFrame, category: str) -> DataFrame:
    """What a category may be trained on: one label for each image that has no random label for it.

    Args:
        labels: Table labels.
        category: Whose labels.

    Returns:
        image_id, label boolean.
    """
    own = labels.where(F.col("category") == category)
    set_apart = own.where(F.col("origin") == "random").select("image_id")
    return label.resolved(own.join(set_apart, "image_id", "left_anti")).select("image_id", "label")


def training_set(labels: DataFrame, signals: DataFrame, encoder: str, seed: int) -> DataFrame:
    """Labels with the embeddings of their images, in an order that has nothing to do with either.

    Args:
        labels: image_id, label.
        signals: Table signals.
        encoder: Digest of the encoder whose embeddings are wanted.
        seed: Of the order.

    Returns:
        image_id, label, embedding (null where there is none), at most `_MOST_LABELS` rows.
    """
    embeddings = signals.where(F.col("encoder") == encoder).select("image_id", "embedding")
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    return labels.join(embeddings, "image_id", "left").orderBy(chance, "image_id").limit(_MOST_LABELS)


def _check(job: Job, category: str) -> None:
    known = job.settings.categories
    if category not in known:
        have = f"it has {', '.join(known)}" if known else "it has none"
        raise WinnowError(f"no category '{category}' in the settings, {have}: add [categories.{category}]")
    own = known[category].model
    if own is not None:
        raise WinnowError(
            f"{category} is scored by your own model {own.path}: remove categories.{category}.model to train"
        )


def _recipe(job: Job, category: str, encoder: str) -> Recipe:
    settings = {
        "category": category,
        "encoder": encoder,
        "seed": job.settings.seed,
        "train": config.fingerprint(job.settings.train),
    }
    # Not the table signals: an encoder gives an image one embedding, whenever it was stored.
    return Recipe("train", job.lake.inputs(tables.LABELS), settings)


def _made_before(job: Job, category: str) -> Recipe | None:
    names = HEAD.format(category), RECIPE.format(category)
    if not all(job.lake.has_file(name) for name in names):
        return None
    kept = json.loads(job.lake.read_file(names[1]))
    # A head that was put there by other means is not the one that this recipe made.
    made = kept["recipe"]["result"].get("model") == runtime.digest(job.lake.read_file(names[0]))
    return Recipe(**kept["recipe"]) if made else None


def _keep_recipe(job: Job, category: str, recipe: Recipe, summary: Summary) -> None:
    made = Recipe(recipe.command, recipe.inputs, recipe.settings, summary)
    kept = {"recipe": asdict(made), "trained_at": datetime.now(UTC).isoformat(timespec="seconds")}
    job.lake.write_file(RECIPE.format(category), json.dumps(kept, indent=1, sort_keys=True).encode())


def _examples(job: Job, category: str, encoder: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Embeddings of shape (n, dims) and labels of shape (n,), some of each."""
    labels = training_labels(job.lake.read(tables.LABELS), category)
    rows = training_set(labels, job.lake.read(tables.SIGNALS), encoder, job.settings.seed).toArrow()
    missing = rows["embedding"].null_count
    if missing:
        raise WinnowError(
            f"{missing} of {len(rows)} images labelled for {category} have no embedding of encoder {encoder}: "
            "run `winnow score` first"
        )
    values: NDArray[np.bool_] = rows["label"].to_numpy().astype(np.bool_)
    positives, negatives = int(values.sum()), int((~values).sum())
    if not positives or not negatives:
        raise WinnowError(
            f"{category} has {positives} positive and {negatives} negative labels to train on (random ones are kept "
            "for calibration) and needs both: `winnow label import` some of another origin"
        )
    if len(rows) == _MOST_LABELS:
        job.progress.note(f"train: {category} has many labels, a random {_MOST_LABELS:,} of them are used")
    numbers = rows["embedding"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return numbers.reshape(len(rows), -1).astype(np.float32), values


def _fit(job: Job, category: str, encoder: str, embeddings: NDArray[np.float32], values: NDArray[np.bool_]) -> Summary:
    try:
        from models.training import head
    except ImportError as error:
        raise WinnowError(
            f"training needs {error.name}, which is not installed: pip install 'winnow[train]'"
        ) from error
    wanted = job.settings.train
    options = head.Options(wanted.hidden, wanted.weight_decay, wanted.epochs, job.settings.seed)
    trained = head.train(head.Examples(embeddings, values), head.Basis(category, encoder), options)
    address = job.lake.write_file(HEAD.format(category), trained.model)
    counts = {"positives": int(values.sum()), "negatives": int((~values).sum())}
    return {**counts, **trained.metrics, "model": runtime.digest(trained.model), "file": address}
