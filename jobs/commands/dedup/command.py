"""`dedup`: images that look the same found by their hashes, and the best of each kept."""

from dataclasses import dataclass, replace

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup import (
    components,
    hash_nodes,
    history,
    independent_set,
    pair_search,
    search_recall,
    thumbnail_verification,
)
from jobs.commands.dedup.pair_search import Effort, Search
from jobs.commands.dedup.search_recall import Look, Measured, SearchRecall
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.matching.rule import Rule, rule_for
from jobs.prerequisites import require_images, require_signals, require_verdicts
from jobs.runtime.config import fingerprint
from models.errors import LostRowsError

_INTERVAL = 0.95

# Pairs that the repeats of one hash, or of two that match, may make before the best one stands for all of them.
_SPELLED_OUT = 1000

# Raised where other pairs would be found, or others stay, than by the version before: what that wrote is made anew.
_REVISION = 2

# In the order in which they are written.
_WRITTEN = (
    tables.PAIRS, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.DEDUP_DISTANCES, tables.NEAR_MISSES,
    tables.DUPLICATES,
)  # fmt: skip


def run(job: Job) -> Summary:
    """Finds pairs, decides who stays, and writes pairs, dedup_quality and duplicates.

    Raises:
        WinnowError: Images have not been scored, or not judged by the filter that the others passed.
        LostRowsError: The result breaks a promise; nothing is taken for whole.
    """
    lake, settings = job.lake, job.settings
    require_images(lake)
    lake.require(tables.SIGNALS)
    now = lake.snapshot()
    require_verdicts(now)
    rule = rule_for(job)
    inputs = now.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS)
    asked = {**fingerprint(settings.dedup), **vars(rule), "seed": settings.seed, "revision": _REVISION}
    recipe = Recipe("dedup", inputs, asked)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    if rule.strict:
        thumbnail_verification.check(lake.read(tables.SIGNALS), rule)
    compared = _gather(job, rule, recipe)
    try:
        require_signals(job, rule.encoder, compared.total)
        return _deduplicate(job, compared, rule, recipe)
    finally:
        compared.images.unpersist()
        if compared.old_pairs is not None:
            compared.old_pairs.unpersist()
        hash_nodes.forget(lake)


@dataclass(frozen=True)
class Compared:
    """What a run compares.

    Attributes:
        nodes: Distinct hashes, as `hash_nodes.numbered` returns them, with known: whether an earlier run has compared
            them with each other.
        images: As `placed` returns them.
        old_pairs: a, b, distance, method: pairs of ranks that an earlier run found, if there was one.
        hashes: Distinct hashes that can be compared.
        fresh: Those of them that are not known.
        passed: Hashes whose best image passed the filter: their ranks come first.
        total: Images.
    """

    nodes: DataFrame
    images: DataFrame
    old_pairs: DataFrame | None
    hashes: int
    fresh: int
    passed: int
    total: int


def _gather(job: Job, rule: Rule, recipe: Recipe) -> Compared:
    lake, settings = job.lake, job.settings.dedup
    with job.progress.step("dedup: gather hashes"):
        earlier = history.latest(lake, recipe)
        if earlier is None and lake.exists(tables.DUPLICATES):
            job.progress.note(
                "dedup: other settings, other signals, or files of the run before are gone: all is compared anew, and "
                "other images may be kept"
            )
        signals, images, verdicts = (lake.read(t) for t in (tables.SIGNALS, tables.IMAGES, tables.VERDICTS))
        members = hash_nodes.members(signals, images, verdicts, rule)
        stay = earlier.kept if earlier and settings.keep_kept else None
        ordered = hash_nodes.ordered(members, settings.rank, stay).persist(StorageLevel.DISK_ONLY)
        nodes = hash_nodes.numbered(lake, hash_nodes.distinct_nodes(ordered))
        everyone = placed(ordered, nodes).persist(StorageLevel.DISK_ONLY)
        known = history.known_nodes(nodes, everyone, earlier)
        old_pairs = history.known_pairs(everyone, earlier).persist(StorageLevel.DISK_ONLY) if earlier else None
        best_passed = F.count_if((F.col("image_id") == F.col("best_id")) & F.col("passed"))
        total, passed = everyone.agg(F.count("*"), best_passed).collect()[0]
        ordered.unpersist()
        hashes, fresh = known.where("comparable").agg(F.count("*"), F.count_if(~F.col("known"))).collect()[0]
    if fresh < hashes:
        job.progress.note(f"dedup: {hashes - fresh:,} hashes have been compared before, {fresh:,} are new")
    return Compared(known, everyone, old_pairs, hashes, fresh, passed, total)


def _deduplicate(job: Job, compared: Compared, rule: Rule, recipe: Recipe) -> Summary:
    lake, settings = job.lake, job.settings
    comparable = compared.nodes.where("comparable").select("rank", hash_nodes.hash_of("node").alias("hash"), "known")
    search = Search.for_data(compared.hashes, rule.max_distance, settings)
    with job.progress.step(f"dedup: {search.words}"):
        searched = pair_search.searched(job, comparable, compared.hashes, search, rule)
        found = searched.found.persist(StorageLevel.DISK_ONLY)
        near = pair_search.united(found).persist(StorageLevel.DISK_ONLY)
        taken = pair_search.effort(found, search)
    same, taken = _looked_at_again(job, compared, near, taken, rule) if rule.strict else (near, taken)
    pairs = pair_search.with_old(same, compared.old_pairs)
    with job.progress.step("dedup: who stays"):
        losers = _losers(pairs, compared.nodes, settings.dedup.keep).persist(StorageLevel.DISK_ONLY)
        gone = removed_images(compared, losers).persist(StorageLevel.DISK_ONLY)
        lake.replace(tables.PAIRS, image_pairs(compared, pairs), recipe)
        lake.replace(tables.FILTERED_DUPLICATES, gone.where(~F.col("passed")), recipe)
    with job.progress.step(f"dedup: recall measured on {settings.dedup.sample} hashes"):
        look = Look(
            settings.dedup.sample, searched.count, rule.max_distance, _INTERVAL, compared.passed,
            search.clusterings, rule.strict,
        )  # fmt: skip
        measured = search_recall.measure(searched.hashes, pair_search.with_old(near, compared.old_pairs), losers, look)
        rows = pair_search.quality_rows(lake.spark, search, taken, measured, compared.hashes)
        lake.replace(tables.DEDUP_QUALITY, rows, recipe)
        distances = lake.spark.createDataFrame(list(measured.distances), tables.DEDUP_DISTANCES.schema)
        lake.replace(tables.DEDUP_DISTANCES, distances, recipe)
        lake.replace(tables.NEAR_MISSES, near_misses(compared.nodes, measured), recipe)
    with job.progress.step("dedup: check and write"):
        summary = _checked_summary(job, compared.images, gone, measured.whole, taken.whole.skipped)
        _warn_of_far_members(job, gone, rule.max_distance)
        done = recipe.with_result(summary)
        lake.replace(tables.DUPLICATES, gone.where("passed"), done)
    for frame in (gone, losers, same, near, found):
        frame.unpersist()
    searched.forget()
    return summary


def _looked_at_again(
    job: Job, compared: Compared, near: DataFrame, taken: Effort, rule: Rule
) -> tuple[DataFrame, Effort]:
    """The pairs of near hashes whose pictures show the same, and how many do not."""
    with job.progress.step("dedup: pairs looked at again"):
        thumbnails = thumbnail_verification.thumbnails(job.lake.read(tables.SIGNALS), compared.nodes, rule)
        same = thumbnail_verification.confirmed(near, thumbnails).persist(StorageLevel.DISK_ONLY)
        told_apart = near.count() - same.count()
    job.progress.note(f"dedup: {told_apart:,} pairs of near hashes differ in a detail")
    return same, replace(taken, told_apart=told_apart)


# Transforms ---------------------------------------------------------------------------------------------------------


def placed(ordered: DataFrame, nodes: DataFrame) -> DataFrame:
    """Every image with the rank of its hash.

    Args:
        ordered: As `hash_nodes.ordered` returns them.
        nodes: As `hash_nodes.numbered` returns them.

    Returns:
        image_id, passed, rank, best_id (the best image of the same hash), members (how many have it).
    """
    ranks = nodes.select("node", "rank", F.col("image_id").alias("best_id"), "members")
    return ordered.join(ranks, "node").select("image_id", "passed", "rank", "best_id", "members")


def _losers(pairs: DataFrame, nodes: DataFrame, keep: str) -> DataFrame:
    if keep == "component":
        return components.removed(pairs, nodes)
    return independent_set.removed(
        pairs.select(F.col("a").alias("better"), F.col("b").alias("worse"), "distance", "method")
    )


def removed_images(compared: Compared, losers: DataFrame) -> DataFrame:
    """Every image that does not stay, with the one that stands for it.

    Args:
        compared: Nodes and images.
        losers: Hashes that lost: removed, kept (ranks), distance, method.

    Returns:
        removed_id, kept_id, distance, method, passed (whether the removed one had passed the filter).
    """
    keepers = compared.nodes.select(F.col("rank").alias("kept"), F.col("image_id").alias("keeper"))
    by_hash = losers.join(keepers, "kept").select(
        F.col("removed").alias("rank"), "keeper", F.col("distance").alias("apart"), F.col("method").alias("by")
    )
    judged = compared.images.join(by_hash, "rank", "left")
    lost = judged.where(F.col("keeper").isNotNull() | (F.col("image_id") != F.col("best_id")))
    return lost.select(
        F.col("image_id").alias("removed_id"),
        F.coalesce("keeper", "best_id").alias("kept_id"),
        F.coalesce("apart", F.lit(0)).alias("distance"),
        F.coalesce("by", F.lit("exact")).alias("method"),
        "passed",
    )


def image_pairs(compared: Compared, pairs: DataFrame, limit: int = _SPELLED_OUT) -> DataFrame:
    """Pairs of images: those of one hash, and those of a pair of hashes.

    Where repeats would make more than `limit` pairs, the best image stands for all of them, so that rows stay
    proportional to images.

    Args:
        compared: Nodes and images.
        pairs: a, b, distance, method between ranks.
        limit: Pairs that the repeats of one hash, or of two that match, may make.

    Returns:
        a_id, b_id (a_id < b_id), distance, method.
    """
    return _repeats(compared.images.where("members > 1"), limit).unionByName(_across(compared, pairs, limit))


def _repeats(images: DataFrame, limit: int) -> DataFrame:
    best = F.col("image_id") == F.col("best_id")
    full = F.col("members") * (F.col("members") - 1) / 2 <= limit
    left = images.where(full | best).select("rank", F.col("image_id").alias("x"))
    both = left.join(
        images.select("rank", F.col("image_id").alias("y"), best.alias("y_best"), full.alias("full")), "rank"
    )
    once = F.when(F.col("full"), F.col("x") < F.col("y")).otherwise(~F.col("y_best"))
    return _ordered_pairs(both.where(once).withColumns({"distance": F.lit(0), "method": F.lit("exact")}))


def _across(compared: Compared, pairs: DataFrame, limit: int) -> DataFrame:
    ended = pairs
    for end, name in (("a", "x"), ("b", "y")):
        columns = F.col("rank").alias(end), F.col("image_id").alias(name), F.col("members").alias(f"{name}_members")
        ended = ended.join(compared.nodes.select(*columns), end)
    makes = F.col("x_members") * F.col("y_members")
    spread = ended.where((makes > 1) & (makes <= limit)).select("a", "b", "distance", "method")
    for end, name in (("a", "x"), ("b", "y")):
        spread = spread.join(compared.images.select(F.col("rank").alias(end), F.col("image_id").alias(name)), end)
    return _ordered_pairs(ended.where((makes == 1) | (makes > limit))).unionByName(_ordered_pairs(spread))


def _ordered_pairs(pairs: DataFrame) -> DataFrame:
    a, b = F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id")
    return pairs.select(a, b, "distance", "method")


def near_misses(nodes: DataFrame, measured: Measured) -> DataFrame:
    """Rows of the table near_misses.

    Args:
        nodes: rank, image_id.
        measured: Its near misses, a bounded number.
    """
    named = nodes.sparkSession.createDataFrame(list(measured.near_misses), "a long, b long, distance int")
    for end, name in (("a", "x"), ("b", "y")):
        images = nodes.select(F.col("rank").alias(end), F.col("image_id").alias(name))
        named = images.join(F.broadcast(named), end)
    return named.select(F.least("x", "y").alias("a_id"), F.greatest("x", "y").alias("b_id"), "distance")


def _checked_summary(job: Job, images: DataFrame, gone: DataFrame, quality: SearchRecall, skipped: int) -> Summary:
    """Counts, after the promises are checked: nobody is removed twice, and whoever stands for another is kept."""
    total, passed = images.agg(F.count("*"), F.count_if("passed")).collect()[0]
    rows, ids, removed = gone.agg(F.count("*"), F.countDistinct("removed_id"), F.count_if("passed")).collect()[0]
    orphans = gone.join(gone.select(F.col("removed_id").alias("kept_id")), "kept_id", "left_semi").count()
    if rows != ids or orphans:
        raise LostRowsError(
            f"dedup: {rows} removed rows name {ids} images and {orphans} of them a keeper that is removed itself: "
            "a stage was lost and recomputed differently; run it again"
        )
    if skipped:
        job.progress.warn(
            f"dedup: {skipped:,} pairs among copies of popular pictures were settled by their best image or left out"
        )
    return {
        "images compared": total,
        "passed the filter": passed,
        "duplicates removed": removed,
        "kept": passed - removed,
        "recall of the search": _recall_words(quality),
    }


def _warn_of_far_members(job: Job, gone: DataFrame, max_distance: int) -> None:
    """Says which price whole components have; with an independent set there is nobody to warn of."""
    if job.settings.dedup.keep != "component":
        return
    far, groups = (
        gone.where(F.col("distance") > max_distance).agg(F.count("*"), F.countDistinct("kept_id")).collect()[0]
    )
    if far:
        job.progress.warn(
            f"dedup: {far:,} images of {groups:,} components lie farther than {max_distance} bits from the one that is "
            'kept for them: dedup.keep = "independent" would keep some of them'
        )


def _recall_words(quality: SearchRecall) -> str:
    if quality.recall is None:
        return f"no pair among {quality.sampled} sampled hashes and all others"
    interval = f"{quality.recall:.3f} [{quality.low:.3f}, {quality.high:.3f}]"
    return f"{interval}; of {quality.both_kept:,} of {quality.exhaustive:,} pairs both images are kept"
