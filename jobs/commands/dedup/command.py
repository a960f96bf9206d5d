"""`dedup`: finds images that look the same by their hashes, and keeps the best of each group."""

from dataclasses import dataclass, replace

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup import earlier_run
from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.in_memory import near_duplicates as in_memory
from jobs.commands.dedup.in_memory import nodes as nodes_in_memory
from jobs.commands.dedup.near_duplicates import Counts, NearDuplicateConfig, NearDuplicates, counted, search_nodes
from jobs.commands.dedup.nodes.compared import Inputs, compared
from jobs.commands.dedup.semantic import step
from jobs.commands.dedup.semantic.step import SemanticCounts
from jobs.commands.dedup.threshold import choice
from jobs.commands.dedup.verify import thumbnail_verification, told_apart
from jobs.commands.dedup.verify.search_recall import SearchRecall
from jobs.facts.duplicates import NEAR_REMOVED
from jobs.facts.funnel import changes
from jobs.job import Job, Summary
from jobs.lake import tables
from jobs.lake.recipe import Recipe
from jobs.lake.snapshot import Snapshot
from jobs.matching.rule import Rule, rule_for
from jobs.models_in_use import current_encoder, semantic_encoder
from jobs.prerequisites import require_images, require_signals, require_verdicts
from jobs.runtime.config import fingerprint
from jobs.runtime.scratch import Scratch
from jobs.runtime.wording import measured
from jobs.scoring.mirrored import ensure_mirrored, require_mirrored
from models.errors import LostRowsError

# Raise it if a change finds other pairs or keeps other images. Tables of the earlier revision are then made again.
_REVISION = 7

# In the order in which they are written.
_WRITTEN = (
    tables.PAIRS, tables.FILTERED_DUPLICATES, tables.DEDUP_QUALITY, tables.DEDUP_DISTANCES, tables.NEAR_MISSES,
    tables.TOLD_APART, tables.DUPLICATES,
)  # fmt: skip


@dataclass(frozen=True)
class _Run:
    """What a run works with.

    Attributes:
        now: The current versions of the lake's tables.
        rule: The rule for near-duplicates.
        recipe: The recipe of the result.
        features: image_id, embedding, to find semantic duplicates; None if they are not removed.
    """

    now: Snapshot
    rule: Rule
    recipe: Recipe
    features: DataFrame | None


def run(job: Job) -> Summary:
    """Finds pairs, chooses the images to keep, and writes pairs, dedup_quality and duplicates.

    Raises:
        WinnowError: Images have not been scored, or `filter` has not run since they were added.
        LostRowsError: The result is inconsistent. The tables do not count as complete.
    """
    now, rule, recipe = _checked(job)
    if (before := job.up_to_date(now.made_by(recipe, *_WRITTEN))) is not None:
        return before
    if job.settings.dedup.mirrored:
        ensure_mirrored(job, current_encoder(job), "dedup")
    features = step.stored_features(job, store=True) if job.settings.dedup.semantic is not None else None
    with job.lake.scratch("dedup", recipe) as scratch:
        rule, distances = choice.chosen(job, now, rule, job.lake.replace, scratch)
        found, counts, semantic = _found(job, _Run(now, rule, recipe, features), scratch)
        with job.progress.step("dedup: check and write"):
            summary = _checked_summary(job, found, counts, semantic) | distances
            _write(job, found, counts, recipe.with_result(summary))
    return summary


def preview(job: Job) -> Summary:
    """Counts what `run` would write, and what that would change. It writes no table.

    Raises:
        WinnowError: As `run`.
        LostRowsError: The result is inconsistent.
    """
    now, rule, recipe = _checked(job)
    if job.settings.dedup.mirrored:
        require_mirrored(job, current_encoder(job))
    features = step.stored_features(job, store=False) if job.settings.dedup.semantic is not None else None
    with job.lake.scratch("dedup") as scratch:
        rule, distances = choice.chosen(job, now, rule, lambda *measured: None, scratch)
        found, counts, semantic = _found(job, _Run(now, rule, recipe, features), scratch)
        with job.progress.step("dedup: compare with the last run"):
            summary = _checked_summary(job, found, counts, semantic) | distances
            images, before = job.lake.read(tables.IMAGES), job.lake.read(tables.DUPLICATES)
            job.progress.note("dedup: this was a dry run, so no table was written")
            return summary | changes(images, _losers(before), _losers(found.removed.where("passed")))


def _losers(duplicates: DataFrame) -> DataFrame:
    near = F.format_string("%d bits from %s", "distance", "kept_id")
    similar = F.format_string("similarity %.3f with %s", "similarity", "kept_id")
    why = F.when(F.col("method") == tables.SEMANTIC, similar).otherwise(near)
    return duplicates.select(F.col("removed_id").alias("image_id"), why.alias("why"))


def _checked(job: Job) -> tuple[Snapshot, Rule, Recipe]:
    """Checks what the command needs; returns the versions of the tables, the rule, and the recipe of the result."""
    lake, settings = job.lake, job.settings
    lake.require_written(tables.SIGNALS)
    now = lake.snapshot()
    require_verdicts(now)
    rule = rule_for(job)
    require_images(lake)
    if rule.strict:
        thumbnail_verification.check(lake.read(tables.SIGNALS), rule)
    # The verdicts hold the decisions; an earlier run is reused only for images whose decisions it knew.
    versions = now.inputs(tables.IMAGES, tables.SIGNALS, tables.VERDICTS, tables.DECISIONS)
    parameters = {**fingerprint(settings.dedup), **vars(rule), "seed": settings.seed, "revision": _REVISION}
    # The rows do not depend on where they are found, and the verdicts hold what `against` removes.
    del parameters["in_memory"], parameters["against"]
    # Without the rows of later settings, as in lakes of versions without them.
    if not settings.dedup.mirrored:
        del parameters["mirrored"]
    if settings.dedup.semantic is None:
        del parameters["semantic"]
    else:
        parameters["semantic_encoder"] = semantic_encoder(job).digest
    return now, rule, Recipe("dedup", versions, parameters)


def _found(job: Job, this: _Run, scratch: Scratch) -> tuple[NearDuplicates, Counts, SemanticCounts | None]:
    settings = job.settings.dedup
    config = NearDuplicateConfig(this.rule, settings, job.settings.seed)
    small = in_memory.fits(sum(job.lake.counts([tables.SIGNALS]).values()), this.rule, settings)
    inputs = _inputs(job, this, config, scratch)
    found, counts = (_in_memory if small else _by_spark)(job, inputs, config, scratch)
    if this.features is None:
        removed, semantic = found.removed.withColumn("similarity", F.lit(None).cast("float")), None
    else:
        removed, semantic = step.all_removed(job, inputs, config, found, scratch, this.features)
    return replace(_with_sample(found, removed, inputs, config), removed=removed), counts, semantic


def _with_sample(
    found: NearDuplicates, removed: DataFrame, inputs: Inputs, config: NearDuplicateConfig
) -> NearDuplicates:
    """Replaces the pairs told apart by a sample, with their number."""
    pairs, looks = found.told_apart, found.cost.looks
    if pairs is None or looks is None:
        return found
    if config.settings.semantic is not None:
        # Those with near-copies are left out already.
        pairs = told_apart.without_removed(pairs, removed)
    drawn = told_apart.sampled(pairs, inputs.earlier.told_apart if inputs.earlier else None, config.seed)
    counted_looks = replace(looks, both_kept=drawn.count)
    return replace(found, told_apart=drawn.sample, cost=replace(found.cost, looks=counted_looks))


def _in_memory(
    job: Job, inputs: Inputs, config: NearDuplicateConfig, scratch: Scratch
) -> tuple[NearDuplicates, Counts]:
    with job.progress.step("dedup: gather hashes"):
        nodes = nodes_in_memory.compared(inputs, config.rule, config.settings.rank)
    known = int(nodes.known[nodes.hashed].sum())
    _note_known(job, known, len(nodes.hashed) - known)
    require_signals(job, config.rule.encoder, len(nodes.images.ids))
    return in_memory.search_nodes(inputs, nodes, config, job.progress)


def _by_spark(job: Job, inputs: Inputs, config: NearDuplicateConfig, scratch: Scratch) -> tuple[NearDuplicates, Counts]:
    with job.progress.step("dedup: gather hashes"):
        nodes = compared(inputs, config.rule, config.settings.rank, scratch)
    _note_known(job, nodes.hashes - nodes.fresh, nodes.fresh)
    require_signals(job, config.rule.encoder, nodes.total)
    found = search_nodes(inputs, nodes, config, scratch, job.progress)
    with job.progress.step("dedup: check"):
        return found, counted(found, nodes, found.search.max_distance)


def _inputs(job: Job, this: _Run, config: NearDuplicateConfig, scratch: Scratch) -> Inputs:
    lake = job.lake
    earlier = earlier_run.latest(lake, this.now, this.recipe, config.rule, config.settings.keep_kept, scratch)
    if earlier is None and this.now.exists(tables.DUPLICATES):
        job.progress.note(
            "dedup: settings, signals or the table decisions changed, or files of the last run were deleted: "
            "compares all images again, and may keep other images"
        )
    if earlier is not None and config.rule.compares_thumbnails and earlier.told_apart is None:
        job.progress.note("dedup: the last run stored no pairs that thumbnails told apart: compares all images again")
    signals, images, verdicts = (lake.read(table) for table in (tables.SIGNALS, tables.IMAGES, tables.VERDICTS))
    own = F.col("encoder") == config.rule.encoder
    mirrored = lake.read(tables.MIRRORED).where(own) if config.settings.mirrored else None
    return Inputs(signals, images, verdicts, earlier, mirrored)


def _note_known(job: Job, known: int, fresh: int) -> None:
    if known:
        job.progress.note(f"dedup: {known:,} hashes were compared by an earlier run, {fresh:,} are new")


def _write(job: Job, found: NearDuplicates, counts: Counts, recipe: Recipe) -> None:
    """Writes all tables, duplicates last."""
    lake, spark, quality = job.lake, job.lake.spark, found.quality
    rows = pair_search.quality_rows(spark, found.search, found.cost, quality, counts.hashes, counts.decided_pairs)
    distances = spark.createDataFrame(list(quality.distances), tables.DEDUP_DISTANCES.schema)
    lake.replace(tables.PAIRS, found.pairs, recipe)
    lake.replace(tables.FILTERED_DUPLICATES, found.removed.where(~F.col("passed")), recipe)
    lake.replace(tables.DEDUP_QUALITY, rows, recipe)
    lake.replace(tables.DEDUP_DISTANCES, distances, recipe)
    lake.replace(tables.NEAR_MISSES, found.near_misses, recipe)
    told_apart_rows = (
        spark.createDataFrame([], tables.TOLD_APART.schema) if found.told_apart is None else found.told_apart
    )
    lake.replace(tables.TOLD_APART, told_apart_rows, recipe)
    lake.replace(tables.DUPLICATES, found.removed.where("passed"), recipe)


def _checked_summary(job: Job, found: NearDuplicates, counts: Counts, semantic: SemanticCounts | None) -> Summary:
    """Checks that no image is removed twice and that each removed image names a kept one; returns the counts."""
    if counts.removed != counts.distinct_removed or counts.orphans:
        raise LostRowsError(
            f"dedup: {counts.removed} removed rows name {counts.distinct_removed} images, and {counts.orphans} rows "
            "name a kept image that is removed too: Spark lost a stage and recomputed it differently; run "
            "`winnow dedup` again"
        )
    _warn_of_far_members(job, counts, found.search.max_distance)
    if skipped := found.cost.whole.skipped:
        job.progress.warn(
            f"dedup: skipped {skipped:,} pairs, because one image was resolved against a representative, or because "
            "too many images have the same band key or cluster"
        )
    decided = {"pairs that people keep by decision": counts.decided_pairs} if counts.decided_pairs else {}
    near = semantic.near if semantic else counts.removed_passed
    return {
        "images compared": counts.images,
        "passed the filter": counts.passed,
        NEAR_REMOVED: near,
        **(semantic.summary(counts.passed) if semantic else {}),
        "kept": counts.passed - near - (semantic.semantic if semantic else 0),
        "recall of the search": _recall_text(found.quality.whole),
        **decided,
    }


def _warn_of_far_members(job: Job, counts: Counts, max_distance: int) -> None:
    """Warns if whole components remove images far from the kept one. An independent set never does."""
    if counts.far:
        job.progress.warn(
            f"dedup: {counts.far:,} removed images of {counts.far_groups:,} components are farther than {max_distance} "
            "bits from the image that is kept: to keep some of them, use `--set dedup.keep=independent`"
        )


def _recall_text(quality: SearchRecall) -> str:
    if quality.recall is None:
        return f"not measurable: {quality.sampled} sampled hashes have no near-duplicate"
    recall = measured(quality.recall, quality.low, quality.high)
    return f"{recall}; pairs remaining: {quality.both_kept:,} of {quality.exhaustive:,}"
