"""`regurgitation`: an exact comparison of generated images with every image of the lake, kept or not."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
from pyspark.sql import Column, DataFrame, Row, Window
from pyspark.sql import functions as F

from jobs.commands.regurgitation import contact_sheet
from jobs.facts import sentences
from jobs.facts.regurgitated import trials
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.lake import Lake
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.matching import nearest
from jobs.matching.rule import Rule, rule_for
from jobs.prerequisites import require_images, require_signals
from jobs.runtime import wording
from jobs.runtime.addresses import require_no_secret
from jobs.runtime.config import fingerprint
from jobs.scoring.outside import OutsideImages
from jobs.sources import files, inspect, parquet, rows
from jobs.sources.apart import require_apart
from jobs.sources.find import Source, find, is_image
from models.errors import LostRowsError
from udfs.arrays.arrow import matrix
from udfs.hashes.hamming import HASH_BITS, hamming, hashes_of
from udfs.images.alignment import likenesses, thumbnails
from udfs.search.nearest import inner_product

STAGING = "_staging/regurgitation"
# Raise it when the result or its text changes: an up-to-date run repeats the stored summary.
_REVISION = 2
_TASKS_PER_CORE = 4
# Among 4 · 10^9 pairs of different images, none was closer than this share of max_distance (docs/decisions/0010).
_CLOSE = 0.45
_STRICTER_BEYOND = 5  # if hashes are not close, a pair may lack 1/5 of the likeness that a close pair may lack
_GENERATED_OF_A_PASS = 50_000  # their signals are collected on the driver, about 1 kB each


# In the order of writing.
_WRITTEN = (tables.REGURGITATION_FAULTS, tables.REGURGITATION_PAIRS, tables.REGURGITATION)


@dataclass(frozen=True)
class CopyRule:
    """The rule for what counts as a copy.

    Attributes:
        rule: The rule for duplicates; it names the hash and the encoder.
        max_distance: Largest Hamming distance of a copy, in bits of 256.
        min_likeness: Smallest likeness of a copy whose hashes are close; 0 if the distance alone decides.
        neighbours: Number of nearest images to search, for each of the two distances.
    """

    rule: Rule
    max_distance: int
    min_likeness: float
    neighbours: int

    @property
    def hash(self) -> str:
        """The column of the table signals to compare."""
        return "pdq" if self.rule.hash == "pdq" else "embedding_hash"

    @property
    def close(self) -> int:
        """The distance in bits up to which `min_likeness` is enough."""
        return int(_CLOSE * self.max_distance)

    @property
    def far_likeness(self) -> float:
        """The smallest likeness of a copy whose hashes are not close."""
        return 1 - (1 - self.min_likeness) / _STRICTER_BEYOND if self.min_likeness else 0.0

    @property
    def words(self) -> str:
        """The rule in words; completes "a copy is within …"."""
        bits = f"{self.max_distance} bits of {HASH_BITS}"
        if not self.min_likeness:
            return bits
        likeness = f"{self.min_likeness:g} ({self.far_likeness:g} beyond {self.close} bits)"
        return f"{bits}, with a likeness of at least {likeness}"

    def alike(self, distance: Column, likeness: Column) -> Column:
        """Returns whether a candidate is a copy: if its hashes are not close, it needs a higher likeness."""
        least = F.when(distance <= self.close, self.min_likeness).otherwise(self.far_likeness)
        return F.coalesce(likeness >= least, F.lit(self.min_likeness == 0))


def run(job: Job, generated: Sequence[str], format: str | None = None) -> Summary:
    """Compares generated images with the lake; writes regurgitation, regurgitation_faults and the contact sheet.

    Args:
        job: The lake, the settings, the progress display.
        generated: Files, folders, patterns or URIs, as for `ingest`. Their field `image_id` names the image whose
            caption was the prompt.
        format: One of `jobs.sources.find.FORMATS`; None to detect it.

    Returns:
        The numbers of images compared and of copies, and an upper bound on the rate of copies for prompts like these.

    Raises:
        WinnowError: A source does not exist, lies in the lake or lacks a column of images, or images of the lake have
            no signals.
        LostRowsError: A generated image is neither compared nor among the faults. Nothing is written.
    """
    lake = job.lake
    require_apart(lake.address, generated)
    lake.require_written(tables.SIGNALS)
    comparison = comparison_for(job)
    found = find(lambda: lake.spark, generated, format, job.settings.ingest)
    require_images(lake)
    now = lake.snapshot()
    recipe = _recipe(job, comparison, found, now)
    made = now.made_by(recipe, *_WRITTEN) if lake.has_file(contact_sheet.FILE) else None
    if (before := job.up_to_date(made)) is not None:
        return before
    pool = _pool(job, comparison)
    parquet.require_images(found, job.settings.ingest)
    with_rows = inspect.source_rows(lake.spark, found, job.settings.ingest)
    try:
        _outside(lake).stage(job, with_rows, "regurgitation", "generated images")
        with job.progress.step("regurgitation: search every image"):
            _search(lake, pool, comparison)
        return _written(job, comparison, recipe)
    finally:
        lake.delete_staging(STAGING)


def answers(job: Job, paths: Sequence[str]) -> list[str]:
    """Returns one line per image file: whether the file is in the lake. Writes no table.

    Args:
        job: The lake, the settings, the progress display.
        paths: Image files.

    Raises:
        WinnowError: A file cannot be read, or images of the lake have no signals.
    """
    lake, comparison = job.lake, comparison_for(job)
    lake.require_written(tables.SIGNALS)
    require_images(lake)
    file_rows = [_file_row(path) for path in paths]
    pool = _pool(job, comparison)
    try:
        given = lake.spark.createDataFrame(file_rows, rows.SCHEMA)
        _outside(lake).stage(job, given, "regurgitation", "generated images")
        with job.progress.step("regurgitation: search every image"):
            _search(lake, pool, comparison)
            faults = {row.key: f"{row.reason} ({row.detail})" for row in _outside(lake).faults.collect()}
            best = {row.generated_key: row for row in _described(lake, nearest_pairs(_pairs(lake))).collect()}
    finally:
        lake.delete_staging(STAGING)
    return [_answer(path, best.get(path), faults.get(path), comparison) for path in paths]


def is_question(paths: Sequence[str]) -> bool:
    """Returns whether all paths are single image files: then the command answers, and writes no table.

    Raises:
        WinnowError: A path is an address with a secret.
    """
    for path in paths:
        require_no_secret(path)
    return all(is_image(path) and files.kind(files.absolute(path)) == "file" for path in paths)


def comparison_for(job: Job) -> CopyRule:
    """Returns the rule of the settings; the default distance is that of duplicates."""
    settings, rule = job.settings.regurgitation, rule_for(job)
    distance = rule.max_distance if settings.max_distance is None else settings.max_distance
    return CopyRule(rule, distance, settings.min_likeness, settings.neighbours)


# Transforms -----------------------------------------------------------------------------------------------------------


def neighbours(generated: DataFrame, pool: DataFrame, k: int) -> DataFrame:
    """Returns the images nearest to generated images, by hash and by embedding.

    Args:
        generated: generated_id, hash, embedding; a bounded number of rows, because they are collected.
        pool: image_id, hash, embedding.
        k: Number of nearest images by each.

    Returns:
        generated_id, image_id, nearest_by (`embedding`, `hash` or `embedding, hash`).
    """
    collected = generated.select("generated_id", "hash", "embedding").orderBy("generated_id").toArrow()
    hashes = hashes_of(collected.column("hash"))
    found = [
        nearest.nearest_by_hash(pool, hashes, k).select("query", "image_id", F.lit("hash").alias("by")),
        nearest.nearest_by_embedding(pool, matrix(collected.column("embedding")), k).select(
            "query", "image_id", F.lit("embedding").alias("by")
        ),
    ]
    names = pa.table({"query": pa.array(range(len(collected)), pa.int32()), "generated_id": collected.column(0)})
    by = F.concat_ws(", ", F.sort_array(F.collect_set("by"))).alias("nearest_by")
    each = reduce(DataFrame.unionByName, found).groupBy("query", "image_id").agg(by)
    named = F.broadcast(pool.sparkSession.createDataFrame(names))
    return each.join(named, "query").select("generated_id", "image_id", "nearest_by")


def compared(near: DataFrame, generated: DataFrame, pool: DataFrame, comparison: CopyRule) -> DataFrame:
    """Returns pairs with both distances, and whether they are candidates for copies.

    As in `dedup`, an image too plain to hash is a copy only of the same bytes.

    Args:
        near: generated_id, image_id, nearest_by.
        generated: generated_id, generated_key, generated_source, prompt_id, hash, embedding, plain, content.
        pool: image_id, hash, embedding, plain, content.
        comparison: The rule for copies.

    Returns:
        generated_id, the columns of the table regurgitation except copy and likeness (rank 1 is the most similar),
        same (whether the bytes are equal) and candidate (whether the likeness decides).
    """
    image = pool.select("image_id", *[F.col(name).alias(f"image_{name}") for name in _SIGNALS])
    both = near.join(generated, "generated_id").join(image, "image_id")
    distance, similarity = hamming("hash", "image_hash"), inner_product(F.col("embedding"), F.col("image_embedding"))
    same = F.coalesce(F.col("content") == F.col("image_content"), F.lit(False))
    close = ~F.col("plain") & ~F.col("image_plain") & (F.col("distance") <= comparison.max_distance)
    order = Window.partitionBy("generated_id").orderBy(F.desc("similarity"), "distance", "image_id")
    measured = both.withColumn("distance", distance).withColumn("similarity", similarity)
    flags = {"same": same, "candidate": close & ~same, "rank": F.row_number().over(order)}
    left = [name for name in tables.REGURGITATION.schema.names if name not in ("copy", "likeness")]
    return measured.withColumns(flags).select("generated_id", *left, "same", "candidate")


def candidate_likenesses(candidates: DataFrame, generated: DataFrame, images: DataFrame) -> DataFrame:
    """Returns the likeness of each candidate pair after alignment.

    Args:
        candidates: generated_id, image_id; few enough rows for a broadcast.
        generated: generated_id, image.
        images: image_id, image; a pair whose image is missing has no likeness.

    Returns:
        generated_id, image_id, likeness.
    """
    made, originals = _thumbnails(generated, "generated_id", candidates), _thumbnails(images, "image_id", candidates)
    both = candidates.join(made, "generated_id").join(originals, "image_id", "left")
    # The rows are small but the work is not: without an explicit number, a few tasks would do all of it.
    spread = both.repartition(_TASKS_PER_CORE * candidates.sparkSession.sparkContext.defaultParallelism, "generated_id")
    likeness = likenesses(F.col("image_id_seen"), F.col("generated_id_seen")).alias("likeness")
    return spread.select("generated_id", "image_id", likeness)


def judged(pairs: DataFrame, looks: DataFrame, comparison: CopyRule) -> DataFrame:
    """Returns generated_id and the columns of the table regurgitation, with likeness and copy.

    Args:
        pairs: As `compared` returns them.
        looks: As `candidate_likenesses` returns them.
        comparison: The rule for copies.
    """
    seen = pairs.join(looks, ["generated_id", "image_id"], "left")
    copy = F.col("same") | (F.col("candidate") & comparison.alike(F.col("distance"), F.col("likeness")))
    return seen.withColumn("copy", copy).select("generated_id", *tables.REGURGITATION.schema.names)


def nearest_pairs(pairs: DataFrame) -> DataFrame:
    """Returns the best pair of each generated image: a copy first, then the most similar pair.

    Args:
        pairs: As `compared` returns them.
    """
    best = Window.partitionBy("generated_id").orderBy(F.desc("copy"), "rank")
    return pairs.withColumn("place", F.row_number().over(best)).where("place = 1").drop("place")


def _thumbnails(rows: DataFrame, name: str, candidates: DataFrame) -> DataFrame:
    """The id and the thumbnail (as `{name}_seen`) of each image among the candidates; decodes each image once."""
    few = F.broadcast(candidates.select(name).distinct())
    return rows.join(few, name, "left_semi").select(name, thumbnails("image").alias(f"{name}_seen"))


_SIGNALS = ("hash", "embedding", "plain", "content")


def _signals(comparison: CopyRule) -> tuple[Column, ...]:
    plain = F.col("pdq_quality") < comparison.rule.min_quality
    return F.col(comparison.hash).alias("hash"), F.col("embedding"), plain.alias("plain"), F.col("content")


# Steps ----------------------------------------------------------------------------------------------------------------


def _recipe(job: Job, comparison: CopyRule, found: Sequence[Source], now: Snapshot) -> Recipe:
    inputs = now.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS)
    read = hashlib.sha256("".join(f"{s.path}\0{s.fingerprint}\0" for s in found).encode("utf-8", "replace"))
    settings = {**fingerprint(job.settings.regurgitation), **vars(comparison.rule)}
    found_by = {"max_distance": comparison.max_distance, "sources": read.hexdigest(), "revision": _REVISION}
    return Recipe("regurgitation", inputs, {**settings, **found_by})


def _pool(job: Job, comparison: CopyRule) -> DataFrame:
    """The signals of every image of the lake.

    Raises:
        WinnowError: Some images have no signals of the current encoder, so the search would miss them.
    """
    encoder = comparison.rule.encoder
    present = job.lake.read(tables.SIGNALS).where(F.col("encoder") == encoder)
    with job.progress.step("regurgitation: check that all images have signals"):
        images = job.lake.read(tables.IMAGES).select("image_id")
        require_signals(job, encoder, images.join(present, "image_id", "left_semi").count())
    return present.select("image_id", *_signals(comparison))


def _outside(lake: Lake) -> OutsideImages:
    return OutsideImages(lake, STAGING, "generated_id")


def _search(lake: Lake, pool: DataFrame, comparison: CopyRule) -> None:
    """Searches a bounded number of generated images at a time and writes the pairs."""
    signals = _outside(lake).signals
    named = _outside(lake).images.select(
        "generated_id",
        F.col("key").alias("generated_key"),
        F.col("source").alias("generated_source"),
        F.get_json_object("meta", "$.image_id").alias("prompt_id"),
    )
    generated = signals.select("generated_id", *_signals(comparison)).join(named, "generated_id")
    passes = max(1, -(-signals.count() // _GENERATED_OF_A_PASS))
    share = F.pmod(F.xxhash64("generated_id"), F.lit(passes))
    for number in range(passes):
        near = neighbours(generated.where(share == number), pool, comparison.neighbours)
        pairs = lake.stage(f"{STAGING}/compared", compared(near, generated, pool, comparison))
        looks = _looks(lake, pairs.where("candidate").select("generated_id", "image_id"), comparison)
        judged(pairs, looks, comparison).write.mode("append").parquet(lake.staging(f"{STAGING}/pairs"))


def _looks(lake: Lake, candidates: DataFrame, comparison: CopyRule) -> DataFrame:
    if not comparison.min_likeness:
        return candidates.select("*", F.lit(None).cast("float").alias("likeness"))
    generated = _outside(lake).images.select("generated_id", "image")
    return candidate_likenesses(candidates, generated, lake.rows_of(tables.IMAGES, candidates.select("image_id")))


def _written(job: Job, comparison: CopyRule, recipe: Recipe) -> Summary:
    """Counts, and writes the tables and the contact sheet."""
    lake, settings = job.lake, job.settings.regurgitation
    pairs = _pairs(lake)
    with job.progress.step("regurgitation: count and write"):
        summary = _summary(job, pairs, comparison)
        lake.replace(tables.REGURGITATION_FAULTS, _outside(lake).faults, recipe)
        best = nearest_pairs(pairs).orderBy(F.desc("copy"), F.desc("similarity"), "generated_id").limit(settings.pairs)
        originals = lake.rows_of(tables.IMAGES, best.select("image_id"))
        shown = contact_sheet.pairs_of(_described(lake, best), _outside(lake).images, originals, job.settings)
        lake.replace(tables.REGURGITATION_PAIRS, contact_sheet.stored(shown, lake.spark), recipe)
        address = contact_sheet.write(lake, shown, summary)
        summary = {**summary, "contact sheet": address}
        lake.replace(tables.REGURGITATION, pairs, recipe.with_result(summary))
    return summary


def _summary(job: Job, pairs: DataFrame, comparison: CopyRule) -> Summary:
    of_prompt = F.coalesce(F.col("copy") & (F.col("prompt_id") == F.col("image_id")), F.lit(False))
    best = {"copy": F.max("copy"), "own": F.max(of_prompt), "prompt_id": F.max("prompt_id")}
    each = pairs.groupBy("generated_id").agg(*[column.alias(name) for name, column in best.items()])
    found, copies, own = each.agg(F.count("*"), F.count_if("copy"), F.count_if("own")).collect()[0]
    outside = _outside(job.lake)
    read, faults = outside.images.count(), outside.faults.count()
    searched = job.lake.read(tables.SIGNALS).where(F.col("encoder") == comparison.rule.encoder).count()
    if read != faults + found and searched:
        raise LostRowsError(
            f"regurgitation: of {read} generated images, {found} were compared and {faults} could not be decoded: "
            "run `winnow regurgitation` again"
        )
    draws = trials(each)
    # Without a compared image there is no rate.
    rate = {"rate of copies": sentences.copy_rate(draws, job.settings.regurgitation.confidence)} if found else {}
    of_prompts = {"prompts": draws.number, "prompts that gave a copy": draws.copies} if draws.are_prompts else {}
    return {
        "generated images": read,
        "compared": found,
        "not decodable": faults,
        "images searched": searched,
        "copies": copies,
        **of_prompts,
        "copies of the prompt's own image": own,
        "a copy is within": comparison.words,
        **rate,
    }


def _pairs(lake: Lake) -> DataFrame:
    return lake.read_staged(f"{STAGING}/pairs")


def _described(lake: Lake, pairs: DataFrame) -> DataFrame:
    """A bounded number of pairs with key, source and fate (kept, filtered or duplicate) of the image."""
    images = lake.read(tables.IMAGES).select("image_id", "key", "source")
    verdicts = lake.read(tables.VERDICTS).select("image_id", "kept")
    removed = lake.read(tables.DUPLICATES).select(F.col("removed_id").alias("image_id"), F.lit(True).alias("removed"))
    few = F.broadcast(pairs)
    named = images.join(few, "image_id").join(verdicts, "image_id", "left").join(removed, "image_id", "left")
    fate = F.when(~F.col("kept"), "filtered").when(F.col("removed"), "duplicate").otherwise("kept").alias("fate")
    return named.select("generated_id", *tables.REGURGITATION.schema.names, "key", "source", fate)


# One file -------------------------------------------------------------------------------------------------------------


def _file_row(path: str) -> Mapping[str, Any]:
    row = rows.Row(path, path, image=files.read(files.absolute(path), rows.MAX_IMAGE_BYTES))
    return {**vars(row), "stage": None}


def _answer(path: str, best: Row | None, fault: str | None, comparison: CopyRule) -> str:
    if best is None:
        return f"{path}: cannot be compared: {fault or 'the lake has no images, run `winnow ingest SOURCE`'}"
    where = f"image {best.image_id}, {best.key} of {best.source} ({best.fate})"
    distance = f"{best.distance} bits of {HASH_BITS}, similarity {best.similarity:.3f}"
    if best.likeness is not None:
        distance += f", likeness {wording.likeness(best.likeness)}"
    if best.copy:
        return f"{path}: copy of {where}: {distance}"
    return f"{path}: not a copy (a copy is within {comparison.words}); nearest is {where}: {distance}"
