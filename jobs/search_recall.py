"""The recall of the duplicate search, measured: a sample of hashes compared with every hash, against what was found."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T
from scipy import stats

from udfs.matching import Entries, near_between, packed_entries

_NEIGHBOURS = T.StructType([T.StructField(name, kind) for name, kind in (("a", T.LongType()), ("b", T.LongType()))])
_COLUMNS = ("hash", "rank", "known")


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
        sample: uint64 of shape (n, 5), as `udfs.matching.packed_entries` makes them.
        max_distance: Bits within which a pair counts.
    """

    sample: NDArray[np.uint64]
    max_distance: int

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Arrow batches of (hash, rank, known) to pairs with a sampled one: the function for `DataFrame.mapInArrow`."""
        sample = Entries.unpacked(self.sample)
        for batch in batches:
            others = Entries.unpacked(packed_entries(*(batch.column(name) for name in _COLUMNS)))
            left, right = near_between(sample.words, others.words, self.max_distance)
            a, b = sample.ranks[left], others.ranks[right]
            ends = pa.array(np.minimum(a, b)[a != b]), pa.array(np.maximum(a, b)[a != b])
            yield pa.record_batch(list(ends), names=["a", "b"])


def neighbours(hashes: DataFrame, sample: NDArray[np.uint64], max_distance: int) -> DataFrame:
    """a, b: ranks of every pair within the threshold that a sampled hash takes part in, a < b, each once."""
    return hashes.select(*_COLUMNS).mapInArrow(Exhaustive(sample, max_distance), _NEIGHBOURS).distinct()


def measure(hashes: DataFrame, pairs: DataFrame, count: int, max_distance: int, confidence: float) -> SearchRecall:
    """Estimates the share of pairs that a search found.

    Args:
        hashes: hash, rank, known: every distinct hash that took part.
        pairs: a, b: the pairs of ranks that the search found.
        count: Hashes to sample; chosen by a hash of the hash, so that the sample is the same each time.
        max_distance: Bits within which a pair counts.
        confidence: Of the interval (Clopper-Pearson, on pairs).
    """
    chosen = hashes.select(*_COLUMNS).orderBy(F.xxhash64("hash"), "hash").limit(count).toArrow()
    sample = packed_entries(*(chosen.column(name).combine_chunks() for name in _COLUMNS))
    hit = pairs.select("a", "b", F.lit(1).alias("hit"))
    exact = neighbours(hashes, sample, max_distance).join(hit, ["a", "b"], "left")
    total, found = exact.agg(F.count("*"), F.count("hit")).collect()[0]
    interval = stats.binomtest(found, total).proportion_ci(confidence) if total else None
    low, high = (interval.low, interval.high) if interval else (0.0, 1.0)
    return SearchRecall(len(sample), total, found, found / total if total else 1.0, float(low), float(high))
