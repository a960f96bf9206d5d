from typing import Any

from pyspark.sql import SparkSession

from jobs.commands.filter.decisions import decided

JUDGED: list[tuple[Any, ...]] = [
    ("plain", True, []),
    ("dropped", True, []),
    ("twice", False, ["boats: labelled"]),
    ("kept", False, ["boats: labelled", "small: width < 9"]),
    ("held", True, []),
    ("broken", False, ["not decodable: truncated"]),
]
DECISIONS = [
    ("dropped", "drop", "anna", "a logo"),
    ("twice", "drop", "anna", "a logo"),
    ("kept", "keep", "ben", "a toy boat"),
    ("held", "keep", "ben", "a favourite"),
    ("broken", "keep", "ben", "it was fine"),
    ("elsewhere", "keep", "ben", "not in this lake"),
]


def test_decisions_beat_every_reason_but_an_unreadable_image(spark: SparkSession) -> None:
    judged = spark.createDataFrame(JUDGED, "image_id string, kept boolean, reasons array<string>")
    given = spark.createDataFrame(DECISIONS, "image_id string, decision string, decided_by string, why string")

    rows = decided(judged, given).collect()

    assert {row.image_id: (row.kept, row.reasons, row.kept_because) for row in rows} == {
        "plain": (True, [], None),
        "dropped": (False, ["decision: dropped by anna: a logo"], None),
        "twice": (False, ["decision: dropped by anna: a logo", "boats: labelled"], None),
        "kept": (True, [], "kept by ben: a toy boat (against boats: labelled; small: width < 9)"),
        "held": (True, [], "kept by ben: a favourite"),
        "broken": (False, ["not decodable: truncated"], None),
    }
    assert len(rows) == len(JUDGED)
