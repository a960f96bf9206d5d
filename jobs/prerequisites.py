"""Checks that the commands before have done their work; each message names the command to run."""

from collections.abc import Collection, Container, Mapping

from pyspark.sql import functions as F

from jobs.facts.decisions import DECISION
from jobs.facts.funnel import filtered_by
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.snapshot import Snapshot
from jobs.lake.table import Table
from jobs.origins.superseded import SUPERSEDED
from jobs.scoring.gaps import NO_SCORE, undecodable
from models.errors import WinnowError

EVERY_FILTER = (tables.IMAGES, tables.SUPERSEDED, tables.QUARANTINE, tables.SIGNALS, tables.DECISIONS)
"""Tables that every run of `filter` reads."""

CATEGORY_FILTER = (tables.SCORES, tables.THRESHOLDS)
"""Tables that filtering by categories reads in addition."""


_SCORED = (tables.IMAGES, tables.SIGNALS)
_FILTERED = (*_SCORED, tables.VERDICTS)
_DEDUPLICATED = (*_FILTERED, tables.DUPLICATES)

NEEDED: Mapping[str, tuple[Table, ...]] = {
    **dict.fromkeys(("fit-encoder", "score", "calibrate", "filter", "train"), (tables.IMAGES,)),
    **dict.fromkeys(("explain", "keep", "drop", "browse", "label import"), (tables.IMAGES,)),
    **dict.fromkeys(("label serve", "label export", "label simulate"), (tables.IMAGES,)),
    **dict.fromkeys(("label next", "regurgitation search"), _SCORED),
    "regurgitation prompts": (tables.IMAGES,),
    "dedup": _FILTERED,
    "weigh": _DEDUPLICATED,
    "audit": (*_DEDUPLICATED, tables.WEIGHTS),
    "export": (*_DEDUPLICATED, tables.CURATED),
}
"""The tables that must exist before a command begins, in the order of the commands that write them."""


def require_tables(lake: Lake, command: str) -> None:
    """Checks that the tables that a command needs have been written. On a local lake, this needs no Spark.

    Args:
        lake: The lake.
        command: Full name of the command, such as `label next`.

    Raises:
        WinnowError: One has not been written; the message names the command that writes it, or says why there is
            nothing to write.
    """
    needed = NEEDED.get(command, ())
    if needed and lake.exists(needed[-1]):
        return  # whoever wrote the last table had the others; the command itself checks which of them it reads
    for table in needed:
        if not lake.exists(table) and _keeps_nothing(lake):
            require_kept(lake)
        lake.require_written(table)


def _keeps_nothing(lake: Lake) -> bool:
    """Returns whether the filter removed every image: True only if that is known without Spark."""
    verdicts = lake.few_rows(tables.VERDICTS, "kept")
    return verdicts is not None and bool(verdicts["kept"]) and not any(verdicts["kept"])


def has_rows_of(lake: Lake, table: Table, category: str) -> bool:
    """Returns whether a table may have rows of a category: False only if that is known without Spark."""
    rows = lake.few_rows(table, "category")
    return rows is None or category in rows["category"]


def first_labels(job: Job, category: str) -> str:
    """Returns the command that picks the first images to label for a category.

    A threshold with a bound needs a random sample, which is best drawn before all other images.
    """
    strategy = "random" if job.settings.categories[category].threshold is None else "seed"
    return f"winnow label next {category} --strategy {strategy}"


def require_labels(job: Job, category: str) -> None:
    """Checks that a category may have labels; in a large table, the command that reads them finds out.

    Raises:
        WinnowError: It has none; the message says how to label.
    """
    if not has_rows_of(job.lake, tables.LABELS, category):
        raise WinnowError(
            f"{category} has no labels: run `{first_labels(job, category)}`, label the images "
            f"with `winnow label serve {category}`, then run this command again"
        )


def require_verdicts(now: Snapshot) -> None:
    """Checks that the verdicts are up to date; only labels may be newer, because people add them all the time.

    Raises:
        WinnowError: Images, signals, decisions, scores or thresholds are newer than the verdicts.
    """
    now.require_current(tables.VERDICTS, *EVERY_FILTER, *CATEGORY_FILTER)


def require_kept(lake: Lake) -> None:
    """Checks that the filter kept at least one image; else there is nothing to weigh, audit or export.

    Raises:
        WinnowError: The lake holds no image, or all are filtered; the message names the reasons.
    """
    if not lake.exists(tables.IMAGES):
        return
    require_images(lake)
    verdicts = lake.read(tables.VERDICTS)
    if verdicts.isEmpty() or not verdicts.where("kept").isEmpty():
        return
    reasons = filtered_by(verdicts)
    why = ", ".join(f"{name} {count:,}" for name, count in reasons.items())
    raise WinnowError(
        f"{lake.uri}: the filter removed every image ({why}): {_remedy(lake, reasons)}, then run "
        "`winnow filter`, `winnow dedup` and `winnow weigh`"
    )


def _remedy(lake: Lake, reasons: Collection[str]) -> str:
    """Returns which settings to change, given the names of what removed the images."""
    limits = lake.read(tables.THRESHOLDS).where(F.col("chosen_by") == tables.SET).select("category").collect()
    by_hand = {row["category"] for row in limits}
    recipe = lake.snapshot().recipe(tables.VERDICTS)
    made = recipe.settings if recipe else {}
    models = made.get("models", {})
    kinds = [(kind, made.get(kind, {})) for kind in ("rules", "words", "keep_top")]
    parts = [f"change filter.{kind}.{name}" for name in reasons for kind, rules in kinds if name in rules]
    parts += [
        f"{_less(name, by_hand)} and run `winnow calibrate`, or correct the labels of {name}"
        for name in reasons
        if name in models
    ]
    if NO_SCORE in reasons:
        parts.append("use other models for the categories that the table quarantine names")
    if DECISION in reasons:
        parts.append("take decisions back with `winnow drop IMAGE --withdraw --why TEXT`")
    if SUPERSEDED in reasons:
        parts.append("ingest a source that holds the superseded images")
    return " and ".join(parts) or "ingest images that can be decoded and run `winnow score`"


def _less(category: str, by_hand: Container[str]) -> str:
    """Returns which setting lets a category remove fewer images."""
    return f"raise categories.{category}.threshold" if category in by_hand else f"lower categories.{category}.recall"


def require_images(lake: Lake) -> None:
    """Checks that a lake holds at least one image once sources were ingested.

    Raises:
        WinnowError: It holds none; the message says what happened to the rows that were read.
    """
    if not lake.exists(tables.IMAGES) or not lake.read(tables.IMAGES).isEmpty():
        return
    faults = lake.read(tables.QUARANTINE).groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(3)
    reasons = ", ".join(f"{row['reason']} {row['count']:,}" for row in faults.collect())
    why = f"every row that was read is in the table quarantine ({reasons})" if reasons else "its sources hold no row"
    raise WinnowError(
        f"{lake.uri} holds no image, because {why}: run `winnow run SOURCE --lake {lake.uri}` with readable images"
    )


def require_signals(job: Job, encoder: str, found: int) -> None:
    """Checks that every image that can be decoded has signals.

    Args:
        job: The running command.
        encoder: Digest of the current encoder.
        found: Number of images that have signals. If these are all images, the check reads nothing more.

    Raises:
        WinnowError: Some images have no signals, so they would not be compared with the others.
    """
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    total = images.count()
    if found == total:
        return
    present = signals.where(F.col("encoder") == encoder)
    missing = total - found - undecodable(images, quarantine, present).count()
    if missing:
        raise WinnowError(f"{missing} of {total} images have no signals of encoder {encoder}: run `winnow score` first")
