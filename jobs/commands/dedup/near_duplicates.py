"""Finds near-duplicates: hashes → candidate pairs → verified pairs → kept images → recall of the search."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates import cost as cost_estimates
from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.candidates.pair_search import Looks, Search, SearchCost, SearchInputs
from jobs.commands.dedup.candidates.popular import POPULAR
from jobs.commands.dedup.keep import components, independent_set, overlays
from jobs.commands.dedup.keep.images_of_hashes import (
    decided_pairs,
    image_pairs,
    near_misses,
    removed_images,
    told_apart_images,
)
from jobs.commands.dedup.nodes import mirrors
from jobs.commands.dedup.nodes.compared import Compared, Inputs, compared
from jobs.commands.dedup.verify import search_recall, thumbnail_verification
from jobs.commands.dedup.verify.search_recall import MeasuredRecall, RecallSampleConfig
from jobs.matching.rule import Rule
from jobs.runtime.config import DedupSettings, load, overrides_of
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch

INTERVAL = 0.95
"""Confidence of the interval of the recall."""


@dataclass(frozen=True)
class NearDuplicateConfig:
    """The parameters that decide which near-duplicates are found and which image of a pair is kept.

    Attributes:
        rule: The rule for near-duplicates: hash, encoder and distance.
        settings: The section `[dedup]` of the settings. Its hash and distance are ignored; `rule` has them.
        seed: Seed of the MinHash permutations and the clusterings.
    """

    rule: Rule
    settings: DedupSettings
    seed: int

    @classmethod
    def with_defaults(cls, rule: Rule, seed: int = 0, **changes: object) -> Self:
        """Returns the settings of conf/winnow.toml with some changes.

        Args:
            rule: See the attribute.
            seed: See the attribute.
            **changes: Settings of the section `[dedup]`, by name.

        Raises:
            SettingsError: A setting does not exist, or its value is not allowed.

        Examples:
            >>> NearDuplicateConfig.with_defaults(Rule("pdq", "any", 31, 50), recall=0.99).settings.recall
            0.99
        """
        return cls(rule, load(overrides=overrides_of("dedup", changes)).dedup, seed)


@dataclass(frozen=True)
class Counts:
    """What a result is checked by, and what the summary of `dedup` shows.

    Attributes:
        images: Number of compared images.
        passed: Number of those that passed the filter.
        hashes: Number of distinct hashes that can be compared.
        removed: Number of rows of removed images.
        distinct_removed: Number of the images that they name.
        removed_passed: Number of those that passed the filter.
        orphans: Number of removed images whose kept image is removed too.
        far: Number of removed images farther from the kept one than the largest distance of a pair.
        far_groups: Number of kept images of those.
        decided_pairs: Number of pairs of which people keep both images.
    """

    images: int
    passed: int
    hashes: int
    removed: int
    distinct_removed: int
    removed_passed: int
    orphans: int
    far: int
    far_groups: int
    decided_pairs: int


@dataclass(frozen=True)
class NearDuplicates:
    """The near-duplicates found. The frames read from the scratch folder: write them before its block ends.

    Attributes:
        pairs: a_id, b_id (a_id < b_id), distance (bits of 256), method, mirrored: pairs of near-duplicates.
        removed: removed_id, kept_id, distance, method, mirrored, passed (whether the removed image passed the filter):
            each removed image with the kept one.
        near_misses: a_id, b_id, distance: the nearest pairs above the threshold of which both images are kept.
        told_apart: a_id, b_id, distance, mirrored, known (whether the pair is from the sample of an earlier run): pairs
            whose thumbnails show different images and of which both images are kept; None if no thumbnails decide.
        quality: Recall of the search on a sample, with its interval; distances of the sampled pairs.
        search: Bands and clusters that were searched.
        cost: Number of compared and skipped pairs.
    """

    pairs: DataFrame
    removed: DataFrame
    near_misses: DataFrame
    told_apart: DataFrame | None
    quality: MeasuredRecall
    search: Search
    cost: SearchCost


def near_duplicates(  # noqa: PLR0913 - tables that a notebook may leave out
    signals: DataFrame,
    images: DataFrame,
    config: NearDuplicateConfig,
    scratch: Scratch,
    verdicts: DataFrame | None = None,
    progress: Progress | None = None,
    mirrored: DataFrame | None = None,
) -> NearDuplicates:
    """Finds near-duplicates, and the kept image for each removed one.

    Of each pair found, at most one image is kept, unless people keep both by decision. Each removed image is within the
    distance of its kept image, unless `dedup.keep` is `component`.

    Args:
        signals: image_id, encoder, pdq and embedding_hash (binary, 32 bytes), pdq_quality, embedding (array<float>),
            content (hexadecimal digest of the file), thumbnail (binary; only with `dedup.strict`).
        images: image_id, width and height (pixels), caption.
        config: The rule for near-duplicates and the parameters of the search.
        scratch: Keeps intermediate results.
        verdicts: image_id, kept: images that did not pass lose to all that did. Without it, all images passed. Images
            with a text in kept_because, if there is this column, come before all others and are not removed.
        progress: Shows the steps; None shows nothing.
        mirrored: image_id, encoder, pdq, embedding, embedding_hash: hashes of mirror images. With them, an image and
            a mirror image of it are near-duplicates too.

    Returns:
        Pairs, removed images, and the recall of the search.

    Source:
        OpenAI, "DALL·E 2 pre-training mitigations", 2022, for the clusters; Broder, "On the resemblance and containment
        of documents", 1997, for the bands.

    Examples:
        >>> def removed_ids(lake, folder):
        ...     rule = Rule("pdq", encoder="ae3a4bd941d35aba", max_distance=31, min_quality=50)
        ...     with Scratch(lake.session, folder) as scratch:
        ...         config = NearDuplicateConfig.with_defaults(rule, recall=0.99)
        ...         found = near_duplicates(lake.spark("signals"), lake.spark("images"), config, scratch)
        ...         return [row.removed_id for row in found.removed.collect()]
    """
    if verdicts is None:
        verdicts = images.select("image_id", F.lit(True).alias("kept"))
    inputs = Inputs(signals, images, verdicts, mirrored=mirrored)
    nodes = compared(inputs, config.rule, config.settings.rank, scratch)
    return search_nodes(inputs, nodes, config, scratch, progress or Progress.silent())


def search_nodes(
    inputs: Inputs, nodes: Compared, config: NearDuplicateConfig, scratch: Scratch, progress: Progress
) -> NearDuplicates:
    """Finds near-duplicates among nodes that have ranks: the second part of `near_duplicates`.

    Args:
        inputs: The input tables.
        nodes: As `compared` returns them.
        config: The rule for near-duplicates and the parameters of the search.
        scratch: Keeps intermediate results.
        progress: Shows the steps.
    """
    settings, rule = config.settings, config.rule
    # 1. Find candidate pairs and verify each by its distance.
    entries, count, search_inputs = _entries(inputs, nodes, config, scratch)
    search = Search.for_data(count, rule, settings, config.seed)
    for estimate in cost_estimates.estimates(search, count):
        progress.note(cost_estimates.note(estimate))
        if (expensive := cost_estimates.warning(estimate, search, count, settings.recall)) is not None:
            progress.warn(expensive)
    if search.lsh and (done := scratch.committed(names := search.lsh.commits)):
        progress.note(f"dedup: continues a run that was killed: {done} of {len(names)} groups of bands are done")
    with progress.step(f"dedup: {search.words}"):
        result = pair_search.find_all_pairs(entries, count, search, search_inputs, scratch, progress)
        rows = scratch.keep(result.found)
        near = scratch.checkpoint(pair_search.distinct_pairs(rows, inputs.mirrored is not None))
        cost = pair_search.search_cost(rows, search)
    # 2. Look at pairs beyond the safe distance, in strict mode at all, and drop those whose images differ. Then add the
    # pairs of an earlier run.
    is_mirrored = inputs.mirrored is not None
    every = pair_search.each_once(pair_search.add_earlier_pairs(near, nodes.old_pairs), is_mirrored)
    pairs, of_sample, refused = every, None, None
    if rule.compares_thumbnails:
        pairs, unsure, looks = _verify(inputs, nodes, near, rule, scratch, progress)
        pairs = scratch.checkpoint(pair_search.each_once(pairs, is_mirrored))
        refused = _refused(pair_search.each_once(unsure, is_mirrored), pairs, nodes.old_told_apart)
        cost = replace(cost, looks=looks)
        of_sample = search_recall.Looks(pairs, rule.looked_beyond, partial(_confirmed, inputs, nodes, rule))
    # 3. Choose the images to keep.
    with progress.step("dedup: choose kept images"):
        again = overlays.ranked_again(pairs, nodes, inputs.signals, rule, settings.rank, scratch)
        losers = scratch.checkpoint(_losers(pairs, nodes, settings.keep, again, scratch))
        removed = scratch.checkpoint(removed_images(nodes, losers))
    # 4. Measure what the search missed: compare a sample with all hashes.
    with progress.step(f"dedup: measure recall on {settings.sample} hashes"):
        sample_config = RecallSampleConfig(
            settings.sample, result.count, rule.max_distance, INTERVAL, nodes.passed, search.clusterings
        )  # fmt: skip
        # With mirror images too, of the other pairs only: the same bands and clusters find both.
        searched = result.hashes if inputs.mirrored is None else mirrors.own_hashes(result.hashes)
        measured = search_recall.measure(searched, every, losers, sample_config, scratch, of_sample)
    misses = near_misses(nodes.nodes, measured)
    told_apart = None if refused is None else scratch.keep(told_apart_images(nodes, refused, losers))
    return NearDuplicates(image_pairs(nodes, pairs), removed, misses, told_apart, measured, search, cost)


def _entries(
    inputs: Inputs, nodes: Compared, config: NearDuplicateConfig, scratch: Scratch
) -> tuple[DataFrame, int, SearchInputs]:
    """Returns what the search compares: rank, hash, known; the number of these rows; and the other inputs."""
    entries = mirrors.entries(nodes.nodes.where("comparable"))
    if inputs.mirrored is None:
        return entries, nodes.hashes, SearchInputs(inputs.signals, config.rule, config.settings, nodes.decided)
    entries = scratch.keep(entries)
    vectors = mirrors.with_vectors(inputs.signals, inputs.mirrored)
    return entries, entries.count(), SearchInputs(vectors, config.rule, config.settings, 2 * nodes.decided)


def counted(found: NearDuplicates, nodes: Compared, max_distance: int) -> Counts:
    """Counts what a result is checked by.

    Args:
        found: The result.
        nodes: The nodes that were compared.
        max_distance: Largest distance of a pair, in bits.
    """
    images, passed = nodes.images.agg(F.count("*"), F.count_if("passed")).collect()[0]
    lost, is_far = found.removed, F.col("distance") > max_distance
    sums = (
        F.count("*"), F.countDistinct("removed_id"), F.count_if("passed"), F.count_if(is_far),
        F.countDistinct(F.when(is_far, F.col("kept_id"))),
    )  # fmt: skip
    removed, distinct, removed_passed, far, far_groups = lost.agg(*sums).collect()[0]
    orphans = lost.join(lost.select(F.col("removed_id").alias("kept_id")), "kept_id", "left_semi").count()
    # Nobody keeps an image by decision in most lakes.
    decided = decided_pairs(found.pairs, nodes.images).count() if nodes.decided else 0
    return Counts(images, passed, nodes.hashes, removed, distinct, removed_passed, orphans, far, far_groups, decided)


def looked_note(looks: Looks) -> str:
    """Returns a line about the pairs whose thumbnails were compared."""
    return f"dedup: compared the thumbnails of {looks.compared:,} pairs; the images of {looks.told_apart:,} differ"


def _verify(
    inputs: Inputs, nodes: Compared, near: DataFrame, rule: Rule, scratch: Scratch, progress: Progress
) -> tuple[DataFrame, DataFrame, Looks]:
    """Returns the pairs whose images look the same, those of an earlier run included, all looked at, and counts."""
    beyond = F.col("distance") > rule.looked_beyond
    old, unsure = nodes.old_pairs, near.where(beyond)
    if old is not None and inputs.earlier is not None and inputs.earlier.unseen is not None:
        # The distances shrink as a lake grows, so pairs that counted unseen may now need a look.
        again = beyond & (F.col("distance") <= inputs.earlier.unseen)
        unsure, old = pair_search.add_earlier_pairs(unsure, old.where(again)), old.where(~again)
    with progress.step("dedup: compare thumbnails of pairs"):
        unsure = scratch.keep(_against_others(unsure, near))
        same = scratch.keep(_confirmed(inputs, nodes, rule, unsure))
        compared = unsure.count()
        looks = Looks(compared, compared - same.count())
    progress.note(looked_note(looks))
    return pair_search.add_earlier_pairs(near.where(~beyond).unionByName(same), old), unsure, looks


def _refused(unsure: DataFrame, pairs: DataFrame, earlier: DataFrame | None) -> DataFrame:
    """Returns the pairs whose thumbnails show different images: a, b, distance, mirrored, known.

    Args:
        unsure: The pairs whose thumbnails were compared, each once.
        pairs: The pairs whose images look the same.
        earlier: a, b, distance, mirrored: pairs that an earlier run told apart; None without one.
    """
    ends = ["a", "b"]
    columns = *ends, "distance", "mirrored"
    found = unsure.select(*columns, F.lit(False).alias("known"))
    if earlier is not None:
        old = earlier.join(unsure.select(*ends), ends, "left_anti")
        found = found.unionByName(old.select(*columns, F.lit(True).alias("known")))
    return found.join(pairs.select(*ends), ends, "left_anti")


def _confirmed(inputs: Inputs, nodes: Compared, rule: Rule, pairs: DataFrame) -> DataFrame:
    """Returns the pairs (a, b and further columns) whose images look the same."""
    thumbnails = thumbnail_verification.thumbnails(inputs.signals, nodes.nodes, pairs, rule)
    return thumbnail_verification.confirmed(pairs, thumbnails, rule)


def _against_others(unsure: DataFrame, near: DataFrame) -> DataFrame:
    """Returns the pairs without those in which a popular image is the worse one.

    What matches a popular image is removed before the search, so the popular image must stay.
    """
    popular_images = near.where(F.col("method") == POPULAR).select(F.col("a").alias("b")).distinct()
    return unsure.join(popular_images, "b", "left_anti")


def _losers(pairs: DataFrame, nodes: Compared, keep: str, again: DataFrame | None, scratch: Scratch) -> DataFrame:
    """Returns the removed nodes: removed, kept (ranks), distance, method, mirrored.

    Args:
        pairs: a, b (ranks), distance, method, mirrored.
        nodes: The nodes.
        keep: `dedup.keep`.
        again: rank, again: other ranks for the nodes of pairs; None to use those that they have.
        scratch: Keeps the rounds.
    """
    # Two images that people keep both stay. Their ranks come first, so the worse one of a pair decides.
    binding = pairs.where(F.col("b") >= nodes.decided)
    if again is None:
        return _removed(binding, nodes.nodes, nodes.decided, keep, scratch)
    for end in ("a", "b"):
        binding = binding.join(again.select(F.col("rank").alias(end), F.col("again").alias(f"again_{end}")), end)
    better, worse = F.least("again_a", "again_b").alias("a"), F.greatest("again_a", "again_b").alias("b")
    # Decided nodes come first by the new ranks too.
    decided = again.where(F.col("rank") < nodes.decided).count()
    named = nodes.nodes.join(again, "rank").drop("rank").withColumnRenamed("again", "rank")
    binding = binding.select(better, worse, "distance", "method", "mirrored")
    lost = _removed(binding, named, decided, keep, scratch)
    for end in ("removed", "kept"):
        own = again.select(F.col("again").alias(end), F.col("rank").alias(f"rank_{end}"))
        lost = lost.join(own, end).drop(end).withColumnRenamed(f"rank_{end}", end)
    return lost.select("removed", "kept", "distance", "method", "mirrored")


def _removed(pairs: DataFrame, nodes: DataFrame, decided: int, keep: str, scratch: Scratch) -> DataFrame:
    if keep == "component":
        # A third image may still connect two of them.
        return components.removed(pairs, nodes, scratch).where(F.col("removed") >= decided)
    edges = pairs.select(F.col("a").alias("better"), F.col("b").alias("worse"), "distance", "method", "mirrored")
    return independent_set.removed(edges, scratch)
