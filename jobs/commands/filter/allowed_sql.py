"""What the SQL of a rule may contain: columns, values, and functions that compute a value from them.

A rule may come from another person, so it must not read files or other tables, call Java, or raise errors; and it must
give the same result tomorrow. Winnow allows what is known to be harmless and refuses the rest. It looks twice: at the
names before the analysis, because the analysis of a subquery reads files and that of `reflect` loads a Java class; and
at the analysed expression, because only the analysis shows what a name stands for.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from pyspark.sql import DataFrame, SparkSession

_EXPRESSIONS = "org.apache.spark.sql.catalyst.expressions."


def _set(names: str) -> frozenset[str]:
    return frozenset(names.split())


# Groups of functions, as in the index of Spark's SQL functions. The other groups hold aggregates, and functions that
# call Java, raise errors, tell the file, the user or the session (misc), or read files (xml, protobuf).
_GROUPS = _set("""
    array_funcs bitwise_funcs collection_funcs conditional_funcs conversion_funcs csv_funcs datetime_funcs hash_funcs
    json_funcs lambda_funcs map_funcs math_funcs predicate_funcs string_funcs struct_funcs url_funcs variant_funcs
""")
# Functions of these groups that depend on the time of the run, or on other rows.
_REFUSED = _set("""
    curdate current_date current_time current_timestamp localtimestamp now session_window window window_time
""")
# Parts of an expression that are no functions, and what some functions and operators become in the analysis.
_PARTS = _set("""
    Alias AttributeReference CommonExpressionDef CommonExpressionRef LambdaFunction Literal NamedLambdaVariable
    ResolvedCollation SortOrder TryEval TypedNullLiteral With
    GetArrayItem GetArrayStructFields GetMapValue GetStructField LikeAll LikeAny NotLikeAll NotLikeAny
    BinaryPad BinaryPredicate Ceil Collate Contains EndsWith Floor Mask RoundCeil RoundFloor StartsWith StringDecode
    StringLPad StringRPad ToCharacter variant.ParseJson variant.VariantGet
    DateAddInterval DateAddYMInterval DatetimeSub ExtractANSIIntervalDays ExtractANSIIntervalHours
    ExtractANSIIntervalMinutes ExtractANSIIntervalMonths ExtractANSIIntervalSeconds ExtractANSIIntervalYears Hour
    MakeTimestamp MakeTimestampFromDateTime MakeTimestampNTZ Minute Second SecondWithFraction SubtractDates
    SubtractTimestamps TimestampAddInterval TimestampAddYMInterval TryMakeTimestamp TryMakeTimestampFromDateTime
""")
# What the parser makes of subqueries, and of names that are only computed in the analysis: these may hide a function.
_NAMED_OTHERWISE = {
    **dict.fromkeys(_set("Exists InSubquery LateralSubquery ListQuery ScalarSubquery"), "a subquery"),
    "ExpressionWithUnresolvedIdentifier": "identifier",
}
# Spark reads these texts as the time of the run.
_MOMENTS = _set("now today tomorrow yesterday")
_TYPED_MOMENT = re.compile(rf"\b(date|timestamp\w*)\s*['\"]\s*({'|'.join(sorted(_MOMENTS))})\b", re.IGNORECASE)


def fault_of_names(spark: SparkSession, condition: str) -> str | None:
    """Returns which functions of Spark or subqueries a condition names that a rule may not use; None if there are none.

    Args:
        spark: The running session.
        condition: The SQL text of the condition.

    Raises:
        ParseException: The text is not an SQL expression.
    """
    refused, _ = _functions(spark._jvm)
    parsed = list(_nodes(spark._jsparkSession.sessionState().sqlParser().parseExpression(condition)))
    called = {str(node.nameParts().last()).lower() for node in parsed if _class(node) == "UnresolvedFunction"}
    others = {_NAMED_OTHERWISE[_class(node)] for node in parsed if _class(node) in _NAMED_OTHERWISE}
    return _message((called & refused) | others)


def fault(filtered: DataFrame, condition: str) -> str | None:
    """Returns what a condition contains that a rule may not contain; None if it may be a rule.

    Args:
        filtered: The images that `DataFrame.where` selects by the condition.
        condition: The SQL text of the condition.
    """
    plan = filtered._jdf.queryExecution().analyzed()
    if _class(plan) != "Filter":  # Spark put more around it, as it does to read _metadata
        return "it reads where a row is stored (_metadata), but a rule may only compute with the columns of one image"
    _, classes = _functions(filtered.sparkSession._jvm)
    nodes = list(_nodes(plan.condition()))
    refused = {str(node.prettyName()).lower() for node in nodes if node.getClass().getName() not in classes}
    if refused:
        return _message(refused)
    if not plan.deterministic() or _TYPED_MOMENT.search(condition) or _has_moment(nodes):
        return "its result changes from run to run"
    return None


def _message(refused: set[str]) -> str | None:
    if not refused:
        return None
    return (
        f"it uses {', '.join(sorted(refused))}, but a rule may only compute with the columns of one image: without "
        "subqueries, aggregates and functions of your own, and without functions that read files, call Java, raise "
        "errors, or depend on the time, the user or the session"
    )


@cache
def _functions(jvm: Any) -> tuple[frozenset[str], frozenset[str]]:
    """Returns the names of Spark's functions that a rule may not use, and the Java classes that it may contain."""
    every = list(jvm.org.apache.spark.sql.api.python.PythonSQLUtils.listBuiltinFunctionInfos())
    names = {each.getName() for each in every}
    allowed = {each.getName(): each.getClassName() for each in every if each.getGroup() in _GROUPS}
    harmless = {name: made for name, made in allowed.items() if name not in _REFUSED}
    classes = {*harmless.values(), *(_EXPRESSIONS + part for part in _PARTS)}
    return frozenset(names - harmless.keys()), frozenset(classes)


def _nodes(expression: Any) -> Iterator[Any]:
    """Yields an expression of Catalyst and all that it contains."""
    yield expression
    children = expression.children()
    for place in range(children.size()):
        yield from _nodes(children.apply(place))


def _class(node: Any) -> str:
    return str(node.getClass().getSimpleName())


def _has_moment(nodes: list[Any]) -> bool:
    """Whether an expression about times contains a text such as 'today'."""
    about_times = any(node.dataType().typeName().startswith(("date", "timestamp")) for node in nodes)
    texts = {str(node.value()).strip().lower() for node in nodes if _class(node) == "Literal"} if about_times else set()
    return bool(texts & _MOMENTS)
