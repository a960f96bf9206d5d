"""Labels with the embeddings of their images."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import sets
from jobs.lake import tables
from models.inference import onnx_session
from udfs.arrays.arrow import matrix

MOST_LABELS = 50_000
"""Most labels of a class to train on, in one process. People make fewer; of an imported million, a sample is enough."""

_NAMED = 3


@dataclass(frozen=True, eq=False)
class LabelledEmbeddings:
    """Labels with the embeddings of their images.

    Attributes:
        image_ids: Ids of n images.
        embeddings: float32 of shape (n, dims).
        labels: bool of shape (n,).
    """

    image_ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    labels: NDArray[np.bool_]

    @property
    def digest(self) -> str:
        """Digest of the images and their labels; it does not depend on their order."""
        lines = sorted(f"{name} {value}" for name, value in zip(self.image_ids, self.labels.tolist(), strict=True))
        return onnx_session.digest("\n".join(lines).encode())


def training_set(labels: DataFrame, features: DataFrame, seed: int) -> DataFrame:
    """Joins labels with the embeddings of their images, in a random order.

    Args:
        labels: image_id, label.
        features: image_id, embedding.
        seed: Seed of the order.

    Returns:
        image_id, label, embedding (null if there is none): each image once, and at most `MOST_LABELS` of each class,
        since a random part of both together may hold no positive.
    """
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    place = F.row_number().over(Window.partitionBy("label").orderBy(chance, "image_id"))
    chosen = labels.select("image_id", "label", place.alias("place")).where(F.col("place") <= MOST_LABELS).drop("place")
    # A broadcast of the ids avoids a shuffle of all embeddings. An image may have its features twice.
    own = features.join(F.broadcast(chosen.select("image_id")), "image_id", "left_semi").dropDuplicates(["image_id"])
    return chosen.join(own, "image_id", "left").orderBy(chance, "image_id")


def labelled_embeddings(job: Job, category: str, features: DataFrame, command: str = "train") -> LabelledEmbeddings:
    """Returns the labels that a category may be trained on, with the embeddings of their images.

    Labels of images that are not in the lake, cannot be decoded or have no features are reported and ignored.

    Args:
        job: The running command.
        category: Name of the category.
        features: image_id, embedding: what `ensure_features` returns.
        command: Name of the command, for messages.
    """
    everything, by = job.lake.read(tables.LABELS), job.settings.labels.contradictions
    labels = sets.training_labels(everything, job.lake.read(tables.LABEL_QUEUE), category, by)
    rows = training_set(labels, features, job.settings.seed).toArrow()
    if rows["embedding"].null_count:
        without = labels.join(features.select("image_id"), "image_id", "left_anti")
        known = sets.report_unusable(job, without, command, category)
        _report_without_features(job, rows, known, command, category)
        rows = rows.filter(rows["embedding"].is_valid())
    return LabelledEmbeddings(
        tuple(rows["image_id"].to_pylist()), matrix(rows["embedding"]), rows["label"].to_numpy().astype(np.bool_)
    )


def _report_without_features(job: Job, rows: pa.Table, known: set[str], command: str, category: str) -> None:
    """Warns about labelled images without an embedding, other than those in `known`."""
    ids = rows.filter(rows["embedding"].is_null())["image_id"].to_pylist()
    if others := sorted(set(ids) - known):
        some = ", ".join(others[:_NAMED])
        what = f"{len(others)} labels for {category}, whose images have no features"
        job.progress.warn(f"{command}: ignored {what}: {some}")
