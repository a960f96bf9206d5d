"""Rules of `filter` that are SQL conditions on the columns of the table images, except the bytes."""

import re
from collections.abc import Mapping

from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, ParseException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.filter import allowed_sql
from jobs.runtime.session import in_session, with_settings


def faults(images: DataFrame, rules: Mapping[str, str]) -> list[str]:
    """Returns what is wrong with the rules: a line for each that is not a condition on one image.

    Args:
        images: Table images.
        rules: SQL conditions by name.
    """
    without_bytes = _lenient(images)
    found = {name: _fault(without_bytes, condition) for name, condition in rules.items()}
    return [
        f"filter.rules.{name} = {rules[name]!r} is not a condition on an image: {fault}"
        for name, fault in found.items()
        if fault
    ]


def _fault(images: DataFrame, condition: str) -> str | None:
    """Returns why an SQL expression is not a condition on one row; None if it is one."""
    try:
        fault = allowed_sql.fault_of_names(images.sparkSession, condition)
        if fault:
            return fault
        # `where` rejects aggregates, and `select` rejects unknown columns.
        filtered, (column,) = images.where(F.expr(condition)), images.select(F.expr(condition)).dtypes
    except (AnalysisException, ParseException) as error:
        return re.sub(r"^\[[\w.]+\] ", "", str(error).strip().splitlines()[0])
    except Py4JJavaError as error:  # a fault of Spark itself, as for `meta:punsafe > 0.9`
        return f"Spark cannot analyse it ({str(error.java_exception.getMessage()).splitlines()[0]})"
    if column[1] != "boolean":
        return f"it returns {column[1]}, but must return true or false"
    return allowed_sql.fault(filtered, condition)


def broken(images: DataFrame, rules: Mapping[str, str]) -> DataFrame:
    """Returns the rules that remove each image.

    Args:
        images: Table images.
        rules: SQL conditions by name, at least one. A condition that is null for an image does not hold, for example
            because a column is null or a text is not a number.

    Returns:
        image_id, why: a row for each image and rule that holds.
    """
    each = [
        F.when(F.expr(condition), F.lit(f"{name}: {' '.join(condition.split())}")) for name, condition in rules.items()
    ]
    whys = F.array_compact(F.array(*each))
    return _lenient(images).select("image_id", F.explode(whys).alias("why"))


def is_unknown(images: DataFrame, condition: str) -> bool:
    """Whether a condition is null for every image; reads no more images than it needs to find one with a result."""
    return _lenient(images).where(F.expr(condition).isNotNull()).isEmpty()


def _lenient(images: DataFrame) -> DataFrame:
    """Returns the columns that a rule may use, all but the bytes, in a session in which failed casts are null.

    Divisions by zero are null too: one field of one image does not stop the filter.
    """
    without_bytes = images.drop("image")
    return in_session(without_bytes, with_settings(images.sparkSession, {"spark.sql.ansi.enabled": "false"}))
