"""`run`: every command in order, from sources to report; each does only what is missing."""

from collections.abc import Callable, Sequence
from functools import partial

from jobs import audit, calibrate, dedup, filter, fit_encoder, ingest, label, report, score, train, weigh
from jobs.job import Job, Summary

Step = Callable[[], Summary]


def run(job: Job, sources: Sequence[str], format_: str | None = None, labels: Sequence[str] = ()) -> Summary:
    """Runs all commands on a lake.

    Args:
        job: Lake and settings.
        sources: What to ingest.
        format_: Format of the sources; guessed when None.
        labels: Label files to import.

    Returns:
        The figures that matter of every command.

    Raises:
        WinnowError: A command cannot go on; the commands before it have done their work, which stays.
    """
    total: Summary = {}
    for name, step in _steps(job, sources, format_, labels):
        job.progress.heading(name)
        job.lake.begin()
        for key, value in step().items():
            total[f"{name}: {key}"] = value
    return total


def _steps(job: Job, sources: Sequence[str], format_: str | None, labels: Sequence[str]) -> list[tuple[str, Step]]:
    heads = [name for name, category in job.settings.categories.items() if category.model is None]
    steps: list[tuple[str, Step]] = [("ingest", partial(ingest.run, job, sources, format_))]
    if job.settings.encoder.fit:
        steps.append(("fit-encoder", partial(fit_encoder.run, job)))
    steps += [(f"label import {file}", partial(label.import_labels, job, file)) for file in labels]
    if heads:
        # Heads are trained on embeddings, so these come first; the second pass only scores what they make of them.
        steps.append(("score signals", partial(score.run, job)))
        steps += [(f"train {name}", partial(train.run, job, name)) for name in heads]
    steps.append(("score", partial(score.run, job)))
    if job.settings.categories:
        steps.append(("calibrate", partial(calibrate.run, job)))
    steps += [("filter", partial(filter.run, job)), ("dedup", partial(dedup.run, job))]
    return [
        *steps,
        ("weigh", partial(weigh.run, job)),
        ("audit", partial(audit.run, job)),
        ("report", partial(report.run, job)),
    ]
