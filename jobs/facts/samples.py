"""Bounded samples of tables, for thumbnails and examples."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F


@dataclass(frozen=True)
class ShownImage:
    """An image to show, with the number below it (a score, a weight)."""

    image_id: str
    value: float


def top(rows: DataFrame, by: Column, order: Sequence[Column], count: int) -> DataFrame:
    """Returns the first rows of each group, with their rank.

    Args:
        rows: Any rows.
        by: The column that defines the groups.
        order: Order within a group, without ties, so that the result is reproducible.
        count: Number of rows per group.
    """
    ranked = rows.withColumn("rank", F.row_number().over(Window.partitionBy(by).orderBy(*order)))
    return ranked.where(F.col("rank") <= count)
