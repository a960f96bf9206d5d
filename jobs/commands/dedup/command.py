"""`dedup`: images that look the same found by their hashes, and the best of each kept."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup import earlier_run
from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.near_duplicates import NearDuplicateConfig, NearDuplicates, searched
from jobs.commands.dedup.nodes.compared import Compared, Inputs, compared
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
from models.errors import LostRowsError

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
    used = now.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS)
    asked = {**fingerprint(settings.dedup), **vars(rule), "seed": settings.seed, "revision": _REVISION}
    recipe = Recipe("dedup", used, asked)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    if rule.strict:
        thumbnail_verification.check(lake.read(tables.SIGNALS), rule)
    config = NearDuplicateConfig(rule, settings.dedup, settings.seed)
    with lake.scratch("dedup") as scratch:
        inputs, nodes = _gathered(job, now, config, recipe, scratch)
        require_signals(job, rule.encoder, nodes.total)
        found = searched(inputs, nodes, config, scratch, job.progress)
        return _written(job, found, recipe)


def _gathered(
    job: Job, now: Snapshot, config: NearDuplicateConfig, recipe: Recipe, scratch: Scratch
) -> tuple[Inputs, Compared]:
    lake, settings = job.lake, config.settings
    with job.progress.step("dedup: gather hashes"):
        earlier = earlier_run.latest(lake, now, recipe, settings.keep_kept)
        if earlier is None and now.exists(tables.DUPLICATES):
            job.progress.note(
                "dedup: other settings, other signals, or files of the run before are gone: all is compared anew, and "
                "other images may be kept"
            )
        signals, images, verdicts = (lake.read(table) for table in (tables.SIGNALS, tables.IMAGES, tables.VERDICTS))
        inputs = Inputs(signals, images, verdicts, earlier)
        nodes = compared(inputs, config.rule, settings.rank, scratch)
    if nodes.fresh < nodes.hashes:
        old = nodes.hashes - nodes.fresh
        job.progress.note(f"dedup: {old:,} hashes have been compared before, {nodes.fresh:,} are new")
    return inputs, nodes


def _written(job: Job, found: NearDuplicates, recipe: Recipe) -> Summary:
    """Checks the promises and writes all tables, duplicates last."""
    lake, spark, quality = job.lake, job.lake.spark, found.quality
    with job.progress.step("dedup: check and write"):
        summary = _checked_summary(job, found.compared.images, found.removed, quality.whole, found.effort.whole.skipped)
        _warn_of_far_members(job, found.removed, found.search.max_distance)
        rows = pair_search.quality_rows(spark, found.search, found.effort, quality, found.compared.hashes)
        distances = spark.createDataFrame(list(quality.distances), tables.DEDUP_DISTANCES.schema)
        lake.replace(tables.PAIRS, found.pairs, recipe)
        lake.replace(tables.FILTERED_DUPLICATES, found.removed.where(~F.col("passed")), recipe)
        lake.replace(tables.DEDUP_QUALITY, rows, recipe)
        lake.replace(tables.DEDUP_DISTANCES, distances, recipe)
        lake.replace(tables.NEAR_MISSES, found.near_misses, recipe)
        lake.replace(tables.DUPLICATES, found.removed.where("passed"), recipe.with_result(summary))
    return summary


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
