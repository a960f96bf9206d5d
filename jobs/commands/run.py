"""`run`: all commands in order, from sources to report; each does only what is missing."""

from collections.abc import Callable, Sequence
from functools import partial

from jobs import models_in_use
from jobs.commands import fit_encoder, ingest, report, score, train
from jobs.commands.audit import command as audit
from jobs.commands.calibrate import command as calibrate
from jobs.commands.dedup import command as dedup
from jobs.commands.filter import command as filter
from jobs.commands.filter import rules
from jobs.commands.label import import_file
from jobs.commands.weigh import command as weigh
from jobs.job import Job, Summary
from jobs.labels import files
from jobs.lake import tables
from jobs.matching import rule
from jobs.prerequisites import first_labels, has_rows_of
from jobs.runtime import training_extra
from jobs.sources.find import Source
from models.inference import encoder

Step = Callable[[], Summary]


def run(job: Job, sources: Sequence[str], format_: str | None = None, labels: Sequence[str] = ()) -> Summary:
    """Runs all commands on a lake.

    Args:
        job: Lake and settings.
        sources: Sources to ingest.
        format_: Format of the sources; guessed when None.
        labels: Label files to import.

    Returns:
        The summaries of all commands; each key begins with the name of its command.

    Raises:
        WinnowError: A setting, model or label file cannot be used, and nothing has been read. Or a later command
            failed; the results of the commands before it are kept.
    """
    found = ingest.checked(job, sources, format_)
    check(job, labels)
    total: Summary = {}
    for name, step in _steps(job, found, labels):
        job.progress.heading(name)
        job.lake.begin()
        job.lake.fit_shuffles()
        for key, value in step().items():
            total[f"{name}: {key}"] = value
    return total


def check(job: Job, labels: Sequence[str]) -> None:
    """Checks everything that would stop a later command and that can be known before the first one begins.

    Args:
        job: Lake and settings.
        labels: Label files to import.

    Raises:
        WinnowError: A model, rule, label file or package cannot be used; the message names it.
    """
    lake, settings = job.lake, job.settings
    models_in_use.image_classifiers(job)
    models_in_use.semantic_encoder(job)
    rule.rule_for(job)
    filter.check_forgotten(job, lake.snapshot())
    for file in labels:
        files.paths_of(file)
    if not labels:
        _note_unlabelled(job)
    # What follows needs Spark or torch.
    # Without rows: a field that only the new sources bring is looked for once they are ingested.
    rules.check(lake.read(tables.IMAGES).limit(0), settings.filter)
    for file in labels:
        files.read(lake.spark, file)
    heads = models_in_use.head_categories(job.settings)
    if any(labels or not lake.has_file(models_in_use.HEAD.format(name)) for name in heads):
        training_extra.module("head")
    if _fits_encoder(job):
        training_extra.module("encoder")


def _fits_encoder(job: Job) -> bool:
    """Returns whether to fit an encoder: once only, because a new encoder makes all later results stale."""
    return job.settings.encoder.fit and not job.lake.has_file(encoder.FITTED)


def _note_unlabelled(job: Job) -> None:
    """Says at once which categories have neither labels nor a model, because `run` will stop before their training."""
    for category in models_in_use.head_categories(job.settings):
        if not has_rows_of(job.lake, tables.LABELS, category):
            job.progress.warn(
                f"{category} has neither labels nor a model: this run ingests and scores, then stops; label next: "
                f"{job.command(*first_labels(job, category).split()[1:])}"
            )


def _ingest(job: Job, found: Sequence[Source]) -> Summary:
    """Ingests, and checks whether the images now have the fields that the rules need, before the long steps."""
    summary = ingest.read(job, found)
    rules.check(job.lake.read(tables.IMAGES), job.settings.filter)
    return summary


def _steps(job: Job, found: Sequence[Source], labels: Sequence[str]) -> list[tuple[str, Step]]:
    heads = models_in_use.head_categories(job.settings)
    steps: list[tuple[str, Step]] = [("ingest", partial(_ingest, job, found))]
    if _fits_encoder(job):
        steps.append(("fit-encoder", partial(fit_encoder.run, job)))
    steps += [(f"label import {file}", partial(import_file.import_labels, job, file)) for file in labels]
    if heads:
        # Heads are trained on embeddings, so compute these first; the second pass only scores with the new heads.
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
