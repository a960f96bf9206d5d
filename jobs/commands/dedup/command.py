"""`dedup`: finds images that look the same by their hashes, and keeps the best of each group."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup import earlier_run
from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.keep.images_of_hashes import decided_pairs
from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, NearDuplicates, search_nodes
from jobs.commands.dedup.nodes.compared import Compared, Inputs, compared
from jobs.commands.dedup.threshold import choice
from jobs.commands.dedup.verify import thumbnail_verification
from jobs.commands.dedup.verify.search_recall import SearchRecall
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.matching.rule import rule_for
from jobs.prerequisites import require_images, require_signals, require_verdicts
from jobs.runtime.config import fingerprint
from jobs.runtime.scratch import Scratch
from jobs.runtime.wording import measured
from models.errors import LostRowsError

# Raise it if a change finds other pairs or keeps other images. Tables of the earlier revision are then made again.
_REVISION = 4

# In the order in which they are written.
_WRITTEN = (
    tables.PAIRS, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.DEDUP_DISTANCES, tables.NEAR_MISSES,
    tables.DUPLICATES,
)  # fmt: skip


def run(job: Job) -> Summary:
    """Finds pairs, chooses the images to keep, and writes pairs, dedup_quality and duplicates.

    Raises:
        WinnowError: Images have not been scored, or `filter` has not run since they were added.
        LostRowsError: The result is inconsistent. The tables do not count as complete.
    """
    lake, settings = job.lake, job.settings
    require_images(lake)
    lake.require(tables.SIGNALS)
    now = lake.snapshot()
    require_verdicts(now)
    rule = rule_for(job)
    # The verdicts hold the decisions; an earlier run is reused only for images whose decisions it knew.
    versions = now.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS, tables.DECISIONS)
    parameters = {**fingerprint(settings.dedup), **vars(rule), "seed": settings.seed, "revision": _REVISION}
    recipe = Recipe("dedup", versions, parameters)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    if rule.strict:
        thumbnail_verification.check(lake.read(tables.SIGNALS), rule)
    with lake.scratch("dedup") as scratch:
        rule, distances = choice.chosen(job, now, rule, scratch)
        config = NearDuplicateConfig(rule, settings.dedup, settings.seed)
        inputs, nodes = _gather(job, now, config, recipe, scratch)
        require_signals(job, rule.encoder, nodes.total)
        found = search_nodes(inputs, nodes, config, scratch, job.progress)
        return _write(job, found, recipe, distances)


def _gather(
    job: Job, now: Snapshot, config: NearDuplicateConfig, recipe: Recipe, scratch: Scratch
) -> tuple[Inputs, Compared]:
    lake, settings = job.lake, config.settings
    with job.progress.step("dedup: gather hashes"):
        earlier = earlier_run.latest(lake, now, recipe, config.rule, settings.keep_kept)
        if earlier is None and now.exists(tables.DUPLICATES):
            job.progress.note(
                "dedup: settings, signals or the table decisions changed, or files of the last run were deleted: "
                "compares all images again, and may keep other images"
            )
        signals, images, verdicts = (lake.read(table) for table in (tables.SIGNALS, tables.IMAGES, tables.VERDICTS))
        inputs = Inputs(signals, images, verdicts, earlier)
        nodes = compared(inputs, config.rule, settings.rank, scratch)
    if nodes.fresh < nodes.hashes:
        old = nodes.hashes - nodes.fresh
        job.progress.note(f"dedup: {old:,} hashes were compared by an earlier run, {nodes.fresh:,} are new")
    return inputs, nodes


def _write(job: Job, found: NearDuplicates, recipe: Recipe, distances: Summary) -> Summary:
    """Checks the result and writes all tables, duplicates last."""
    lake, spark, quality = job.lake, job.lake.spark, found.quality
    with job.progress.step("dedup: check and write"):
        nodes = found.compared
        summary = _checked_summary(job, nodes.images, found.removed, quality.whole, found.cost.whole.skipped)
        summary |= distances
        # Nobody keeps an image by decision in most lakes.
        decided = decided_pairs(found.pairs, nodes.images).count() if nodes.decided else 0
        if nodes.decided:
            summary["pairs that people keep by decision"] = decided
        _warn_of_far_members(job, found.removed, found.search.max_distance)
        rows = pair_search.quality_rows(spark, found.search, found.cost, quality, nodes.hashes, decided)
        distances = spark.createDataFrame(list(quality.distances), tables.DEDUP_DISTANCES.schema)
        lake.replace(tables.PAIRS, found.pairs, recipe)
        lake.replace(tables.FILTERED_DUPLICATES, found.removed.where(~F.col("passed")), recipe)
        lake.replace(tables.DEDUP_QUALITY, rows, recipe)
        lake.replace(tables.DEDUP_DISTANCES, distances, recipe)
        lake.replace(tables.NEAR_MISSES, found.near_misses, recipe)
        lake.replace(tables.DUPLICATES, found.removed.where("passed"), recipe.with_result(summary))
    return summary


def _checked_summary(job: Job, images: DataFrame, losers: DataFrame, quality: SearchRecall, skipped: int) -> Summary:
    """Checks that no image is removed twice and that each removed image names a kept one; returns the counts."""
    total, passed = images.agg(F.count("*"), F.count_if("passed")).collect()[0]
    rows, ids, removed = losers.agg(F.count("*"), F.countDistinct("removed_id"), F.count_if("passed")).collect()[0]
    orphans = losers.join(losers.select(F.col("removed_id").alias("kept_id")), "kept_id", "left_semi").count()
    if rows != ids or orphans:
        raise LostRowsError(
            f"dedup: {rows} removed rows name {ids} images, and {orphans} rows name a kept image that is removed too: "
            "Spark lost a stage and recomputed it differently; run `winnow dedup` again"
        )
    if skipped:
        job.progress.warn(
            f"dedup: skipped {skipped:,} pairs, because one image was resolved against a representative, or because "
            "too many images have the same band key or cluster"
        )
    return {
        "images compared": total,
        "passed the filter": passed,
        "duplicates removed": removed,
        "kept": passed - removed,
        "recall of the search": _recall_text(quality),
    }


def _warn_of_far_members(job: Job, losers: DataFrame, max_distance: int) -> None:
    """Warns if whole components remove images far from the kept one. An independent set never does."""
    if job.settings.dedup.keep != "component":
        return
    far, groups = (
        losers.where(F.col("distance") > max_distance).agg(F.count("*"), F.countDistinct("kept_id")).collect()[0]
    )
    if far:
        job.progress.warn(
            f"dedup: {far:,} removed images of {groups:,} components are farther than {max_distance} bits from the "
            "image that is kept: to keep some of them, use `--set dedup.keep=independent`"
        )


def _recall_text(quality: SearchRecall) -> str:
    if quality.recall is None:
        return f"not measurable: {quality.sampled} sampled hashes have no near-duplicate"
    recall = measured(quality.recall, quality.low, quality.high)
    return f"{recall}; pairs remaining: {quality.both_kept:,} of {quality.exhaustive:,}"
