"""Divides images into parts of bounded size by what they show; only images of one part are compared."""

from math import ceil, sqrt

import numpy as np
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates.clusters import fitted_centroids
from jobs.runtime.scratch import Scratch
from udfs.arrays.arrow import matrix
from udfs.search.semantic import IN_PART, Clustered, Split

MOST = 50_000
"""Images of a part, approximately: one task holds their embeddings, some 150 MB at 256 dimensions."""

_USUAL = 16_384  # images of a cluster
_SPARE = 8
_CHUNKS = 1 << 20


def clusters_for(images: int) -> int:
    """Returns the number of clusters of a lake; it is the same up to the next power of two.

    Up to 16,384 images are one cluster, so all are compared. Above 6 · 10^7 images k grows with their square root only:
    finding the nearest of more centroids would cost more than comparing, and the driver holds the centroids.

    Examples:
        >>> clusters_for(10_000), clusters_for(1_000_000), clusters_for(10**9)
        (1, 64, 16384)
    """
    size = 1 << max(images - 1, 1).bit_length()
    return max(1, min(ceil(size / _USUAL), round(sqrt(size) / 2)))


def parts(features: DataFrame, count: int, seed: int, scratch: Scratch, most: int = MOST) -> DataFrame:
    """Assigns each image to a part.

    k-means is fitted on a sample. A cluster that is too large is split: some of its members, chosen by a hash, become
    the centres of parts. What is too large even then (thousands of images that hardly differ) is divided by a hash.

    Args:
        features: image_id, embedding.
        count: Number of its rows.
        seed: Seed of the samples and of k-means.
        scratch: Keeps the parts.
        most: Images of a part, approximately.

    Returns:
        image_id, part.
    """
    clusters = clusters_for(count)
    if clusters == 1:
        assigned = features.select("image_id", F.lit(0).cast("long").alias("part"))
    else:
        rows = features.select(F.col("image_id").alias("hash"), F.col("embedding").alias("vector"))
        centroids = fitted_centroids(rows, clusters, seed, 0)
        assigned = features.select("image_id", "embedding").mapInArrow(Clustered(centroids), IN_PART)
    assigned = scratch.keep(assigned)
    if sizes := _large(assigned, most):
        split = _split(features, assigned, sizes, seed, clusters, most)
        assigned = scratch.keep(_others(assigned, sizes).unionByName(split))
    if sizes := _large(assigned, most):
        chunks = _frame(assigned, [(part, ceil(size / most)) for part, size in sizes.items()], "chunks")
        chunk = F.pmod(F.xxhash64("image_id", F.lit(seed)), F.coalesce("chunks", F.lit(1)))
        divided = assigned.join(F.broadcast(chunks), "part", "left")
        assigned = scratch.keep(divided.select("image_id", (F.col("part") * _CHUNKS + chunk).alias("part")))
    return assigned


def _large(assigned: DataFrame, most: int) -> dict[int, int]:
    """Returns the sizes of the parts that are too large: fewer than there are clusters."""
    rows = assigned.groupBy("part").count().where(F.col("count") > most).collect()
    return {row["part"]: row["count"] for row in rows}


def _split(
    features: DataFrame, assigned: DataFrame, sizes: dict[int, int], seed: int, clusters: int, most: int
) -> DataFrame:
    """Returns image_id and new part of the images of large clusters."""
    wanted = [(cluster, ceil(2 * size / most), size) for cluster, size in sizes.items()]
    large = assigned.sparkSession.createDataFrame(wanted, "part long, wanted int, size long")
    own = assigned.join(F.broadcast(large), "part")
    # Only some rows are sorted: those whose hash is among the first by far.
    key = F.xxhash64("image_id", F.lit(seed))
    likely = own.where(F.pmod(key, "size") < _SPARE * F.col("wanted"))
    place = F.row_number().over(Window.partitionBy("part").orderBy(key, "image_id"))
    chosen = likely.withColumn("place", place).where("place <= wanted").select("image_id", "part")
    members = features.join(F.broadcast(chosen), "image_id").orderBy("part", "image_id")
    rows = members.select("part", "embedding").toArrow()
    split = Split(rows["part"].to_numpy().astype(np.int64), matrix(rows["embedding"]), clusters)
    return features.join(own.select("image_id", "part"), "image_id").mapInArrow(split, IN_PART)


def _others(assigned: DataFrame, sizes: dict[int, int]) -> DataFrame:
    return assigned.join(F.broadcast(_frame(assigned, list(sizes.items()), "size")), "part", "left_anti")


def _frame(assigned: DataFrame, rows: list[tuple[int, int]], name: str) -> DataFrame:
    return assigned.sparkSession.createDataFrame(rows, f"part long, {name} long")
