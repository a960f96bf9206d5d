"""`browse`: a page on this machine to look at everything in a lake, and to keep or drop images by hand."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.browse import distances, facts, likeness
from jobs.commands.browse.app import BrowsePage, CategoryScores, Commands, Decision
from jobs.commands.browse.index import IMAGE_COLUMNS, SCHEMA_VERSION, Index
from jobs.decisions import record
from jobs.facts.decisions import DROP, KEEP
from jobs.job import Job, Summary
from jobs.labels.queue import queue
from jobs.labels.unseen import seen, unseen
from jobs.lake import tables
from jobs.models_in_use import current_encoder, known_models, semantic_encoder
from jobs.pages.web import names, server
from jobs.pages.web.access import Access
from jobs.runtime.caches.folder import cache_folder
from models.images import decoding
from models.images.resizing import thumbnail_of_file
from models.inference.encoder import Encoder
from udfs.hashes.pdq import PDQ_SIDE

_NEXT = ("filter", "dedup", "weigh")
_STRATEGY = "seed"  # what a person chooses is no random sample: `train` may use it, `calibrate` may not
_PART = ".sqlite.part"
_OLD_SECONDS = 86_400


@dataclass(frozen=True)
class BrowseOptions:
    """How the page is served.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 means any free port.
        cache: Folder of the indexes; None means the user's cache folder.
        most: Number of images above which a random sample of about this many is shown.
    """

    host: str = server.LOOPBACK
    port: int = 8766
    cache: Path | None = None
    most: int = 1_000_000


def run(job: Job, options: BrowseOptions) -> Summary:
    """Makes the index if tables have changed, and serves the page until the process is stopped (Ctrl-C).

    Raises:
        WinnowError: The lake holds no image, or the port is in use.
    """
    notes = server.Notes("the page is open; Ctrl-C stops it, and decisions are kept:", "decide")
    return server.until_stopped(job.progress, options.host, notes, lambda wait: serve(job, options, wait))


def serve(job: Job, options: BrowseOptions, body: Callable[[str], None]) -> Summary:
    """Serves the page while `body`, called with its address, runs.

    Raises:
        WinnowError: As `run`.
    """
    job.lake.require(tables.IMAGES)
    done = {"images decided": 0, "images queued for labelling": 0}

    def decide(ids: Sequence[str], decision: Decision, why: str) -> None:
        _decide(job, index, ids, decision, why)
        done["images decided"] += len(ids)

    def to_label(ids: Sequence[str], category: str, why: str) -> list[str]:
        queued = _queue(job, ids, category, why)
        done["images queued for labelling"] += len(queued)
        return queued

    with server.listening(options.host, options.port) as listener, closing(_index(job, options)) as index:
        after = " && ".join(job.command(name) for name in _NEXT)
        commands = Commands(
            decide=decide,
            queue=to_label,
            looks_of=_looks(job, index),
            explain=lambda image_id: job.command("explain", image_id),
            label=lambda category: job.command("label", "serve", category),
            next_commands=after,
        )
        access = Access(Access.new_token(), server.hosts(options.host), "browse")
        name = job.lake.uri.rstrip("/").rpartition("/")[2] or job.lake.uri
        page = BrowsePage(name, index, _categories(job, index), commands, sorted(job.settings.categories))
        with server.serving(page.app(access), listener):
            body(server.address(options.host, listener, access.token))
    return {name: number for name, number in done.items() if number or name == "images decided"}


# The index ----------------------------------------------------------------------------------------------------------


def _index(job: Job, options: BrowseOptions) -> Index:
    """Returns the index of the lake, made again if a table, the encoder or a model has changed."""
    lake, encoder, models, semantic = job.lake, current_encoder(job).digest, known_models(job), semantic_encoder(job)
    now = lake.snapshot()
    versions = {table.name: now.version(table) for table in facts.READ}
    total = lake.read(tables.IMAGES).count()
    share = min(1.0, options.most / max(total, 1))
    used = [SCHEMA_VERSION, versions, encoder, semantic.digest, models, share]
    made_from = json.dumps(used, sort_keys=True, default=str)
    if share < 1:
        job.progress.warn(
            f"browse: the page shows a random sample of about {options.most:,} of {total:,} images, and its numbers "
            "are those of the sample; `--most` changes this"
        )
    folder = options.cache or cache_folder("browse")
    file = folder / f"{names.folder_name(lake.uri)}.sqlite"
    if file.exists():
        index = Index(file)
        if index.made_from() == made_from:
            return index
        index.close()
    # A page that is still open keeps its file, and what a killed process leaves is never taken for an index.
    _delete_left(folder)
    part = file.with_name(f"{uuid.uuid4().hex}{_PART}")
    try:
        with closing(Index(part)) as made:
            _fill(job, made, encoder, models, share)
            _fill_likeness(job, made, semantic.digest, share)
            _fill_thumbnails(job, made, file, share)
            made.finish(made_from)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    index = Index(file)
    job.progress.note(f"browse: the index has {index.size / 1e6:,.0f} MB: {file}")
    return index


def _delete_left(folder: Path) -> None:
    for left in folder.glob(f"*{_PART}"):
        if time.time() - left.stat().st_mtime > _OLD_SECONDS:
            left.unlink(missing_ok=True)


def _fill(job: Job, index: Index, encoder: str, models: Mapping[str, str], share: float) -> None:
    lake = job.lake
    with job.progress.step("browse: collect the facts about the images"), lake.scratch("browse") as scratch:
        index.begin()
        rows = scratch.keep(facts.image_facts(lake, encoder, share)).select(*IMAGE_COLUMNS)
        index.add_images(_rows(rows))
        index.add_scores(_rows(facts.scores(lake, models, share)))
        index.add_faults(_rows(facts.faults(lake)))
        index.add_queued(_rows(facts.queued(lake, share)))
        index.add_labels(_rows(facts.random_labels(lake, models, job.settings.labels.contradictions)))
        found = distances.measured(lake)
        if found is not None:
            index.note("distances", found.as_json())
            index.add_pairs(_rows(distances.examples(lake, *(facts.shown(share, one) for one in ("a_id", "b_id")))))


def _fill_likeness(job: Job, index: Index, encoder: str, share: float) -> None:
    own = job.lake.read(tables.FEATURES).where(F.col("encoder") == encoder).where(facts.shown(share))
    features = own.select("image_id", "embedding").dropDuplicates(["image_id"])
    with job.progress.step("browse: collect what the images show"):
        onto = likeness.directions(features)
        if onto.size:
            index.note("directions", onto.tolist())
            index.add_vectors(_rows(likeness.vectors(features, onto)))


def _fill_thumbnails(job: Job, index: Index, older: Path, share: float) -> None:
    lake = job.lake
    if older.exists():
        index.take_thumbnails(older)
    missing = index.without_thumbnail()
    if missing:
        with job.progress.step(f"browse: make {len(missing):,} small images"), lake.scratch("browse") as scratch:
            ids = lake.spark.createDataFrame([(one,) for one in missing], "image_id string")
            some = ids if index.has_thumbnails else None
            index.add_thumbnails(_rows(scratch.keep(facts.thumbnails(lake, some, share))))


def _rows(frame: DataFrame) -> Iterator[Sequence[Any]]:
    """Yields rows partition by partition, so that memory does not grow with the lake."""
    for row in frame.toLocalIterator(prefetchPartitions=True):
        yield tuple(bytes(value) if isinstance(value, bytearray) else value for value in row)


def _categories(job: Job, index: Index) -> list[CategoryScores]:
    rows = {row.category: row for row in job.lake.read(tables.THRESHOLDS).collect()}
    found = []
    for name in known_models(job):
        row = rows.get(name)
        scored = index.above(name, 0.0)
        if scored:
            confidence = job.settings.categories[name].confidence
            found.append(CategoryScores(name, row and row.threshold, row and row.recall_lower, scored, confidence))
    return found


# What the page asks for ---------------------------------------------------------------------------------------------


def _decide(job: Job, index: Index, ids: Sequence[str], decision: Decision, why: str) -> None:
    """Writes decisions to the lake in one commit for each kind."""
    kinds: dict[str, list[str]] = {decision: list(ids)}
    if decision == "withdraw":
        standing = {one: str((index.image(one) or {}).get("decision") or "") for one in ids}
        kinds = {kind: [one for one in ids if standing[one].endswith(kind)] for kind in (KEEP, DROP)}
    request = record.Request((), why, withdraw=decision == "withdraw").checked()
    for kind, own in kinds.items():
        if own:
            with job.lake.scratch("browse") as scratch:
                images = job.lake.spark.createDataFrame([(one,) for one in own], "image_id string")
                record.record(job, images, kind, request, scratch)


def _queue(job: Job, ids: Sequence[str], category: str, why: str) -> list[str]:
    """Queues those of some images that are neither labelled nor queued for a category, as `label next` does."""
    images = job.lake.spark.createDataFrame([(one,) for one in ids], "image_id string")
    new = {row.image_id for row in unseen(images, *seen(job), category).collect()}
    picked = [(one, f"selected in browse: {why}") for one in ids if one in new]
    if picked:
        queue(job, category, _STRATEGY, picked)
    return [one for one, _ in picked]


def _looks(job: Job, index: Index) -> Callable[[bytes], tuple[bytes, NDArray[np.float16] | None]]:
    """Returns the function that computes the perceptual hash of a file, and the vector of what it shows."""
    encoder, lock, onto = current_encoder(job), threading.Lock(), index.noted("directions")
    semantic = semantic_encoder(job) if onto else None
    axes = np.array(onto, np.float32)

    def looks_of(data: bytes) -> tuple[bytes, NDArray[np.float16] | None]:
        def pixels(one: Encoder) -> NDArray[np.uint8]:
            file = decoding.Decoder(data, decoding.MAX_MEGAPIXELS)
            return thumbnail_of_file(file, one.input.view, PDQ_SIDE)[None]

        with lock:
            hash_ = np.asarray(encoder.encode(pixels(encoder))[1][0], np.uint8).tobytes()
            if semantic is None:
                return hash_, None
            shown = semantic.embed_each(pixels(semantic)).embeddings
            return hash_, likeness.packed(shown, axes)[0]

    return looks_of
