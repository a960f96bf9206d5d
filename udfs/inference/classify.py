"""pandas UDFs of classifiers, for images and for stored embeddings."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark import SparkFiles
from pyspark.sql import Column, SparkSession
from pyspark.sql.functions import pandas_udf
from pyspark.sql.types import FloatType

from models.images import decoding
from models.images.resizing import thumbnail_of_file
from models.inference import classifier, onnx_session
from models.inference.classifier import ImageModel
from models.inference.head import Head
from udfs.hashes.pdq import PDQ_SIDE
from udfs.inference.model_files import distribute_model

ScoreUdf = Callable[[Column], Column]


def classify(model: ImageModel | str, batch: int = 32, threads: int = 1) -> ScoreUdf:
    """Returns a pandas UDF that scores a column with an ONNX classifier.

    This reads, checks and distributes the model immediately, so that a wrong model fails here and not in a task.

    Args:
        model: The description of an image classifier, or the path of a head that reads embeddings.
        batch: Rows in one inference.
        threads: ONNX Runtime threads for each worker.

    Returns:
        A function from a column (binary images, or array<float> embeddings for a head) to a float column in [0, 1];
        null if an image is null, cannot be decoded or has more than `decoding.MAX_MEGAPIXELS`.

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
    """Returns a pandas UDF from embeddings to scores, for a head that `distribute_model` distributed as `file`."""

    @pandas_udf(FloatType())
    def score(embeddings: Iterator[pd.Series]) -> Iterator[pd.Series]:
        head = Head.open(SparkFiles.get(file))
        for column in embeddings:
            rows = np.stack(list(column)) if len(column) else np.zeros((0, head.dims), np.float32)
            yield pd.Series(head.score(rows.astype(np.float32)), index=column.index)

    return score


def _image_scores(model: ImageModel, batch: int, threads: int) -> ScoreUdf:
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
            yield pd.Series(result, index=cells.index).where(good, None)

    return score


def _pixels(data: bytes | None, model: ImageModel) -> NDArray[np.uint8] | None:
    try:
        # Decode as the scoring pass does, so that both give the same score.
        file = decoding.Decoder(bytes(data or b""), decoding.MAX_MEGAPIXELS)
        return thumbnail_of_file(file, model.view, PDQ_SIDE)
    except decoding.ImageFault:
        return None
