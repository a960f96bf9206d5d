"""`export`: writes the curated set as files for a training loader, with a card that says how to reproduce it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.export import card, croissant, datacomp, layout, parquet, shards, webdataset
from jobs.commands.export.folder import PART, Folder
from jobs.commands.export.shards import Shard, Writer
from jobs.facts.origin import made_from, origin
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.prerequisites import require_kept
from jobs.runtime.addresses import require_no_secret
from jobs.runtime.config import fingerprint
from jobs.runtime.wording import plural
from jobs.sources import files
from jobs.sources.apart import is_inside
from models.errors import LostRowsError, WinnowError

FORMATS = ("webdataset", "parquet", "datacomp")
MANIFEST = "winnow.json"
STARTED = "winnow.started.json"
# Raised if this version would divide the images among shards in another way: then an older export is not continued.
_LAYOUT = 2
_CARD = "README.md"
_CROISSANT = "croissant.json"
_WRITERS: Mapping[str, Writer] = {"webdataset": webdataset.TarShard, "parquet": parquet.ParquetShard}
_ENDINGS = {"webdataset": (".tar", ".parquet"), "parquet": (".parquet",)}


@dataclass(frozen=True)
class ExportPlan:
    """The format to write, and the number of images in the table curated."""

    format: str
    images: int


@dataclass(frozen=True)
class WrittenFiles:
    """The files in the folder.

    Attributes:
        files: Name, size and digest of each shard or file.
        samples: Total number of images.
        notes: More figures for the summary.
    """

    files: Sequence[Mapping[str, Any]]
    samples: int
    notes: Summary


def run(job: Job, directory: str, format: str) -> Summary:
    """Writes the curated set to a folder.

    A killed export resumes where it stopped and keeps complete shards. The manifest is written last: without it the
    export is incomplete.

    Args:
        job: Its lake has the table curated.
        directory: A path or URI of a folder that is empty, does not exist or holds this same export.
        format: One of `FORMATS`.

    Raises:
        WinnowError: The format is unknown, there is nothing to export, curated is stale, or the folder holds something
            else or has a secret in its address.
        LostRowsError: The counts of the card do not add up (nothing is written), or not every image was written.
    """
    if format not in FORMATS:
        raise WinnowError(f"--format {format} is unknown: use one of {', '.join(FORMATS)}")
    require_no_secret(directory)
    lake, settings = job.lake, job.settings
    if is_inside(directory, lake.address):
        raise WinnowError(f"{directory} lies in the lake {lake.uri}: export to a folder outside it")
    if not lake.exists(tables.CURATED):
        require_kept(lake)
    lake.require_written(tables.CURATED)
    now = lake.snapshot()
    now.require_current(tables.CURATED)
    commit = now.commit(tables.CURATED)
    assert commit is not None  # required above
    wanted = {"format": format, "lake": lake.uri, "curated": made_from(commit), "seed": settings.seed}
    if format in _WRITERS:
        wanted |= {"shard_samples": settings.export.shard_samples, "layout": _LAYOUT}
    else:
        wanted["shard_samples"] = None
    described = fingerprint(settings.export.card)
    folder = Folder(directory)
    before = _before(folder, wanted)
    require_kept(lake)
    if before is not None and before["card"] == described and not _missing(folder, before):
        job.progress.note("export: up to date")
        return dict(before["summary"])
    curated = lake.read(tables.CURATED)
    images = curated.count()
    if not images:
        raise WinnowError(
            f"{lake.uri}: the table curated holds no image, so there is nothing to export: remove a rule or lower a "
            "recall in your settings, then run `winnow run SOURCE`"
        )
    if format in _WRITERS:
        require_readable(lake.uri)
    with job.progress.step("export: check the counts"):
        made_of = origin(lake)
        check_counts(made_of["counts"])
    folder.make()
    folder.write(STARTED, _json({"made_from": wanted}))
    if before is not None:  # incomplete, or the settings of the card changed
        folder.delete(MANIFEST)
    write = _write_shards if format in _WRITERS else _write_uids
    made = write(job, curated, folder, ExportPlan(format, images))
    if made.samples != images:
        raise LostRowsError(
            f"export: curated holds {images} images, but {made.samples} were written to {folder.uri}: "
            "delete the folder and run `winnow export` again; report this if it happens twice"
        )
    summary: Summary = {"images": images, **made.notes, "folder": folder.uri}
    manifest = {"made_from": wanted, "card": described, "files": list(made.files), "summary": summary}
    _describe(job, folder, {**manifest, **made_of})
    return summary


def require_readable(uri: str) -> None:
    """Checks that the files of a lake can be read without Spark, as the tasks of `export` read images.

    Raises:
        WinnowError: They cannot.
    """
    try:
        fault = "" if files.kind(files.absolute(uri)) else "there is nothing"
    except OSError as error:
        fault = str(error).partition("\n")[0]
    if fault:
        raise WinnowError(
            f"export reads the images of {uri} as `ingest` reads sources, with credentials from the environment, and "
            f"could not: {fault}"
        )


def check_counts(counts: Mapping[str, int | None]) -> None:
    """Checks that the counts on the card add up.

    Args:
        counts: `counts` of `jobs.facts.origin.origin`; a count that is null is not checked.

    Raises:
        LostRowsError: They do not add up; the message names the sum.
    """
    rows, images, curated = (counts.get(name) for name in ("rows_read", "images", "curated"))
    repeats, quarantined, filtered, duplicates = (
        counts.get(name) or 0 for name in ("repeats", "quarantined", "filtered", "duplicates")
    )
    if images is None:
        return
    if rows is not None and rows != repeats + quarantined + images:
        raise LostRowsError(
            f"export: {rows:,} rows read are not {repeats:,} repeats + {quarantined:,} quarantined + {images:,} "
            "images, so the dataset card would be wrong: run `winnow run SOURCE` with all sources on a new lake"
        )
    if images != filtered + duplicates + (curated or 0):
        raise LostRowsError(
            f"export: {images:,} images are not {filtered:,} filtered + {duplicates:,} duplicates + {curated or 0:,} "
            "curated, so the dataset card would be wrong: run `winnow filter`, `winnow dedup` and `winnow weigh`"
        )


# Writing ------------------------------------------------------------------------------------------------------------


def _write_shards(job: Job, curated: DataFrame, folder: Folder, wanted: ExportPlan) -> WrittenFiles:
    """Writes the shards that do not exist yet."""
    lake, settings = job.lake, job.settings
    with job.progress.step("export: lay out the shards"):
        images = lake.read(tables.IMAGES)
        rows = _with_parts(curated, images).select("part", "image_id", "weight", "key", "source")
        plan = layout.lay_out(rows, settings.export.shard_samples)
    done = shards.finished(folder.names(), plan.shards, _ENDINGS[wanted.format])
    todo, found = plan.shards - len(done), []
    if done:
        job.progress.note(f"export: {len(done)} of {plan.shards} shards are already complete")
        found += shards.reread(lake.spark.createDataFrame([(n,) for n in done], "shard int"), folder.uri).collect()
    if todo:
        tasks = shards.tasks(plan.groups, frozenset(done))
        writing = shards.Writing(folder.uri, _WRITERS[wanted.format], tasks, settings.seed)
        with job.progress.step(f"export: write {todo} shards"):
            found += shards.written(layout.keyed(rows, rows, plan), images, writing).collect()
    made = sorted((Shard(**row.asDict()) for row in found), key=lambda shard: shard.shard)
    notes: Summary = {"shards": len(made), "bytes": sum(shard.bytes for shard in made)}
    if plan.repeated_keys:
        notes["keys made unique"] = plan.repeated_keys
    return WrittenFiles([vars(shard) for shard in made], sum(shard.samples for shard in made), notes)


def _with_parts(curated: DataFrame, images: DataFrame) -> DataFrame:
    """Returns the table curated with the part of each image; a table of Winnow 0.1.0 lacks it."""
    if curated.where(F.col("part").isNull()).isEmpty():
        return curated
    return curated.drop("part").join(images.select("image_id", shards.part_of(images)), "image_id")


def _write_uids(job: Job, curated: DataFrame, folder: Folder, wanted: ExportPlan) -> WrittenFiles:
    """Writes the subset file of DataComp."""
    with job.progress.step("export: sort the uids"):
        images, uids, file = datacomp.write(curated, folder)
    if uids < images:
        job.progress.warn(
            f"export: {images - uids:,} images share a uid with another image; the subset file holds each uid once"
        )
    entry = {"name": datacomp.FILE, "samples": uids, "bytes": file.size, "sha256": file.sha256}
    return WrittenFiles([entry], images, {"uids": uids, "bytes": file.size})


def _describe(job: Job, folder: Folder, manifest: Mapping[str, Any]) -> None:
    """Writes the card and the metadata, then the manifest that completes the export."""
    with job.progress.step("export: write card and metadata"):
        folder.write(_CARD, card.render(manifest).encode("utf-8", "replace"))
        folder.write(_CROISSANT, _json(croissant.metadata(manifest)))
        folder.delete_parts()
        folder.write(MANIFEST, _json(manifest))
        folder.delete(STARTED)


# The folder before the export ---------------------------------------------------------------------------------------


def _before(folder: Folder, wanted: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The manifest of a complete export of the same set; None if there is none yet.

    Raises:
        WinnowError: The folder holds another export or other files.
    """
    try:
        names = folder.names()
    except OSError as error:
        raise WinnowError(f"{folder.uri} is not a folder to export to: {error}: name another folder") from error
    for name in (MANIFEST, STARTED):
        if name in names:
            found = json.loads(folder.read(name))
            if found.get("made_from") != wanted:
                raise WinnowError(
                    f"{folder.uri} holds {_described(found)}, not {_described({'made_from': wanted})}: "
                    "export to another folder, or delete this one first"
                )
            return found if name == MANIFEST else None
    # An export writes the file STARTED before any other, so the only partial file can be that one.
    partial = {name for name in names if (part := PART.fullmatch(name)) and part["whole"] == STARTED}
    others = [name for name in names if name not in partial]
    if others:
        shown = ", ".join(others[:3])
        raise WinnowError(
            f"{folder.uri} is not empty: it holds {plural(len(others), 'other file')} ({shown}): name an empty folder"
        )
    return None


def _described(found: Mapping[str, Any]) -> str:
    made = found.get("made_from") or {}
    curated = made.get("curated") or {}
    cut = f", {made['shard_samples']} images per shard" if made.get("shard_samples") else ""
    if made.get("shard_samples") and made.get("layout") != _LAYOUT:
        cut += ", by another version of Winnow"
    when = str(curated.get("written_at"))[:19]
    version = f"version {curated.get('version')} of curated, written {when}"
    return f"an export as {made.get('format')} of {made.get('lake')} ({version}, seed {made.get('seed')}{cut})"


def _missing(folder: Folder, manifest: Mapping[str, Any]) -> bool:
    names = set(folder.names())
    files = manifest["files"]
    endings = _ENDINGS.get(manifest["made_from"]["format"], ())
    whole = len(shards.finished(names, len(files), endings)) == len(files) if endings else True
    return not (whole and names >= {_CARD, _CROISSANT, *(file["name"] for file in files)})


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).encode("utf-8", "replace")
