"""Writes a person's decision on images: the part that `keep` and `drop` share."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.decisions import named_images
from jobs.facts.decisions import WITHDRAWN, standing
from jobs.job import Job
from jobs.lake import tables
from jobs.lake.leases.process import user_name
from jobs.lake.recipe import Recipe
from jobs.runtime.scratch import Scratch
from jobs.runtime.wording import plural
from models.errors import WinnowError

SHOWN = 20
"""Images that a command lists; the table decisions has all of them."""

_KEY_CHARACTERS = 80
_NEXT = ("filter", "dedup", "weigh")
_DONE = {"keep": "Kept", "drop": "Dropped"}


@dataclass(frozen=True)
class Request:
    """What a person asks of `keep` or `drop`.

    Attributes:
        images: Names of images: ids, first digits of ids, keys or files.
        why: The reason.
        list_file: Path of a text file with more names, one in each line; None without one.
        by: Name of the person; None for the user of this machine.
        withdraw: Whether to take the decision back.
        with_copies: Whether the decision also covers the near-copies that `dedup` found.
    """

    images: tuple[str, ...]
    why: str
    list_file: str | None = None
    by: str | None = None
    withdraw: bool = False
    with_copies: bool = False

    def checked(self) -> "Request":
        """Returns the request with reason and name as one line each.

        Raises:
            WinnowError: The reason or the name is empty, or the user of this machine has no name.
        """
        why, by = (" ".join(text.split()) for text in (self.why, _user() if self.by is None else self.by))
        for option, text in (("--why", why), ("--by", by)):
            if not text:
                raise WinnowError(f"{option} is empty: give {option} TEXT; it is stored with the decision")
        return replace(self, why=why, by=by)


def _user() -> str:
    name = user_name()
    if name is None:
        raise WinnowError("this machine has no name for its user: give --by NAME; it is stored with the decision")
    return name


def require_known(job: Job, request: Request) -> None:
    """Checks the names of a request as `named_images.require_known` does, before Spark starts."""
    named_images.require_known(job, named_images.names(request.images, request.list_file))


def named(job: Job, request: Request, scratch: Scratch) -> DataFrame:
    """Returns the images of a request: name, by, image_id, key, as `named_images.find` does."""
    with job.progress.step("find the images"):
        return named_images.find(job, named_images.names(request.images, request.list_file), scratch)


def new_rows(images: DataFrame, decisions: DataFrame, decision: str, request: Request, now: datetime) -> DataFrame:
    """Returns the rows that a request adds: none for an image whose decision is already the same.

    Args:
        images: image_id.
        decisions: Table decisions.
        decision: keep or drop. A request that withdraws adds rows only for images with this decision.
        request: Its reason, its person, and whether it withdraws.
        now: The time. An image's row is never older than the row before, even if the clock was set back.

    Returns:
        Rows of the table decisions.
    """
    before = standing(decisions).withColumnsRenamed({"why": "old_why", "decided_by": "old_by"})
    last = decisions.groupBy("image_id").agg(F.max("decided_at").alias("last_at"))
    rows = images.select("image_id").distinct().join(before, "image_id", "left").join(last, "image_id", "left")
    stands = F.coalesce(F.col("decision") == decision, F.lit(False))
    same = stands & (F.col("old_why") == request.why) & (F.col("old_by") == request.by)
    at = F.greatest(F.lit(now), F.col("last_at") + F.expr("interval 1 microsecond"))
    return rows.where(stands if request.withdraw else ~same).select(
        "image_id",
        F.lit(WITHDRAWN if request.withdraw else decision).alias("decision"),
        F.lit(request.why).alias("why"),
        F.lit(request.by).alias("decided_by"),
        at.alias("decided_at"),
    )


def record(job: Job, images: DataFrame, decision: str, request: Request, scratch: Scratch) -> list[str]:
    """Adds the decision on images in one commit.

    Args:
        job: The running command.
        images: image_id.
        decision: keep or drop.
        request: As `Request.checked` returns it.
        scratch: Keeps the rows.

    Returns:
        Lines for the terminal: the counts, and the commands to run next.
    """
    lake = job.lake
    with job.progress.step(f"{decision}: write the decision"):
        rows = scratch.keep(new_rows(images, lake.read(tables.DECISIONS), decision, request, datetime.now(UTC)))
        total, added = images.select("image_id").distinct().count(), rows.count()
        if added:
            lake.append(tables.DECISIONS, rows, Recipe(decision))
    lines = [_counted(decision, request, total, added)]
    if added:
        lines.append("Next: " + " && ".join(job.command(name) for name in _NEXT))
    return lines


def listed(found: DataFrame) -> list[str]:
    """Returns lines that say which images the names of a request mean: the first of them.

    Args:
        found: As `named` returns it.
    """
    rows = found.orderBy("name", "image_id").limit(SHOWN + 1).collect()
    lines = [image_line(row, f"{row.by} {row.name}") for row in rows[:SHOWN]]
    if len(rows) > SHOWN:
        lines.append("  … and more; see the table decisions")
    shared = found.where(F.col("by") == named_images.FILE).groupBy("name").count().where("count > 1")
    several = shared.orderBy("name").limit(SHOWN).collect()
    return [
        *lines,
        *(f"{row['count']:,} images have the bytes of {row.name}: all of them are meant" for row in several),
    ]


def image_line(row: Row, note: str) -> str:
    """Returns a line about an image: the first digits of its id, its key, and a note."""
    return f"  {row.image_id[:12]}  {row.key[:_KEY_CHARACTERS]}  ({note[:_KEY_CHARACTERS]})"


def _counted(decision: str, request: Request, total: int, added: int) -> str:
    if request.withdraw:
        said = f"Took back the decision to {decision} {plural(added, 'image')} ({request.by}: {request.why})"
        return said + (f"; {total - added:,} had no such decision" if added < total else "")
    said = f"{_DONE[decision]} {plural(added, 'image')} by decision of {request.by}: {request.why}"
    return said + (f"; {total - added:,} had this decision before" if added < total else "")
