"""Vectorised kernels, and their pandas UDFs for the jobs and for a user's own Spark code.

`pdq(image)`, `classify(model)(image or embedding)`, `hamming(a, b)` and `minhash_bands(hash, bands, rows)` work in any
DataFrame or, registered with `spark.udf.register`, in SQL.
"""

from udfs.classify import classify
from udfs.hamming import hamming
from udfs.hashes import pdq
from udfs.minhash import minhash_bands

__all__ = ["classify", "hamming", "minhash_bands", "pdq"]
