"""pandas UDFs of classifiers, for images and for stored embeddings."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pyspark import SparkFiles
from pyspark.sql import Column, SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import FloatType, StringType, StructField, StructType

from models.images import decoding
from models.images.resizing import thumbnail_of_file
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from models.inference.head import Head
from udfs.hashes.pdq import PDQ_SIDE
from udfs.inference.model_files import distribute_model

if TYPE_CHECKING:
    import pandas as pd

ScoreUdf = Callable[[Column], Column]

_TRIED = StructType(
    [StructField("score", FloatType()), StructField("reason", StringType()), StructField("detail", StringType())]
)


def classify(model: ImageModel | str, batch: int = 32, threads: int = 1) -> ScoreUdf:
    """Returns a pandas UDF that scores a column with an ONNX classifier.

    This reads, checks and distributes the model immediately, so that a wrong model fails here and not in a task.

    Args:
        model: The description of an image classifier, or the path of a head that reads embeddings.
        batch: Rows in one inference.
        threads: ONNX Runtime threads for each worker.

    Returns:
        A function from a column (binary images, or array<float> embeddings for a head) to a float column in [0, 1];
        null if an image is null, cannot be decoded or has more than `decoding.MAX_MEGAPIXELS`, or if the model fails on
        it or returns no number between 0 and 1.

    Raises:
        ModelError: The file does not fit its description.

    Examples:
        `lake.read(IMAGES).select("image_id", classify(ImageModel("nsfw.onnx", (224, 224)))("image").alias("score"))`
    """
    spark = SparkSession.active()
    if isinstance(model, str):
        Head.open(model)
        return head_scores(distribute_model(spark, onnx_session.read(model)))
    data = onnx_session.read(model.path)
    classifier.check(data, model, threads)
    return _image_scores(replace(model, path=distribute_model(spark, data)), batch, threads)


def head_scores(file: str) -> ScoreUdf:
    """Returns a pandas UDF from embeddings to scores, for a head that `distribute_model` distributed as `file`.

    The score is null if the head has none for the embedding.
    """

    def score(embedding: Column) -> Column:
        return head_results(file)(embedding)["score"]

    return score


def head_results(file: str) -> ScoreUdf:
    """Returns a pandas UDF from embeddings to a structure: score (null without one), reason and detail (null with one).

    Args:
        file: The file name that `distribute_model` returned for the head.
    """
    import pandas as pd

    @pandas_udf(_TRIED)
    def results(embeddings: Iterator[pd.Series]) -> Iterator[pd.DataFrame]:
        head = Head.open(SparkFiles.get(file))
        for column in embeddings:
            rows = np.stack(list(column)) if len(column) else np.zeros((0, head.dims), np.float32)
            found = head.score_each(rows.astype(np.float32))
            faults = [found.faults.get((row, 0)) for row in range(len(column))]
            yield pd.DataFrame(
                {
                    "score": _without_nan(found.scores[:, 0]),
                    "reason": [fault.reason if fault else None for fault in faults],
                    "detail": [fault.detail if fault else None for fault in faults],
                }
            )

    return results


def _image_scores(model: ImageModel, batch: int, threads: int) -> ScoreUdf:
    import pandas as pd

    @pandas_udf(FloatType())
    def score(column: Iterator[pd.Series]) -> Iterator[pd.Series]:
        session = onnx_session.session_of_file(SparkFiles.get(model.path), threads, onnx_session.CPU)
        for cells in column:
            pixels = [_pixels(data, model) for data in cells]
            good = np.array([p is not None for p in pixels], dtype=bool)
            result = np.full(len(cells), np.nan, dtype=np.float32)
            if good.any():
                stacked = np.stack([p for p in pixels if p is not None])
                result[good] = classifier.classify_thumbnails(session, stacked, model, batch)
            yield _without_nan(result)

    return score


def _without_nan(scores: NDArray[np.float32]) -> "pd.Series[float]":
    """Returns scores with null instead of NaN."""
    import pandas as pd

    return pd.Series(scores).where(~np.isnan(scores), None)


def _pixels(data: bytes | None, model: ImageModel) -> NDArray[np.uint8] | None:
    try:
        # Decode as the scoring pass does, so that both give the same score.
        file = decoding.Decoder(bytes(data or b""), decoding.MAX_MEGAPIXELS)
        return thumbnail_of_file(file, model.view, PDQ_SIDE)
    except decoding.ImageFault:
        return None
