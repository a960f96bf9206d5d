"""Distributes model files to the workers. The file name is the digest, so files with the same name do not clash."""

import tempfile
from functools import cache
from pathlib import Path

from pyspark.sql import SparkSession

from models.inference.onnx_session import digest


@cache
def _folder() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="winnow-models-")


def distribute_model(spark: SparkSession, model: bytes) -> str:
    """Distributes a model to every worker.

    Args:
        spark: The session whose workers need it.
        model: The ONNX file's bytes.

    Returns:
        The file name for `SparkFiles.get` on the workers.
    """
    path = Path(_folder().name) / f"{digest(model)}.onnx"
    if not path.exists():
        path.write_bytes(model)
    if str(path) not in spark.sparkContext.listFiles:
        spark.sparkContext.addFile(str(path))
    return path.name
