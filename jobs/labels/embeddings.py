"""Labels with the embeddings of their images."""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.labels import sets
from jobs.lake import tables
from models.errors import WinnowError
from models.inference import onnx_session
from udfs.arrays.arrow import matrix

# Training runs in one process. People make hundreds or thousands of labels; of an imported million, a sample is enough.
MOST_LABELS = 100_000


@dataclass(frozen=True, eq=False)
class LabelledEmbeddings:
    """Labels with the embeddings of their images.

    Attributes:
        image_ids: Ids of n images.
        embeddings: float32 of shape (n, dims).
        labels: bool of shape (n,).
        newest: Time of the newest label, UTC; None if no label has a time.
    """

    image_ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    labels: NDArray[np.bool_]
    newest: datetime | None

    @property
    def digest(self) -> str:
        """Digest of the images and their labels; it does not depend on their order."""
        lines = sorted(f"{name} {value}" for name, value in zip(self.image_ids, self.labels.tolist(), strict=True))
        return onnx_session.digest("\n".join(lines).encode())


def training_set(labels: DataFrame, signals: DataFrame, encoder: str, seed: int) -> DataFrame:
    """Joins labels with the embeddings of their images, in a random order.

    Args:
        labels: image_id, label, labelled_at.
        signals: Table signals.
        encoder: Digest of the encoder of the embeddings.
        seed: Seed of the order.

    Returns:
        image_id, label, labelled_at, embedding (null if there is none), at most `MOST_LABELS` rows.
    """
    embeddings = signals.where(F.col("encoder") == encoder).select("image_id", "embedding")
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    return labels.join(embeddings, "image_id", "left").orderBy(chance, "image_id").limit(MOST_LABELS)


def labelled_embeddings(job: Job, category: str, encoder: str, command: str = "train") -> LabelledEmbeddings:
    """Returns the labels that a category may be trained on, with the embeddings of their images.

    Labels of images that are not in the lake or cannot be decoded are reported and ignored.

    Args:
        job: The running command.
        category: Name of the category.
        encoder: Digest of the encoder of the embeddings.
        command: Name of the command, for messages.

    Raises:
        WinnowError: Labelled images have no embedding yet.
    """
    everything, by = job.lake.read(tables.LABELS), job.settings.labels.contradictions
    labels = sets.training_labels(everything, job.lake.read(tables.LABEL_QUEUE), category, by)
    rows = training_set(labels, job.lake.read(tables.SIGNALS), encoder, job.settings.seed).toArrow()
    if rows["embedding"].null_count:
        aside = sets.report_unusable(job, labels, command, category)
        rows = rows.filter(pa.array([image_id not in aside for image_id in rows["image_id"].to_pylist()], pa.bool_()))
    missing = rows["embedding"].null_count
    if missing:
        raise WinnowError(
            f"{missing} of {len(rows)} images labelled for {category} have no embedding of encoder {encoder}: "
            "run `winnow score` first"
        )
    times = [time for time in rows["labelled_at"].to_pylist() if time is not None]
    return LabelledEmbeddings(
        tuple(rows["image_id"].to_pylist()),
        matrix(rows["embedding"]),
        rows["label"].to_numpy().astype(np.bool_),
        max(times, default=None),
    )
