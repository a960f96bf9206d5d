"""Finds pairs of hashes within a Hamming distance by clusters: the method of DALL·E 2's pre-training mitigations.

k-means groups similar images, and only images of one cluster are compared. A pair with its images in two clusters is
missed. Another clustering, fitted on another random subset, has other borders, so the union of several clusterings
finds nearly all pairs.

In a large lake, k-means has two levels: it divides each cluster of the first level into clusters of the second. So the
size of a cluster stays below what one task compares, and a hash is compared with few centroids.

Source: OpenAI, "DALL·E 2 pre-training mitigations" (2022): 85 % of the pairs with one
clustering, 97 % with five.
"""

from dataclasses import dataclass
from functools import reduce
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.matching.rule import Rule
from udfs.arrays.arrow import matrix
from udfs.search.cluster import FITTED, Assigning, FittingFine, NearestCoarse, hash_bits
from udfs.search.lsh import Matching, room_for_crowds
from udfs.search.matching import FOUND
from udfs.search.packing import PACKED, EachBucket, buckets_for

MAX_CLUSTER = 50_000
"""Hashes of a cluster above which a task does not compare all pairs."""

_MEAN_CLUSTER = MAX_CLUSTER // 2
_MEMBERS_FITTED = 20
_ITERATIONS = 5
_SHARES = 1 << 20


@dataclass(frozen=True)
class ClusterParameters:
    """The parameters that decide which pairs are found.

    Attributes:
        clusters: Number of clusters in each clustering.
        coarse: Number of clusters of the first of two levels; None with one level.
        clusterings: Number of clusterings, each fitted on another random subset.
        nearest: Nearest centroids to which each hash is assigned in each clustering.
        max_distance: Largest distance of a pair, in bits of 256.
        seed: Seed of the subsets and of k-means.
        buckets: Number of shuffle buckets.
        crowd_pairs: Pairs that crowded clusters of a bucket may make.
        share_fitted: Share of the hashes on which the second level is fitted.
    """

    clusters: int
    coarse: int | None
    clusterings: int
    nearest: int
    max_distance: int
    seed: int
    buckets: int
    crowd_pairs: int
    share_fitted: float

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, clusterings: int, nearest: int, seed: int) -> "ClusterParameters":
        """Returns the parameters for a number of distinct hashes.

        For each hash, finding the nearest of k centroids costs k products, and comparing within a cluster costs n / k
        bit counts. Both cost about the same if k is half the square root of n. If a cluster would then be too large,
        two levels make smaller ones.

        Examples:
            >>> ClusterParameters.for_data(1_000_000, 31, 5, 1, seed=0).clusters
            500
            >>> large = ClusterParameters.for_data(1_000_000_000, 31, 5, 1, seed=0)
            >>> large.coarse, large.clusters
            (200, 40000)
        """
        clusters, coarse = max(2, round(sqrt(hashes) / 2)), None
        if hashes > clusters * _MEAN_CLUSTER:
            coarse = ceil(sqrt(hashes / _MEAN_CLUSTER))
            clusters = coarse**2
        buckets = buckets_for(hashes * clusterings * nearest)
        room, share = room_for_crowds(hashes, buckets), min(_MEMBERS_FITTED * clusters / max(hashes, 1), 1.0)
        return cls(clusters, coarse, clusterings, min(nearest, clusters), max_distance, seed, buckets, room, share)


def vectors(signals: DataFrame, hashes: DataFrame, rule: Rule) -> DataFrame:
    """Adds the vectors for k-means to the hashes: the embedding, or the bits of a PDQ hash as ±1.

    Args:
        signals: encoder, embedding_hash, embedding.
        hashes: rank, hash, known.
        rule: Which hash is compared.

    Returns:
        rank, hash, known, vector (array<float>).
    """
    if rule.hash == "pdq":
        return hashes.withColumn("vector", hash_bits("hash"))
    own = signals.where(F.col("encoder") == rule.encoder)
    # Images with the same hash have almost the same embedding. The smallest one makes the choice reproducible.
    each = own.groupBy(F.col("embedding_hash").alias("hash")).agg(F.min("embedding").alias("vector"))
    return hashes.join(each, "hash").select("rank", "hash", "known", "vector")


def find_pairs(
    hashes: DataFrame, parameters: ClusterParameters, decided: int = 0, unseen: int | None = None
) -> DataFrame:
    """Clusters the hashes and compares all pairs within a cluster.

    Args:
        hashes: rank, hash, known, vector.
        parameters: The parameters.
        decided: Ranks below this are compared with everything, as in `Matching`.
        unseen: Largest distance at which a pair counts unseen, as in `Matching`.

    Returns:
        `udfs.search.matching.FOUND`: pairs of ranks, which may repeat, and rows of counts.
    """
    entries = hashes.select("hash", "rank", "known", "vector")
    # With two levels the centroids are many, so a task holds those of one clustering at a time.
    packed = reduce(DataFrame.unionByName, (entries.mapInArrow(one, PACKED) for one in assignings(hashes, parameters)))
    limits = parameters.max_distance, MAX_CLUSTER, parameters.crowd_pairs
    matching = Matching(*limits, parameters.seed, parameters.clusters, decided, unseen)
    return packed.repartitionById(parameters.buckets, "bucket").mapInArrow(EachBucket(matching), FOUND)


def assignings(rows: DataFrame, parameters: ClusterParameters) -> list[Assigning]:
    """Fits the centroids; returns how hashes are assigned to them: by all clusterings, or with two levels by each.

    Args:
        rows: hash, vector.
        parameters: The parameters.
    """
    numbers, k, seed = range(parameters.clusterings), parameters.clusters, parameters.seed
    sizes = parameters.nearest, parameters.buckets
    if parameters.coarse is None:
        return [Assigning(np.stack([fitted_centroids(rows, k, seed, number) for number in numbers]), *sizes)]
    found = []
    for number in numbers:
        coarse = fitted_centroids(rows, parameters.coarse, seed, number)
        fine = _fine_centroids(rows, coarse, parameters, number)
        found.append(Assigning(fine[None], *sizes, coarse=coarse[None], first=number))
    return found


def _fine_centroids(
    rows: DataFrame, coarse: NDArray[np.float32], parameters: ClusterParameters, number: int
) -> NDArray[np.float32]:
    """Divides each cluster of the first level, on a sample that a hash chooses; all cores take part."""
    each = parameters.clusters // len(coarse)
    chosen = F.pmod(F.xxhash64("hash", F.lit(parameters.seed), F.lit(number)), F.lit(_SHARES))
    points = rows.where(chosen < _SHARES * parameters.share_fitted).select("hash", "vector")
    schema = T.StructType([*points.schema.fields, T.StructField("coarse", T.LongType())])
    near = points.mapInArrow(NearestCoarse(coarse), schema)
    fitting = FittingFine(each, _ITERATIONS)
    found = near.groupBy("coarse").applyInArrow(lambda table: fitting(table), FITTED).toArrow()
    # A cluster without a point in the sample is not divided.
    centroids = np.repeat(coarse, each, axis=0)
    centroids[found["coarse"].to_numpy() * each + found["fine"].to_numpy()] = matrix(found["centroid"])
    return centroids


def fitted_centroids(rows: DataFrame, clusters: int, seed: int, number: int) -> NDArray[np.float32]:
    """Fits k-means on a random subset of bounded size.

    Args:
        rows: hash (any type; each once, it decides about the subset), vector (array<float>).
        clusters: k.
        seed: Seed of the subset and of k-means.
        number: Number of the clustering: another number gives another subset.

    Returns:
        Centroids, float32 of shape (clusters, d).
    """
    from pyspark.ml.clustering import KMeans  # takes a second to import
    from pyspark.ml.functions import array_to_vector

    order = F.xxhash64("hash", F.lit(seed), F.lit(number))
    subset = rows.orderBy(order, "hash").limit(_MEMBERS_FITTED * clusters)
    points = subset.select(array_to_vector("vector").alias("features")).coalesce(2)
    fitted = KMeans(k=clusters, maxIter=_ITERATIONS, seed=seed + number, initMode="random").fit(points)
    centres = np.array(fitted.clusterCenters(), dtype=np.float32)
    # k-means may return fewer clusters. Copies of the first one fill the gap: no hash is nearer to a copy.
    missing = clusters - len(centres)
    return np.concatenate([centres, np.repeat(centres[:1], missing, axis=0)])
