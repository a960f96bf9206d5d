"""Rules of `filter`: conditions on what is known of an image without looking at it."""

import re
from collections.abc import Mapping

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from models.errors import SettingsError


def check(images: DataFrame, rules: Mapping[str, str]) -> None:
    """Makes sure that every rule is a condition on one image, before work begins.

    Args:
        images: Table images.
        rules: SQL conditions by name.

    Raises:
        SettingsError: Some are not; all are named at once.
    """
    faults = []
    for name, condition in rules.items():
        try:
            # Of one row: an aggregate has no place in `where`, and columns that are not there none in `select`.
            _told_of(images).where(F.expr(condition))
            (held,) = _told_of(images).select(F.expr(condition)).dtypes
            said = "" if held[1] == "boolean" else f"it gives {held[1]}, where true or false is expected"
        except (AnalysisException, ParseException) as error:
            said = re.sub(r"^\[[\w.]+\] ", "", str(error).strip().splitlines()[0])
        if said:
            faults.append(f"filter.rules.{name} = {condition!r} is no condition on an image: {said}")
    if faults:
        raise SettingsError("; ".join(faults))


def broken(images: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """The rules that take images out.

    Args:
        images: Table images.
        rules: SQL conditions by name. One that is null for an image, since a column of it is, does not hold.

    Returns:
        image_id, why: a row for each image and rule that holds.
    """
    if not rules:
        return images.select("image_id", F.lit("").alias("why")).limit(0)
    each = [
        F.when(F.expr(condition), F.lit(f"{name}: {' '.join(condition.split())}")) for name, condition in rules.items()
    ]
    return _told_of(images).select("image_id", F.explode(F.array_compact(F.array(*each))).alias("why"))


def _told_of(images: DataFrame) -> DataFrame:
    """What a rule may speak of: all columns but the bytes of the picture."""
    return images.drop("image")
