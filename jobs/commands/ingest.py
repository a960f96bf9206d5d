"""`ingest`: reads sources into the tables images, quarantine, sources (the counts of each source) and origins.

It reads each source and decodes each image once, into a staging folder in the lake; all later steps read only the
staging folder. `jobs.sources.inspect` defines the identity of an image.
"""

import hashlib
import json
import uuid
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import Any

from pyspark.sql import Column, DataFrame, Observation, Window
from pyspark.sql import functions as F

from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.image_files import small_files
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.origins import superseded
from jobs.runtime.config import IngestSettings
from jobs.runtime.wording import plural
from jobs.sources import parquet, rows
from jobs.sources.apart import require_apart
from jobs.sources.find import Source, find
from jobs.sources.inspect import DECODE_STAGE, fault_reason, hides_rows, inspected, quarantine, source_rows
from models.errors import LostRowsError

STAGING = "_staging/ingest"

IMAGES_OF_A_PART = 100_000
_CHUNK_SOURCES = 2000
_NAMED_KINDS = 3
# A metric of Spark is a number or a text.
_BETWEEN_PLACES = "\0"
_NAMED_PLACES = 5


@dataclass(frozen=True)
class SourceCounts:
    """Counts of the rows of one source.

    Attributes:
        rows_read: All rows.
        images: Rows added to the table images.
        repeats: Rows whose bytes and caption are already there, or occur twice in the input.
        quarantined: Rows that cannot be read or decoded.
    """

    rows_read: int
    images: int
    repeats: int
    quarantined: int

    def __add__(self, other: "SourceCounts") -> "SourceCounts":
        return SourceCounts(
            self.rows_read + other.rows_read,
            self.images + other.images,
            self.repeats + other.repeats,
            self.quarantined + other.quarantined,
        )


@dataclass(frozen=True)
class Captions:
    """The captions of some images.

    Attributes:
        missing: Number of images without a caption; an empty caption counts as none.
        found_in: Where the others were found, such as `column TEXT`.
    """

    missing: int
    found_in: frozenset[str]


def run(job: Job, sources: Sequence[str], format: str | None = None) -> Summary:
    """Reads sources into the tables images and quarantine.

    Skips a source if its files and the settings for reading are unchanged since it was last read. Reads a changed
    source again and adds what is new.

    Args:
        job: The lake, the settings, the progress display.
        sources: Files, folders, patterns, URIs.
        format: One of `jobs.sources.find.FORMATS`; guessed when None.

    Returns:
        The number of sources found and of unchanged ones, and the `SourceCounts` of this run.

    Raises:
        WinnowError: A source does not exist, is empty or lacks a column; a source lies in the lake or the lake in a
            source; or the lake's folder holds something else.
        LostRowsError: The counts do not add up; nothing was written.
    """
    return read(job, checked(job, sources, format))


def checked(job: Job, sources: Sequence[str], format: str | None) -> list[Source]:
    """Finds the sources, and checks that reading them touches no other data of the user. It writes nothing.

    Args:
        job: The lake, the settings.
        sources: Files, folders, patterns, URIs.
        format: One of `jobs.sources.find.FORMATS`; guessed when None.

    Raises:
        WinnowError: A source does not exist or is empty; or a source lies in the lake, the lake lies in a source, or
            the lake's folder is not a lake and not empty.
    """
    lake = job.lake
    require_apart(lake.address, sources)
    lake.require_room(tables.IMAGES, tables.QUARANTINE, tables.SOURCES, tables.ORIGINS, tables.SUPERSEDED)
    found = find(lambda: lake.spark, sources, format, job.settings.ingest)
    lake.adds(sum(source.size for source in found))
    return found


def read(job: Job, found: Sequence[Source]) -> Summary:
    """Reads the sources that `checked` found; see `run`."""
    lake = job.lake
    lake.mark()
    lake.delete_staging(STAGING)
    if not lake.exists(tables.IMAGES):
        # Without the images, the records of what was read are void: every source must be read again.
        for void in (tables.SOURCES, tables.QUARANTINE, tables.ORIGINS, tables.SUPERSEDED):
            lake.drop(void)
    _record_last_run(lake)
    unread = _unread(lake, found)
    parquet.require_images(unread, job.settings.ingest)
    _note(job, found, unread)
    total, without_caption = SourceCounts(0, 0, 0, 0), 0
    captions_from: set[str] = set()
    chunks = list(_chunks(unread, job.settings.ingest.chunk_gb << 30))
    for number, chunk in enumerate(chunks, 1):
        part = f" (part {number} of {len(chunks)})" if len(chunks) > 1 else ""
        counts, captions = _ingest(job, chunk, part)
        total += counts
        without_caption += captions.missing
        captions_from |= captions.found_in
    if captions_from:
        more = f", {len(captions_from) - _NAMED_PLACES} more" if len(captions_from) > _NAMED_PLACES else ""
        job.progress.note(f"captions from: {', '.join(sorted(captions_from)[:_NAMED_PLACES])}{more}")
    if without_caption:
        job.progress.note(f"images without a caption: {without_caption:,} of {total.images + total.repeats:,}")
    summary: Summary = {"sources": len(found), "unchanged": len(found) - len(unread), **vars(total)}
    return summary | _superseded(job)


def fates(staged: DataFrame, known: DataFrame) -> DataFrame:
    """Decides the fate of each staged row.

    Args:
        staged: From `inspected`, with `file` and `row`, the row's position in the staging folder.
        known: image_id of each image that the lake holds.

    Returns:
        source, file, row, image_id, key, fate: `quarantined`, `repeat` or `image`, and hides: whether other rows of the
        source may be missing because of this one. Of rows with the same image_id, the first by source and key is the
        image, whatever the order of the input.
    """
    faulty = fault_reason().isNotNull()
    place = ("source", "file", "row", "image_id", "key")
    # Quarantined rows are not ranked: most have no image, and their common id, null, would put them all into one task.
    quarantined = staged.where(faulty).select(*place, F.lit("quarantined").alias("fate"), hides_rows().alias("hides"))
    order = Window.partitionBy("image_id").orderBy("source", "key", "meta", "file", "row")
    ranked = staged.where(~faulty).select(*place, F.row_number().over(order).alias("rank"))
    known_ids = known.select("image_id").distinct().withColumn("is_known", F.lit(True))
    fate = F.when((F.col("rank") > 1) | F.col("is_known"), "repeat").otherwise("image")
    sound = ranked.join(known_ids, "image_id", "left")
    return sound.select(*place, fate.alias("fate"), F.lit(False).alias("hides")).unionByName(quarantined)


def images(staged: DataFrame, part: Column) -> DataFrame:
    """Returns the rows of the table images for staged rows that can be decoded.

    Args:
        staged: From `inspected`.
        part: The part of the table that a row belongs to; see `parts`.
    """
    info = ("info.width", "info.height", "info.format")
    return staged.select("image_id", "key", "source", "caption", "image", *info, "meta", part.cast("int").alias("part"))


def parts(first: int, count: int, files: int) -> Column:
    """Returns the part of each staged row; neighbouring staging files share a part, which avoids small files.

    `score` processes one part in one commit. The part says nothing about the content of an image.

    Args:
        first: Number of the first part.
        count: Number of parts.
        files: Number of staging files.
    """
    number = F.regexp_extract("file", r"part-(\d+)", 1).cast("long")
    return F.lit(first) + F.floor(number * count / files)


# One chunk: staged, sorted, committed ---------------------------------------------------------------------------------


def _ingest(job: Job, chunk: Sequence[Source], part: str) -> tuple[SourceCounts, Captions]:
    """Reads one chunk of sources and commits it; returns its counts and its captions."""
    settings = job.settings.ingest
    lake, run_id = job.lake.within(small_files(settings)), uuid.uuid4().hex
    with job.progress.step(f"ingest: read and decode{part}"):
        rows_read, captions = _stage(lake, chunk, settings, run_id)
    with job.progress.step(f"ingest: find repeats{part}"):
        counts, not_whole = _sort(lake, chunk, run_id)
    _check(rows_read, counts)
    with job.progress.step(f"ingest: write images{part}"):
        _commit(lake, _records(chunk, counts, not_whole, settings), counts, run_id)
    lake.delete_staging(STAGING)
    return reduce(SourceCounts.__add__, counts.values()), captions


def _stage(lake: Lake, chunk: Sequence[Source], settings: IngestSettings, run_id: str) -> tuple[int, Captions]:
    """Writes the decoded rows of the sources to the staging folder.

    Returns:
        The number of rows read, and the captions of the images among them.
    """
    seen, decoded = Observation(), Observation()
    read = source_rows(lake.spark, chunk, settings).observe(seen, F.count(F.lit(1)).alias("rows"))
    is_image, has_caption = fault_reason().isNull(), F.coalesce("caption", F.lit("")) != ""
    places = F.collect_set(F.when(is_image & has_caption, F.col("caption_from")))
    staged = inspected(read, settings.max_megapixels).observe(
        decoded,
        F.count_if(is_image & ~has_caption).alias("missing"),
        F.array_join(places, _BETWEEN_PLACES).alias("places"),
    )
    staged.write.mode("overwrite").parquet(lake.staging(_staging(run_id, "rows")))
    found_in = frozenset(filter(None, str(decoded.get["places"]).split(_BETWEEN_PLACES)))
    return int(seen.get["rows"]), Captions(int(decoded.get["missing"]), found_in)


def _sort(lake: Lake, chunk: Sequence[Source], run_id: str) -> tuple[dict[str, SourceCounts], set[str]]:
    """Writes the fate of each staged row beside it.

    Returns:
        The counts of every source, and the sources of which not every row may have been found.
    """
    known = lake.read(tables.IMAGES)
    fates(_staged(lake, run_id), known).write.parquet(lake.staging(_staging(run_id, "fates")))
    count, hides = F.count("*").alias("count"), F.bool_or("hides").alias("hides")
    sums = lake.read_staged(_staging(run_id, "fates")).groupBy("source", "fate").agg(count, hides).collect()
    number = {(row["source"], row["fate"]): int(row["count"]) for row in sums}
    paths = sorted({source.path for source in chunk} | {source for source, _ in number})
    counts = {}
    for path in paths:
        new, repeats, bad = (number.get((path, fate), 0) for fate in ("image", "repeat", "quarantined"))
        counts[path] = SourceCounts(new + repeats + bad, new, repeats, bad)
    # A source without any row is more often a disk that is not there than one that was emptied.
    return counts, {row["source"] for row in sums if row["hides"]} | {p for p in paths if not counts[p].rows_read}


def _records(
    chunk: Sequence[Source], counts: Mapping[str, SourceCounts], not_whole: Container[str], settings: IngestSettings
) -> list[dict[str, Any]]:
    """Returns the rows of the table sources for a chunk, without run and time."""
    columns = json.dumps([settings.image_columns, settings.caption_columns, settings.key_columns])
    read_as = hashlib.sha256(columns.encode()).hexdigest()[:16]
    return [
        {
            **vars(counts[source.path]),
            "read_as": read_as,
            "source": source.path,
            "format": source.format,
            "fingerprint": source.fingerprint,
            "whole": source.path not in not_whole,
        }
        for source in chunk
        if source.path in counts
    ]


def _check(rows_read: int, counts: Mapping[str, SourceCounts]) -> None:
    """Compares the number of rows that were read with the number of rows that were staged.

    Raises:
        LostRowsError: The numbers differ.
    """
    total = reduce(SourceCounts.__add__, counts.values())
    if rows_read != total.rows_read:
        raise LostRowsError(
            f"{rows_read} rows were read, but {total.images} images, {total.repeats} repeats and {total.quarantined} "
            "quarantined rows were staged; nothing was written: run the same command again, and report a bug if this "
            "happens again"
        )


def _commit(lake: Lake, records: Sequence[Mapping[str, Any]], counts: Mapping[str, SourceCounts], run_id: str) -> None:
    """Writes each table in one commit, in an order that lets the next run complete a killed one.

    First the quarantine: reading the source again replaces it. Then the origins, which do not count without the counts
    of their run. Then the images, whose commit also stores the counts. Then the counts: if the run is killed before
    this, `_record_last_run` writes them from that commit.
    """
    recipe = Recipe("ingest", settings={"run": run_id}, result={"sources": records})
    _commit_quarantine(lake, counts, run_id)
    lake.append(tables.ORIGINS, _origins(lake, run_id), Recipe("ingest", settings={"run": run_id}))
    added = sum(count.images for count in counts.values())
    if added or not lake.exists(tables.IMAGES):
        lake.append(tables.IMAGES, images(_chosen(lake, run_id, counts), _parts(lake, run_id, added)), recipe)
        written = lake.rows_written(tables.IMAGES)
        if written != added:
            raise LostRowsError(
                f"{added} images were to be added, but {written} were: restore the earlier version of the table images"
            )
    _record(lake, records, run_id)


def _origins(lake: Lake, run_id: str) -> DataFrame:
    sound = lake.read_staged(_staging(run_id, "fates")).where("fate != 'quarantined'")
    is_image = (F.col("fate") == "image").alias("is_image")
    return sound.select("image_id", "source", "key", is_image, F.lit(run_id).alias("run"))


def _parts(lake: Lake, run_id: str, added: int) -> Column:
    last = lake.read(tables.IMAGES).agg(F.max("part")).collect()[0][0]
    name = F.regexp_extract("file", r"part-(\d+)", 1).cast("long")
    files = lake.read_staged(_staging(run_id, "fates")).agg(F.max(name)).collect()[0][0]
    return parts(0 if last is None else last + 1, -(-added // IMAGES_OF_A_PART) or 1, (files or 0) + 1)


def _chosen(lake: Lake, run_id: str, counts: Mapping[str, SourceCounts]) -> DataFrame:
    """Returns the staged rows that become images; joins with the smaller side, so that no image bytes are shuffled."""
    staged = _staged(lake, run_id)
    total = reduce(SourceCounts.__add__, counts.values())
    if total.images == total.rows_read:
        return staged
    sorted_rows = lake.read_staged(_staging(run_id, "fates")).select("file", "row", "fate")
    if total.images < total.rows_read - total.images:
        return staged.join(sorted_rows.where("fate = 'image'"), ["file", "row"], "left_semi")
    return staged.join(sorted_rows.where("fate != 'image'"), ["file", "row"], "left_anti")


def _commit_quarantine(lake: Lake, counts: Mapping[str, SourceCounts], run_id: str) -> None:
    """Replaces the earlier quarantine rows of these sources with the new ones."""
    recipe = Recipe("ingest", settings={"run": run_id})
    faulty = quarantine(_staged(lake, run_id))
    names = lake.spark.createDataFrame([(name,) for name in counts], "source string")
    earlier = lake.read(tables.QUARANTINE)
    of_ingest = F.col("stage").isin(rows.READ_STAGE, DECODE_STAGE)
    exists = lake.exists(tables.QUARANTINE)
    if exists and not earlier.where(of_ingest).join(names, "source", "left_semi").isEmpty():
        others = earlier.where(~of_ingest).unionByName(earlier.where(of_ingest).join(names, "source", "left_anti"))
        lake.replace(tables.QUARANTINE, others.unionByName(faulty), recipe)
    elif any(count.quarantined for count in counts.values()) or not exists:
        lake.append(tables.QUARANTINE, faulty, recipe)


def _superseded(job: Job) -> Summary:
    """Marks the images that no source holds any more; returns their number if there are any, and says what changed."""
    with job.progress.step("ingest: look for superseded images"):
        found = superseded.update(job.lake)
    if found.newly:
        verb, them = ("is", "it") if found.newly == 1 else ("are", "them")
        job.progress.warn(
            f"ingest: {plural(found.newly, 'image')} {verb} superseded: the sources, read again, no longer hold {them} "
            f"with this caption. `winnow filter` will remove {them}. If files were missing by mistake, put them back "
            "and ingest again"
        )
    if found.back:
        job.progress.note(f"ingest: no longer superseded, because a source holds them again: {found.back:,}")
    return {"superseded": found.newly, "superseded in all": found.total} if found.total else {}


# What was read before -------------------------------------------------------------------------------------------------


def _unread(lake: Lake, found: Sequence[Source]) -> list[Source]:
    """Returns the sources that are new or have changed since they were last read."""
    named = lake.spark.createDataFrame([(s.path, s.fingerprint) for s in found], "source string, fingerprint string")
    newest = (
        lake.read(tables.SOURCES).groupBy("source").agg(F.max_by("fingerprint", "ingested_at").alias("fingerprint"))
    )
    same = {row["source"] for row in named.join(newest, ["source", "fingerprint"], "left_semi").collect()}
    return [source for source in found if source.path not in same]


def _record_last_run(lake: Lake) -> None:
    """Completes a run that was killed after it wrote images and before it wrote their counts."""
    recipe = lake.snapshot().recipe(tables.IMAGES)
    if recipe is None or recipe.command != "ingest":
        return
    run_id = str(recipe.settings["run"])
    if lake.read(tables.SOURCES).where(F.col("run") == run_id).isEmpty():
        _record(lake, recipe.result["sources"], run_id)


def _record(lake: Lake, records: Sequence[Mapping[str, Any]], run_id: str) -> None:
    stamped = [{**record, "run": run_id, "ingested_at": datetime.now(UTC)} for record in records]
    lake.append(
        tables.SOURCES,
        lake.spark.createDataFrame(stamped, tables.SOURCES.schema),
        Recipe("ingest", settings={"run": run_id}),
    )


def _note(job: Job, found: Sequence[Source], unread: Sequence[Source]) -> None:
    if len(unread) < len(found):
        job.progress.note(
            f"skipped {len(found) - len(unread)} of {len(found)} sources: unchanged since they were last read"
        )
    ignored = sum(source.ignored for source in unread)
    if ignored:
        kinds = _kinds(unread, ignored)
        job.progress.note(f"ignored {plural(ignored, 'file')}, by name neither images nor metadata: {kinds}")
    unused = sum(source.unused for source in unread)
    if unused:
        job.progress.note(
            f"ignored {plural(unused, 'text or JSON file')}: no image has that name, or the image has another file "
            "that comes first"
        )


def _kinds(sources: Sequence[Source], ignored: int) -> str:
    """Returns the most frequent extensions of ignored files, with their numbers of files.

    Args:
        sources: Sources.
        ignored: The number of all ignored files.
    """
    count: Counter[str] = Counter()
    for source in sources:
        count.update(dict(source.kinds))
    first = sorted(count.items(), key=lambda kind: (-kind[1], kind[0]))[:_NAMED_KINDS]
    parts = [f"{number:,} {_named_kind(kind)}" for kind, number in first]
    more = ignored - sum(number for _, number in first)
    return ", ".join([*parts, f"{more:,} more"] if more else parts)


def _named_kind(kind: str) -> str:
    if kind.isupper():
        return f"{kind} without a usual extension"
    return f".{kind}" if kind else "without a usual extension"


def _chunks(sources: Sequence[Source], most: int) -> Iterator[list[Source]]:
    """Yields chunks of sources in order, each of at most `most` bytes; a larger source is a chunk of its own."""
    chunk: list[Source] = []
    size = 0
    for source in sources:
        if chunk and (size + source.size > most or len(chunk) == _CHUNK_SOURCES):
            yield chunk
            chunk, size = [], 0
        chunk.append(source)
        size += source.size
    if chunk:
        yield chunk


# The staging folder ---------------------------------------------------------------------------------------------------


def _staging(run_id: str, name: str) -> str:
    return f"{STAGING}/{run_id}/{name}"


def _staged(lake: Lake, run_id: str) -> DataFrame:
    place = (F.col("_metadata.file_name").alias("file"), F.col("_metadata.row_index").alias("row"))
    return lake.read_staged(_staging(run_id, "rows")).select("*", *place)
