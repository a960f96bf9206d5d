"""`label export` for Label Studio: queued images as tasks with predictions, and the labelling interface."""

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

IMAGE_SIDE = 640
"""Longest side in pixels of an image inside the file."""

STAGING = "_staging/label_studio"

# Used if no threshold is calibrated yet.
_DEFAULT_THRESHOLD = 0.5
_TO_NAME = "image"


@dataclass(frozen=True)
class TaskImages:
    """How tasks refer to their images; Label Studio does not load paths of this machine.

    Attributes:
        url_prefix: Address before the key of each image; None puts the images inside the file.
        side: Longest side in pixels of images inside the file.
    """

    url_prefix: str | None = None
    side: int = IMAGE_SIDE

    def column(self) -> Column:
        """Returns the address of each row's image, from image, key and image_id; null if it cannot be decoded."""
        if self.url_prefix is None:
            return data_uris(self.side)(F.col("image"))
        name = F.url_encode(F.coalesce("key", "image_id"))
        # A key may be a path; there, a plus does not mean a space.
        return F.concat(
            F.lit(self.url_prefix), F.replace(F.replace(name, F.lit("%2F"), F.lit("/")), F.lit("+"), F.lit("%20"))
        )


@dataclass(frozen=True)
class TaskInputs:
    """Tables from which tasks are made: images (at least the waiting ones), scores, thresholds."""

    images: DataFrame
    scores: DataFrame
    thresholds: DataFrame


def export_tasks(job: Job, file: str, category: str | None, task_images: TaskImages) -> Summary:
    """Writes the images that wait for a label as Label Studio tasks, with the labelling interface in a file beside it.

    Args:
        job: The running command.
        file: Local path of the tasks.
        category: Category of the images; None is allowed if the settings have only one category.
        task_images: How tasks refer to their images.

    Raises:
        WinnowError: The category is not in the settings, no image waits, or the file cannot be written.
    """
    categories, lake = job.settings.categories, job.lake
    if category is None and len(categories) == 1:
        category = next(iter(categories))
    if category is None:
        have = f"the settings have {', '.join(categories)}" if categories else "the settings have none"
        raise WinnowError(f"Label Studio tasks need a category: {have}; add `--category NAME`")
    settings = job.settings.category(category)
    lake.require(tables.IMAGES)
    queued = waiting(lake.read(tables.LABEL_QUEUE), lake.read(tables.LABELS), category)
    with job.progress.step(f"label: export tasks of {category} to {file}"):
        images = lake.rows_of(tables.IMAGES, queued)
        inputs = TaskInputs(images, lake.read(tables.SCORES), lake.read(tables.THRESHOLDS))
        rows = tasks(queued, inputs, category, task_images)
        # The sort reads its input twice and shuffles it, so the small images are stored first. Partitions are fetched
        # one by one: the driver never holds all images.
        try:
            small = lake.stage(f"{STAGING}/small", rows)
            made = (row for part in lake.fetch(f"{STAGING}/sorted", small.orderBy("turn")) for row in part.to_pylist())
            written = write(made, file, category, settings)
        finally:
            lake.delete_staging(STAGING)
    if not written.tasks:
        command = f"winnow label next {category} --strategy random --count 200"
        raise WinnowError(f"no image waits for a label of {category}: run `{command}` first")
    if written.undecodable:
        job.progress.warn(f"label export: skipped {written.undecodable} queued images that cannot be decoded")
    return {"tasks exported": written.tasks, "file": file, "labelling interface": written.interface}


def waiting(queue: DataFrame, labels: DataFrame, category: str) -> DataFrame:
    """Returns the queued images without a label of a category; for origin `random`, only a random label counts.

    Args:
        queue: Table label_queue.
        labels: Table labels.
        category: Name of the category.

    Returns:
        image_id, origin, reason, turn, as from `page.store.queue`; a bounded number.
    """
    own = labels.where(F.col("category") == category).select("image_id", F.col("origin").alias("given"))
    queued = store.queue(queue, labels, category)
    counts = (queued["image_id"] == own["image_id"]) & ((F.col("origin") != "random") | (F.col("given") == "random"))
    return queued.join(own, counts, "left_anti")


def tasks(queued: DataFrame, inputs: TaskInputs, category: str, task_images: TaskImages) -> DataFrame:
    """Returns the rows of Label Studio tasks for images that wait for a label.

    Args:
        queued: Rows of `waiting`.
        inputs: Tables from which the tasks are made.
        category: Name of the category.
        task_images: How tasks refer to their images.

    Returns:
        image_id, key, caption, origin, reason, turn, image string (address), predictions array of structures of model,
        score and yes (score at or above the model's threshold).
    """
    few = F.broadcast(queued)
    scores = inputs.scores.join(few, "image_id", "left_semi")
    images = inputs.images.select("image_id", "key", "caption", "image").join(few, "image_id")
    joined = images.join(predictions(scores, inputs.thresholds, category), "image_id", "left")
    address = task_images.column().alias("image")
    return joined.select("image_id", "key", "caption", "origin", "reason", "turn", address, "predictions")


def predictions(scores: DataFrame, thresholds: DataFrame, category: str) -> DataFrame:
    """Returns the predictions for each image, one for each model that scored it.

    Args:
        scores: Table scores.
        thresholds: Table thresholds.
        category: Name of the category.

    Returns:
        image_id, predictions array of structures of model, score and yes.
    """
    # A score may be stored twice; both rows are equal.
    once = scores.where(F.col("category") == category).groupBy("image_id", "model").agg(F.max("score").alias("score"))
    limits = thresholds.where(F.col("category") == category).select("model", "threshold")
    judged = once.join(F.broadcast(limits), "model", "left")
    yes = (F.col("score") >= F.coalesce("threshold", F.lit(_DEFAULT_THRESHOLD))).alias("yes")
    each = judged.select("image_id", F.struct("model", "score", yes).alias("one"))
    return each.groupBy("image_id").agg(F.sort_array(F.collect_list("one")).alias("predictions"))


def task(row: dict[str, Any], category: str) -> dict[str, Any]:
    """Converts a row of `tasks` to the JSON that Label Studio imports.

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
    """Returns the labelling interface of a Label Studio project for a category, as XML.

    It has no choice *unsure*: a labeller who is unsure skips the task, and a skipped task is not a label.

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
    """The result of `write`.

    Attributes:
        tasks: Number of tasks.
        undecodable: Number of images without a task, because they cannot be decoded.
        interface: File of the labelling interface.
    """

    tasks: int
    undecodable: int
    interface: str


def write(rows: Iterable[dict[str, Any]], file: str, category: str, settings: CategorySettings) -> WrittenTasks:
    """Writes tasks to a local file, one at a time, whole or not at all, and the interface beside it.

    Args:
        rows: Rows of `tasks`.
        file: Path of the tasks; nothing is written if there are no tasks.
        category: Name of the category.
        settings: Settings of the category.

    Raises:
        WinnowError: The files cannot be written, or the file of the interface exists and is not an interface.
    """
    target = Path(file)
    beside = target.with_suffix(".xml")
    count = skipped = 0
    try:
        _require_interface(beside, target)
        with replacing(target) as part:
            with part.open("w", encoding="utf-8") as out:
                for row in rows:
                    if row["image"] is None:
                        skipped += 1
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
    return WrittenTasks(count, skipped, str(beside))


def _require_interface(file: Path, tasks: Path) -> None:
    if file.exists() and not file.read_text(encoding="utf-8", errors="replace").lstrip().startswith("<View"):
        raise WinnowError(
            f"{file} is not a labelling interface, and `label export` would replace it: choose another name, as in "
            f"`winnow label export {tasks.with_stem(f'{tasks.stem}-tasks')}`"
        )
