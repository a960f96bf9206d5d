"""Vectorised kernels, and their pandas UDFs for the jobs and for your own Spark code.

`pdq(image)`, `classify(model)(image or embedding)`, `hamming(a, b)` and `minhash_bands(hash, bands, rows)` work in any
DataFrame and, if you register them with `spark.udf.register`, in SQL.
"""

from udfs.hashes.hamming import hamming
from udfs.hashes.minhash import minhash_bands
from udfs.hashes.pdq import pdq
from udfs.inference.classify import classify

__all__ = ["classify", "hamming", "minhash_bands", "pdq"]
