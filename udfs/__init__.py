"""Vectorised kernels, and their pandas UDFs for the jobs and for your own Spark code.

`pdq(image)`, `classify(model)(image or embedding)`, `hamming(a, b)` and `minhash_bands(hash, bands, rows)` work in any
DataFrame and, if you register them with `spark.udf.register`, in SQL.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from udfs.hashes.hamming import hamming
    from udfs.hashes.minhash import minhash_bands
    from udfs.hashes.pdq import pdq
    from udfs.inference.classify import classify

__all__ = ["classify", "hamming", "minhash_bands", "pdq"]

_MODULES = {
    "classify": "udfs.inference.classify",
    "hamming": "udfs.hashes.hamming",
    "minhash_bands": "udfs.hashes.minhash",
    "pdq": "udfs.hashes.pdq",
}


def __getattr__(name: str) -> Any:
    # Each Python worker imports this package, and few of them need these modules.
    if name not in _MODULES:
        raise AttributeError(f"module 'udfs' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
