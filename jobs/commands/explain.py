"""`explain`: all that a lake knows of an image, why it is kept or not, and what would bring it back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.decisions import named_images
from jobs.facts.decisions import DECISION
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.table import Table
from jobs.origins.superseded import SUPERSEDED
from jobs.runtime import terminal
from jobs.runtime.wording import number, percent, plural, score
from jobs.scoring.gaps import UNDECODABLE
from models.errors import WinnowError

MOST = 20
"""Images that one call explains."""

_MEMBERS = 10
_TEXT = 200  # characters of a caption or detail
_NEXT = ("filter", "dedup", "weigh")


@dataclass(frozen=True)
class Known:
    """The rows of one image.

    Attributes:
        image: Its row of the table images, without the bytes.
        rows: Its rows of the other tables, by table name, a bounded number of each.
        thresholds: Rows of the table thresholds, by category.
        copies: Number of images that were removed because of it.
    """

    image: Row
    rows: Mapping[str, Sequence[Row]]
    thresholds: Mapping[str, Row] = field(default_factory=dict)
    copies: int = 0

    def of(self, table: Table) -> Sequence[Row]:
        """Returns its rows of a table."""
        return self.rows.get(table.name, ())


# Column that names the image, and the order of its rows.
_READ: Mapping[Table, tuple[str, tuple[str, ...]]] = {
    tables.SUPERSEDED: ("image_id", ()),
    tables.ORIGINS: ("image_id", ("source", "key")),
    tables.QUARANTINE: ("image_id", ("stage", "reason")),
    tables.SIGNALS: ("image_id", ("encoder",)),
    tables.SCORES: ("image_id", ("category", "model")),
    tables.LABELS: ("image_id", ("labelled_at", "category")),
    tables.DECISIONS: ("image_id", ("decided_at",)),
    tables.VERDICTS: ("image_id", ()),
    tables.DUPLICATES: ("removed_id", ("kept_id",)),
    tables.FILTERED_DUPLICATES: ("removed_id", ("kept_id",)),
    tables.WEIGHTS: ("image_id", ()),
}
_LEFT_OUT = ("pdq", "embedding", "embedding_hash", "thumbnail")
_ROWS = 50


def run(job: Job, images: Sequence[str]) -> str:
    """Returns what is known of some images, as text for the terminal. It reads tables only.

    Args:
        job: The running command.
        images: Names of images: ids, first digits of ids, keys or files.

    Raises:
        WinnowError: A name names no image or several, or more than `MOST` images are named.
    """
    given = named_images.names(images)
    if len(given) > MOST:
        raise WinnowError(f"{len(given):,} images are named, but one call explains at most {MOST}: name fewer")
    named_images.require_known(job, given)
    with job.lake.scratch("explain") as scratch:
        with job.progress.step("explain: find the images"):
            found = named_images.find(job, given, scratch).select("image_id").distinct().limit(MOST)
            ids = sorted(row.image_id for row in found.collect())
        with job.progress.step("explain: read the tables"):
            known = read(job, ids)
    lines: list[str] = []
    for one in known:
        lines += [*([""] if lines else []), *explained(job, one)]
    return terminal.lines(lines)


def read(job: Job, ids: Sequence[str]) -> list[Known]:
    """Returns the rows of some images, in the order of the ids.

    Args:
        job: The running command.
        ids: At most `MOST` image_ids.
    """
    lake = job.lake
    columns = [name for name in tables.IMAGES.schema.names if name != "image"]
    images = {row.image_id: row for row in _of(lake.read(tables.IMAGES).select(*columns), "image_id", ids)}
    rows: dict[str, dict[str, list[Row]]] = {one: {} for one in images}
    for table, (name, order) in _READ.items():
        own = lake.read(table)
        shown = own.select(*[column for column in own.columns if column not in _LEFT_OUT])
        for row in _of(shown, name, ids, order):
            rows[row[name]].setdefault(table.name, []).append(row)
    removed = lake.read(tables.DUPLICATES)
    for row in _of(removed, "kept_id", ids, ("distance", "removed_id")):
        rows[row.kept_id].setdefault("copies", []).append(row)
    counts = removed.where(F.col("kept_id").isin(*ids)).groupBy("kept_id").count().collect()
    copies = {row.kept_id: row["count"] for row in counts}
    thresholds = {row.category: row for row in lake.read(tables.THRESHOLDS).collect()}
    return [Known(images[one], rows[one], thresholds, copies.get(one, 0)) for one in ids if one in images]


def _of(rows: DataFrame, name: str, ids: Sequence[str], order: Sequence[str] = ()) -> list[Row]:
    chosen = rows.where(F.col(name).isin(*ids))
    return chosen.orderBy(name, *order).limit(_ROWS * MOST).collect()


def explained(job: Job, known: Known) -> Iterator[str]:
    """Yields the lines about one image.

    Args:
        job: The running command, for the commands that the last line names.
        known: Its rows.
    """
    image = known.image
    yield f"image {image.image_id}"
    for what, text in (
        ("source", f"{image.source}, key {image.key}"),
        ("image", f"{number(image.width)} × {number(image.height)} pixels, {image.format}"),
        ("caption", _cut(image.caption) if image.caption else "none"),
        *_facts(known),
        ("result", _result(known)),
    ):
        yield f"  {what:<10} {text}"
    yield from (f"  {line}" for line in _way_back(job, known))


def _facts(known: Known) -> Iterator[tuple[str, str]]:
    for row in known.of(tables.SUPERSEDED):
        yield "superseded", f"{row.source}, read again, no longer holds it with this caption"
    own = (known.image.source, known.image.key)
    others = sorted({(row.source, row.key) for row in known.of(tables.ORIGINS)} - {own})
    for source, key in others[:_MEMBERS]:
        yield "repeat", f"{source}, key {key}"
    for row in known.of(tables.QUARANTINE):
        model = f" (model {row.model} of {row.category})" if row.category else ""
        yield "quarantine", f"{row.stage}: {row.reason}{model}: {_cut(row.detail or '')}"
    for row in known.of(tables.SIGNALS):
        yield "signals", f"encoder {row.encoder}, PDQ quality {row.pdq_quality}{_measured(row)}"
    for row in known.of(tables.SCORES):
        yield "score", _score(row, known.thresholds.get(row.category))
    for row in known.of(tables.LABELS):
        yield "label", f"{row.category}: {_answer(row.label)} ({row.origin}, {row.annotator}, {_day(row.labelled_at)})"
    for row in known.of(tables.DECISIONS):
        yield "decision", f"{row.decision} by {row.decided_by} on {_day(row.decided_at)}: {_cut(row.why)}"


def _measured(row: Row) -> str:
    """Returns what decides between copies of an image; empty if an earlier version scored it."""
    if row.sharpness is None:
        return ""
    jpeg = f", JPEG quality {row.jpeg_quality}" if row.jpeg_quality is not None else ""
    frame = f", {percent(1 - row.unframed)} frame" if row.unframed < 1 else ""
    return f", sharpness {number(row.sharpness)}, noise {number(row.noise)} dB{frame}{jpeg}"


def _score(row: Row, threshold: Row | None) -> str:
    text = f"{row.category}: {score(row.score)}, by model {row.model}"
    if threshold is None:
        return f"{text}; no threshold"
    if threshold.model != row.model:
        return f"{text}, which is no longer in use"
    relation = "at or above" if row.score >= threshold.threshold else "below"
    return f"{text}; {relation} the threshold {score(threshold.threshold)}"


def _result(known: Known) -> str:
    verdicts, repeated = known.of(tables.VERDICTS), known.of(tables.DUPLICATES)
    if not verdicts:
        return "not decided: `winnow filter` has not run since the image was ingested"
    if not verdicts[0].kept:
        copies = known.of(tables.FILTERED_DUPLICATES)
        also = ""
        if copies and copies[0].method == tables.SEMANTIC:
            also = f"; shows the same as {copies[0].kept_id}, {_apart(copies[0])}"
        elif copies:
            also = f"; near-copy of {copies[0].kept_id}, {_apart(copies[0])} apart"
        return f"filtered: {'; '.join(verdicts[0].reasons)}{also}"
    because = f" ({verdicts[0].kept_because})" if verdicts[0].kept_because else ""
    if repeated:
        one = repeated[0]
        if one.method == tables.SEMANTIC:
            return f"removed as a semantic duplicate of {one.kept_id}, which shows the same: {_apart(one)}"
        mirrored = ", mirrored" if one.mirrored else ""
        how = f"{_apart(one)} apart, by {one.method}{mirrored}" if one.method != "exact" else "same hash or bytes"
        return f"removed as a duplicate of {one.kept_id}: {how}"
    weights = known.of(tables.WEIGHTS)
    weight = f"weight {number(weights[0].weight)}" if weights else "no weight yet: run `winnow weigh`"
    members = [f"{row.removed_id} ({_apart(row)})" for row in known.rows.get("copies", ())[:_MEMBERS]]
    more = f" and {known.copies - len(members):,} more" if known.copies > len(members) else ""
    group = (
        f"; {plural(known.copies, 'duplicate')} removed because of it: {', '.join(members)}{more}" if members else ""
    )
    return f"kept{because}, {weight}{group}"


def _apart(duplicate: Row) -> str:
    """Returns how similar a removed image is to the kept one."""
    if duplicate.method == tables.SEMANTIC:
        return f"similarity {score(duplicate.similarity)}"
    return plural(duplicate.distance, "bit")


def _way_back(job: Job, known: Known) -> Iterator[str]:
    """Yields what would bring the image back, if it is not kept."""
    verdicts = known.of(tables.VERDICTS)
    if not verdicts:
        yield f"To decide it: {job.command('filter')}"
        return
    if verdicts[0].kept and not known.of(tables.DUPLICATES):
        return
    names = [reason.partition(": ")[0] for reason in verdicts[0].reasons]
    if UNDECODABLE in names:
        yield "It cannot be decoded, so nothing brings it back but a readable file in the source"
        return
    if SUPERSEDED in names:
        yield "It comes back if a source holds it again with this caption and you ingest that source"
    after = " && ".join(job.command(name) for name in _NEXT)
    if names == [DECISION]:
        undo = job.command("drop", known.image.image_id, "--withdraw", "--why", "TEXT")
        yield f"To take the decision back: {undo} && {after}"
        return
    yield f"To bring it back: {job.command('keep', known.image.image_id, '--why', 'TEXT')} && {after}"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT else f"{text[:_TEXT]}…"


def _answer(label: bool | None) -> str:
    return "no answer" if label is None else "yes" if label else "no"


def _day(at: object) -> str:
    return str(at)[:10] if at is not None else "an unknown day"
