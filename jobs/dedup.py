"""`dedup`: images that look the same found by their hashes, and the best of each kept."""

from dataclasses import dataclass

from pyspark import StorageLevel
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from jobs import candidates, independent_set, search_recall, tables
from jobs.candidates import LshParameters
from jobs.config import DedupSettings, fingerprint
from jobs.job import Job, Summary
from jobs.lake import Recipe
from jobs.score import current_encoder
from models.errors import LostRowsError, WinnowError
from udfs.hamming import HASH_BYTES
from udfs.hashes import PDQ_DISTANCE
from udfs.lsh import ORDER_BYTES

PDQ_QUALITY = 50
EMBEDDING_QUALITY = 4
_INTERVAL = 0.95
_PIXEL_BITS, _CAPTION_BITS = 31, 20


@dataclass(frozen=True)
class Rule:
    """What counts as a duplicate: the settings, with the defaults that depend on the hash filled in.

    Attributes:
        hash: `embedding` or `pdq`.
        encoder: Digest of the encoder whose signals are compared.
        max_distance: Bits of 256.
        min_quality: PDQ quality below which an image only matches the same bytes.
    """

    hash: str
    encoder: str
    max_distance: int
    min_quality: int


def run(job: Job) -> Summary:
    """Finds pairs, decides who stays, and writes pairs, dedup_quality and duplicates.

    Raises:
        LostRowsError: The result breaks a promise; nothing is taken for whole.
    """
    lake, settings = job.lake, job.settings
    lake.require(tables.SIGNALS)
    rule = rule_for(job)
    inputs = lake.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS)
    recipe = Recipe("dedup", inputs, {**fingerprint(settings.dedup), **vars(rule), "seed": settings.seed})
    before = lake.recipe(tables.DUPLICATES)
    if before is not None and before.makes_the_same(recipe):
        job.progress.note("dedup: up to date")
        return dict(before.result)
    with job.progress.step("dedup: gather hashes"):
        members = ranked(
            lake.read(tables.SIGNALS), lake.read(tables.IMAGES), lake.read(tables.VERDICTS), rule, settings.dedup
        ).persist(StorageLevel.DISK_ONLY)
        hashes = distinct_hashes(members).persist(StorageLevel.DISK_ONLY)
        count = hashes.where("comparable").count()
    try:
        return _deduplicate(job, members, hashes, count, recipe)
    finally:
        hashes.unpersist()
        members.unpersist()


def rule_for(job: Job) -> Rule:
    """The settings with the defaults of the chosen hash and encoder.

    Raises:
        WinnowError: The encoder's card gives no distance and none is set.
    """
    settings, encoder = job.settings.dedup, current_encoder(job)
    distance = settings.max_distance
    if distance is None:
        distance = PDQ_DISTANCE if settings.hash == "pdq" else encoder.max_distance
    if distance is None:
        raise WinnowError(
            f"encoder {encoder.digest} does not say which distance makes a duplicate: set dedup.max_distance"
        )
    quality = settings.min_quality
    if quality is None:
        quality = PDQ_QUALITY if settings.hash == "pdq" else EMBEDDING_QUALITY
    return Rule(settings.hash, encoder.digest, distance, quality)


def _deduplicate(job: Job, members: DataFrame, hashes: DataFrame, count: int, recipe: Recipe) -> Summary:
    lake, settings, rule = job.lake, job.settings.dedup, recipe.settings
    comparable = hashes.where("comparable").select(F.col("node").alias("hash"), "order")
    parameters = LshParameters.for_data(
        count, rule["max_distance"], settings.recall, settings.max_bucket, job.settings.seed
    )
    found = candidates.found_pairs(comparable, parameters).persist(StorageLevel.DISK_ONLY)
    with job.progress.step(f"dedup: {parameters.bands.bands} bands of {parameters.bands.rows} rows, compared"):
        pairs = candidates.pairs_of(found).persist(StorageLevel.DISK_ONLY)
        compared, skipped = candidates.counts_of(found).collect()[0]
    with job.progress.step("dedup: who stays"):
        losers = independent_set.removed(edges(pairs, hashes))
        gone = removed_images(members, hashes, losers).persist(StorageLevel.DISK_ONLY)
        lake.replace(tables.PAIRS, image_pairs(members, hashes, pairs, settings.max_bucket), recipe)
        lake.replace(tables.FILTERED_DUPLICATES, gone.where(~F.col("passed")), recipe)
    with job.progress.step(f"dedup: recall measured on {settings.sample} images"):
        quality = search_recall.measure(comparable, pairs, settings.sample, rule["max_distance"], _INTERVAL)
        lake.replace(tables.DEDUP_QUALITY, _quality(job, parameters, quality, count, compared, skipped), recipe)
    with job.progress.step("dedup: check and write"):
        summary = _checked_summary(job, members, gone, quality, skipped or 0)
        done = Recipe(recipe.command, recipe.inputs, recipe.settings, summary)
        lake.replace(tables.DUPLICATES, gone.where("passed"), done)
    for frame in (gone, pairs, found):
        frame.unpersist()
    return summary


# Transforms ---------------------------------------------------------------------------------------------------------


def ranked(
    signals: DataFrame, images: DataFrame, verdicts: DataFrame, rule: Rule, settings: DedupSettings
) -> DataFrame:
    """Every scored image with what it is compared by and its rank.

    Images that passed the filter come before all others, so that none of them loses to one that is not kept.

    Args:
        signals: Table signals.
        images: Table images.
        verdicts: Table verdicts; an image without a verdict has passed.
        rule: What counts as a duplicate.
        settings: For the order of rank.

    Returns:
        image_id, node (the hash, or for a plain image its content), comparable (whether it has a usable hash),
        passed, order (24 bytes, smaller is better).
    """
    chosen = "pdq" if rule.hash == "pdq" else "embedding_hash"
    comparable = F.col("pdq_quality") >= rule.min_quality
    hashed = signals.where(F.col("encoder") == rule.encoder).select(
        "image_id",
        F.when(comparable, F.col(chosen)).otherwise(F.col("content").cast("binary")).alias("node"),
        comparable.alias("comparable"),
    )
    facts = images.select("image_id", "width", "height", F.length("caption").alias("caption_length"))
    joined = hashed.join(facts, "image_id").join(verdicts.select("image_id", "kept"), "image_id", "left")
    passed = F.coalesce("kept", F.lit(True))
    return joined.select(
        "image_id", "node", "comparable", passed.alias("passed"), _order(passed, settings).alias("order")
    )


def _order(passed: Column, settings: DedupSettings) -> Column:
    """24 bytes that sort from best to worst: passed, then the settings' criteria, then the smaller id."""
    size = F.least(F.col("width").cast("long") * F.col("height"), F.lit((1 << _PIXEL_BITS) - 1))
    length = F.least(F.coalesce("caption_length", F.lit(0)), F.lit((1 << _CAPTION_BITS) - 1)).cast("long")
    merit = passed.cast("long")
    for criterion in settings.rank:
        value, bits = (size, _PIXEL_BITS) if criterion == "resolution" else (length, _CAPTION_BITS)
        merit = F.shiftleft(merit, bits) + value
    worst_first = F.lit((1 << 62) - 1) - merit
    head = F.unhex(F.lpad(F.hex(worst_first), 16, "0"))
    return F.concat(head, F.unhex("image_id"))


def distinct_hashes(members: DataFrame) -> DataFrame:
    """One row for each distinct node: node, comparable, order and image_id of its best image, members (count)."""
    best = F.min(F.struct("order", "image_id")).alias("best")
    grouped = members.groupBy("node").agg(
        best, F.first("comparable").alias("comparable"), F.count("*").alias("members")
    )
    return grouped.select("node", "comparable", "best.order", "best.image_id", "members")


def edges(pairs: DataFrame, hashes: DataFrame) -> DataFrame:
    """Pairs of hashes as edges: better, worse (order and hash, 56 bytes, smaller is better), distance."""
    rank = F.concat("order", "node")
    a = hashes.select(F.col("node").alias("a"), rank.alias("rank_a"))
    b = hashes.select(F.col("node").alias("b"), rank.alias("rank_b"))
    both = pairs.join(a, "a").join(b, "b")
    return both.select(
        F.least("rank_a", "rank_b").alias("better"), F.greatest("rank_a", "rank_b").alias("worse"), "distance"
    )


def removed_images(members: DataFrame, hashes: DataFrame, losers: DataFrame) -> DataFrame:
    """Every image that does not stay, with the one that stands for it.

    Args:
        members: As `ranked` returns them.
        hashes: As `distinct_hashes` returns them.
        losers: Hashes that lost, as `jobs.independent_set.removed` returns them.

    Returns:
        removed_id, kept_id, distance, method, passed (whether the removed one had passed the filter).
    """
    node = [
        F.substring(end, ORDER_BYTES + 1, HASH_BYTES).alias(name) for end, name in (("removed", "node"), ("kept", "by"))
    ]
    keepers = hashes.select(F.col("node").alias("by"), F.col("image_id").alias("keeper"))
    by_hash = losers.select(*node, F.col("distance").alias("apart")).join(keepers, "by").drop("by")
    best = hashes.select("node", F.col("image_id").alias("best"))
    judged = members.join(best, "node").join(by_hash, "node", "left")
    lost = judged.where(F.col("keeper").isNotNull() | (F.col("image_id") != F.col("best")))
    return lost.select(
        F.col("image_id").alias("removed_id"),
        F.coalesce("keeper", "best").alias("kept_id"),
        F.coalesce("apart", F.lit(0)).alias("distance"),
        F.when(F.col("keeper").isNotNull(), "lsh").otherwise("exact").alias("method"),
        "passed",
    )


def image_pairs(members: DataFrame, hashes: DataFrame, pairs: DataFrame, limit: int) -> DataFrame:
    """Pairs of images: those of one hash, and those of a pair of hashes.

    Where repeats of a hash would make more than `limit` pairs, its best image stands for all of them, so that rows
    stay proportional to images.

    Args:
        members: As `ranked` returns them.
        hashes: As `distinct_hashes` returns them.
        pairs: a, b, distance between hashes.
        limit: Pairs that the repeats of one hash, or of two that match, may make.

    Returns:
        a_id, b_id (a_id < b_id), distance, method.
    """
    groups = hashes.select("node", F.col("members").alias("size"), F.col("image_id").alias("best_id"))
    inside = members.join(groups.where("size > 1"), "node")
    best = F.col("image_id") == F.col("best_id")
    full = F.col("size") * (F.col("size") - 1) / 2 <= limit
    left = inside.where(full | best).select("node", F.col("image_id").alias("x"))
    repeats = left.join(inside.select("node", F.col("image_id").alias("y"), "size", best.alias("y_best")), "node")
    once = F.when(full, F.col("x") < F.col("y")).otherwise(~F.col("y_best"))
    exact = repeats.where(once).select("x", "y", F.lit(0).alias("distance"), F.lit("exact").alias("method"))
    sized = pairs.join(groups.select(F.col("node").alias("a"), F.col("size").alias("size_a")), "a")
    sized = sized.join(groups.select(F.col("node").alias("b"), F.col("size").alias("size_b")), "b")
    across = sized.withColumn("full", F.col("size_a") * F.col("size_b") <= limit)
    for end, image in (("a", "x"), ("b", "y")):
        named = members.join(groups, "node").select(
            F.col("node").alias(end), F.col("image_id").alias(image), best.alias("best")
        )
        across = across.join(named, end).where("full or best").drop("best")
    near = across.select("x", "y", "distance", F.lit("lsh").alias("method"))
    return exact.unionByName(near).select(
        F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id"), "distance", "method"
    )


def _quality(
    job: Job, parameters: LshParameters, quality: search_recall.SearchRecall, count: int, compared: int, skipped: int
) -> DataFrame:
    row = (
        "lsh", parameters.max_distance, quality.sampled, quality.exhaustive, quality.found, quality.recall, quality.low,
        quality.high, count, parameters.bands.bands, parameters.bands.rows, compared or 0, skipped or 0,
    )  # fmt: skip
    return job.lake.spark.createDataFrame([row], tables.DEDUP_QUALITY.schema)


def _checked_summary(
    job: Job, members: DataFrame, gone: DataFrame, quality: search_recall.SearchRecall, skipped: int
) -> Summary:
    """Counts, after the promises are checked: nobody is removed twice, and whoever stands for another is kept."""
    total, passed = members.agg(F.count("*"), F.count_if("passed")).collect()[0]
    rows, ids, removed = gone.agg(F.count("*"), F.countDistinct("removed_id"), F.count_if("passed")).collect()[0]
    orphans = gone.join(gone.select(F.col("removed_id").alias("kept_id")), "kept_id", "left_semi").count()
    if rows != ids or orphans:
        raise LostRowsError(
            f"dedup: {rows} removed rows name {ids} images and {orphans} of them a keeper that is removed itself: "
            "a stage was lost and recomputed differently; run it again"
        )
    if skipped:
        job.progress.warn(f"dedup: {skipped} pairs in overfull buckets were settled by their best image or left out")
    return {
        "images compared": total,
        "passed the filter": passed,
        "duplicates removed": removed,
        "kept": passed - removed,
        "recall of the search": _recall_words(quality),
    }


def _recall_words(quality: search_recall.SearchRecall) -> str:
    if not quality.exhaustive:
        return f"no pair among {quality.sampled} sampled images and all others"
    return f"{quality.recall:.3f} [{quality.low:.3f}, {quality.high:.3f}]"
