"""`run`: every command in order, from sources to report; each does only what is missing."""

from collections.abc import Callable, Sequence

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
        for key, value in step().items():
            total[f"{name}: {key}"] = value
    return total


def _steps(job: Job, sources: Sequence[str], format_: str | None, labels: Sequence[str]) -> list[tuple[str, Step]]:
    own_heads = [name for name, category in job.settings.categories.items() if category.model is None]
    steps: list[tuple[str, Step]] = [("ingest", lambda: ingest.run(job, sources, format_))]
    if job.settings.encoder.fit:
        steps.append(("fit-encoder", lambda: fit_encoder.run(job)))
    steps += [(f"label import {file}", lambda file=file: label.import_labels(job, file)) for file in labels]  # type: ignore[misc]
    if own_heads:
        # Heads are trained on embeddings, so these come first; the second pass only scores what they make of them.
        steps.append(("score (signals)", lambda: score.run(job)))
        steps += [(f"train {name}", lambda name=name: train.run(job, name)) for name in own_heads]  # type: ignore[misc]
    steps.append(("score", lambda: score.run(job)))
    if job.settings.categories:
        steps.append(("calibrate", lambda: calibrate.run(job)))
    rest: list[tuple[str, Callable[[Job], Summary]]] = [
        ("filter", filter.run),
        ("dedup", dedup.run),
        ("weigh", weigh.run),
        ("audit", audit.run),
        ("report", report.run),
    ]
    return steps + [(name, lambda command=command: command(job)) for name, command in rest]  # type: ignore[misc]
