"""Near-duplicates as a recipe: compared hashes → candidate pairs → verified pairs → who stays → how much was missed."""

from dataclasses import dataclass, replace
from typing import Self

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from jobs.commands.dedup.candidates import pair_search
from jobs.commands.dedup.candidates.pair_search import Search, SearchCost, SearchInputs
from jobs.commands.dedup.keep import components, independent_set
from jobs.commands.dedup.keep.images_of_hashes import image_pairs, near_misses, removed_images
from jobs.commands.dedup.nodes import hash_nodes
from jobs.commands.dedup.nodes.compared import Compared, Inputs, compared
from jobs.commands.dedup.verify import search_recall, thumbnail_verification
from jobs.commands.dedup.verify.search_recall import MeasuredRecall, RecallSampleConfig
from jobs.matching.rule import Rule
from jobs.runtime.config import DedupSettings, load, overrides_of
from jobs.runtime.progress import Progress
from jobs.runtime.scratch import Scratch

_INTERVAL = 0.95


@dataclass(frozen=True)
class NearDuplicateConfig:
    """Everything that decides which near-duplicates are found and which image of a pair stays.

    Attributes:
        rule: Which hash is compared, of which encoder, and how near a copy is.
        settings: The section `[dedup]` of the settings; what it says of the hash and the distance, the rule says.
        seed: Of the MinHash permutations and the clusterings.
    """

    rule: Rule
    settings: DedupSettings
    seed: int

    @classmethod
    def with_defaults(cls, rule: Rule, seed: int = 0, **changes: object) -> Self:
        """The settings of conf/winnow.toml with some changed.

        Args:
            rule: As the attribute.
            seed: As the attribute.
            **changes: Settings of the section `[dedup]` by their names.

        Raises:
            SettingsError: There is no such setting, or its value is not allowed.

        Examples:
            >>> NearDuplicateConfig.with_defaults(Rule("pdq", "any", 31, 50), recall=0.99).settings.recall
            0.99
        """
        return cls(rule, load(overrides=overrides_of("dedup", changes)).dedup, seed)


@dataclass(frozen=True)
class NearDuplicates:
    """What was found. The frames stand on what the scratch keeps: write them before its block ends.

    Attributes:
        pairs: a_id, b_id (a_id < b_id), distance (bits of 256), method: pairs of near images.
        removed: removed_id, kept_id, distance, method, passed (whether the removed image had passed the filter): each
            image that does not stay, with the one that stands for it.
        near_misses: a_id, b_id, distance: the nearest pairs above the threshold whose both images stay.
        quality: Recall of the search by a sample, with its interval; distances of the sampled pairs.
        compared: Hashes and images that were compared.
        search: Bands and clusters that were searched.
        effort: Pairs that were compared and left out.
    """

    pairs: DataFrame
    removed: DataFrame
    near_misses: DataFrame
    quality: MeasuredRecall
    compared: Compared
    search: Search
    effort: SearchCost


def near_duplicates(
    signals: DataFrame,
    images: DataFrame,
    config: NearDuplicateConfig,
    scratch: Scratch,
    verdicts: DataFrame | None = None,
    progress: Progress | None = None,
) -> NearDuplicates:
    """Finds near-duplicates and the image that stands for each removed one.

    No two images that were found as a pair both stay, and each removed one is within the distance of the one that
    stands for it, unless `dedup.keep` asks for whole components.

    Args:
        signals: image_id, encoder, pdq and embedding_hash (binary, 32 bytes), pdq_quality, embedding (array<float>),
            content (hexadecimal digest of the file), thumbnail (binary; only with `dedup.strict`).
        images: image_id, width and height (pixels), caption.
        config: What counts as a duplicate and how pairs are searched.
        scratch: Keeps what is computed once.
        verdicts: image_id, kept: images that did not pass lose to all that did; all passed when not given.
        progress: Where steps are shown; None shows nothing.

    Returns:
        Pairs, removed images, and the recall of the search.

    Source:
        OpenAI, "DALL·E 2 pre-training mitigations", 2022, for the clusters; Broder, "On the resemblance and containment
        of documents", 1997, for the bands.

    Examples:
        >>> def removed_ids(lake, folder):
        ...     rule = Rule("pdq", encoder="c6c8d3cca5e54967", max_distance=31, min_quality=50)
        ...     with Scratch(lake.session, folder) as scratch:
        ...         config = NearDuplicateConfig.with_defaults(rule, recall=0.99)
        ...         found = near_duplicates(lake.spark("signals"), lake.spark("images"), config, scratch)
        ...         return [row.removed_id for row in found.removed.collect()]
    """
    if verdicts is None:
        verdicts = images.select("image_id", F.lit(True).alias("kept"))
    inputs = Inputs(signals, images, verdicts)
    nodes = compared(inputs, config.rule, config.settings.rank, scratch)
    return searched(inputs, nodes, config, scratch, progress or Progress.silent())


def searched(
    inputs: Inputs, nodes: Compared, config: NearDuplicateConfig, scratch: Scratch, progress: Progress
) -> NearDuplicates:
    """The search among hashes that are numbered already: the rest of `near_duplicates`.

    Args:
        inputs: The tables that the hashes are from.
        nodes: As `compared` returns them.
        config: What counts as a duplicate and how pairs are searched.
        scratch: Keeps what is computed once.
        progress: Shows the steps.
    """
    settings, rule = config.settings, config.rule
    # 1. Candidates, each verified by its distance.
    comparable = nodes.nodes.where("comparable").select("rank", hash_nodes.hash_of("node").alias("hash"), "known")
    about = SearchInputs(inputs.signals, rule, settings)
    search = Search.for_data(nodes.hashes, rule.max_distance, settings, config.seed)
    with progress.step(f"dedup: {search.words}"):
        found = pair_search.searched(comparable, nodes.hashes, search, about, scratch, progress)
        rows = scratch.keep(found.found)
        near = scratch.keep(pair_search.distinct_pairs(rows))
        effort = pair_search.effort(rows, search)
    # 2. Pairs that only look near told apart, if asked for; pairs of an earlier run added.
    same = near
    if rule.strict:
        same, effort = _verified(about, nodes, near, effort, scratch, progress)
    pairs = pair_search.with_old(same, nodes.old_pairs)
    # 3. Who stays.
    with progress.step("dedup: who stays"):
        losers = scratch.keep(_losers(pairs, nodes.nodes, settings.keep))
        removed = scratch.keep(removed_images(nodes, losers))
    # 4. What the search missed, by comparing a sample with all.
    with progress.step(f"dedup: recall measured on {settings.sample} hashes"):
        look = RecallSampleConfig(
            settings.sample, found.count, rule.max_distance, _INTERVAL, nodes.passed, search.clusterings, rule.strict
        )
        measured = search_recall.measure(
            found.hashes, pair_search.with_old(near, nodes.old_pairs), losers, look, scratch
        )
    misses = near_misses(nodes.nodes, measured)
    return NearDuplicates(image_pairs(nodes, pairs), removed, misses, measured, nodes, search, effort)


def _verified(
    about: SearchInputs, nodes: Compared, near: DataFrame, effort: SearchCost, scratch: Scratch, progress: Progress
) -> tuple[DataFrame, SearchCost]:
    """The pairs of near hashes whose images show the same, and how many do not."""
    with progress.step("dedup: pairs looked at again"):
        thumbnails = thumbnail_verification.thumbnails(about.signals, nodes.nodes, about.rule)
        same = scratch.keep(thumbnail_verification.confirmed(near, thumbnails))
        told_apart = near.count() - same.count()
    progress.note(f"dedup: {told_apart:,} pairs of near hashes differ in a detail")
    return same, replace(effort, told_apart=told_apart)


def _losers(pairs: DataFrame, nodes: DataFrame, keep: str) -> DataFrame:
    if keep == "component":
        return components.removed(pairs, nodes)
    return independent_set.removed(
        pairs.select(F.col("a").alias("better"), F.col("b").alias("worse"), "distance", "method")
    )
