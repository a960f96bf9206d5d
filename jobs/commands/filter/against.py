"""Finds the images that are near those of other sets, such as an evaluation set: `dedup.against`.

It is `regurgitation` turned round: there, few images are searched for in the lake; here, each image of the lake is
compared with all of the other sets. Lists of PDQ hashes serve those who may not hold the images.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.job import Job
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.matching import nearest
from jobs.matching.rule import PDQ_QUALITY, Rule, rule_for
from jobs.models_in_use import current_encoder
from jobs.prerequisites import require_signals
from jobs.runtime.wording import plural
from jobs.scoring.outside import OutsideImages
from jobs.sources import files, inspect, parquet
from jobs.sources.apart import require_apart
from jobs.sources.find import Source, ending, find
from models.errors import WinnowError
from models.stats.strangers import Limits, limits
from udfs.hashes.hamming import hashes_of
from udfs.hashes.pdq import PDQ_DISTANCE
from udfs.images.agreement import AGREE, FALSE_ACCEPTS, agreement_of

REASON = "near another set"
"""Name of the reason in the table verdicts."""

STAGING = "_staging/against"
MOST = 2_000_000
"""Hashes of other sets: the driver holds them, some 200 bytes each."""

_REVISION = 2
_LISTS = ("txt", "csv")
_LINE = re.compile(r"([0-9a-fA-F]{64})(?:[,\s](.*))?")


@dataclass(frozen=True)
class OtherSets:
    """The sets that images of the lake must not be near.

    Attributes:
        sources: Sources of images.
        lists: Files with PDQ hashes.
        digests: A digest of each set, by its name in the settings.
    """

    sources: tuple[Source, ...]
    lists: tuple[str, ...]
    digests: dict[str, str]


def other_sets(job: Job) -> OtherSets | None:
    """Returns the sets that the settings name; None if they name none.

    Raises:
        WinnowError: A set does not exist, lies in the lake, or holds neither images nor hashes.
    """
    names = job.settings.dedup.against
    require_apart(job.lake.address, names)
    sources: list[Source] = []
    lists, digests = [], {}
    for name in names:
        if ending(name) in _LISTS:
            lists.append(files.absolute(name))
            digests[name] = hashlib.sha256(files.read(lists[-1])).hexdigest()
        else:
            found = find(lambda: job.lake.spark, [name], None, job.settings.ingest)
            parquet.require_images(found, job.settings.ingest)
            sources += found
            digests[name] = hashlib.sha256("".join(s.fingerprint for s in found).encode()).hexdigest()
    return OtherSets(tuple(sources), tuple(lists), digests) if names else None


def near(
    job: Job, now: Snapshot, others: OtherSets, store: Callable[[tables.Table, DataFrame, Recipe], Any]
) -> DataFrame:
    """Returns the images of the lake that are near another set, from the table `against` if it is current.

    Args:
        job: The lake, the settings, the progress display.
        now: The current versions of the lake's tables.
        others: The other sets.
        store: Stores the rows of the table `against`. They stay in the scratch folder until that is deleted.

    Raises:
        WinnowError: A line of a list is no hash, there are too many hashes, or images of the lake have no signals.
    """
    rule, settings = rule_for(job), job.settings.dedup
    parameters = {
        "against": others.digests, "hash": rule.hash, "encoder": rule.encoder, "max_distance": settings.max_distance,
        "min_quality": rule.min_quality, "strangers": settings.strangers, "looks": settings.looks,
        "revision": _REVISION,
    }  # fmt: skip
    recipe = Recipe("filter", now.inputs(tables.SIGNALS), parameters)
    if now.made_by(recipe, tables.AGAINST):
        return job.lake.read(tables.AGAINST)
    signals = job.lake.require(tables.SIGNALS).where(F.col("encoder") == rule.encoder)
    require_signals(job, rule.encoder, signals.count())
    job.lake.delete_staging(STAGING)
    found = [_near_hashes(job, signals, others.lists)] if others.lists else []
    if others.sources:
        found.append(_near_images(job, signals, others.sources, rule))
    with job.progress.step("filter: compare all images with other sets"):
        rows = job.lake.stage(f"{STAGING}/near", nearest_of(reduce(DataFrame.unionByName, found)))
        store(tables.AGAINST, rows, recipe)
    return rows


def nearest_of(found: DataFrame) -> DataFrame:
    """Returns the nearest image of another set for each image: the table `against`.

    Args:
        found: image_id, source, key, distance.
    """
    best = F.min(F.struct("distance", "source", "key")).alias("best")
    each = found.groupBy("image_id").agg(best)
    return each.select("image_id", "best.source", "best.key", "best.distance")


def removed(rows: DataFrame) -> DataFrame:
    """Returns the images to remove: image_id, why.

    Args:
        rows: Table against.
    """
    why = F.format_string(f"{REASON}: %d bits from %s of %s", "distance", "key", "source")
    return rows.select("image_id", why.alias("why"))


def _near_hashes(job: Job, signals: DataFrame, lists: Sequence[str]) -> DataFrame:
    """Returns the images near a hash of the lists: image_id, source, key, distance."""
    rows = [(bytes.fromhex(hash_), path, name) for path in lists for hash_, name in _hashes(path)]
    _require_few(len(rows))
    hashes = np.frombuffer(b"".join(hash_ for hash_, _, _ in rows), np.uint8).reshape(-1, 32)
    pool = signals.where(F.col("pdq_quality") >= PDQ_QUALITY).select("image_id", F.col("pdq").alias("hash"))
    return _named(pool, hashes, PDQ_DISTANCE, [row[1:] for row in rows])


def _hashes(path: str) -> Iterator[tuple[str, str]]:
    """Yields the hashes of a file with their names: the text after a hash, or its line."""
    for number, line in enumerate(files.read(path).decode("utf-8", "replace").splitlines(), start=1):
        found = _LINE.fullmatch(line.strip())
        if found:
            yield found[1], (found[2] or f"line {number}").strip()
        elif line.strip() and number > 1:  # the first line may name columns
            raise WinnowError(
                f"{path}, line {number}: {line.strip()[:80]!r} does not begin with a PDQ hash of 64 hexadecimal digits"
            )


def _near_images(job: Job, signals: DataFrame, sources: Sequence[Source], rule: Rule) -> DataFrame:
    """Returns the images near an image of the sources: image_id, source, key, distance."""
    outside = OutsideImages(job.lake, f"{STAGING}/others", "other_id")
    rows = inspect.source_rows(job.lake.spark, sources, job.settings.ingest)
    outside.stage(job, rows, "filter", "images of other sets")
    if (faults := outside.faults.count()) > 0:
        job.progress.warn(f"filter: {plural(faults, 'image')} of dedup.against cannot be decoded, and not be compared")
    chosen = "pdq" if rule.hash == "pdq" else "embedding_hash"
    pool, others = (
        rows.withColumn("hash", F.when(F.col("pdq_quality") >= rule.min_quality, F.col(chosen)))
        for rows in (signals, outside.signals)
    )
    named = others.join(outside.images.select("other_id", "source", "key"), "other_id")
    count = others.count()
    _require_few(count)
    within = _limits(job, rule, count)
    hashed = named.where("hash is not null").select("other_id", "source", "key", "hash").orderBy("other_id").toArrow()
    names = list(zip(*(hashed.column(name).to_pylist() for name in ("source", "key", "other_id")), strict=True))
    found = _named(pool.where("hash is not null"), hashes_of(hashed.column("hash")), within.outer, names)
    unseen = found.where(F.col("distance") <= within.safe)
    alike = _alike(found.where(F.col("distance") > within.safe), pool, others)
    same = pool.select("image_id", "content").join(F.broadcast(named.select("content", "source", "key")), "content")
    columns = "image_id", "source", "key", "distance"
    parts = (unseen, alike, same.withColumn("distance", F.lit(0)))
    return reduce(DataFrame.unionByName, (part.select(*columns) for part in parts))


def _alike(found: DataFrame, pool: DataFrame, others: DataFrame) -> DataFrame:
    """Returns the pairs beyond the safe distance whose thumbnails agree."""
    left = pool.select("image_id", F.col("thumbnail").alias("left"))
    right = others.select("other_id", F.col("thumbnail").alias("right"))
    both = found.join(left, "image_id").join(right, "other_id")
    return both.where(agreement_of("left", "right") >= AGREE)


def _named(pool: DataFrame, hashes: NDArray[np.uint8], most: int, names: Sequence[tuple[str, ...]]) -> DataFrame:
    """Returns the images near one of some hashes: image_id, distance, and the names of the hash.

    Args:
        pool: image_id, hash.
        hashes: uint8 of shape (n, 32).
        most: Largest distance, in bits.
        names: For each hash its source, its key, and its id if it is that of an image.
    """
    columns = ("source", "key", "other_id")[: len(names[0]) if names else 3]
    values = [pa.array([name[place] for name in names], pa.string()) for place in range(len(columns))]
    table = pa.table([pa.array(range(len(names)), pa.int32()), *values], names=["query", *columns])
    found = nearest.within_distance(pool, hashes, most)
    return found.join(F.broadcast(pool.sparkSession.createDataFrame(table)), "query").drop("query")


def _limits(job: Job, rule: Rule, count: int) -> Limits:
    """Returns the distances within which an image is a copy of one of `count` others: at once, and after a look."""
    settings, card = job.settings.dedup, current_encoder(job).stranger_shares
    if settings.max_distance is not None or rule.hash != "embedding" or card is None:
        return Limits(rule.max_distance, rule.max_distance)
    return limits(card, max(count, 1), settings.strangers, settings.looks, FALSE_ACCEPTS)


def _require_few(count: int) -> None:
    if count > MOST:
        raise WinnowError(f"dedup.against names {count:,} images or hashes, but at most {MOST:,} can be compared")
