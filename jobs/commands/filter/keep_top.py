"""Rules of `filter` that keep the images with the highest values of a field, such as the top 30 % by similarity."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from math import ceil

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.runtime.scratch import Scratch
from udfs.arrays.ordered_bits import double_of, ordered_bits_of_column

_NO_VALUE = "no value"
_BITS, _STEP = 64, 16
_SAMPLE, _NAMED = 1000, 30


def faults(images: DataFrame, shares: Mapping[str, float]) -> list[str]:
    """Returns what is wrong with the rules: a line for each field that has no number in any image.

    Args:
        images: Table images; if it has no rows yet, nothing is wrong.
        shares: Share of the images to keep, by field.
    """
    missing = [name for name in shares if images.where(value(images, name).isNotNull()).isEmpty()]
    if not missing or images.isEmpty():
        return []
    have = ", ".join(_fields(images))
    return [
        f"filter.keep_top.{name}: no image has a number in a field {name}; the fields are {have}" for name in missing
    ]


def value(images: DataFrame, field: str) -> Column:
    """Returns a field of each image as a double; null if it is missing or not a finite number.

    Args:
        images: Table images.
        field: Name of a column, or of a field in the column meta.
    """
    text = F.col(field).cast("string") if field in _columns(images) else F.get_json_object("meta", f"$['{field}']")
    number = text.try_cast("double")
    return F.when(F.abs(number) < float("inf"), number)  # NaN is larger than infinity


def cutoffs(images: DataFrame, broken: DataFrame, shares: Mapping[str, float], scratch: Scratch) -> dict[str, float]:
    """Returns the lowest value to keep, by field: that of the last image within the share.

    The share is one of the images that can be decoded and have a number in the field. The result is exact and does not
    depend on the number of partitions.

    Args:
        images: Table images.
        broken: image_id of images that cannot be decoded.
        shares: Share of the images to keep, by field, in (0, 1).
        scratch: Stores the values, 8 bytes for each image and field.

    Returns:
        Cutoff by field; without a field that has no number in any image that can be decoded.
    """
    if not shares:
        return {}
    orders = [F.arrow_udf(ordered_bits_of_column, "bigint")(value(images, name)).alias(name) for name in shares]
    orders_of_images = scratch.keep(images.join(broken, "image_id", "left_anti").select(*orders))
    found = {}
    for name, share in shares.items():
        order = _largest(orders_of_images.select(F.col(f"`{name}`").alias("order")).where("order is not null"), share)
        if order is not None:
            found[name] = double_of(order)
    return found


def _largest(orders: DataFrame, share: float) -> int | None:
    """Returns the integer at a share of the integers, largest first; None if there are none.

    Each pass counts the next 16 bits of the integers that begin like the result, so the driver gets at most 65,536
    counts.

    Args:
        orders: order bigint, not null.
        share: Share of the integers from the result on, in (0, 1).
    """
    prefix, rank = None, 0
    for shift in range(_BITS - _STEP, -1, -_STEP):
        inside = orders if prefix is None else orders.where(F.shiftright("order", shift + _STEP) == prefix)
        counts = inside.groupBy(F.shiftright("order", shift).alias("prefix")).count().collect()
        if prefix is None:
            # As a fraction, because 0.07 * 100 is more than 7 in binary.
            rank = ceil(Fraction(str(share)) * sum(row["count"] for row in counts))
        for row in sorted(counts, reverse=True):
            prefix = row["prefix"]
            if rank <= row["count"]:
                break
            rank -= row["count"]
    return prefix


def below(images: DataFrame, shares: Mapping[str, float], cutoffs: Mapping[str, float]) -> DataFrame:
    """Returns the images that are not within the share: below the cutoff, or without a number.

    Args:
        images: Table images.
        shares: Share of the images to keep, by field, at least one.
        cutoffs: Lowest value to keep, by field, from `cutoffs`; every image is removed by a field that has none.

    Returns:
        image_id, why: a row for each image and field.
    """
    reasons = [_reason(value(images, name), name, share, cutoffs.get(name)) for name, share in shares.items()]
    return images.select("image_id", F.explode(F.array_compact(F.array(*reasons))).alias("why"))


def without_value(verdicts: DataFrame, fields: Iterable[str]) -> dict[str, int]:
    """Returns the number of images that were removed because they have no number in a field, by field.

    Args:
        verdicts: Table verdicts.
        fields: Fields of the rules.
    """
    counts = [_with_reason(f"{name}: {_NO_VALUE}, ").alias(name) for name in fields]
    return verdicts.agg(*counts).collect()[0].asDict() if counts else {}


def _with_reason(beginning: str) -> Column:
    return F.count_if(F.exists("reasons", lambda why: why.startswith(beginning)))


def _reason(number: Column, name: str, share: float, cutoff: float | None) -> Column:
    """Returns why a value is not within the share; null if it is."""
    outside = f"not in the top {100 * share:g} %"
    unknown = F.when(number.isNull(), F.lit(f"{name}: {_NO_VALUE}, {outside}"))
    if cutoff is None:
        return unknown
    lower = F.concat(F.lit(f"{name}: "), _text(number), F.lit(" < "), _text(F.lit(cutoff)), F.lit(f", {outside}"))
    return unknown.when(number < cutoff, lower)


def _text(number: Column) -> Column:
    """Returns a double with as many digits as distinguish it from other doubles, and a whole number without a point."""
    return F.regexp_replace(number.cast("string"), r"\.0$", "")


def _columns(images: DataFrame) -> list[str]:
    return [name for name in images.columns if name != "image"]


def _fields(images: DataFrame) -> list[str]:
    """Returns the names of the fields that a rule may use; of those in `meta`, the ones that a few images have."""
    kinds = dict(images.drop("part").dtypes)  # a part is no property of an image
    columns = [name for name, kind in kinds.items() if kind in ("int", "bigint", "float", "double")]
    keys = images.limit(_SAMPLE).select(F.explode(F.json_object_keys("meta")).alias("field")).distinct()
    return [*columns, *(row["field"] for row in keys.orderBy("field").limit(_NAMED).collect())]
