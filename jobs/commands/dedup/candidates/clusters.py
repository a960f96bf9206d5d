"""Finds pairs of hashes within a Hamming distance by clusters: the method of DALL·E 2's pre-training mitigations.

k-means groups similar images, and only images of one cluster are compared. A pair with its images in two clusters is
missed. Another clustering, fitted on another random subset, has other borders, so the union of several clusterings
finds nearly all pairs. Source: OpenAI, "DALL·E 2 pre-training mitigations" (2022): 85 % of the pairs with one
clustering, 97 % with five.
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
from udfs.search.lsh import Matching, room_for_crowds
from udfs.search.matching import FOUND
from udfs.search.packing import PACKED, EachBucket, buckets_for

_MAX_CLUSTER = 50_000
_MEMBERS_FITTED = 20
_ITERATIONS = 5


@dataclass(frozen=True)
class ClusterParameters:
    """The parameters that decide which pairs are found.

    Attributes:
        clusters: k of each k-means.
        clusterings: Number of clusterings, each fitted on another random subset.
        nearest: Nearest centroids to which each hash is assigned in each clustering.
        max_distance: Largest distance of a pair, in bits of 256.
        seed: Seed of the subsets and of k-means.
        buckets: Number of shuffle buckets.
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
        """Returns the parameters for a number of distinct hashes.

        For each hash, finding the nearest of k centroids costs k products, and comparing within a cluster costs n / k
        bit counts. Both cost about the same if k is half the square root of n.

        Examples:
            >>> ClusterParameters.for_data(1_000_000, 31, 5, 1, seed=0).clusters
            500
        """
        clusters = max(2, round(sqrt(hashes) / 2))
        buckets = buckets_for(hashes * clusterings * nearest)
        room = room_for_crowds(hashes, buckets)
        return cls(clusters, clusterings, min(nearest, clusters), max_distance, seed, buckets, room)


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
    numbers, k, seed = range(parameters.clusterings), parameters.clusters, parameters.seed
    centroids = np.stack([fitted_centroids(hashes, k, seed, number) for number in numbers])
    assigning = Assigning(centroids, parameters.nearest, parameters.buckets)
    packed = hashes.select("hash", "rank", "known", "vector").mapInArrow(assigning, PACKED)
    limits = parameters.max_distance, _MAX_CLUSTER, parameters.crowd_pairs
    matching = Matching(*limits, parameters.seed, parameters.clusters, decided, unseen)
    return packed.repartitionById(parameters.buckets, "bucket").mapInArrow(EachBucket(matching), FOUND)


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
    order = F.xxhash64("hash", F.lit(seed), F.lit(number))
    subset = rows.orderBy(order, "hash").limit(_MEMBERS_FITTED * clusters)
    points = subset.select(array_to_vector("vector").alias("features")).coalesce(2)
    fitted = KMeans(k=clusters, maxIter=_ITERATIONS, seed=seed + number, initMode="random").fit(points)
    centres = np.array(fitted.clusterCenters(), dtype=np.float32)
    # k-means may return fewer clusters. Copies of the first one fill the gap: no hash is nearer to a copy.
    missing = clusters - len(centres)
    return np.concatenate([centres, np.repeat(centres[:1], missing, axis=0)])
