"""The jobs notice when rows are lost or doubled, and say so instead of going on."""

from types import SimpleNamespace

import pytest
from pyspark.sql import functions as F

from jobs.commands.dedup import command as dedup
from jobs.commands.dedup.candidates.pair_search import SearchCounts
from jobs.commands.dedup.near_duplicates import counted
from jobs.commands.dedup.verify.search_recall import SearchRecall
from jobs.commands.weigh import command as weigh
from jobs.lake import tables
from models.errors import LostRowsError
from tests.builders.biased_lake import fill
from tests.builders.lake_rows import write_rows


@pytest.mark.slow
def test_weigh_stops_when_images_are_not_the_sum_of_kept_filtered_and_duplicates(job, spark):
    fill(job)
    stranger = [("f" * 32, False, ["bright"])]
    write_rows(job.lake, tables.VERDICTS, stranger)
    with pytest.raises(LostRowsError, match="600 images are not 549 kept \\+ 51 filtered \\+ 1 duplicates"):
        weigh.run(job)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ([("b", "a"), ("c", "b")], "2 removed rows name 2 images, and 1 rows name a kept image that is removed too"),
        ([("b", "a"), ("b", "c")], "2 removed rows name 1 images, and 0 rows name"),
    ],
)
def test_dedup_stops_when_a_keeper_is_removed_or_an_image_is_removed_twice(job, spark, gone, message):
    members = spark.createDataFrame([(name, True) for name in "abc"], "image_id string, passed boolean")
    removed = spark.createDataFrame([(*row, True) for row in gone], "removed_id string, kept_id string, passed boolean")
    removed = removed.withColumn("distance", F.lit(3))
    nodes = SimpleNamespace(images=members, hashes=3, decided=0)
    found = SimpleNamespace(
        removed=removed.limit(1),
        search=SimpleNamespace(max_distance=2),
        cost=SimpleNamespace(whole=SearchCounts()),
        quality=SimpleNamespace(whole=SearchRecall(3, 0, 0, None, 0.0, 1.0)),
    )
    with pytest.raises(LostRowsError, match=message):
        dedup._checked_summary(job, found, counted(SimpleNamespace(removed=removed), nodes, 31), None)
    counts = counted(found, nodes, 2)
    summary = dedup._checked_summary(job, found, counts, None)
    assert (counts.far, counts.far_groups) == (1, 1)
    assert (summary["images compared"], summary["duplicates removed"], summary["kept"]) == (3, 1, 2)
