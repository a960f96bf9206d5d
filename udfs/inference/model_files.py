"""Model files distributed to the workers, under the name of their digest: two files of one name do not meet."""

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
        The name under which `SparkFiles.get` finds it there.
    """
    path = Path(_folder().name) / f"{digest(model)}.onnx"
    if not path.exists():
        path.write_bytes(model)
    if str(path) not in spark.sparkContext.listFiles:
        spark.sparkContext.addFile(str(path))
    return path.name
