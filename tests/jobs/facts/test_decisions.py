from datetime import UTC, datetime

import pytest
from pyspark.sql import SparkSession

from jobs.facts import decisions
from jobs.lake import tables
from jobs.lake.lake import Lake
from tests.builders.lake_rows import write_rows

EARLY, LATE = (datetime(2026, 1, day, tzinfo=UTC) for day in (1, 2))
KEPT, DROPPED, TAKEN_BACK, BOTH, BACK_AT_ONCE = "kdtbw"
ROWS = [
    (KEPT, "drop", "blurred", "anna", EARLY),
    (KEPT, "keep", "sharp enough", "ben", LATE),
    (DROPPED, "drop", "a logo", "anna", EARLY),
    (TAKEN_BACK, "withdrawn", "seen again", "anna", LATE),
    (TAKEN_BACK, "drop", "a logo", "anna", EARLY),
    (BOTH, "drop", "no", "anna", EARLY),
    (BOTH, "keep", "yes", "ben", EARLY),
    (BACK_AT_ONCE, "keep", "yes", "ben", EARLY),
    (BACK_AT_ONCE, "withdrawn", "no", "anna", EARLY),
]


@pytest.mark.parametrize("rows", [ROWS, ROWS[::-1]])
def test_the_newest_decision_counts_and_at_equal_times_the_one_that_drops_nothing(
    spark: SparkSession, rows: list[tuple[object, ...]]
) -> None:
    found = decisions.standing(spark.createDataFrame(rows, tables.DECISIONS.schema))

    assert {row.image_id: (row.decision, row.decided_by, row.why) for row in found.collect()} == {
        KEPT: ("keep", "ben", "sharp enough"),
        DROPPED: ("drop", "anna", "a logo"),
        BOTH: ("keep", "ben", "yes"),
    }


def test_the_facts_count_the_decisions_that_stand_newest_first(lake: Lake) -> None:
    write_rows(lake, tables.DECISIONS, ROWS)

    found = decisions.decisions(lake)

    assert (found.kept, found.dropped) == (2, 1)
    assert [(row.image_id, row.time) for row in found.newest] == [
        (KEPT, "2026-01-02 00:00"), (BOTH, "2026-01-01 00:00"), (DROPPED, "2026-01-01 00:00"),
    ]  # fmt: skip
