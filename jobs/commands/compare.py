"""`compare`: the runs of two lakes side by side, on the terminal and as a page."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F
from rich.table import Table

from jobs.facts import sentences
from jobs.facts.origin import origin
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.pages import template
from jobs.pages.charts.intervals import shift_chart
from jobs.runtime import terminal, wording
from jobs.runtime.whole_file import replacing
from jobs.runtime.wording import number, percent, recall_at_least, score, shift, signed
from models.errors import WinnowError

_KEYWORDS = 30
_STEPS = ("rows_read", "repeats", "quarantined", "images", "filtered", "duplicates", "curated")
_SHARES = (
    "recall", "recall_low", "recall_high", "recall_lower", "confidence", "beyond_reach", "beyond_reach_excess",
    "beyond_reach_excess_low", "beyond_reach_excess_high", "calibration_error",
)  # fmt: skip
_BEFORE = ("shift", "shift_low", "shift_high")
_AFTER = ("weighted_shift", "weighted_low", "weighted_high")
_NONE = "–"


@dataclass(frozen=True)
class Line:
    """One figure of both lakes as text, and the change from the first to the second."""

    name: str
    a: str
    b: str
    change: str = ""

    @property
    def differs(self) -> bool:
        """Whether the two texts differ."""
        return self.a != self.b


@dataclass(frozen=True)
class Section:
    """Figures of one kind, and a note on them."""

    title: str
    lines: tuple[Line, ...]
    note: str = ""


@dataclass(frozen=True)
class LakeComparison:
    """The comparison of two lakes.

    Attributes:
        a: Address of the first lake.
        b: Address of the second lake.
        counts: The counts of the funnel of both.
        sections: All figures.
        keywords: Shifts after weighing, in the form of the chart: the first lake as "before", the second as "after".
    """

    a: str
    b: str
    counts: tuple[Mapping[str, int | None], Mapping[str, int | None]]
    sections: tuple[Section, ...]
    keywords: tuple[Row, ...]


def run(job: Job, other: str, out: str | None = None) -> LakeComparison:
    """Compares the job's lake with another.

    Args:
        job: Its lake is the first one.
        other: Address of the second lake.
        out: An HTML file to write; None for none.

    Raises:
        WinnowError: A lake has no images, or the file cannot be written.
    """
    first, second = job.lake, job.lake.beside(other)
    for lake in (first, second):
        lake.require_made()
        lake.require_written(tables.IMAGES)
    with job.progress.step("compare: count"):
        a, b = origin(first), origin(second)
    with job.progress.step("compare: match images of both lakes"):
        overlap = _overlap(first, second)
    keywords = tuple(keyword_pairs(*[lake.read(tables.KEYWORD_SHIFT) for lake in (first, second)]).collect())
    found = LakeComparison(
        first.uri, second.uri, (a["counts"], b["counts"]), sections(a, b, overlap, keywords), keywords
    )
    if out:
        _write(Path(out), render(found))
        job.progress.note(f"wrote {out}")
    return found


def render(found: LakeComparison) -> str:
    """Returns the comparison as one HTML page that opens offline, without scripts.

    Args:
        found: Names and keywords in it are escaped.
    """
    # Words without an interval (if nothing was filtered) cannot be drawn.
    drawn = [row for row in found.keywords if row.shift_low is not None or row.weighted_low is not None]
    return template.template("compare.html.jinja").render(
        found=found,
        steps=_STEPS,
        whole=max(1, *(found.counts[side].get(name) or 0 for side in (0, 1) for name in _STEPS)),
        chart=shift_chart(drawn) if drawn else None,
        written_at=datetime.now(UTC),
        words=sentences,
        wording=wording,
        style=template.style(),
    )


def terminal_table(found: LakeComparison) -> Table:
    """Returns the comparison as a table for the terminal; equal figures are dimmed."""
    table = terminal.table("compare", ("", f"A: {found.a}", f"B: {found.b}", "change"))
    for place, column in enumerate(table.columns):
        column.overflow, column.justify = "fold", "right" if place else "left"
    for section in found.sections:
        table.add_row(terminal.cell(section.title, "bold"))
        if section.note:
            table.add_row(terminal.cell(f"  {section.note}", "dim"))
        for line in section.lines:
            terminal.add_row(table, f"  {line.name}", line.a, line.b, line.change, style="" if line.differs else "dim")
    return table


# Transforms ---------------------------------------------------------------------------------------------------------


def keyword_pairs(a: DataFrame, b: DataFrame) -> DataFrame:
    """Returns the keywords that filtering moved significantly in one of two lakes, then others; a bounded number.

    Args:
        a: The table keyword_shift of the first lake.
        b: The table keyword_shift of the second lake.

    Returns:
        keyword, shift, shift_low, shift_high (the first lake's shift after weighing), weighted_shift, weighted_low,
        weighted_high (the second's). In both kinds the largest difference comes first.
    """
    before = [F.col(name).alias(as_before) for name, as_before in zip(_AFTER, _BEFORE, strict=True)]
    one = a.select("keyword", *before, _significant().alias("notable_a"))
    two = b.select("keyword", *_AFTER, _significant().alias("notable_b"))
    # The largest differences of all belong to the rarest words, by chance.
    notable = F.coalesce("notable_a", F.lit(False)) | F.coalesce("notable_b", F.lit(False))
    difference = F.abs(F.col("weighted_shift") - F.col("shift"))
    order = (F.desc(notable), F.desc_nulls_last(difference), F.col("keyword"))
    both = one.join(two, "keyword", "full_outer").orderBy(*order).limit(_KEYWORDS)
    return both.select("keyword", *_BEFORE, *_AFTER)


def _significant() -> Column:
    """Whether a keyword is significant, as in `jobs.facts.sentences.notable`."""
    by_chance = F.coalesce(F.col("adjusted") > sentences.MAX_FALSE_DISCOVERY_RATE, F.lit(False))
    return ((F.col("shift_low") > 0) | (F.col("shift_high") < 0)) & ~by_chance


def fates(lake: Lake) -> DataFrame:
    """Returns image_id and kept (true in the curated set, otherwise null) of each image."""
    kept = lake.read(tables.WEIGHTS).select("image_id", F.lit(True).alias("kept"))
    return lake.read(tables.IMAGES).select("image_id").join(kept, "image_id", "left")


def _overlap(first: Lake, second: Lake) -> Mapping[str, int]:
    """Counts of the images in both lakes; without counts of curated images if a lake has no weights."""
    a = fates(first).select("image_id", F.lit(True).alias("in_a"), F.col("kept").alias("kept_a"))
    b = fates(second).select("image_id", F.lit(True).alias("in_b"), F.col("kept").alias("kept_b"))
    both = F.col("in_a") & F.col("in_b")
    counts = a.join(b, "image_id", "full_outer").agg(
        F.count_if(both).alias("images in both"),
        F.count_if(F.col("kept_a") & F.col("kept_b")).alias("curated in both"),
        F.count_if(both & F.col("kept_a") & F.col("kept_b").isNull()).alias("curated in A only"),
        F.count_if(both & F.col("kept_b") & F.col("kept_a").isNull()).alias("curated in B only"),
    )
    found = dict(counts.collect()[0].asDict())
    weighed = first.exists(tables.WEIGHTS) and second.exists(tables.WEIGHTS)
    return found if weighed else {"images in both": found["images in both"]}


# Figures ------------------------------------------------------------------------------------------------------------


def sections(
    a: Mapping[str, Any], b: Mapping[str, Any], overlap: Mapping[str, int], keywords: Sequence[Row]
) -> tuple[Section, ...]:
    """Returns all figures of two lakes.

    Args:
        a: `jobs.facts.origin.origin` of the first.
        b: `jobs.facts.origin.origin` of the second.
        overlap: Counts of the images in both.
        keywords: From `keyword_pairs`.
    """
    funnel = [_counted(name.replace("_", " "), a["counts"].get(name), b["counts"].get(name)) for name in _STEPS]
    shared = "; ".join(f"{name}: {count:,}" for name, count in overlap.items())
    same, differing = _settings(a, b)
    found = [
        Section("Funnel", tuple(funnel), shared),
        Section("Quarantine", _by_name(a["quarantine"], b["quarantine"])),
        Section("Filtered by", _by_name(a["filtered_by"], b["filtered_by"])),
        Section("Thresholds", tuple(_thresholds(a["thresholds"], b["thresholds"]))),
        Section("Duplicates", _figures(a["dedup"], b["dedup"])),
        Section("Weights", _figures(a["weights"], b["weights"])),
        Section(
            "Keyword shifts after weighing",
            tuple(_keyword(row) for row in keywords),
            _ORDER if keywords else "",
        ),
        Section("Settings, models and software that differ", differing, f"{same:,} are equal in A and B."),
    ]
    return tuple(section for section in found if section.lines or section.note)


_ORDER = "Words whose share the filter changed significantly in A or B come first, the largest difference at the top."


def _counted(name: str, a: int | None, b: int | None) -> Line:
    if a is None or b is None:
        return Line(name, number(a), number(b))
    share = f" ({signed((b - a) / a)} %)" if a else ""
    return Line(name, number(a), number(b), _change(f"{b - a:+,}{share}") if b != a else "")


def _by_name(a: Mapping[str, int], b: Mapping[str, int]) -> tuple[Line, ...]:
    return tuple(_counted(name, a.get(name, 0), b.get(name, 0)) for name in dict.fromkeys([*a, *b]))


def _thresholds(a: Sequence[Mapping[str, Any]], b: Sequence[Mapping[str, Any]]) -> Iterator[Line]:
    ours, theirs = ({row["category"]: row for row in side} for side in (a, b))
    for category in dict.fromkeys([*ours, *theirs]):
        for line in _figures(ours.get(category), theirs.get(category)):
            yield Line(f"{category}, {line.name}", line.a, line.b, line.change)


def _figures(a: Mapping[str, Any] | None, b: Mapping[str, Any] | None) -> tuple[Line, ...]:
    """Each figure of a row of quality."""
    names = [name for name in dict.fromkeys([*(a or {}), *(b or {})]) if name not in ("category", "model")]
    return tuple(_figure(name, _value(a, name), _value(b, name)) for name in names)


def _value(row: Mapping[str, Any] | None, name: str) -> Any:
    if row is not None and name == "recall_lower" and row.get(name) is None:
        return recall_at_least(None)
    return (row or {}).get(name)


def _figure(name: str, a: Any, b: Any) -> Line:
    share = name in _SHARES
    change = ""
    if isinstance(a, int | float) and isinstance(b, int | float) and a != b:
        change = _change(f"{100 * (b - a):+.2f} points" if share else f"{b - a:+,.4g}")
    return Line(name.replace("_", " "), _shown(name, a), _shown(name, b), change)


def _change(text: str) -> str:
    return text.replace("-", "−")


def _shown(name: str, value: Any) -> str:
    if not isinstance(value, int | float):
        return _text(value)
    if name == "threshold":
        return score(value)
    if name == "recall_lower":  # a bound is never rounded up
        return recall_at_least(value)
    return percent(value, 2) if name in _SHARES else number(value)


def _keyword(row: Row) -> Line:
    a, b = (row.shift, row.shift_low, row.shift_high), (row.weighted_shift, row.weighted_low, row.weighted_high)
    difference = "" if a[0] is None or b[0] is None or a == b else f"{signed(b[0] - a[0])} points"
    return Line(str(row.keyword), shift(*a), shift(*b), difference)


def _settings(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[int, tuple[Line, ...]]:
    """The number of settings and versions that are equal, and those that differ."""
    ours, theirs = dict(_made_with(a)), dict(_made_with(b))
    lines = [Line(name, _text(ours.get(name)), _text(theirs.get(name))) for name in sorted({*ours, *theirs})]
    differing = tuple(line for line in lines if line.differs)
    return len(lines) - len(differing), differing


def _made_with(side: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for table in side["tables"].values():
        yield from _leaves(table["settings"], f"{table['command']}.")
    yield from _leaves(side["models"], "model.")
    yield from _leaves(side["software"], "software.")


def _leaves(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif name != "run":  # the id of an ingest run is not a setting
            yield f"{above}{name}", value


def _text(value: Any) -> str:
    if value is None:
        return _NONE
    return ", ".join(str(item) for item in value) or "(none)" if isinstance(value, list) else str(value)


def _write(file: Path, page: str) -> None:
    try:
        with replacing(file) as part:
            part.write_text(page, "utf-8", errors="replace")
    except OSError as error:
        raise WinnowError(f"{file} cannot be written: {error.strerror}") from error
