"""The command `audit`: checks its inputs, counts keywords, and writes the table keyword_shift."""

from collections.abc import Iterable
from dataclasses import astuple

from jobs.commands.audit.keyword_shift import KeywordShift, KeywordShiftConfig, keyword_shift
from jobs.facts import sentences
from jobs.facts.reference import REFERENCE, read_reference
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.prerequisites import require_kept
from jobs.runtime.config import fingerprint
from jobs.runtime.progress import Progress
from udfs.text.captions import keyword_words

# Keywords of each kind in the summary.
_SHOWN = 4

# Raised if this version would write other rows than the version before: then older tables are stale.
_REVISION = 3


def run(job: Job) -> Summary:
    """Counts the listed keywords and the words that filtering moved most, and writes keyword_shift.

    Raises:
        WinnowError: No image is kept, or the weights are stale.
    """
    lake, settings = job.lake, job.settings
    now = _checked(lake)
    config = KeywordShiftConfig(settings.audit, settings.seed)
    _warn_of_blank(config.listed, job.progress)
    used = {**fingerprint(settings.audit), "listed": config.listed, "seed": settings.seed, "revision": _REVISION}
    recipe = Recipe("audit", now.inputs(*REFERENCE, tables.WEIGHTS), used)
    if (before := job.up_to_date(now.made_by(recipe, tables.KEYWORD_SHIFT))) is not None:
        return before
    with lake.scratch("audit") as scratch:
        found = keyword_shift(read_reference(lake), lake.read(tables.WEIGHTS), config, scratch, job.progress)
    summary = _summary(job, found)
    frame = lake.spark.createDataFrame([astuple(row) for row in found.rows], tables.KEYWORD_SHIFT.schema)
    lake.replace(tables.KEYWORD_SHIFT, frame, recipe.with_result(summary))
    return summary


def _checked(lake: Lake) -> Snapshot:
    """Checks that the inputs of the audit exist and are not stale, and returns a snapshot of the lake."""
    if not lake.exists(tables.WEIGHTS):
        require_kept(lake)
    lake.require_written(tables.WEIGHTS)
    now = lake.snapshot()
    now.require_current(tables.WEIGHTS, *REFERENCE)
    require_kept(lake)
    return now


def _warn_of_blank(listed: Iterable[str], progress: Progress) -> None:
    """Warns about keywords without a letter or digit: no caption can contain them."""
    blank = [name for name in listed if not keyword_words(name)]
    if blank:
        progress.warn(f"audit: skipped keywords without a letter or digit: {', '.join(map(repr, blank))}")


def _summary(job: Job, found: KeywordShift) -> Summary:
    """Returns the summary of the command."""
    rows, tolerance = found.rows, job.settings.audit.tolerance
    if rows and all(row.shift_low is None for row in rows):
        return {"words looked at": found.looks, "captions filtered": "none, so no word moved"}
    listed = [row for row in rows if not row.mover]
    movers = sentences.notable([row for row in rows if row.mover])
    shown = sentences.notable(listed) or listed
    summary: Summary = {f"keyword {row.keyword}": sentences.shift_sentence(row) for row in shown[:_SHOWN]}
    summary |= {f"found {row.keyword}": sentences.shift_sentence(row) for row in movers[:_SHOWN]}
    summary["words looked at"] = found.looks
    left = sentences.not_undone(rows, tolerance, job.settings.weigh.min_support)
    if left:
        summary["not undone"] = sentences.not_undone_sentence(left, tolerance)
        job.progress.warn(f"audit: {summary['not undone']}")
    return summary
