"""The commands to run after a command that has ended."""

from collections.abc import Mapping
from typing import Any

from jobs.job import Job
from jobs.labels.random_order import RANDOM_SAMPLE
from jobs.lake import tables
from jobs.models_in_use import HEAD, head_categories
from jobs.runtime.config import PAIRS

# What follows a command, whatever its result.
_FOLLOWING = {
    "fit-encoder": ("score",), "calibrate": ("filter",), "filter": ("dedup",), "dedup": ("weigh",), "weigh": ("audit",),
    "audit": ("report",),
}  # fmt: skip
_EXPORT = ("export", "DIR", "--format", "webdataset")


def next_commands(job: Job, command: str, options: Mapping[str, Any]) -> list[str]:
    """Returns the commands to run next, each a line that can be pasted into a shell; none if nothing is left to do.

    Args:
        job: The job of the command that has ended.
        command: Its full name.
        options: Its own arguments and options.
    """
    if options.get("dry_run"):
        return [job.command(command)]
    words: list[tuple[str, ...]] = []
    category = options.get("category")
    if command in _FOLLOWING:
        words = [_FOLLOWING[command]]
    elif command in ("report", "run"):
        words = [("browse",), _EXPORT]
    elif command == "ingest":
        words = [("score",)]
    elif command == "score":
        words = [_after_scores(job)]
    elif command == "train":
        words = [("score",), ("label", "next", str(category), "--strategy", "recall")]
    elif command == "label next":
        words = [("label", "serve", str(category))]
    elif command in ("label serve", "label simulate"):
        words = [("report",) if category == PAIRS else _after_labels(job, str(category))]
    elif command == "label import":
        words = [_after_labels(job, name) for name in head_categories(job.settings)] or [("calibrate",)]
    return [job.command(*one) for one in words]


def _after_scores(job: Job) -> tuple[str, ...]:
    """Returns what follows `score`: labels for a category that has no classifier yet, or else its threshold."""
    for name in head_categories(job.settings):
        if not job.lake.has_file(HEAD.format(name)):
            return _after_labels(job, name)
    return ("calibrate",) if job.settings.categories else ("filter",)


def _after_labels(job: Job, category: str) -> tuple[str, ...]:
    """Returns what a category lacks: labels of the random sample, labels to train on, or training with new labels."""
    if category not in head_categories(job.settings):
        return ("calibrate",)
    labels = job.lake.few_rows(tables.LABELS, "category", "origin")
    if labels is not None:
        pairs = zip(labels["category"], labels["origin"], strict=True)
        origins = {origin for of, origin in pairs if of == category}
        if job.settings.categories[category].threshold is None and RANDOM_SAMPLE not in origins:
            return ("label", "next", category, "--strategy", RANDOM_SAMPLE)
        if not origins - {RANDOM_SAMPLE}:
            return ("label", "next", category, "--strategy", "seed")
    return ("train", category)
