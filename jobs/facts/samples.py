"""Bounded samples of tables, for pictures and examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


@dataclass(frozen=True)
class ShownImage:
    """An image to show, with the number that stands under it (a score, a weight)."""

    image_id: str
    value: float


def top(rows: DataFrame, by: Column, order: Sequence[Column], count: int) -> DataFrame:
    """The first rows of each group, in order.

    Args:
        rows: Any rows.
        by: What makes a group.
        order: What comes first in it; must leave no ties, so that the same rows come every time.
        count: Rows of each group.
    """
    ranked = rows.withColumn("rank", F.row_number().over(Window.partitionBy(by).orderBy(*order)))
    return ranked.where(F.col("rank") <= count)
