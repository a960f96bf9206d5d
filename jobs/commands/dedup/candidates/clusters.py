"""Pairs of hashes within a Hamming distance, by clusters: the method of DALL·E 2's pre-training mitigations.

k-means puts unlike pictures apart, so that only those of one cluster are compared. A pair that a border parts is lost;
another clustering, fitted on another random subset, has other borders, so the union of several finds nearly all.
Source: OpenAI, "DALL·E 2 pre-training mitigations" (2022): 85 % of the pairs with one clustering, 97 % with five.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.clustering import KMeans
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.matching.rule import Rule
from udfs.search.cluster import Assigning, hash_bits
from udfs.search.lsh import PACKED, Matching, buckets_for, room_for_crowds
from udfs.search.matching import FOUND

_MAX_CLUSTER = 50_000
_MEMBERS_FITTED = 20
_ITERATIONS = 5


@dataclass(frozen=True)
class ClusterParameters:
    """Everything that decides which pairs are found.

    Attributes:
        clusters: k of each k-means.
        clusterings: How many, each fitted on another random subset.
        nearest: Centroids that each hash is assigned to in each clustering.
        max_distance: Bits of 256 within which a pair counts.
        seed: Of the subsets and of k-means.
        buckets: Shuffle buckets.
        crowd_pairs: Pairs that crowded clusters of a bucket may make.
    """

    clusters: int
    clusterings: int
    nearest: int
    max_distance: int
    seed: int
    buckets: int
    crowd_pairs: int

    @classmethod
    def for_data(cls, hashes: int, max_distance: int, clusterings: int, nearest: int, seed: int) -> "ClusterParameters":
        """Parameters for a number of distinct hashes.

        Finding the nearest of k centroids costs k products for each hash, comparing inside clusters n / k bit counts:
        about the same where k is half the root of n.

        Examples:
            >>> ClusterParameters.for_data(1_000_000, 31, 5, 1, seed=0).clusters
            500
        """
        clusters = max(2, round(sqrt(hashes) / 2))
        buckets = buckets_for(hashes * clusterings * nearest)
        room = room_for_crowds(hashes, buckets)
        return cls(clusters, clusterings, min(nearest, clusters), max_distance, seed, buckets, room)


def vectors(signals: DataFrame, hashes: DataFrame, rule: Rule) -> DataFrame:
    """Hashes with what k-means sees: the embedding, or the bits of a PDQ hash as ±1.

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
    # Pictures of one hash have almost one embedding: any of them will do, the smallest so that it is always the same.
    each = own.groupBy(F.col("embedding_hash").alias("hash")).agg(F.min("embedding").alias("vector"))
    return hashes.join(each, "hash").select("rank", "hash", "known", "vector")


def found_pairs(hashes: DataFrame, parameters: ClusterParameters) -> DataFrame:
    """Clusters the hashes and verifies every pair of a cluster.

    Args:
        hashes: rank, hash, known, vector.
        parameters: Clusters and bounds.

    Returns:
        `udfs.search.matching.FOUND`: pairs of ranks, the same one perhaps several times, and rows of counts.
    """
    centroids = np.stack([_centroids(hashes, parameters, number) for number in range(parameters.clusterings)])
    assigning = Assigning(centroids, parameters.nearest, parameters.buckets)
    packed = hashes.select("hash", "rank", "known", "vector").mapInArrow(assigning, PACKED)
    matching = Matching(
        parameters.max_distance, _MAX_CLUSTER, parameters.crowd_pairs, parameters.seed, parameters.clusters
    )
    buckets = packed.repartition(parameters.buckets, "bucket").groupBy("bucket")
    return buckets.applyInArrow(lambda bucket: matching(bucket), FOUND)


def _centroids(hashes: DataFrame, parameters: ClusterParameters, number: int) -> NDArray[np.float32]:
    """Centroids of one clustering, float32 of shape (clusters, d), fitted on a random subset of bounded size."""
    order = F.xxhash64("hash", F.lit(parameters.seed), F.lit(number))
    subset = hashes.orderBy(order, "hash").limit(_MEMBERS_FITTED * parameters.clusters)
    points = subset.select(array_to_vector("vector").alias("features")).coalesce(2)
    fitted = KMeans(k=parameters.clusters, maxIter=_ITERATIONS, seed=parameters.seed + number, initMode="random").fit(
        points
    )
    found = np.array(fitted.clusterCenters(), dtype=np.float32)
    # k-means may end with fewer clusters than asked for: those that are missing repeat the first, and nobody is nearer.
    missing = parameters.clusters - len(found)
    return np.concatenate([found, np.repeat(found[:1], missing, axis=0)])
