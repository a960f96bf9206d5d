"""`vacuum`: gathers small files of the tables, and removes files that nothing refers to. No row changes.

Every command that writes deletes the scratch folders that killed commands left, so that none are left here.
"""

import re
import time
from collections.abc import Iterator

from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.image_files import SMALL_FILE
from jobs.lake.leases.lease import BESIDE
from jobs.lake.snapshot import Snapshot
from jobs.lake.tables import Table
from jobs.runtime.wording import in_bytes
from models.errors import WinnowError

_PERIOD = re.compile(r"([1-9]\d{0,3})([dh])")
_HOURS, _MOST_HOURS = {"h": 1, "d": 24}, 7 * 24
# Fewer files are not worth a commit.
_MANY_SMALL_FILES = 8


def run(job: Job, keep: str, dry_run: bool = False) -> Summary:
    """Compacts the tables and removes files that no version of the last days refers to.

    Tables to which people's work is added (labels, decisions) stay as they are. The files of the table images are never
    written again, because the order of an export follows them.

    Args:
        job: The running command.
        keep: How long files that a later version replaced are kept, as `7d` or `12h`.
        dry_run: Counts, and changes nothing.

    Returns:
        The numbers of files and their size.

    Raises:
        WinnowError: `keep` is not a period of one hour to seven days.
    """
    hours = _hours(keep)
    before_ms = round(1000 * time.time()) - hours * 3_600_000
    lake, compacted, size, removed, freed = job.lake, 0, 0, 0, 0
    for table in _tended(job, lake.snapshot()):
        with job.progress.step(f"vacuum: {table.name}"):
            unused = lake.unreferenced(table, before_ms)
            files, length = unused.agg(F.count("*"), F.coalesce(F.sum("length"), F.lit(0))).collect()[0]
            small = [] if table == tables.IMAGES else _small(job, table)
            removed, freed = removed + files, freed + length
            compacted, size = compacted + len(small), size + sum(small)
            if files and not dry_run:
                lake.remove_unreferenced(table, unused, hours)
            if small and not dry_run:
                lake.compact(table)
            if not dry_run:
                lake.shorten_log(table)
    done, gone = ("to compact", "to remove") if dry_run else ("compacted", "removed")
    return {
        f"small files {done}": compacted,
        f"bytes of small files {done}": in_bytes(size),
        f"unused files {gone}": removed,
        f"bytes of unused files {gone}": in_bytes(freed),
    }


def _hours(keep: str) -> int:
    """Returns a period in hours.

    Examples:
        >>> _hours("7d"), _hours("12h")
        (168, 12)
    """
    period = _PERIOD.fullmatch(keep)
    hours = int(period[1]) * _HOURS[period[2]] if period else 0
    if not 1 <= hours <= _MOST_HOURS:
        raise WinnowError(
            f"--keep {keep!r} is not a period of 1h to 7d, as in `--keep 7d` or `--keep 12h`: after 7 days Delta "
            "forgets when a file was replaced"
        )
    return hours


def _tended(job: Job, now: Snapshot) -> Iterator[Table]:
    for table in filter(now.exists, tables.ALL):
        if {table.maker, *table.also} & set(BESIDE):
            continue
        if table == tables.SIGNALS and now.newer(tables.DUPLICATES, table):
            job.progress.note(
                "signals: kept as it is, because the next dedup needs its earlier version: run `winnow dedup`, then "
                "`winnow vacuum` again"
            )
            continue
        yield table


def _small(job: Job, table: Table) -> list[int]:
    """Returns the sizes of the small files of a table; none if they are few."""
    found = job.lake.data_files(table).where(F.col("size") < SMALL_FILE).groupBy("size").count().collect()
    sizes = [row["size"] for row in found for _ in range(row["count"])]
    return sizes if len(sizes) >= _MANY_SMALL_FILES else []
