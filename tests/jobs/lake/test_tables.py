"""Every table says what it and its columns are, here and in Delta."""

import pytest
from pyspark.sql import functions as F

from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe


@pytest.mark.parametrize("table", tables.ALL, ids=lambda table: table.name)
def test_every_column_has_a_description_on_one_short_line(table: tables.Table) -> None:
    for name in table.schema.names:
        text = table.description(name)
        assert text and text == text.strip() and not text.endswith("."), f"{table.name}.{name}"
        assert len(text) < 100 and "\n" not in text and text != name, f"{table.name}.{name}"


def test_the_tables_of_the_module_are_all_listed_once() -> None:
    declared = [value for value in vars(tables).values() if isinstance(value, tables.Table)]

    assert sorted(table.name for table in tables.ALL) == sorted(table.name for table in declared)
    assert all(table.later <= set(table.schema.names) >= set(table.partition) for table in tables.ALL)


def comments(lake: Lake, table: tables.Table) -> dict[str, str | None]:
    rows = lake.spark.sql(f"DESCRIBE TABLE delta.`{lake.path(table.name)}`").collect()
    return {row.col_name: row.comment for row in rows if row.col_name in table.schema.names}


def test_delta_has_the_comments_once_a_table_is_written_or_replaced(lake: Lake) -> None:
    wanted = {name: tables.VERDICTS.description(name) for name in tables.VERDICTS.schema.names}
    rows = lake.spark.createDataFrame(
        [("a" * 32, True, [], None)], "image_id string, kept boolean, reasons array<string>, kept_because string"
    )
    lake.append(tables.VERDICTS, rows, Recipe("filter"))
    assert comments(lake, tables.VERDICTS) == wanted
    rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(lake.path("verdicts"))
    assert set(comments(lake, tables.VERDICTS).values()) == {None}

    # A comment of another column, which the rows bring along, is not taken over.
    other = lake.spark.createDataFrame([("b" * 32, True, [], None)], tables.VERDICTS.schema)
    lake.replace(
        tables.VERDICTS,
        other.withColumn("kept", F.col("kept").alias("kept", metadata={"comment": "x"})),
        Recipe("filter"),
    )

    assert comments(lake, tables.VERDICTS) == wanted
    assert [row.image_id for row in lake.read(tables.VERDICTS).collect()] == ["b" * 32]


def test_an_older_table_without_comments_takes_rows_and_comments_on_its_new_columns(lake: Lake) -> None:
    older = [field for field in tables.QUARANTINE.schema if field.name not in tables.QUARANTINE.later]
    schema = ", ".join(f"{field.name} {field.dataType.simpleString()}" for field in older)
    values = ("shard.tar", "1", "read", "no image", "")
    lake.mark()
    lake.spark.createDataFrame([values], schema).write.format("delta").save(lake.path("quarantine"))

    lake.append(
        tables.QUARANTINE,
        lake.spark.createDataFrame(
            [("shard.tar", "2", "score", "truncated", "", "a" * 32, None, None)], tables.QUARANTINE.schema
        ),
        Recipe("score"),
    )

    found = comments(lake, tables.QUARANTINE)
    for added in tables.QUARANTINE.later:
        assert found.pop(added) == tables.QUARANTINE.description(added)
    # Delta keeps what the table says of its own columns.
    assert set(found.values()) == {None}
    rows = lake.read(tables.QUARANTINE).select("key", "image_id").orderBy("key").collect()
    assert [tuple(row) for row in rows] == [("1", None), ("2", "a" * 32)]
