"""Files of labels: reads and writes CSV, JSON Lines and Parquet, and reads the JSON export of Label Studio."""

import csv
import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame, DataFrameReader, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from jobs.runtime.addresses import require_no_secret
from jobs.runtime.scratch import literal
from jobs.runtime.whole_file import replacing
from jobs.sources import files
from models.errors import WinnowError

COLUMNS = ("key", "image_id", "category", "label", "origin", "annotator", "labelled_at")
"""Columns of a label file; required are category, label, and key or image_id."""

UNREADABLE = "unreadable"
"""A column beside `COLUMNS`: the text of a line that could not be parsed."""

_TEXT = T.StructType([T.StructField(name, T.StringType()) for name in (*COLUMNS, UNREADABLE)])
_TASKS = (
    "data map<string, string>, annotations array<struct<was_cancelled: boolean, completed_by: string, "
    "created_at: string, updated_at: string, result: array<struct<from_name: string, type: string, "
    f"value: struct<choices: array<string>>>>>>, {UNREADABLE} string"
)
_ROWS_OF_A_BATCH = 10_000
_READ = (".csv", ".jsonl", ".ndjson", ".parquet", ".json")
_WRITTEN = (".csv", ".jsonl", ".ndjson", ".parquet")


def read(spark: SparkSession, file: str) -> DataFrame:
    """Reads the rows of a label file as text, without checks.

    Args:
        spark: The session.
        file: Path or address that the workers can read, or a pattern with `*`, `?` or `[…]`. Its ending decides the
            format: `.csv` with a header, `.jsonl` or `.ndjson`, `.parquet`, or `.json` as Label Studio exports it.

    Returns:
        `COLUMNS` and `UNREADABLE`, all string.

    Raises:
        WinnowError: The file does not exist, has an unknown format or a secret in its address, or lacks a required
            column.
    """
    readers: dict[str, Callable[[DataFrameReader, list[str], str], DataFrame]] = {
        ".csv": _read_csv,
        ".jsonl": _read_json_lines,
        ".ndjson": _read_json_lines,
        ".parquet": _read_parquet,
        ".json": _read_label_studio,
    }
    paths = [literal(files.spark_path(path)) for path in paths_of(file)]
    try:
        return readers[_ending(file, readers)](spark.read, paths or [file], file)
    except AnalysisException as error:
        raise WinnowError(f"label file {file} cannot be read: {str(error).splitlines()[0]}") from error
    except Py4JJavaError as error:
        raise WinnowError(f"label file {file} cannot be read: it is damaged, or no {Path(file).suffix} file") from error


def paths_of(file: str) -> list[str]:
    """Returns the files behind the address of a label file; reads none of them, and needs no Spark.

    Args:
        file: As for `read`.

    Returns:
        The files; none for an address elsewhere that only Spark can list.

    Raises:
        WinnowError: The file does not exist, has an unknown format or a secret in its address.
    """
    _ending(file, _READ)
    # A path that exists is no pattern, whatever characters it has.
    found = files.expand(files.absolute(file))
    if files.is_local(file) and not any(map(files.kind, found)):
        raise WinnowError(f"label file {file} cannot be read: no file matches this path: check it")
    return found


def write(rows: Iterable[dict[str, Any]], file: str) -> None:
    """Writes labels to a local file, a batch at a time, whole or not at all.

    Args:
        rows: Labels, each with `COLUMNS`.
        file: Local path. Its ending decides the format: `.csv`, `.jsonl` or `.ndjson`, `.parquet`.

    Raises:
        WinnowError: The format is unknown, or the file cannot be written.
    """
    writers: dict[str, Callable[[Iterator[dict[str, Any]], Path], None]] = {
        ".csv": _write_csv,
        ".jsonl": _write_json_lines,
        ".ndjson": _write_json_lines,
        ".parquet": _write_parquet,
    }
    writer, target = writers[_ending(file, writers)], Path(file)
    try:
        with replacing(target) as part:
            writer(iter(rows), part)
    except OSError as error:
        raise WinnowError(f"label file {file} cannot be written: {error.strerror}") from error


def require_writable(file: str) -> None:
    """Checks that labels can be written to a file of this name.

    Raises:
        WinnowError: The format is unknown, or its folder does not exist.
    """
    _ending(file, _WRITTEN)
    if not Path(file).absolute().parent.is_dir():
        raise WinnowError(f"label file {file} cannot be written: there is no folder {Path(file).absolute().parent}")


def _ending(file: str, known: Iterable[str]) -> str:
    require_no_secret(file)
    ending = Path(file.rstrip("/")).suffix.lower()
    if ending not in known:
        raise WinnowError(f"label file {file} has an unknown ending: use one of {', '.join(known)}")
    return ending


# Reading ------------------------------------------------------------------------------------------------------------


def _read_csv(reader: DataFrameReader, paths: list[str], file: str) -> DataFrame:
    # With multiLine, Spark would take a name with brackets for a pattern while it looks for the header.
    header = reader.csv(paths, header=True, escape='"').schema
    if header.names:
        reader = reader.schema(header)
    return _as_text(reader.csv(paths, header=True, multiLine=True, escape='"'), file)


def _read_parquet(reader: DataFrameReader, paths: list[str], file: str) -> DataFrame:
    return _as_text(reader.parquet(*paths), file)


def _read_json_lines(reader: DataFrameReader, paths: list[str], _file: str) -> DataFrame:
    return reader.json(paths, schema=_TEXT, columnNameOfCorruptRecord=UNREADABLE)


def _as_text(rows: DataFrame, file: str) -> DataFrame:
    present = {name.strip().lower(): name for name in rows.columns}
    missing = [name for name in ("category", "label") if name not in present]
    if not {"key", "image_id"} & set(present):
        missing.insert(0, "image_id (or key)")
    if missing:
        raise WinnowError(f"label file {file} lacks the columns {', '.join(missing)}; it has {', '.join(rows.columns)}")

    def text(name: str) -> Column:
        source = rows[f"`{present[name]}`"] if name in present else F.lit(None)
        return source.cast("string").alias(name)

    return rows.select(*[text(name) for name in COLUMNS], F.lit(None).cast("string").alias(UNREADABLE))


def _read_label_studio(reader: DataFrameReader, paths: list[str], file: str) -> DataFrame:
    tasks = reader.json(paths, schema=_TASKS, multiLine=True, columnNameOfCorruptRecord=UNREADABLE)
    unfit = F.col(UNREADABLE).isNotNull() | F.col("data").isNull() | F.col("annotations").isNull()
    if tasks.where(unfit).head(1):
        remedy = "export the project as JSON (not JSON-MIN), or name a file of JSON lines .jsonl"
        raise WinnowError(f"label file {file} is not a JSON export of Label Studio: {remedy}")
    return label_studio_labels(tasks)


def label_studio_labels(tasks: DataFrame) -> DataFrame:
    """Returns the labels in Label Studio's tasks: one for each choice of each annotation that was not cancelled.

    The task's `image_id` (or `key`) names the image, the name of the control is the category, its choice is the label.

    Args:
        tasks: data (map of string), annotations (array), as Label Studio exports them.

    Returns:
        `COLUMNS` and `UNREADABLE`, all string.
    """
    annotations = tasks.select("data", F.explode("annotations").alias("a"))
    finished = annotations.where(~F.coalesce("a.was_cancelled", F.lit(False)))
    results = finished.select("data", "a", F.explode("a.result").alias("r")).where(F.col("r.type") == "choices")
    person = F.coalesce(F.get_json_object("a.completed_by", "$.email"), "a.completed_by")
    return results.select(
        F.col("data")["key"].alias("key"),
        F.col("data")["image_id"].alias("image_id"),
        F.col("r.from_name").alias("category"),
        F.explode("r.value.choices").alias("label"),
        F.col("data")["origin"].alias("origin"),
        person.alias("annotator"),
        F.coalesce("a.updated_at", "a.created_at").alias("labelled_at"),
        F.lit(None).cast("string").alias(UNREADABLE),
    )


# Writing ------------------------------------------------------------------------------------------------------------


def _write_csv(rows: Iterator[dict[str, Any]], file: Path) -> None:
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        for row in rows:
            writer.writerow({**row, "label": str(row["label"]).lower()})


def _write_json_lines(rows: Iterator[dict[str, Any]], file: Path) -> None:
    with file.open("w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps({name: row[name] for name in COLUMNS}, ensure_ascii=False) + "\n")


def _write_parquet(rows: Iterator[dict[str, Any]], file: Path) -> None:
    schema = pa.schema([(name, pa.bool_() if name == "label" else pa.string()) for name in COLUMNS])
    with pq.ParquetWriter(file, schema) as out:
        while batch := list(islice(rows, _ROWS_OF_A_BATCH)):
            out.write_table(pa.Table.from_pylist(batch, schema))
