"""What the tables of a lake hold, read without Spark, so that lakes of other processes can be compared."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from jobs.lake import tables

# Ids that each run makes anew, and names that contain a time.
_OF_A_RUN = ("run", "batch")


def rows(lake: Path, name: str) -> list[dict[str, Any]]:
    """Returns the rows of a table; none if it does not exist.

    Args:
        lake: Folder of the lake.
        name: Name of the table.
    """
    if not (lake / name / "_delta_log").is_dir():
        return []
    return list(DeltaTable(lake / name).to_pyarrow_table().to_pylist())


def contents(lake: Path) -> dict[str, Counter[str]]:
    """Returns the rows of each table as text, with their numbers, without times and ids of runs.

    Rows of origins whose run is not in the table sources do not count: Winnow ignores them too.

    Args:
        lake: Folder of the lake.
    """
    counted = {row["run"] for row in rows(lake, "sources")}
    found = {}
    for name in sorted(folder.parent.name for folder in lake.glob("*/_delta_log")):
        kept = [row for row in rows(lake, name) if name != tables.ORIGINS.name or row["run"] in counted]
        left_out = {*_OF_A_RUN, *_times(lake / name)}
        found[name] = Counter(_text({key: row[key] for key in row.keys() - left_out}) for row in kept)
    return found


def differences(expected: Path, found: Path) -> list[str]:
    """Returns a line for each table that differs between two lakes.

    Args:
        expected: Folder of the lake with the right rows.
        found: Folder of the other lake.
    """
    right, other = contents(expected), contents(found)
    lines = []
    for name in sorted(right.keys() | other.keys()):
        lost, more = (
            right.get(name, Counter()) - other.get(name, Counter()),
            other.get(name, Counter()) - right.get(name, Counter()),
        )
        if lost or more or (name in right) != (name in other):
            example = next(iter([*lost, *more]), "the table itself")[:300]
            lines.append(f"{name}: {lost.total()} rows lost, {more.total()} rows more, such as {example}")
    return lines


def _times(table: Path) -> list[str]:
    schema = pa.schema(DeltaTable(table).schema().to_arrow())
    return [field.name for field in schema if pa.types.is_timestamp(field.type)]


def _text(row: dict[str, Any]) -> str:
    return json.dumps(
        row, sort_keys=True, default=lambda value: value.hex() if isinstance(value, bytes) else str(value)
    )
