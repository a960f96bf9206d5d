"""The inputs, settings and results behind a curated set as JSON values, to reproduce it or to compare two sets."""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.facts import decisions, duplicates, sentences
from jobs.facts.funnel import filtered_by, funnel
from jobs.facts.weights import reach
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Commit
from jobs.origins.readings import counted_once
from jobs.runtime.version import version_of

_SOURCES = 50
_KEYWORDS = 20
_REASONS = 50
_SOFTWARE = ("pyspark", "delta-spark", "onnxruntime", "numpy", "scipy", "pandas", "pyarrow", "pillow")


def origin(lake: Lake) -> dict[str, Any]:
    """Returns the origin of a set: sources, counts, tables with their versions and settings, models, software.

    Args:
        lake: Any table may be missing.

    Returns:
        `counts` (null if no command has counted it), `quarantine` and `filtered_by` (counts by reason), `sources`,
        `decisions` (images that people keep and drop), `tables`, `models`, `thresholds`, `dedup`, `weights`,
        `keywords` (those that filtering moved significantly) and `software`; JSON values only, null for NaN.
    """
    now = lake.snapshot()
    commits = {table.name: commit for table in tables.ALL if (commit := now.commit(table))}
    encoder, semantic = (_setting(commits.get(tables.CURATED.name), name) for name in ("encoder", "semantic"))
    return {
        "counts": _counts(lake, commits),
        "quarantine": _by_reason(lake.read(tables.QUARANTINE)),
        "filtered_by": filtered_by(lake.read(tables.VERDICTS)),
        "decisions": _decisions(lake) if tables.DECISIONS.name in commits else None,
        "sources": _sources(counted_once(lake.read(tables.SOURCES), lake.read(tables.SUPERSEDED))),
        "tables": {name: _commit(commit) for name, commit in sorted(commits.items())},
        "models": {
            "encoder": encoder,
            "semantic": semantic,
            "classifiers": _setting(commits.get(tables.VERDICTS.name), "models") or {},
        },
        "thresholds": _rows(lake.read(tables.THRESHOLDS).orderBy("category")),
        "dedup": _last(duplicates.whole_search(lake.read(tables.DEDUP_QUALITY))),
        "weights": _weights(lake),
        "keywords": moved(lake.read(tables.KEYWORD_SHIFT)),
        "software": software(),
    }


def _weights(lake: Lake) -> dict[str, Any] | None:
    """The quality of the weights, and how much more is beyond reach than expected by chance."""
    found = lake.read(tables.WEIGHT_QUALITY).collect()
    if not found:
        return None
    lost = reach(lake, found[-1])
    excess = {} if lost is None else {"excess": lost.excess, "excess_low": lost.low, "excess_high": lost.high}
    return {**_values(found[-1]), **{f"beyond_reach_{name}": value for name, value in excess.items()}}


def _decisions(lake: Lake) -> dict[str, int]:
    found = decisions.decisions(lake)
    return {"kept": found.kept, "dropped": found.dropped}


def software() -> dict[str, str]:
    """Returns name and version of the software that made the set."""
    return {name: version_of(name) for name in ("winnow", *_SOFTWARE)}


def made_from(commit: Commit) -> dict[str, Any]:
    """Returns version and time of a table; the time tells apart two lakes that were made in the same place."""
    return {"version": commit.version, "written_at": _time(commit.written_at)}


def _counts(lake: Lake, commits: Mapping[str, Commit]) -> dict[str, int | None]:
    counted = (tables.IMAGES, tables.VERDICTS, tables.DUPLICATES, tables.WEIGHTS)
    rows = lake.counts(table for table in (*counted, tables.CURATED) if table.name in commits)
    curated = rows.pop(tables.CURATED.name, None)
    funnel_counts = funnel(lake, rows)
    if funnel_counts is None:
        return {"curated": curated}
    read = ("rows_read", "repeats", "quarantined")
    # Without the table sources, the 0 of the funnel means unknown.
    counts = {name: getattr(funnel_counts, name) if tables.SOURCES.name in commits else None for name in read}
    later = {name: getattr(funnel_counts, name) for name in ("images", "filtered", "duplicates")}
    return {**counts, **later, "curated": curated}


def _by_reason(rows: DataFrame) -> dict[str, int]:
    counted = rows.groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(_REASONS)
    return {row["reason"]: row["count"] for row in counted.collect()}


def _sources(sources: DataFrame) -> list[dict[str, Any]]:
    """Shards and files grouped by folder, the largest first; at most `_SOURCES` rows. A source counts once."""
    folder = F.when(F.col("format") == "folder", F.col("source")).otherwise(
        F.coalesce(F.nullif(F.regexp_extract("source", "^(.*)/[^/]*$", 1), F.lit("")), "source")
    )
    counted = sources.groupBy(folder.alias("source"), "format").agg(
        F.count("*").alias("parts"), F.sum("rows").alias("rows"), F.sum("images").alias("images")
    )
    return _rows(counted.orderBy(F.desc("images"), "source", "format").limit(_SOURCES))


def moved(shifts: DataFrame) -> list[dict[str, Any]]:
    """Returns the keywords that filtering moved significantly, as in the report; large shifts of rare words are noise.

    Args:
        shifts: The table keyword_shift; the keyword lists and `audit.movers` bound its size.
    """
    return [_values(row) for row in sentences.notable(shifts.collect(), _KEYWORDS)]


def _commit(commit: Commit) -> dict[str, Any]:
    recipe = commit.recipe
    made: dict[str, Any] = {"command": None, "inputs": {}, "settings": {}}
    if recipe:
        made = {"command": recipe.command, "inputs": dict(recipe.inputs), "settings": dict(recipe.settings)}
    return {**made_from(commit), **made}


def _setting(commit: Commit | None, name: str) -> Any:
    return commit.recipe.settings.get(name) if commit and commit.recipe else None


def _rows(rows: DataFrame) -> list[dict[str, Any]]:
    return [_values(row) for row in rows.collect()]


def _values(row: Row) -> dict[str, Any]:
    return {name: _finite(value) for name, value in row.asDict().items()}


def _last(rows: DataFrame) -> dict[str, Any] | None:
    found = _rows(rows)  # one row per run; the table keeps the last
    return found[-1] if found else None


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not isfinite(value) else value


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
