"""`drop`: a person drops images, and sees their near-copies."""

from collections.abc import Iterator, Sequence

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.decisions import record
from jobs.decisions.record import SHOWN, Request
from jobs.facts.decisions import DROP, KEEP, standing
from jobs.job import Job
from jobs.lake import tables
from jobs.runtime import terminal
from jobs.runtime.wording import plural


def run(job: Job, request: Request) -> str:
    """Adds rows to the table decisions, so that `filter` removes images, or takes such decisions back.

    With `request.with_copies`, this covers the near-copies that `dedup` found, except those that people keep.

    Args:
        job: The running command.
        request: The images, the reason, the person.

    Returns:
        Text for the terminal: what was decided, on which images, the next commands, and the near-copies that remain.

    Raises:
        WinnowError: The reason is empty, or a name does not name an image. Nothing is written.
    """
    by = ["--by", request.by] if request.by else []
    request, lake = request.checked(), job.lake
    record.require_known(job, request)
    with lake.scratch("drop") as scratch:
        found = record.named(job, request, scratch)
        images = found.select("image_id")
        copies = scratch.keep(near_copies(lake.read(tables.PAIRS), images.distinct()))
        if request.with_copies:
            kept = standing(lake.read(tables.DECISIONS)).where(F.col("decision") == KEEP)
            images = images.unionByName(copies.join(kept, "image_id", "left_anti").select("image_id"))
        lines = [*record.listed(found), *record.record(job, images, DROP, request, scratch)]
        if not request.withdraw:
            lines += _remaining(job, request, by, copies)
    return terminal.lines(lines)


def near_copies(pairs: DataFrame, images: DataFrame) -> DataFrame:
    """Returns the images that are near-copies of some images, but not among these.

    Of many images with the same hash, the table pairs has only the pairs with the best one. So two steps along such
    pairs lead from an image to all others with its hash, and the near-copies of these are near-copies of the image.

    Args:
        pairs: Table pairs.
        images: image_id, each once.

    Returns:
        image_id, distance (bits, of the nearest pair).
    """
    same = pairs.where(F.col("method") == "exact")
    found = images.select("image_id", F.lit(0).alias("distance"))
    for step in (same, same, pairs, same, same):
        found = _reached(step, found)
    return found.join(images, "image_id", "left_anti")


def _reached(pairs: DataFrame, images: DataFrame) -> DataFrame:
    """Returns images, and those that a pair joins to one of them, with the smallest sum of distances.

    Args:
        pairs: a_id, b_id, distance.
        images: image_id, distance.
    """
    ends = (("a_id", "b_id"), ("b_id", "a_id"))
    both = [pairs.select(F.col(a).alias("image_id"), F.col(b).alias("copy_id"), "distance") for a, b in ends]
    joined = images.join(both[0].unionByName(both[1]).withColumnRenamed("distance", "apart"), "image_id", "left")
    copy = F.struct(F.col("copy_id").alias("image_id"), (F.col("distance") + F.col("apart")).alias("distance"))
    every = joined.select(F.explode(F.array(F.struct("image_id", "distance"), copy)).alias("one")).select("one.*")
    return every.where(F.col("image_id").isNotNull()).groupBy("image_id").agg(F.min("distance").alias("distance"))


def _remaining(job: Job, request: Request, by: Sequence[str], copies: DataFrame) -> Iterator[str]:
    """Yields lines about the near-copies on which nobody has decided, with the command that drops them."""
    lake = job.lake
    left = copies.join(standing(lake.read(tables.DECISIONS)), "image_id", "left_anti")
    count = left.count()
    if not count:
        return
    few = F.broadcast(left.orderBy("distance", "image_id").limit(SHOWN))
    shown = lake.read(tables.IMAGES).select("image_id", "key").join(few, "image_id").orderBy("distance", "image_id")
    yield f"{plural(count, 'near-copy', 'near-copies')} of what you drop, without a decision:"
    for row in shown.collect():
        yield record.image_line(row, plural(row.distance, "bit"))
    if count > SHOWN:
        yield f"  … and {count - SHOWN:,} more"
    listed = ["--from", request.list_file] if request.list_file else []
    command = job.command("drop", *request.images, *listed, "--why", request.why, *by, "--with-copies")
    yield f"To drop them too: {command}"
