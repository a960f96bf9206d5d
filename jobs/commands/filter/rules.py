"""Rules of `filter`: SQL conditions on the columns of the table images, except the bytes."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager

from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from jobs.runtime.session import overridden
from models.errors import SettingsError

# Functions that Spark treats as constant within one query, although they change between queries.
_MOMENT = re.compile(r"\b(current_date|current_time|current_timestamp|localtimestamp|now|current_user)\(")


def check(images: DataFrame, rules: Mapping[str, str]) -> None:
    """Checks that every rule is a condition on one image, before work begins.

    Args:
        images: Table images.
        rules: SQL conditions by name.

    Raises:
        SettingsError: Some rules are not; the message names all of them.
    """
    faults = []
    for name, condition in rules.items():
        fault = _fault(_columns_without_bytes(images), condition)
        if fault:
            faults.append(f"filter.rules.{name} = {condition!r} is not a condition on an image: {fault}")
    if faults:
        raise SettingsError("; ".join(faults))


def _fault(images: DataFrame, condition: str) -> str | None:
    """Returns why an SQL expression is not a condition on one row; None if it is one."""
    try:
        with _lenient(images.sparkSession):
            # `where` rejects aggregates, and `select` rejects unknown columns.
            plan = images.where(F.expr(condition))._jdf.queryExecution().analyzed()
            (column,) = images.select(F.expr(condition)).dtypes
    except (AnalysisException, ParseException) as error:
        return re.sub(r"^\[[\w.]+\] ", "", str(error).strip().splitlines()[0])
    if column[1] != "boolean":
        return f"it returns {column[1]}, but must return true or false"
    if not plan.deterministic() or _MOMENT.search(plan.toString()):
        return "its result changes from run to run"
    return None


def broken(images: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """Returns the rules that remove each image.

    Args:
        images: Table images.
        rules: SQL conditions by name. A condition that is null for an image does not hold, for example because a
            column is null or a text is not a number.

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
        return _columns_without_bytes(images).select(
            "image_id", F.explode(F.array_compact(F.array(*each))).alias("why")
        )


def _lenient(spark: SparkSession) -> AbstractContextManager[None]:
    """Makes failed casts and divisions by zero null, so that one field of one image does not stop the filter."""
    return overridden(spark, {"spark.sql.ansi.enabled": "false"})


def _columns_without_bytes(images: DataFrame) -> DataFrame:
    """Returns the columns that a rule may use: all but the bytes of the image."""
    return images.drop("image")
