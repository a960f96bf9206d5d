"""`regurgitation prompts`: the captions most worth generating from, to see whether a model repeats its training set.

A model repeats most what it saw most often (Carlini et al. 2023, "Extracting training data from diffusion models",
section 4), so half are captions of the largest groups of duplicates; the other half is a random sample of all. Only its
rate of copies is that of the whole set: what comes of the largest groups says how bad it can get.
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
        count: How many.
        file: Ends in .csv or .jsonl; None for none.

    Returns:
        The file's name; without a file the rows themselves, as CSV.

    Raises:
        WinnowError: The lake has no images, or no kept one has a caption; or the file is of another format or cannot
            be written.
    """
    if file is not None and Path(file).suffix not in _WRITERS:
        raise WinnowError(f"prompts are written to .csv or .jsonl, not to {file}: choose one of these endings")
    images = job.lake.require(tables.IMAGES)
    verdicts, duplicates = (job.lake.read(t) for t in (tables.VERDICTS, tables.DUPLICATES))
    with job.progress.step("regurgitation: choose prompts"):
        found = prompts(images, verdicts, duplicates, count, job.settings.seed).collect()
    if not found:
        raise WinnowError(
            f"{job.lake.uri}: no kept image has a caption, so there is no prompt: run `winnow ingest` on sources with "
            "captions"
        )
    rows = [row.asDict() for row in found]
    if file is None:
        return _csv(rows)
    try:
        with replacing(Path(file)) as part:
            part.write_text(_WRITERS[Path(file).suffix](rows), encoding="utf-8", newline="")
    except OSError as error:
        raise WinnowError(f"{file} cannot be written: {error.strerror}") from error
    return f"{len(rows)} prompts in {file}"


def prompts(images: DataFrame, verdicts: DataFrame, duplicates: DataFrame, count: int, seed: int) -> DataFrame:
    """Captions of training images: a random sample of all, and half of the largest duplicate groups among the others.

    Args:
        images: Table images.
        verdicts: Table verdicts; an image without a verdict is kept.
        duplicates: Table duplicates.
        count: Rows wanted.
        seed: Of the random sample.

    Returns:
        image_id, caption, reason, group_size (images that look the same, 1 for a single one); the largest groups
        first. Fewer rows where fewer images have captions, or where the groups are few and some are in the sample.
    """
    captions = training_captions(images, verdicts, duplicates)
    by_size = (F.desc("group_size"), F.col("image_id"))
    grouped = captions.where("group_size > 1")
    # 1. How many are random depends on how many groups there are, not on which images were drawn.
    groups = grouped.limit(count // 2).agg(F.count("*").alias("groups"))
    # 2. They are drawn first, and from all: without the largest groups they would be a sample of what is left.
    by_chance = (F.xxhash64("image_id", F.lit(seed)), F.col("image_id"))
    place = F.row_number().over(Window.orderBy(*by_chance)).alias("place")
    drawn = captions.orderBy(*by_chance).limit(count).select("*", place)
    sample = drawn.crossJoin(groups).where(F.col("place") + F.col("groups") <= count)
    # 3. The largest groups among the others, so that no image comes twice.
    others = grouped.join(sample, "image_id", "left_anti").orderBy(*by_size).limit(count // 2)
    largest = others.withColumns({"reason": F.lit(LARGEST), "place": -F.col("group_size")}).select(*COLUMNS, "place")
    random = sample.withColumn("reason", F.lit(RANDOM)).select(*COLUMNS, "place")
    return largest.union(random).orderBy("reason", "place", "image_id").select(*COLUMNS)


def training_captions(images: DataFrame, verdicts: DataFrame, duplicates: DataFrame) -> DataFrame:
    """image_id, caption, group_size of the images that are trained on and have a caption.

    Args:
        images: Table images.
        verdicts: Table verdicts; an image without a verdict is kept.
        duplicates: Table duplicates.
    """
    out = verdicts.where("not kept").select("image_id")
    out = out.unionByName(duplicates.select(F.col("removed_id").alias("image_id")))
    training = images.where(F.trim("caption") != "").join(out, "image_id", "left_anti").select("image_id", "caption")
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
