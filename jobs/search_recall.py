"""The recall of the duplicate search, measured: a sample of hashes compared with every hash, against what was found."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from scipy import stats

from udfs.hamming import HASH_BYTES, distances, words

_NEIGHBOURS = T.StructType(
    [
        T.StructField("sampled", T.BinaryType()),
        T.StructField("other", T.BinaryType()),
        T.StructField("distance", T.IntegerType()),
    ]
)
_NEIGHBOURS_ARROW = pa.schema([("sampled", pa.binary()), ("other", pa.binary()), ("distance", pa.int32())])
_BLOCK = 4096


@dataclass(frozen=True)
class SearchRecall:
    """What the exhaustive search of a sample says.

    Attributes:
        sampled: Hashes that were compared with all others.
        exhaustive: Pairs within the threshold that this found.
        found: How many of them the search under test had found.
        recall: found / exhaustive; 1 where there was nothing to find.
        low: Lower end of its interval.
        high: Upper end.
    """

    sampled: int
    exhaustive: int
    found: int
    recall: float
    low: float
    high: float


@dataclass(frozen=True)
class Exhaustive:
    """Compares hashes with a bounded sample, all with all.

    Attributes:
        sample: uint8 hashes, packed: 32 bytes each.
        max_distance: Bits within which a pair counts.
    """

    sample: bytes
    max_distance: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Arrow batches of (hash) to those near a sampled one: the function for `DataFrame.mapInArrow`."""
        sample = words(np.frombuffer(self.sample, dtype=np.uint8).reshape(-1, HASH_BYTES))
        for batch in batches:
            names = batch.column("hash").to_pylist()
            hashes = words(np.frombuffer(b"".join(names), dtype=np.uint8).reshape(-1, HASH_BYTES))
            for begin in range(0, len(hashes), _BLOCK):
                apart = distances(sample[:, None, :], hashes[None, begin : begin + _BLOCK, :])
                left, right = np.nonzero(apart <= self.max_distance)
                yield pa.record_batch(
                    [
                        pa.array([sample[i].tobytes() for i in left], pa.binary()),
                        pa.array([names[begin + i] for i in right], pa.binary()),
                        pa.array(apart[left, right].astype(np.int32)),
                    ],
                    schema=_NEIGHBOURS_ARROW,
                )


def neighbours(hashes: DataFrame, sample: bytes, max_distance: int) -> DataFrame:
    """a, b, distance: every pair within the threshold that a sampled hash takes part in, a < b, each once."""
    near = hashes.select("hash").mapInArrow(Exhaustive(sample, max_distance), _NEIGHBOURS)
    pairs = near.where(F.col("sampled") != F.col("other"))
    a, b = F.least("sampled", "other").alias("a"), F.greatest("sampled", "other").alias("b")
    return pairs.select(a, b, "distance").distinct()


def measure(hashes: DataFrame, pairs: DataFrame, count: int, max_distance: int, confidence: float) -> SearchRecall:
    """Estimates the share of pairs that a search found.

    Args:
        hashes: hash: every distinct hash that took part.
        pairs: a, b: the pairs that the search found.
        count: Hashes to sample; chosen by a hash of the hash, so that the sample is the same each time.
        max_distance: Bits within which a pair counts.
        confidence: Of the interval (Clopper-Pearson, on pairs).
    """
    order = F.xxhash64("hash")
    sample = [bytes(row.hash) for row in hashes.select("hash").orderBy(order, "hash").limit(count).collect()]
    exact = neighbours(hashes, b"".join(sample), max_distance)
    hit = pairs.select("a", "b", F.lit(1).alias("hit"))
    total, found = exact.join(hit, ["a", "b"], "left").agg(F.count("*"), F.count("hit")).collect()[0]
    interval = stats.binomtest(found, total).proportion_ci(confidence) if total else None
    low, high = (interval.low, interval.high) if interval else (0.0, 1.0)
    return SearchRecall(len(sample), total, found, found / total if total else 1.0, float(low), float(high))
