"""Vectorised kernels, and their pandas UDFs for the jobs and for a user's own Spark code.

`pdq(image)`, `classify(model)(image or embedding)`, `hamming(a, b)` and `minhash_bands(hash, bands, rows)` work in any
DataFrame or, registered with `spark.udf.register`, in SQL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udfs.classify import classify
    from udfs.hamming import hamming
    from udfs.hashes import pdq
    from udfs.minhash import minhash_bands

__all__ = ["classify", "hamming", "minhash_bands", "pdq"]

_HOMES = {"classify": "udfs.classify", "hamming": "udfs.hamming", "minhash_bands": "udfs.minhash", "pdq": "udfs.hashes"}


def __getattr__(name: str) -> Any:
    """Imports a public UDF when it is asked for: a Spark worker that only counts bits needs no ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'udfs' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
