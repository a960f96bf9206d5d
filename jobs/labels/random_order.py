"""Random orders of images, the same each time: samples are beginnings of them."""

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

RANDOM_SAMPLE = "random"
"""Purpose of the order from which `label next --strategy random` draws."""


def in_random_order(pool: DataFrame, seed: int, purpose: str) -> DataFrame:
    """The pool in an order that has nothing to do with what the images show, the same each time.

    Args:
        pool: image_id and more.
        seed: Of the order.
        purpose: Another purpose, another order, so that no two samples have to do with each other.
    """
    return pool.orderBy(random_place(seed, purpose), "image_id")


def random_place(seed: int, purpose: str) -> Column:
    """The place of image_id in the order of `in_random_order`, long."""
    return F.xxhash64(F.lit(f"{seed} {purpose}"), F.col("image_id"))


def random_sample_place(seed: int) -> Column:
    """The place of image_id in the order from which the random sample is drawn, long."""
    return random_place(seed, RANDOM_SAMPLE)
