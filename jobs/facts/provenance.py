"""The provenance of tables: command, version, time and inputs; the models in use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.lake.lake import Lake
from jobs.lake.recipe import Version
from jobs.lake.snapshot import Snapshot
from jobs.lake.tables import Table

_MODELS = 40


@dataclass(frozen=True)
class Provenance:
    """The provenance of one table; `seconds` counts from the start of the command, `size` is in bytes on disk."""

    table: str
    command: str
    version: int
    rows: int
    written_at: datetime
    inputs: Mapping[str, Version | None]
    seconds: float | None = None
    size: int | None = None


def provenance(lake: Lake, now: Snapshot, wanted: Iterable[Table]) -> tuple[Provenance, ...]:
    """Returns the provenance of the newest version of each table that exists."""
    commits = {table: commit for table in wanted if (commit := now.commit(table))}
    rows = lake.counts(commits)
    return tuple(
        Provenance(
            table=table.name,
            command=commit.recipe.command if commit.recipe else "",
            version=commit.version,
            rows=rows[table.name],
            written_at=commit.written_at,
            inputs=commit.recipe.inputs if commit.recipe else {},
            seconds=commit.seconds,
            size=lake.bytes_of(table),
        )
        for table, commit in commits.items()
    )


def models_used(rows: DataFrame, *columns: str) -> tuple[Row, ...]:
    """Returns the models behind the rows of signals or scores, and the number of images of each."""
    counts = rows.groupBy(*columns).agg(F.count("*").alias("images"))
    return tuple(counts.orderBy(F.desc("images"), *columns).limit(_MODELS).collect())
