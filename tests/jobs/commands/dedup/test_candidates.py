"""Groups of bands find what all bands find, and two levels of clusters what one level finds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates import bands, clusters
from jobs.commands.dedup.candidates.bands import LshParameters
from jobs.commands.dedup.candidates.clusters import MAX_CLUSTER, ClusterParameters
from jobs.runtime.scratch import Scratch
from tests.builders.hash_lakes import LIMIT
from tests.builders.hashes import flipped, random_hashes
from udfs.search.cluster import hash_bits
from udfs.search.matching import FOUND

COUNT = 1200


def frame(spark: SparkSession) -> DataFrame:
    """Returns hashes in twenty wide groups, each hash with a copy, and a crowd of copies of one."""
    base = flipped(np.repeat(random_hashes(20), 20, axis=0), 50, seed=2)
    crowd = np.unique(flipped(np.repeat(random_hashes(1, seed=7), 400, axis=0), 12, seed=8), axis=0)
    hashes = np.concatenate([base, flipped(base, 16, seed=3), crowd])
    rows = {"hash": [row.tobytes() for row in hashes], "rank": np.arange(len(hashes)), "known": [False] * len(hashes)}
    return spark.createDataFrame(pa.table(rows)).repartition(3)


def pairs_of(found: DataFrame) -> set[tuple[int, int, int]]:
    return {(row.a, row.b, row.distance) for row in found.where("a is not null").collect()}


def test_groups_of_bands_find_what_all_bands_find(spark: SparkSession, tmp_path: Path) -> None:
    # Under a key, more than 60 of the crowd are resolved, so pairs have to be completed.
    parameters = LshParameters.for_data(COUNT, LIMIT, 0.9, 60, seed=0)
    with Scratch(spark, str(tmp_path)) as scratch:
        whole = bands.find_pairs(frame(spark), parameters, scratch)
        grouped = bands.find_pairs(frame(spark), parameters, scratch, most=1)
        assert len(parameters.groups(1)) >= 3 and len(list(next(tmp_path.iterdir()).iterdir())) == len(
            parameters.groups(1)
        )
        assert whole.schema == grouped.schema == FOUND
        assert whole.where("bucket is not null").count() and pairs_of(whole) == pairs_of(grouped)
        sums = (F.sum("compared"), F.sum("skipped"))
        assert whole.agg(*sums).collect() == grouped.agg(*sums).collect()


def test_two_levels_of_clusters_find_nearly_what_one_level_finds(spark: SparkSession) -> None:
    one = ClusterParameters.for_data(COUNT, LIMIT, 2, 1, seed=0)
    two = replace(one, clusters=25, coarse=5, share_fitted=0.8)
    rows = frame(spark).withColumn("vector", hash_bits("hash"))

    found, again = (pairs_of(clusters.find_pairs(rows, two)) for _ in range(2))

    near = pairs_of(clusters.find_pairs(rows, replace(one, clusters=2)))
    own = {pair for pair in near if pair[1] < 800}
    assert found == again and len(own) >= 380 and len(found & own) > 0.9 * len(own)
    assert {row.clustering for row in clusters.find_pairs(rows, two).select("clustering").distinct().collect()} == {
        0,
        1,
    }


def test_a_task_compares_all_of_a_mean_cluster_at_any_size() -> None:
    for exponent in range(3, 11):
        parameters = ClusterParameters.for_data(6 * 10**exponent, LIMIT, 5, 1, seed=0)
        assert 6 * 10**exponent <= parameters.clusters * MAX_CLUSTER / 2
    assert ClusterParameters.for_data(150_000_000, LIMIT, 5, 1, seed=0).coarse is None
