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


def first_in_random_order(pool: DataFrame, seed: int, purpose: str, count: int) -> DataFrame:
    """Returns the first `count` rows of `in_random_order`; other rows do not even reach the task that sorts.

    Args:
        pool: image_id (each once) and other columns.
        seed: Seed of the order.
        purpose: As for `in_random_order`.
        count: Number of rows.
    """
    # Twice as many places as are needed and some more hold enough rows, up to a chance that is nothing.
    share = (2 * count + 100) / max(1, pool.count())
    if share < 1:
        pool = pool.where(random_place(seed, purpose) < F.lit(-(2**63) + int(share * 2**64)))
    return in_random_order(pool, seed, purpose).limit(count)


def random_place(seed: int, purpose: str) -> Column:
    """Returns the place of image_id in the order of `in_random_order`, long."""
    return F.xxhash64(F.lit(f"{seed} {purpose}"), F.col("image_id"))


def random_sample_place(seed: int) -> Column:
    """Returns the place of image_id in the order from which the random sample is drawn, long."""
    return random_place(seed, RANDOM_SAMPLE)
