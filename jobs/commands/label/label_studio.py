"""Label Studio: queued images as tasks with predictions, and the labelling interface that its project needs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs.commands.label.page import store
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.pages.thumbnails import data_uris
from jobs.runtime.config import CategorySettings
from jobs.runtime.whole_file import replacing
from models.errors import WinnowError

PICTURE = 640
"""Longest side in pixels of a picture that travels inside the file."""

STAGING = "_staging/label_studio"

# Where no threshold has been calibrated yet.
_EVEN = 0.5
_TO_NAME = "image"


@dataclass(frozen=True)
class TaskPictures:
    """How a task leads to its picture; Label Studio loads no paths of this machine.

    Attributes:
        url_prefix: Put before the key of each image, where they are served; else they travel inside the file.
        side: Longest side in pixels of those that do.
    """

    url_prefix: str | None = None
    side: int = PICTURE

    def column(self) -> Column:
        """The address of each row's picture, from its columns image, key and image_id; null where it is no image."""
        if self.url_prefix is None:
            return data_uris(self.side)(F.col("image"))
        name = F.url_encode(F.coalesce("key", "image_id"))
        # The key may be a path, and a plus in a path is no space.
        return F.concat(
            F.lit(self.url_prefix), F.replace(F.replace(name, F.lit("%2F"), F.lit("/")), F.lit("+"), F.lit("%20"))
        )


@dataclass(frozen=True)
class Known:
    """What is known of images that wait: rows of images, of these at least; the tables scores and thresholds."""

    images: DataFrame
    scores: DataFrame
    thresholds: DataFrame


def export_tasks(job: Job, file: str, category: str | None, pictures: TaskPictures) -> Summary:
    """Writes the images that wait for a label as a file that a Label Studio project imports, its interface beside it.

    Args:
        job: The command at work.
        file: Where to, on this machine.
        category: Whose images; may be left out where the settings have one category only.
        pictures: How a task leads to its picture.

    Raises:
        WinnowError: The category is not one of the settings, nothing waits, or the file cannot be written.
    """
    known, lake = job.settings.categories, job.lake
    if category is None and len(known) == 1:
        category = next(iter(known))
    if category is None:
        have = f"the settings have {', '.join(known)}" if known else "the settings have none"
        raise WinnowError(f"tasks are of one category, and none was named: {have}; add `--category NAME`")
    described = job.settings.category(category)
    lake.require(tables.IMAGES)
    queued = waiting(lake.read(tables.LABEL_QUEUE), lake.read(tables.LABELS), category)
    with job.progress.step(f"label: export tasks of {category} to {file}"):
        images = lake.rows_of(tables.IMAGES, queued)
        rows = tasks(queued, Known(images, lake.read(tables.SCORES), lake.read(tables.THRESHOLDS)), category, pictures)
        # What is sorted is stored first, made small: Spark reads it twice and shuffles it. Then partition by partition:
        # the driver never holds all pictures.
        try:
            small = lake.stage(f"{STAGING}/small", rows)
            made = (row for part in lake.fetch(f"{STAGING}/sorted", small.orderBy("turn")) for row in part.to_pylist())
            found = write(made, file, category, described)
        finally:
            lake.delete_staging(STAGING)
    if not found.tasks:
        raise WinnowError(f"no image waits for a label of {category}: run `winnow label next {category}` first")
    if found.without_picture:
        job.progress.warn(f"{found.without_picture} queued images cannot be decoded and were left out")
    return {"tasks exported": found.tasks, "file": file, "labelling interface": found.interface}


def waiting(queue: DataFrame, labels: DataFrame, category: str) -> DataFrame:
    """The images that wait for a label of a category: a random one until it has a random label, others until any.

    Args:
        queue: Table label_queue.
        labels: Table labels.
        category: Whose.

    Returns:
        As `page.store.queue`: image_id, origin, reason, turn; a bounded number.
    """
    own = labels.where(F.col("category") == category).select("image_id", F.col("origin").alias("given"))
    queued = store.queue(queue, labels, category)
    counts = (queued["image_id"] == own["image_id"]) & ((F.col("origin") != "random") | (F.col("given") == "random"))
    return queued.join(own, counts, "left_anti")


def tasks(queued: DataFrame, known: Known, category: str, pictures: TaskPictures) -> DataFrame:
    """Images that wait for a label of a category, as Label Studio's tasks.

    Args:
        queued: Which, as `waiting` gives them.
        known: What is known of them.
        category: Whose.
        pictures: How a task leads to its picture.

    Returns:
        image_id, key, caption, origin, reason, turn, image string (address), predictions array of structures of model,
        score and yes (at or above the model's threshold).
    """
    few = F.broadcast(queued)
    scores = known.scores.join(few, "image_id", "left_semi")
    seen = known.images.select("image_id", "key", "caption", "image").join(few, "image_id")
    joined = seen.join(predictions(scores, known.thresholds, category), "image_id", "left")
    shown = pictures.column().alias("image")
    return joined.select("image_id", "key", "caption", "origin", "reason", "turn", shown, "predictions")


def predictions(scores: DataFrame, thresholds: DataFrame, category: str) -> DataFrame:
    """What each model that scored an image says of it.

    Args:
        scores: Table scores.
        thresholds: Table thresholds.
        category: Whose.

    Returns:
        image_id, predictions array of structures of model, score and yes.
    """
    # A score stored twice is the same score.
    once = scores.where(F.col("category") == category).groupBy("image_id", "model").agg(F.max("score").alias("score"))
    limits = thresholds.where(F.col("category") == category).select("model", "threshold")
    judged = once.join(F.broadcast(limits), "model", "left")
    yes = (F.col("score") >= F.coalesce("threshold", F.lit(_EVEN))).alias("yes")
    each = judged.select("image_id", F.struct("model", "score", yes).alias("one"))
    return each.groupBy("image_id").agg(F.sort_array(F.collect_list("one")).alias("predictions"))


def task(row: dict[str, Any], category: str) -> dict[str, Any]:
    """A row of `tasks` as Label Studio imports it.

    Examples:
        >>> row = {"image_id": "i1", "image": "data:,", "predictions": [{"model": "m", "score": 0.75, "yes": True}]}
        >>> made = task(row, "boats")
        >>> made["data"]["image_id"], made["predictions"][0]["score"], made["predictions"][0]["result"][0]["value"]
        ('i1', 0.75, {'choices': ['yes']})
    """
    data = {
        name: row[name] or "" for name in ("image", "image_id", "key", "caption", "origin", "reason") if name in row
    }

    def prediction(one: dict[str, Any]) -> dict[str, Any]:
        value = {"choices": ["yes" if one["yes"] else "no"]}
        choice = {"id": "choice", "from_name": category, "to_name": _TO_NAME, "type": "choices", "value": value}
        return {"model_version": one["model"], "score": round(one["score"], 6), "result": [choice]}

    return {
        "data": {**data, "category": category},
        "predictions": [prediction(one) for one in row["predictions"] or []],
    }


def interface(category: str, settings: CategorySettings) -> str:
    """The labelling interface of a Label Studio project for a category, as XML.

    Who is unsure skips the task: a skipped one is no label.

    Examples:
        >>> interface("boats", CategorySettings(definition="Boats & ships.")).splitlines()[1].strip()
        '<Header value="boats: Boats &amp; ships." />'
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Header", value=f"{category}: {settings.definition}")
    for head, lines in (("Counts", settings.include), ("Does not count", settings.exclude)):
        for line in lines:
            ElementTree.SubElement(view, "Header", size="5", value=f"{head}: {line}")
    ElementTree.SubElement(view, "Image", name=_TO_NAME, value="$image")
    choices = ElementTree.SubElement(
        view, "Choices", name=category, toName=_TO_NAME, choice="single", required="true", showInline="true"
    )
    for value in ("yes", "no"):
        ElementTree.SubElement(choices, "Choice", value=value, hotkey=value[0])
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode") + "\n"


@dataclass(frozen=True)
class WrittenTasks:
    """What came of writing tasks.

    Attributes:
        tasks: How many.
        without_picture: Images that could not be decoded, and are no tasks.
        interface: The file of the labelling interface.
    """

    tasks: int
    without_picture: int
    interface: str


def write(rows: Iterable[dict[str, Any]], file: str, category: str, settings: CategorySettings) -> WrittenTasks:
    """Writes tasks to a local file, one at a time, whole or not at all, and the interface beside it.

    Args:
        rows: Of `tasks`.
        file: Where to; nothing is written without a task.
        category: Whose.
        settings: Of the category.

    Raises:
        WinnowError: The files cannot be written, or a file that is no labelling interface lies in the place of one.
    """
    target = Path(file)
    beside = target.with_suffix(".xml")
    count = dropped = 0
    try:
        _require_interface(beside, target)
        with replacing(target) as part:
            with part.open("w", encoding="utf-8") as out:
                for row in rows:
                    if row["image"] is None:
                        dropped += 1
                        continue
                    out.write(f"{',' if count else '['}\n{json.dumps(task(row, category), ensure_ascii=False)}")
                    count += 1
                out.write("\n]\n")
            if count:
                beside.write_text(interface(category, settings), encoding="utf-8")
            else:
                part.unlink()
    except OSError as error:
        raise WinnowError(f"label file {file} cannot be written: {error.strerror}") from error
    return WrittenTasks(count, dropped, str(beside))


def _require_interface(file: Path, tasks: Path) -> None:
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").lstrip().startswith("<View"):
        raise WinnowError(
            f"{file} is no labelling interface and would be replaced by one: give the tasks another name, as in "
            f"`winnow label export {tasks.with_stem(f'{tasks.stem}-tasks')}`"
        )
