"""What a rule in SQL may contain."""

import re
import tomllib
from pathlib import Path

import pytest

from jobs.commands.filter import sql_rules

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/filtering.md").read_text()
SHOWN = tomllib.loads(re.search(r"```toml\n(\[filter\.rules\]\n.*?)```", PAGE, re.DOTALL)[1])

ALLOWED = [
    *SHOWN["filter"]["rules"].values(),
    *[tomllib.loads(file.read_text())["filter"]["rules"][file.stem] for file in sorted(ROOT.glob("conf/rules/*.toml"))],
    "exists(split(caption, ' '), word -> word like 'a%') or aggregate(array(width), 0, (sum, x) -> sum + x) > 3",
    "caption rlike '(?i)foo' and not caption ilike 'x%' and caption like any ('a', 'b')",
    "from_json(meta, 'a int').a > 3 or from_csv(caption, 'a int').a > 3 or str_to_map(caption)['a'] = 'b'",
    "width between 3 and 4 or nullif(width, 3) % 2 = 0 or round(width / height, 2) > 1 or ceil(width / 3) > 3",
    "cast(caption as date) < date'2020-01-01' - interval 1 day or year(cast(caption as timestamp)) = 2020",
    "case when width > 3 then caption = 'now' else format in ('PNG', 'GIF') end",
    "trim(both 'x' from caption) = '' or position('a' in caption) > 0 or split(caption, ' ')[0] is distinct from 'x'",
    "parse_url(key, 'HOST') = 'example.org' or crc32(caption) % 10 = 0 or startswith(key, 'x')",
    "isnotnull(variant_get(parse_json(meta), '$.a', 'int')) or caption collate UTF8_LCASE = 'a'",
]
REFUSED = {
    "(select count(*) from csv.`/nosuch`) > 0": "a subquery",
    "exists (select 1 from others)": "a subquery",
    "width in (select width from others)": "a subquery",
    "exists(array(1), x -> x = (select 1))": "a subquery",
    "java_method('nosuch.Class', 'm') = 'x'": "java_method",
    "REFLECT('nosuch.Class', 'm') = 'x'": "reflect",
    "system.builtin.reflect('nosuch.Class', 'm') = 'x'": "reflect",
    "try_reflect('nosuch.Class', 'm') = 'x'": "try_reflect",
    "isnull(raise_error('x'))": "raise_error",
    "exists(split(caption, ' '), word -> isnull(raise_error(word)))": "raise_error",
    "assert_true(width > 3) is null": "assert_true",
    "input_file_name() = 'x'": "input_file_name",
    "input_file_block_start() > 3": "input_file_block_start",
    "from_protobuf(cast(meta as binary), 'm', '/nosuch').a = 3": "from_protobuf",
    "from_xml(meta, 'a int', map('rowValidationXSDPath', '/nosuch')).a = 3": "from_xml",
    "xpath_int(meta, 'a') = 3": "xpath_int",
    "current_date() > cast(caption as date)": "current_date",
    "current_date > cast(caption as date)": "current_date",
    "now() > cast(caption as timestamp)": "now",
    "unix_timestamp() > 3": "current_timestamp",
    "current_user() = 'x'": "current_user",
    "session_user = 'x'": "current_user",
    "current_database() = 'x'": "current_database",
    "current_catalog() = 'x'": "current_catalog",
    "version() = 'x'": "version",
    "uuid() = 'x'": "uuid",
    "monotonically_increasing_id() > 3": "monotonically_increasing_id",
    "spark_partition_id() = 0": "spark_partition_id",
    "max(width) > 3": "max",
    "row_number() over (order by width) > 3": "row_number",
    "explode(array(true))": "explode",
    "window(cast(caption as timestamp), '1 day').start > date'2020-01-01'": "window",
}
CHANGING = [
    "rand() < 0.5",
    "uniform(0, 10, 7) > 3",
    "shuffle(array(width, height))[0] > 3",
    "cast(caption as date) < 'yesterday'",
    "to_date('today') > cast(caption as date)",
    "cast(caption as date) < date'today'",
    "cast(caption as timestamp) < timestamp 'now'",
]


@pytest.fixture(scope="module")
def images(spark):
    spark.udf.register("of_python", lambda number: number, "int")
    names = ("image_id", "key", "source", "caption", "format", "meta")
    return spark.range(0).selectExpr(
        *[f"cast(id as string) {name}" for name in names], "cast(id as int) width", "cast(id as int) height"
    )


def test_conditions_on_the_columns_of_one_image_are_allowed(images) -> None:
    assert len(ALLOWED) >= 17
    assert sql_rules.faults(images, {f"rule_{i}": condition for i, condition in enumerate(ALLOWED)}) == []


def test_what_reads_files_calls_java_raises_errors_or_tells_the_session_is_refused_by_name(images) -> None:
    found = sql_rules.faults(images, {f"rule_{i}": condition for i, condition in enumerate(REFUSED)})

    assert len(found) == len(REFUSED)
    for fault, (condition, name) in zip(found, REFUSED.items(), strict=True):
        assert f"{condition!r} is not a condition on an image: it uses {name}, but a rule may only compute" in fault
        assert "\n" not in fault


def test_a_function_of_the_users_session_is_unknown(images) -> None:
    (fault,) = sql_rules.faults(images, {"own": "of_python(width) > 3"})
    assert "Cannot resolve routine `of_python`" in fault and "\n" not in fault


def test_a_function_may_not_hide_behind_identifier(images) -> None:
    (fault,) = sql_rules.faults(images, {"hidden": "identifier('ref' || 'lect')('nosuch.Class', 'm') = 'x'"})

    # Spark may put the name together before or after the first look.
    assert re.search("it uses (identifier|reflect),", fault) and "\n" not in fault


def test_a_condition_that_changes_from_run_to_run_is_refused(images) -> None:
    found = sql_rules.faults(images, {f"rule_{i}": condition for i, condition in enumerate(CHANGING)})

    assert [fault.rpartition(": ")[2] for fault in found] == ["its result changes from run to run"] * len(CHANGING)


def test_a_fault_of_spark_itself_is_one_line(images) -> None:
    (fault,) = sql_rules.faults(images, {"unsafe": "meta:punsafe > 0.9"})

    assert "filter.rules.unsafe = 'meta:punsafe > 0.9' is not a condition on an image: " in fault and "\n" not in fault
