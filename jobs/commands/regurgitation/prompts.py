"""`regurgitation prompts`: the captions most worth generating from, to find out whether a model reproduces its data.

A model mostly reproduces what it saw most often (Carlini et al. 2023, "Extracting training data from diffusion models",
section 4). So half of the prompts are captions of the largest duplicate groups. The other half is a random sample of
all captions. Only the random half estimates the rate of copies of the whole set; the other half shows the worst case.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.runtime.whole_file import replacing
from models.errors import WinnowError

COLUMNS = ("image_id", "caption", "reason", "group_size")
LARGEST, RANDOM = "large duplicate group", "random"


def run(job: Job, count: int, file: str | None) -> str:
    """Chooses prompts and writes them.

    Args:
        job: The lake and the seed.
        count: Number of prompts.
        file: Ends in .csv or .jsonl; None to return the prompts instead.

    Returns:
        A line with the name of the file; without a file, the rows as CSV.

    Raises:
        WinnowError: The lake has no images, or no kept image has a caption; or the file has another ending or cannot
            be written.
    """
    if file is not None and Path(file).suffix not in _WRITERS:
        raise WinnowError(f"prompts cannot be written to {file}: choose a name that ends in .csv or .jsonl")
    images = job.lake.require(tables.IMAGES)
    verdicts, duplicates = (job.lake.read(t) for t in (tables.VERDICTS, tables.DUPLICATES))
    with job.progress.step("regurgitation: choose prompts"):
        found = prompts(images, verdicts, duplicates, count, job.settings.seed).collect()
    if not found:
        raise WinnowError(
            f"{job.lake.uri}: no kept image has a caption, so there is no prompt: run `winnow ingest SOURCE` with a "
            "source that has captions"
        )
    rows = [row.asDict() for row in found]
    if file is None:
        return _csv(rows)
    try:
        with replacing(Path(file)) as part:
            part.write_text(_WRITERS[Path(file).suffix](rows), encoding="utf-8", newline="")
    except OSError as error:
        raise WinnowError(f"{file} cannot be written: {error.strerror}") from error
    return f"wrote {len(rows):,} prompts to {file}"


def prompts(images: DataFrame, verdicts: DataFrame, duplicates: DataFrame, count: int, seed: int) -> DataFrame:
    """Returns captions of training images: half from the largest duplicate groups, the others a random sample of all.

    Args:
        images: Table images.
        verdicts: Table verdicts; an image without a verdict is kept.
        duplicates: Table duplicates.
        count: Number of rows.
        seed: Of the random sample.

    Returns:
        image_id, caption, reason, group_size (images of the duplicate group, 1 without duplicates); the largest groups
        first. Fewer rows if fewer images have captions, or if the few groups are partly in the random sample.
    """
    captions = training_captions(images, verdicts, duplicates)
    by_size = (F.desc("group_size"), F.col("image_id"))
    grouped = captions.where("group_size > 1")
    # 1. The size of the random sample depends on the number of groups, not on the images drawn.
    groups = grouped.limit(count // 2).agg(F.count("*").alias("groups"))
    # 2. Draw it first, from all captions: without the largest groups it would not be a sample of the set.
    by_chance = (F.xxhash64("image_id", F.lit(seed)), F.col("image_id"))
    place = F.row_number().over(Window.orderBy(*by_chance)).alias("place")
    drawn = captions.orderBy(*by_chance).limit(count).select("*", place)
    sample = drawn.crossJoin(groups).where(F.col("place") + F.col("groups") <= count)
    # 3. Take the largest groups among the others, so that no image is in the list twice.
    others = grouped.join(sample, "image_id", "left_anti").orderBy(*by_size).limit(count // 2)
    largest = others.withColumns({"reason": F.lit(LARGEST), "place": -F.col("group_size")}).select(*COLUMNS, "place")
    random = sample.withColumn("reason", F.lit(RANDOM)).select(*COLUMNS, "place")
    return largest.union(random).orderBy("reason", "place", "image_id").select(*COLUMNS)


def training_captions(images: DataFrame, verdicts: DataFrame, duplicates: DataFrame) -> DataFrame:
    """Returns image_id, caption, group_size of the training images that have a caption.

    Args:
        images: Table images.
        verdicts: Table verdicts; an image without a verdict is kept.
        duplicates: Table duplicates.
    """
    lost = verdicts.where("not kept").select("image_id")
    lost = lost.unionByName(duplicates.select(F.col("removed_id").alias("image_id")))
    training = images.where(F.trim("caption") != "").join(lost, "image_id", "left_anti").select("image_id", "caption")
    groups = duplicates.groupBy(F.col("kept_id").alias("image_id")).agg((F.count("*") + 1).alias("group_size"))
    return training.join(groups, "image_id", "left").na.fill(1, ["group_size"])


def _csv(rows: list[dict[str, Any]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _json_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


_WRITERS = {".csv": _csv, ".jsonl": _json_lines}
