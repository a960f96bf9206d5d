"""Compares a sample of images with all others, and looks at some of the near pairs."""

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.matching.rule import Rule
from jobs.runtime.scratch import Scratch
from models.stats.strangers import FARTHEST, SampledPairs
from udfs.images.agreement import AGREE, agreement_of
from udfs.images.appearance import facing
from udfs.search.matching import ENTRY_COLUMNS, entries_of_rows
from udfs.search.strangers import NEAR, NearPairs

SAMPLE = 2_000
"""Images that are compared with all others."""

_LOOKS = 64  # pairs at each distance
_RANK_BITS = 62
_ROWS_OF_A_SHUFFLE = 20_000_000


def sampled_pairs(signals: DataFrame, rule: Rule, scratch: Scratch, mirrored: DataFrame | None = None) -> SampledPairs:
    """Returns the near pairs of a sample of images with all others; images with the same hash count as one.

    The sample is chosen by a hash of the image's hash, so it is the same in each run. Each task returns a bounded
    number of rows, and the driver receives one row for each sampled image and distance.

    Args:
        signals: image_id, encoder, embedding_hash, pdq_quality, thumbnail.
        rule: Names the encoder and the images that can be compared.
        scratch: Keeps the comparison.
        mirrored: Table mirrored, if an image and a mirror image of another one may be copies. Then such pairs are
            counted too, in both directions, and looked at like all others.
    """
    own = comparable(signals, rule)
    distinct = own.groupBy(F.col("embedding_hash").alias("hash")).agg(F.min("image_id").alias("image_id"))
    # A pseudorandom number names the hash: two hashes of a billion may share one, which costs one pair of the sample.
    rank = F.shiftrightunsigned(F.xxhash64("hash"), 64 - _RANK_BITS)
    hashes = scratch.keep(distinct.select("hash", "image_id", rank.alias("rank"), F.lit(False).alias("known")))
    total = hashes.count()
    first = hashes.orderBy("rank", "hash").limit(SAMPLE)
    sample = entries_of_rows(first.select(*ENTRY_COLUMNS).toArrow())
    ranks = (sample[:, -1] >> np.uint64(1)).astype(np.int64)
    pool = hashes.select(*ENTRY_COLUMNS)
    if mirrored is not None:
        # A mirror image has the rank of its image, so no image is compared with its own; `known` marks it.
        turned = mirrored.where(F.col("encoder") == rule.encoder).select(
            "image_id", F.col("embedding_hash").alias("turned")
        )
        with_turned = hashes.join(turned, "image_id").select(
            F.col("turned").alias("hash"), "rank", F.lit(True).alias("known")
        )
        pool = pool.unionByName(with_turned)
        own_turned = with_turned.join(F.broadcast(first.select("rank")), "rank", "left_semi")
        sample = np.concatenate([sample, entries_of_rows(own_turned.select(*ENTRY_COLUMNS).toArrow())])
    pool = pool.coalesce(_partitions(signals.sparkSession.sparkContext.defaultParallelism))
    near = scratch.keep(pool.mapInArrow(NearPairs(sample, FARTHEST, _LOOKS), NEAR))
    return _with_looks(near, hashes, own, ranks, total)


def comparable(signals: DataFrame, rule: Rule) -> DataFrame:
    """Returns the rows of the table signals whose hashes can be compared.

    Args:
        signals: encoder, pdq_quality and further columns.
        rule: Names the encoder and the smallest quality.
    """
    return signals.where((F.col("encoder") == rule.encoder) & (F.col("pdq_quality") >= rule.min_quality))


def _with_looks(
    near: DataFrame, hashes: DataFrame, own: DataFrame, ranks: np.ndarray[tuple[int], np.dtype[np.int64]], total: int
) -> SampledPairs:
    counted = near.where("other is null").groupBy("sampled", "distance").agg(F.sum("pairs").alias("pairs")).toArrow()
    rows = _places(ranks, counted.column("sampled").to_numpy())
    counts = np.zeros((len(ranks), FARTHEST + 1), np.int64)
    counts[rows, counted.column("distance").to_numpy()] = counted.column("pairs").to_numpy()
    first = Window.partitionBy("distance").orderBy("order", "sampled", "other")
    chosen = near.where("other is not null").withColumn("place", F.row_number().over(first)).where(f"place <= {_LOOKS}")
    looked = _looked(chosen.select("sampled", "distance", "other", "mirrored"), hashes, own).toArrow()
    return SampledPairs(
        counts,
        max(total - 1, 1),
        _places(ranks, looked.column("sampled").to_numpy()),
        looked.column("distance").to_numpy().astype(np.intp),
        looked.column("different").to_numpy(zero_copy_only=False),
    )


def _looked(chosen: DataFrame, hashes: DataFrame, own: DataFrame) -> DataFrame:
    """Returns sampled, distance, different: whether the thumbnails of a pair show different images."""
    # A few thousand pairs, so only their thumbnails are read and moved.
    pairs = F.broadcast(chosen)
    ends = chosen.select(F.explode(F.array("sampled", "other")).alias("rank")).distinct()
    named = hashes.join(F.broadcast(ends), "rank").select("rank", "image_id")
    thumbnails = own.select("image_id", "thumbnail").join(F.broadcast(named), "image_id").select("rank", "thumbnail")
    for end, name in (("sampled", "left"), ("other", "right")):
        pairs = pairs.join(thumbnails.select(F.col("rank").alias(end), F.col("thumbnail").alias(name)), end)
    # Images without a thumbnail count as different: this lowers the distances.
    agrees = F.coalesce(agreement_of("left", facing("right", "mirrored")) >= AGREE, F.lit(False))
    return pairs.repartition(hashes.sparkSession.sparkContext.defaultParallelism).select(
        "sampled", "distance", (~agrees).alias("different")
    )


def _places(
    ranks: np.ndarray[tuple[int], np.dtype[np.int64]], some: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Returns the places of ranks in the sample, which is sorted by them."""
    return np.searchsorted(ranks, some)


def _partitions(cores: int) -> int:
    """Returns a number of tasks that keeps all cores busy but limits the rows to shuffle."""
    return max(1, min(4 * cores, _ROWS_OF_A_SHUFFLE // (SAMPLE * (FARTHEST + 1))))
