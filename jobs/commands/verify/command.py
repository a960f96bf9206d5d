"""`verify`: reads every data file of the lake's tables, and reports what is missing or damaged. It changes nothing."""

from functools import reduce

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from jobs.commands.verify.files import checked, remedy
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.runtime.wording import plural
from models.errors import WinnowError

_TASK_BYTES = 256 << 20
_NAMED = 20


def run(job: Job) -> Summary:
    """Checks that the files of each table are there and whole, and that each image_id is that of bytes and caption.

    It reads every page of every file with its checksum, on the executors.

    Returns:
        The number of tables, files, rows, and ids that were computed again.

    Raises:
        WinnowError: A file is missing or damaged. The first ones are named before; the message says what to do.
    """
    lake, now = job.lake, job.lake.snapshot()
    made = [table for table in tables.ALL if now.exists(table)]
    if not made:
        raise WinnowError(f"{lake.uri} has no table: run `winnow ingest SOURCE --lake {lake.uri}` first")
    with lake.scratch("verify") as scratch:
        with job.progress.step("verify: list the files"):
            listed = scratch.stage("listed", reduce(DataFrame.unionByName, map(lake.data_files, made)))
            size = listed.agg(F.sum("size")).collect()[0][0] or 0
        tasks = max(lake.spark.sparkContext.defaultParallelism, -(-size // _TASK_BYTES))
        with job.progress.step("verify: read the files"):
            found = scratch.stage("found", checked(listed, tasks))
        faulty = found.where(F.col("fault").isNotNull())
        counts = faulty.groupBy("table", "fault").count().orderBy("table", "fault").collect()
        if counts:
            _name(job, faulty.orderBy("table", "path").limit(_NAMED).collect(), sum(row["count"] for row in counts))
            raise WinnowError(f"{lake.uri} is damaged: {_damage(counts)}. {_remedy(counts)}")
        sums = found.agg(F.count("*").alias("files"), F.sum("rows").alias("rows"), F.sum("ids").alias("ids")).first()
    assert sums is not None  # an aggregate is one row
    return {
        "tables": len(made),
        "files": sums.files,
        "rows": sums.rows or 0,
        "ids computed again": sums.ids or 0,
        "damage": "none found",
    }


def _name(job: Job, faulty: list[Row], total: int) -> None:
    for row in faulty:
        job.progress.warn(f"{row.fault}: {row.path}: {row.detail}")
    if total > len(faulty):
        job.progress.warn(f"and {plural(total - len(faulty), 'more file')}")


def _damage(counts: list[Row]) -> str:
    return ", ".join(f"{plural(row['count'], 'file')} of {row['table']} ({row['fault']})" for row in counts)


def _remedy(counts: list[Row]) -> str:
    makers = {table.name: table.maker for table in tables.ALL}
    said = remedy({row["table"]: makers[row["table"]] for row in counts})
    return said[0].upper() + said[1:]
