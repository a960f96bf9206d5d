"""What a command needs of the commands before it; each check names the command to run."""

from collections.abc import Iterable

from pyspark.sql import functions as F

from jobs.facts.funnel import filtered_by
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.snapshot import Snapshot
from jobs.scoring.gaps import undecodable
from models.errors import WinnowError

EVERY_FILTER = (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS)
"""What every filtering reads."""

CATEGORY_FILTER = (tables.SCORES, tables.THRESHOLDS)
"""What filtering by categories reads besides."""


def require_verdicts(now: Snapshot) -> None:
    """Makes sure that all images were judged by what is known of them; labels may have come since, as people give them.

    Raises:
        WinnowError: Images, scores or thresholds are newer than the verdicts.
    """
    now.require_current(tables.VERDICTS, *EVERY_FILTER, *CATEGORY_FILTER)


def require_kept(lake: Lake) -> None:
    """Makes sure that the filter left an image: without one there is nothing to weigh, to audit or to export.

    Raises:
        WinnowError: The lake holds no image, or all are filtered; the message says by what.
    """
    if not lake.exists(tables.IMAGES):
        return
    require_images(lake)
    verdicts = lake.read(tables.VERDICTS)
    if verdicts.isEmpty() or not verdicts.where("kept").isEmpty():
        return
    found = filtered_by(verdicts)
    why = ", ".join(f"{name} {count:,}" for name, count in found.items())
    raise WinnowError(
        f"{lake.uri}: the filter removed every image ({why}), so nothing is kept: {_remedy(lake, found)}, then run "
        "`winnow filter`, `winnow dedup` and `winnow weigh`"
    )


def _remedy(lake: Lake, found: Iterable[str]) -> str:
    """Which settings to change, by what removed the images."""
    recipe = lake.snapshot().recipe(tables.VERDICTS)
    rules, models = (recipe.settings.get(name, {}) if recipe else {} for name in ("rules", "models"))
    parts = [f"change filter.rules.{name}" for name in found if name in rules]
    parts += [
        f"lower categories.{name}.recall and run `winnow calibrate`, or correct the labels of {name}"
        for name in found
        if name in models
    ]
    return " and ".join(parts) or "ingest images that can be decoded and run `winnow score`"


def require_images(lake: Lake) -> None:
    """Makes sure that a lake that was ingested holds an image: without one no command has anything to do.

    Raises:
        WinnowError: It holds none; the message says what became of the rows that were read.
    """
    if not lake.exists(tables.IMAGES) or not lake.read(tables.IMAGES).isEmpty():
        return
    faults = lake.read(tables.QUARANTINE).groupBy("reason").count().orderBy(F.desc("count"), "reason").limit(3)
    found = ", ".join(f"{row['reason']} {row['count']:,}" for row in faults.collect())
    why = f"every row that was read is in the table quarantine ({found})" if found else "its sources hold no row"
    raise WinnowError(
        f"{lake.uri} holds no image, since {why}: run `winnow run SOURCE --lake {lake.uri}` with images that can be "
        "read"
    )


def require_signals(job: Job, encoder: str, found: int) -> None:
    """Makes sure that every image which can be decoded has a signal.

    Args:
        job: The command at work.
        encoder: Digest of the encoder in use.
        found: Images that have one. Where these are all, nothing more is looked at.

    Raises:
        WinnowError: Some have none, so that they would not be compared with the others.
    """
    images, quarantine, signals = (job.lake.read(t) for t in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    total = images.count()
    if found == total:
        return
    present = signals.where(F.col("encoder") == encoder)
    missing = total - found - undecodable(images, quarantine, present).count()
    if missing:
        raise WinnowError(f"{missing} of {total} images have no signals of encoder {encoder}: run `winnow score` first")
