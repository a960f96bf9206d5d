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

# Labels are trained on in one process. People make some hundreds or thousands; of an imported million a sample does.
MOST_LABELS = 100_000


@dataclass(frozen=True, eq=False)
class LabelledEmbeddings:
    """Labels with the embeddings of their images.

    Attributes:
        image_ids: n of them.
        embeddings: float32 of shape (n, dims).
        labels: bool of shape (n,).
        newest: When the newest of the labels was given, UTC; None where none has a time.
    """

    image_ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    labels: NDArray[np.bool_]
    newest: datetime | None

    @property
    def digest(self) -> str:
        """Names the set of labels: the same images with the same labels, in whatever order, give the same name."""
        lines = sorted(f"{name} {value}" for name, value in zip(self.image_ids, self.labels.tolist(), strict=True))
        return onnx_session.digest("\n".join(lines).encode())


def training_set(labels: DataFrame, signals: DataFrame, encoder: str, seed: int) -> DataFrame:
    """Labels with the embeddings of their images, in an order that has nothing to do with either.

    Args:
        labels: image_id, label, labelled_at.
        signals: Table signals.
        encoder: Digest of the encoder whose embeddings are wanted.
        seed: Of the order.

    Returns:
        image_id, label, labelled_at, embedding (null where there is none), at most `MOST_LABELS` rows.
    """
    embeddings = signals.where(F.col("encoder") == encoder).select("image_id", "embedding")
    chance = F.xxhash64(F.lit(seed), F.col("image_id"))
    return labels.join(embeddings, "image_id", "left").orderBy(chance, "image_id").limit(MOST_LABELS)


def labelled_embeddings(job: Job, category: str, encoder: str, command: str = "train") -> LabelledEmbeddings:
    """What a category may be trained on, with the embeddings of its images.

    Labels of images that the lake does not know or cannot decode are reported and do not count.

    Args:
        job: The command at work.
        category: Whose labels.
        encoder: Digest of the encoder whose embeddings are wanted.
        command: Its name, for messages.

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
