"""`keep`: a person keeps images, whatever labels, rules, scores and duplicates say."""

from pyspark.sql import DataFrame

from jobs.decisions import record
from jobs.decisions.record import Request
from jobs.facts.decisions import KEEP
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime import terminal
from jobs.scoring.gaps import undecodable


def run(job: Job, request: Request) -> str:
    """Adds rows to the table decisions, so that `filter` and `dedup` keep images, or takes such decisions back.

    Args:
        job: The running command.
        request: The images, the reason, the person.

    Returns:
        Text for the terminal: what was decided, on which images, and the next commands.

    Raises:
        WinnowError: The reason is empty, or a name does not name an image. Nothing is written.
    """
    request = request.checked()
    record.require_known(job, request)
    with job.lake.scratch("keep") as scratch:
        found = record.named(job, request, scratch)
        lines = [*record.listed(found), *record.record(job, found, KEEP, request, scratch)]
        if not request.withdraw:
            _warn_of_unreadable(job, found)
    return terminal.lines(lines)


def _warn_of_unreadable(job: Job, found: DataFrame) -> None:
    stored = (job.lake.read(table) for table in (tables.IMAGES, tables.QUARANTINE, tables.SIGNALS))
    broken = undecodable(*stored).join(found, "image_id", "left_semi")
    count = broken.count()
    if count:
        example = broken.orderBy("image_id").first()
        assert example is not None  # there is one
        job.progress.warn(
            f"keep: {count:,} of these images cannot be decoded, so `filter` removes them in spite of the decision: "
            f"{example.image_id} ({example.reason})"
        )
