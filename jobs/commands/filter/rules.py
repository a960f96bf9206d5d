"""Rules of `filter`: conditions on what is known of an image without looking at it."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.session import overridden
from models.errors import SettingsError

# What Spark takes for the same in all rows of a query, but not of another.
_MOMENT = re.compile(r"\b(current_date|current_time|current_timestamp|localtimestamp|now|current_user)\(")


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
        said = _fault(_known_fields(images), condition)
        if said:
            faults.append(f"filter.rules.{name} = {condition!r} is no condition on an image: {said}")
    if faults:
        raise SettingsError("; ".join(faults))


def _fault(images: DataFrame, condition: str) -> str | None:
    """What keeps SQL from being a condition on one row; None where nothing does."""
    try:
        with _lenient(images.sparkSession):
            # Of one row: an aggregate has no place in `where`, and columns that are not there none in `select`.
            plan = images.where(F.expr(condition))._jdf.queryExecution().analyzed()
            (held,) = images.select(F.expr(condition)).dtypes
    except (AnalysisException, ParseException) as error:
        return re.sub(r"^\[[\w.]+\] ", "", str(error).strip().splitlines()[0])
    if held[1] != "boolean":
        return f"it gives {held[1]}, where true or false is expected"
    if not plan.deterministic() or _MOMENT.search(plan.toString()):
        return "it gives another answer at another time"
    return None


def broken(images: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """The rules that take images out.

    Args:
        images: Table images.
        rules: SQL conditions by name. One that is null for an image does not hold: where a column of it is null, or
            what it says cannot be a number.

    Returns:
        image_id, why: a row for each image and rule that holds.
    """
    if not rules:
        return images.select("image_id", F.lit("").alias("why")).limit(0)
    with _lenient(images.sparkSession):
        each = [
            F.when(F.expr(condition), F.lit(f"{name}: {' '.join(condition.split())}"))
            for name, condition in rules.items()
        ]
        return _known_fields(images).select("image_id", F.explode(F.array_compact(F.array(*each))).alias("why"))


def _lenient(spark: SparkSession) -> AbstractContextManager[None]:
    """A cast that fails, a division by zero give null: one field of one image would end the whole filter."""
    return overridden(spark, {"spark.sql.ansi.enabled": "false"})


def _known_fields(images: DataFrame) -> DataFrame:
    """What a rule may speak of: all columns but the bytes of the picture."""
    return images.drop("image")
