"""Fixed random orders of images; a random sample is the beginning of such an order."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

RANDOM_SAMPLE = "random"
"""Purpose of the order from which `label next --strategy random` draws."""


def in_random_order(pool: DataFrame, seed: int, purpose: str) -> DataFrame:
    """Sorts the pool in a fixed random order that does not depend on what the images show.

    Args:
        pool: image_id and other columns.
        seed: Seed of the order.
        purpose: Different purposes give independent orders, so that their samples are independent.
    """
    return pool.orderBy(random_place(seed, purpose), "image_id")


def random_place(seed: int, purpose: str) -> Column:
    """Returns the place of image_id in the order of `in_random_order`, long."""
    return F.xxhash64(F.lit(f"{seed} {purpose}"), F.col("image_id"))


def random_sample_place(seed: int) -> Column:
    """Returns the place of image_id in the order from which the random sample is drawn, long."""
    return random_place(seed, RANDOM_SAMPLE)
